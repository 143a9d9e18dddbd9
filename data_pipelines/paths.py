"""Where a run has its things: the videos, the results, and what an interrupted run left."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Paths:
  """Folders of one run, local or remote.

  Attributes:
    videos: What the paths of sources are relative to.
    out: The results.
    weights: Short hash of the files of the networks that look at clips: what was remembered of
      others does not count.
  """

  videos: str
  out: str
  weights: str = ""

  def cache(self, name: str) -> str:
    """What stages remember.

    "analyses", "looks" and "captions" stay for runs with other thresholds or more videos;
    "encoded" clips are on their way into shards, and removed by a finished run.
    """
    return f"{self.out}/.cache/{name}"

  def shards(self, rung: int = 0) -> str:
    """The result that training reads; a further size has a folder of its own."""
    return f"{self.out}/shards-{rung}" if rung else f"{self.out}/shards"
