"""The guide says of each protocol what the code has."""

import pathlib

import pytest

from vidjax.evaluation import listing
from vidjax.evaluation.named import NOTES, PROTOCOLS
from vidjax.evaluation.published import PUBLISHED

GUIDE = (pathlib.Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_guide_has_a_row_for_each_protocol(name):
  protocol, note = PROTOCOLS[name], NOTES[name]
  rows = [line for line in GUIDE.splitlines() if line.startswith(f"| `{name}` |")]
  assert len(rows) == 1, rows
  cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
  own = "all" if protocol.fake.prompts == "given" else "one each"
  count = own if protocol.fake.count is None else str(protocol.fake.count)
  metrics = ", ".join(metric.name for metric in protocol.metrics)
  assert cells[1:] == [count, protocol.fake.prompts, metrics, note.source, note.assumed or "–"]


def test_published_numbers_are_in_the_guide():
  for row in PUBLISHED:
    assert f"{row.value:g}" in GUIDE, row


def test_listings():
  protocols, weights = listing.protocols(), listing.weights()
  for name, protocol in PROTOCOLS.items():
    assert (
      f"{name}{' (default)' if name == 'svd-ucf101' else ''}   hash {protocol.hash}" in protocols
    )
    for metric in protocol.metrics:
      assert f"\n{metric.backbone}\n" in f"\n{weights}\n"
  assert "real: all of ucf101 all, first 16 frames at its own rate; generated: 13320" in protocols
  assert "i3d_torchscript.pt" in weights
