"""What runs beside the core: transfers on resources of their own, started and waited for."""

import dataclasses

from vidjax.planning.cost import Tally


@dataclasses.dataclass(frozen=True)
class _Transfer:
  resource: str
  kind: str
  ends: float


class Timeline:
  """Transfers in flight while the instructions of one computation go by.

  The present is `tally.seconds`. Each resource ("network", "copy", "host", "dcn") does one transfer
  after the other, in the order of their starts; different resources do not disturb each other, nor
  the core.
  """

  def __init__(self, tally: Tally):
    self._tally = tally
    self._free_at: dict[str, float] = {}
    self._transfers: dict[str, _Transfer] = {}

  def start(self, resource: str, key: str, kind: str, seconds: float):
    """Queues a transfer on `resource`; `key` is what `wait` will ask for."""
    ends = max(self._tally.seconds, self._free_at.get(resource, 0.0)) + seconds
    self._free_at[resource] = ends
    self._transfers[key] = _Transfer(resource, kind, ends)

  def wait(self, key: str):
    """Lets time pass until the transfer is done, if it is not. Unknown keys are done."""
    transfer = self._transfers.pop(key, None)
    if transfer and transfer.ends > self._tally.seconds:
      rest = transfer.ends - self._tally.seconds
      self._tally.wait(
        transfer.kind,
        rest,
        collective=transfer.resource in ("network", "dcn"),
        assumed=transfer.resource in ("host", "dcn"),
      )

  def rename(self, key: str, new: str):
    """An asynchronous instruction is handed on under another name."""
    if key in self._transfers:
      self._transfers[new] = self._transfers.pop(key)
