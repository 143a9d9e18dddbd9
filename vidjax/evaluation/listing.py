"""What `--list_protocols` and `--list_weights` print."""

from vidjax import convert_weights
from vidjax.evaluation.named import DEFAULT, NOTES, PROTOCOLS
from vidjax.evaluation.protocol import Protocol


def protocols() -> str:
  """The named protocols, each with what it compares and where it is from."""
  parts = []
  for name, protocol in PROTOCOLS.items():
    note = NOTES[name]
    lines = [
      f"{name}{' (default)' if name == DEFAULT else ''}   hash {protocol.hash}",
      f"  {summary(protocol)}",
      f"  metrics: {', '.join(metric.name for metric in protocol.metrics)}",
      f"  source: {note.source}",
    ]
    if note.assumed:
      lines.append(f"  not stated there: {note.assumed}")
    parts.append("\n".join(lines))
  return "\n\n".join(parts)


def summary(protocol: Protocol) -> str:
  """Both sides in a line."""
  real, fake = protocol.real, protocol.fake
  count = "all" if real.count is None else f"{real.count}"
  rate = "its own rate" if real.clip.fps is None else f"{real.clip.fps:g} fps"
  stride = f", every {real.clip.stride}." if real.clip.stride > 1 else ""
  of = f"{real.dataset} {real.split}".strip()
  made = {
    "text": f"prompts {fake.prompts!r}",
    "first_frame": f"first frame of the real clip, prompts {fake.prompts!r}",
    "given": "clips that are there",
  }[fake.condition]
  number = "one for each" if fake.count is None else f"{fake.count}"
  return (
    f"real: {count} of {of}, {real.clip.start} {real.clip.frames} frames{stride} at {rate};"
    f" generated: {number}, {made}"
  )


def weights() -> str:
  """The networks that each protocol needs, and for each network the file that it is made from."""
  lines = ["Networks of each protocol:"]
  for name, protocol in PROTOCOLS.items():
    lines.append(f"  {name}: {', '.join(dict.fromkeys(m.backbone for m in protocol.metrics))}")
  return "\n".join(
    [*lines, "", "Files, and where they are published:", "", convert_weights.listing()]
  )
