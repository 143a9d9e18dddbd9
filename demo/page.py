"""`runs/demo/index.html`: what the demo has made so far, from the files of its folder only.

Built again after every stage: what is not there yet is shown as such. Videos are files beside the
page, so the folder can be moved, or served, as it is.
"""

import math
from typing import Any

import jinja2

from demo import page_clips, page_quality
from vidjax import charts, storage
from vidjax.observe import writers

# Training stages in their order: folder, short name, title, what is learned.
STAGES = (
  ("autoencoder", "Autoencoder", "Autoencoder", "from frames to latents and back"),
  ("image", "Stage I", "Stage I: images", "what single frames look like"),
  (
    "video_lowres",
    "Stage II",
    "Stage II: low-resolution video",
    "how things move, in new temporal layers",
  ),
  (
    "video_highres",
    "Stage III",
    "Stage III: image to video",
    "how a first frame goes on, at higher resolution",
  ),
)
_SHEET = "samples/contact_sheet.png"


def build(run: str) -> str:
  """Writes `index.html`, and clip files under `page/`, into the folder `run`; returns its path."""
  root = storage.Path(run)
  template = storage.read_text(storage.Path(__file__).parent / "page.html.j2")
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters |= {"duration": _duration, "figure": charts.figure}
  clips = page_clips.describe(root)
  training = [_training(root, *stage) for stage in STAGES]
  samples = _samples(root)
  quality = page_quality.describe(root)
  export = _export(root)
  page = environment.from_string(template).render(
    run=run,
    clips=clips,
    training=training,
    samples=samples,
    contact_sheet=_SHEET if (root / _SHEET).exists() else None,
    quality=quality,
    export=export,
    steps=[
      ("Curate", "data", clips is not None),
      *((stage["short"], "training", stage["done"]) for stage in training),
      ("Sample", "samples", bool(samples)),
      ("Evaluate", "quality", quality is not None),
      ("Export", "export", export is not None),
    ],
  )
  storage.write_text(root / "index.html", page)
  return str(root / "index.html")


def _training(
  root: storage.Path, name: str, short: str, title: str, purpose: str
) -> dict[str, Any]:
  """Where a stage stands, and its loss curve."""
  stage: dict[str, Any] = {"name": name, "short": short, "title": title, "purpose": purpose}
  stage |= {"done": False, "steps": 0, "curve": None}
  try:
    rows = writers.read_metrics(root / name)
  except FileNotFoundError:
    rows = []
  rows = [row for row in rows if row.get("loss") is not None]
  if not rows:
    return stage
  total = _total_steps(root / name / "config.json")
  last = rows[-1]
  before = [0, *(row["step"] for row in rows)]
  seconds = sum(
    (row.get("step_seconds") or 0.0) * (row["step"] - previous)
    for row, previous in zip(rows, before, strict=False)
  )
  return stage | {
    "done": total is not None and last["step"] >= total,
    "steps": last["step"],
    "total": total,
    "samples": last.get("samples"),
    "seconds": seconds,
    "first_loss": rows[0]["loss"],
    "loss": last["loss"],
    "rate": last.get("clips_per_second"),
    "curve": charts.curve([r["step"] for r in rows], [r["loss"] for r in rows], "steps")
    if len(rows) > 1
    else None,
  }


def _total_steps(config: storage.Path) -> int | None:
  if not config.exists():
    return None
  values = storage.read_json(config)
  return math.ceil(values["total_samples"] / values["batch_size"])


def _samples(root: storage.Path) -> list[dict[str, Any]]:
  """Real, reconstructed and generated clips that belong together."""
  folder = root / "samples"
  rows = []
  for note in sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []:
    files = {
      kind: f"samples/{note.stem}_{kind}.mp4"
      for kind in ("real", "reconstructed", "generated")
      if (folder / f"{note.stem}_{kind}.mp4").exists()
    }
    if files:
      rows.append({"files": files, **storage.read_json(note)})
  return rows


def _export(root: storage.Path) -> dict[str, Any] | None:
  """What `vidjax export` wrote, and the class that loads it."""
  folder = root / "export"
  if not folder.is_dir():
    return None
  files = [path for path in storage.list_files(folder) if not path.name.startswith(".")]
  if not files:
    return None
  index = folder / "model_index.json"
  return {
    "files": [(str(path.relative_to(folder)), path.stat().length) for path in files],
    "class": storage.read_json(index).get("_class_name") if index.exists() else None,
    "unet": storage.read_json(folder / "unet" / "config.json").get("_class_name")
    if (folder / "unet" / "config.json").exists()
    else None,
  }


def _duration(seconds: float) -> str:
  """Such as "42 s" or "3 min"."""
  return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
