"""What the benchmark on a GPU makes of what its processes say: memory, errors, ratios."""

import json

import pytest

from benchmarks import gpu

STEP = {"times": {"step": 1.0}, "device": "cpu"}


class Said:
  """Processes that answer from a script; the requests and what runs side by side are kept."""

  def __init__(self, prepare, run=lambda request: STEP):
    self.prepare, self.run = prepare, run
    self.requests, self.alive = [], []

  def __call__(self, side):
    return Process(self, side)


class Process:
  def __init__(self, said, side):
    self.said, self.side, self.about = said, side, {}
    said.alive.append(self)

  def ask(self, **request):
    if "case" in request:
      self.about = {"side": self.side, **request}
      self.said.requests.append(self.about)
      self.reply = self.said.prepare(self.about)
    else:
      self.reply = self.said.run({**self.about, **request})

  def answer(self):
    return dict(self.reply)

  def close(self):
    self.said.alive.remove(self)


def entry(side, what, *requests):
  return gpu.Entry(side, what, requests or ({"case": "train", "what": what},))


def case(*policies, peers=None):
  theirs = peers or (entry("diffusers", "copies"),)
  return gpu.Case(
    "train", tuple(entry("vidjax", way) for way in policies), theirs, lambda: None, 3, 2
  )


def measured(tmp_path, monkeypatch, said, what, times=1):
  monkeypatch.setattr(gpu, "Worker", said)
  for _ in range(times):
    book = gpu.Book(str(tmp_path / "rows.json"))
    gpu.measure(what, book)
  assert not said.alive, "a process is left over"
  return json.loads((tmp_path / "rows.json").read_text())


def test_rows_are_measured_once(tmp_path, monkeypatch):
  said = Said(lambda request: {"compile_seconds": 5.0})
  rows = measured(tmp_path, monkeypatch, said, case("block", "none"), times=2)
  assert [request["what"] for request in said.requests] == ["block", "copies", "none"]
  assert rows["train, vidjax block"]["times"] == {"step": [1.0] * 3}
  assert "alone" not in rows["train, vidjax block"]
  assert rows["train, vidjax none"]["alone"]


def test_the_first_takes_turns_and_the_others_are_alone(tmp_path, monkeypatch):
  beside = []

  def run(request):
    beside.append((request["what"], request["calls"], len(said.alive)))
    return STEP

  said = Said(lambda request: {}, run)
  measured(tmp_path, monkeypatch, said, case("block", "none"))
  assert beside == [("block", 2, 2), ("copies", 2, 2)] * 3 + [("none", 2, 1)] * 3


def test_pytorch_checkpoints_where_it_does_not_fit(tmp_path, monkeypatch):
  def prepare(request):
    full = request["side"] == "diffusers" and not request["checkpointing"]
    return {"error": "OutOfMemoryError: CUDA out of memory."} if full else {}

  requests = [{"case": "train", "what": "copies", "checkpointing": c} for c in (False, True)]
  what = case("block", peers=(entry("diffusers", "copies", *requests),))
  rows = measured(tmp_path, monkeypatch, Said(prepare), what)
  row = rows["train, diffusers copies"]
  assert row["checkpointing"]
  assert row["times"] == {"step": [1.0] * 3}
  assert "error" not in row


@pytest.mark.parametrize("fits_alone", [True, False])
def test_what_does_not_fit_beside_the_other_is_tried_alone(tmp_path, monkeypatch, fits_alone):
  def run(request):
    full = request["what"] == "block" and not (fits_alone and len(said.alive) == 1)
    said_so = {"error": "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"}
    return said_so if full else STEP

  said = Said(lambda request: {}, run)
  rows = measured(tmp_path, monkeypatch, said, case("block"), times=2)
  row = rows["train, vidjax block"]
  assert row["alone"]
  assert ("times" in row) == fits_alone
  assert row.get("fits", True) == fits_alone
  assert len(said.requests) == 3, "what does not fit is tried once more"
  assert ("does not fit" in gpu.table(rows)) != fits_alone


def test_what_fails_is_said_and_tried_again(tmp_path, monkeypatch, capsys):
  answers = iter([{"error": "ValueError: no"}, {}, {}, {}])
  said = Said(lambda request: next(answers))
  rows = measured(tmp_path, monkeypatch, said, case("block"))
  assert rows["train, vidjax block"]["error"] == "ValueError: no"
  assert "ValueError: no" in capsys.readouterr().out
  assert "| train | vidjax block | failed |" in gpu.table(rows)
  rows = measured(tmp_path, monkeypatch, said, case("block"))
  assert rows["train, vidjax block"]["times"] == {"step": [1.0] * 3}


def test_table():
  facts = {"device": "NVIDIA H200", "clips": 2, "compile_seconds": 99.6}
  ours = {"case": "train", "side": "vidjax", "what": "none", "peak_bytes": 2**31, **facts}
  ours |= {"times": {"step": [0.2, 0.1, 0.3]}, "model_flops": int(98.9e12), "first_loss": 1.0}
  theirs = {"case": "train", "side": "diffusers", **facts}
  slow = {**theirs, "what": "autocast", "times": {"step": [0.8]}}
  fast = {**theirs, "what": "copies", "times": {"step": [0.4]}, "checkpointing": True}
  lines = gpu.table({"a": ours, "b": slow, "c": fast}).splitlines()
  assert lines[2:] == [
    "| train: step | vidjax none | 200.00 (150.00 to 250.00) | 10.000 | 50.0 % | 2.0 | 100"
    " | 2.00 |",
    "| train: step | diffusers autocast | 800.00 (800.00 to 800.00) | 2.500 | 12.5 % |  | 100 |  |",
    "| train: step | diffusers copies, checkpointing | 400.00 (400.00 to 400.00) | 5.000 | 25.0 %"
    " |  | 100 |  |",
  ]
  assert gpu.checks({"a": ours}) == "a: first loss 1.00000"
