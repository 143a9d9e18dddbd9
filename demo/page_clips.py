"""The demo page's part about data: what curation found, kept and dropped."""

from collections import Counter
from collections.abc import Sequence
import io
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
import pyarrow.parquet

from vidjax import storage
from vidjax.data import schema

_MAX_CLIPS = 12  # kept clips shown as moving pictures
_MAX_SOURCES = 12  # sources shown as timelines


def describe(root: storage.Path) -> dict[str, Any] | None:
  """Counts, a timeline for each source, and kept clips as files; None before curation is done."""
  folder = root / "clips"
  if not (folder / "clips.parquet").exists():
    return None
  rows = _parquet(folder / "clips.parquet")
  rejects = _parquet(folder / "rejects.parquet") if (folder / "rejects.parquet").exists() else []
  kept = [row for row in rows if row["kept"]]
  shown = _spread(kept, _MAX_CLIPS)
  splits = _extract(root, {row["clip_id"] for row in shown})
  sources: dict[str, list[dict[str, Any]]] = {}
  for row in sorted(rows, key=lambda row: (row["source"], row["cut_start_frame"])):
    sources.setdefault(row["source"], []).append(row)
  return {
    "shots": len(rows),
    "kept": len(kept),
    "seconds": sum(row["end_time_s"] - row["start_time_s"] for row in kept),
    "sources": [_timeline(name, shots) for name, shots in list(sources.items())[:_MAX_SOURCES]],
    "num_sources": len(sources),
    "reasons": Counter(reason for row in rows for reason in row["drop_reasons"]).most_common(),
    "rejects": rejects,
    "report": (folder / "report.html").exists(),
    "shown": [
      {
        "file": f"page/clips/{row['clip_id']}.mp4",
        "source": row["source"],
        "span": f"{row['start_time_s']:.1f} – {row['end_time_s']:.1f} s",
        "size": f"{row['width']}×{row['height']}",
        "motion": row["motion_score"],
        "caption": _caption(row),
        "split": splits[row["clip_id"]],
      }
      for row in shown
      if row["clip_id"] in splits
    ],
  }


def _timeline(source: str, shots: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """The shots of one source as shares of its length."""
  end = max(shot["cut_end_frame"] for shot in shots)
  return {
    "name": source,
    "seconds": end / shots[0]["source_fps"],
    "shots": [
      {
        "left": 100 * shot["cut_start_frame"] / end,
        "width": 100 * (shot["cut_end_frame"] - shot["cut_start_frame"]) / end,
        "kept": shot["kept"],
        "boundary": shot["start_boundary"],
        "title": (
          f"frames {shot['cut_start_frame']}–{shot['cut_end_frame']}, "
          + (", ".join(shot["drop_reasons"]).replace("_", " ") or "kept")
          + ("" if shot["motion_score"] is None else f", motion {shot['motion_score']:.2f}")
        ),
      }
      for shot in shots
    ],
    "verdict": _verdict(shots),
  }


def _verdict(shots: Sequence[dict[str, Any]]) -> str:
  kept = sum(shot["kept"] for shot in shots)
  reasons = Counter(reason for shot in shots for reason in shot["drop_reasons"])
  parts = [f"{kept} kept"] if kept else []
  parts += [f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.most_common()]
  return ", ".join(parts)


def _extract(root: storage.Path, clip_ids: set[str]) -> dict[str, str]:
  """Copies clips out of the shards to `page/clips/`; returns the split of each one found."""
  splits = {}
  for split in schema.SPLITS:
    folder = root / "clips" / "shards"
    if not folder.is_dir() or not list(folder.glob(f"*-{split}.*")):
      continue
    for shard in schema.shard_files(folder, split):
      with storage.local_copy(shard) as local:
        reader = array_record_module.ArrayRecordReader(local)
        try:
          records = (schema.parse_record(content) for content in reader.read_all())
          for record in records:
            if record.clip_id in clip_ids:
              splits[record.clip_id] = split
              path = root / "page" / "clips" / f"{record.clip_id}.mp4"
              if not path.exists():
                storage.write_bytes(path, record.video)
        finally:
          reader.close()
  return splits


def _caption(row: dict[str, Any]) -> str:
  return next((text for _, text in sorted(row["captions"] or [])), "")


def _parquet(path: storage.Path) -> list[dict[str, Any]]:
  return pyarrow.parquet.read_table(io.BytesIO(storage.read_bytes(path))).to_pylist()


def _spread(rows: Sequence[Any], count: int) -> list[Any]:
  """At most `count` of `rows`, evenly."""
  return [rows[i * len(rows) // count] for i in range(count)] if len(rows) > count else list(rows)
