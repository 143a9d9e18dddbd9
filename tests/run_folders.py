"""Workdirs of training runs, written by hand: what a run leaves, in any state that a test wants."""

from collections.abc import Sequence
import html.parser
import json
import re
import time
from typing import Any

import numpy as np

from vidjax import config as configs
from vidjax import render, storage

BATCH = 4


class Page(html.parser.HTMLParser):
  """A page as a browser takes it: balanced tags, the scripts that would run, pictures, its data."""

  VOID = frozenset({"meta", "img", "br", "line", "path", "circle", "input"})

  def __init__(self, text: str):
    super().__init__()
    self.text, self.scripts, self.pictures, self.links, self.open = text, [], [], [], []
    self.shown = ""
    self.feed(text)
    assert not self.open, self.open
    self.data = json.loads(next(body for kind, body in self.scripts if kind == "application/json"))

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    if tag == "script":
      self.scripts.append((attributes.get("type"), ""))
    if tag == "img":
      self.pictures.append(attributes)
    self.links += [value for name, value in attrs if name in ("src", "href")]
    assert not any(name.startswith("on") for name in attributes), attributes
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in self.VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] == "script":
      self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
    elif self.open and self.open[-1] != "style":
      self.shown += f"{data} "

  def words(self) -> str:
    """What a reader sees, with single spaces."""
    return re.sub(r"\s+", " ", self.shown)


def row(step: int, attempt: int = 1, **changes: Any) -> dict[str, Any]:
  """A row of metrics."""
  return {
    **{"attempt": attempt, "step": step, "samples": BATCH * step, "loss": 1.0 + 10.0 / step},
    **{"grad_norm": 1.0 / step, "grad_norm/mid_block": 0.5 / step, "grad_norm/conv_in": 0.1},
    **{"loss_per_sigma_bin": [None, 1.0 / step, 0.5, None, None, None, None], "lr": 1e-4},
    **{"step_seconds": 0.5, "data_wait_seconds": 0.001, "clips_per_second": 8.0, "mfu": 0.4},
    **{"tflops_per_device": 12.0, "sample_ids_hash": "ab", "rejected_clips": 0},
    **{"skipped_steps": 0, "skipped_nonfinite": 0, "skipped_loss_spike": 0},
    **{"damaged_checkpoints": 0},
  } | changes


def span(attempt: int, event: str, began: float, seconds: dict[str, float], **changes: Any):
  """A line of the ledger."""
  return {
    **{"attempt": attempt, "event": event, "began": began, "clock": 1.0, "seconds": seconds},
    **{"ended": began + sum(seconds.values()), "phase": None, "outcome": None},
    **{"first_step": None, "last_step": None, "from_step": None},
  } | changes


def ledger(
  attempt: int, first: int, last: int, outcome: str | None, began: float, pace: float = 0.5
) -> list[dict[str, Any]]:
  """Lines of an attempt that did the steps `first` to `last`, each in `pace` seconds."""
  rows = [span(attempt, "begin", began, {"init": 3.0})]
  rows.append(span(attempt, "resume", began + 3.0, {"compile": 2.0}, from_step=first - 1))
  for step in range(first, last + 1):
    at = began + 5.0 + pace * (step - first)
    done = {"first_step": step, "last_step": step, "phase": "steps"}
    rows.append(span(attempt, "tick", at, {"steps": pace}, **done))
  if outcome is not None:
    rows.append(span(attempt, "end", rows[-1]["ended"], {"end": 1.0}, outcome=outcome))
  return rows


def lines(path: storage.PathLike, rows: Sequence[dict[str, Any]], torn: str = "") -> None:
  """Writes a journal."""
  storage.write_text(path, "".join(json.dumps(one) + "\n" for one in rows) + torn)


def config(**changes: Any) -> dict[str, Any]:
  """Of a run of a hundred steps, as `config.json` has it."""
  values = {"batch_size": BATCH, "total_samples": 100 * BATCH, "data": {"kind": "procedural"}}
  made = configs.to_dict(configs.from_dict(configs.TrainConfig, values | changes))
  return json.loads(json.dumps(made))


def facts(**changes: Any) -> dict[str, Any]:
  """What `run.json` holds."""
  program = {
    **{"batch": {"video_BTHWC": "4x16x64x64x3"}, "trace_seconds": 1.5, "compile_seconds": 30.0},
    **{"compile_cache": "miss", "model_flops": 5 * 10**12, "hardware_flops": None},
    **{"peak_bytes_per_device": 3 * 10**9},
  }
  return {
    **{"attempt": 1, "started": "2026-01-01T00:00:00+00:00", "command": ["vidjax train"]},
    **{"python": "3.11", "versions": {"jax": "9.9.9"}, "code_version": "abc", "platform": "tpu"},
    **{"device_kind": "TPU v9", "devices": 8, "processes": 2, "mesh": {"fsdp": 8}},
    **{"programs": [program]},
  } | changes


def usual(folder: storage.PathLike, steps: int = 40, outcome: str | None = None) -> storage.Path:
  """A run of one attempt that has done `steps` of its hundred, and is alive without an outcome."""
  root = storage.Path(folder)
  lines(root / "metrics.jsonl", [row(step) for step in range(1, steps + 1)])
  began = time.time() - 5.0 - 0.5 * steps
  lines(root / "goodput.jsonl", ledger(1, 1, steps, outcome, began))
  storage.write_json(root / "config.json", config())
  storage.write_json(root / "run.json", facts())
  return root


def samples(root: storage.Path, steps: Sequence[int], size: tuple[int, int] = (16, 24)) -> None:
  """Clips made while training: two beside each other, and a sheet."""
  rng = np.random.default_rng(0)
  for step in steps:
    clip_THWC = rng.integers(0, 256, (4, size[0], 2 * size[1], 3)).astype(np.uint8)
    render.write_video(root / "samples" / f"{step:08d}.mp4", clip_THWC, 4.0)
    render.write_png(root / "samples" / f"{step:08d}.png", clip_THWC[0])
