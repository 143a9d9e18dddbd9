"""The page of a run in every state: figures are those of the files, texts harm nobody."""

import json

from miniature_job import run_vidjax
import object_store
import pytest
import run_folders
from run_folders import Page

from vidjax import errors, report, storage
from vidjax.observe import writers
from vidjax.reporting import gallery

SECRET = "hf_" + "Zq9" * 11
HOSTILE = '<script>alert("x")</script>'


def page(root, *compare) -> Page:
  path = report.report(str(root), compare=[str(other) for other in compare])
  assert path == storage.Path(root) / "report.html"
  return Page(storage.read_text(path))


def curves(made: Page) -> dict:
  return {s["key"]: s for chart in made.data["charts"] for s in chart["series"]}


def test_figures_are_those_of_the_rows(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  made = page(root)
  rows = writers.read_metrics(root)
  found = curves(made)
  for key in ("loss", "grad_norm", "grad_norm/mid_block", "lr", "mfu", "step_seconds"):
    assert found[key]["points"] == [[row["step"], row[key]] for row in rows]
  assert found["loss_per_sigma_bin/1"]["points"] == [
    [row["step"], row["loss_per_sigma_bin"][1]] for row in rows
  ]
  assert "loss_per_sigma_bin/0" not in found, "null in all rows"
  assert "tflops_per_device" in found
  losses = [row["loss"] for row in rows]
  assert found["loss"]["smooth"][-1] == [40, pytest.approx(sum(losses[-4:]) / 4)]
  assert made.data["last_row"] == rows[-1]
  assert (made.data["step"], made.data["total_steps"], made.data["state"]) == (40, 100, "running")
  assert made.data["goodput"]["attempts"][0]["last_step"] == 40


def test_nothing_is_fetched_and_one_script_runs(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  run_folders.samples(root, [10, 20])
  made = page(root)
  assert [kind for kind, _ in made.scripts] == ["application/json", None]
  for link in made.links:
    assert link.startswith(("#", "data:image/")), link
  for outside in ("http://", "https://", "@import", "url("):
    assert outside not in made.text
  assert "default-src 'none'" in made.text


def test_texts_of_the_run_are_only_texts(tmp_path):
  root = run_folders.usual(tmp_path / HOSTILE.replace("/", ""))
  storage.write_json(root / "config.json", run_folders.config(data={"path": HOSTILE}))
  storage.write_json(root / "run.json", run_folders.facts(device_kind=HOSTILE, command=[HOSTILE]))
  storage.write_json(root / "rejected_clips.json", {HOSTILE: HOSTILE})
  storage.write_json(root / "init.json", {"source": HOSTILE, "parameters": {HOSTILE: "copied"}})
  storage.write_text(root / "hang" / "attempt1_process0.txt", HOSTILE)
  event = {"time": 1.0, "event": "end", "code": 1, "decision": HOSTILE, "why": HOSTILE}
  run_folders.lines(root / "supervisor.jsonl", [event | {"stderr": [HOSTILE, "two"]}])
  rows = [run_folders.row(step) | {HOSTILE: float(step)} for step in (1, 2)]
  run_folders.lines(root / "metrics.jsonl", rows)
  made = page(root)
  assert len(made.scripts) == 2
  assert "alert(" not in made.scripts[1][1]
  assert made.words().count('<script>alert("x")</script>') >= 9
  assert made.text.count("<script") == 2


def test_secrets_are_hidden(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  storage.write_json(root / "config.json", run_folders.config() | {"api_key": "0123456789"})
  storage.write_json(root / "run.json", run_folders.facts(command=["vidjax", f"--x={SECRET}"]))
  storage.write_json(root / "rejected_clips.json", {"a": f"403 for https://u:{SECRET}@host/a"})
  storage.write_text(root / "hang" / "attempt1_process0.txt", f"stack with {SECRET}")
  event = {"time": 1.0, "event": "end", "code": 1, "decision": "restart", "why": "internal error"}
  run_folders.lines(root / "supervisor.jsonl", [event | {"stderr": [f"token={SECRET}"]}])
  made = page(root)
  assert SECRET not in made.text
  assert "0123456789" not in made.text
  assert made.text.count("[redacted]") >= 5


def test_a_run_that_crashed_before_its_first_row_says_so(tmp_path):
  root = storage.Path(tmp_path / "w")
  storage.write_json(root / "run.json", run_folders.facts(programs=[]))
  storage.write_json(root / "config.json", run_folders.config())
  spans = [
    run_folders.span(1, "begin", 1000.0, {"init": 5.0}),
    run_folders.span(1, "end", 1005.0, {"init": 2.0}, outcome="DataError"),
  ]
  run_folders.lines(root / "goodput.jsonl", spans)
  made = page(root)
  assert made.data["line"] == (
    "Failed: no step yet; it ended with DataError. Wrong: it does not run any more: it ended with"
    " DataError; and 1 more."
  )
  assert "it ended before the first row of metrics" in made.words()
  assert "the run ended before its first step was logged" in made.words()
  assert made.data["charts"] == []


def test_only_a_lease_is_enough(tmp_path):
  storage.write_json(tmp_path / "run.json", {"attempt": 1})
  made = page(tmp_path)
  assert made.data["state"] == "not begun"
  assert "There is no config.json" in made.words()


@pytest.mark.parametrize("torn", ['{"attempt": 1, "st', '{"step": 41, "loss": 1.0}', "\0\0\0"])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
  root = run_folders.usual(tmp_path / "w")
  rows = [run_folders.row(step) for step in range(1, 41)]
  run_folders.lines(root / "metrics.jsonl", rows, torn=torn)
  made = page(root)
  assert made.data["last_row"]["step"] == 40
  assert made.data["level"] == "good", made.data["findings"]


def test_damaged_lines_are_left_out_and_counted(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  rows = [json.dumps(run_folders.row(step)).encode() for step in range(1, 41)]
  rows[20:22] = [b"\xff\xfe\0\0", b"[1, 2]"]
  storage.write_bytes(root / "metrics.jsonl", b"\n".join(rows) + b"\n")
  made = page(root)
  assert made.data["rows"] == 38
  assert ["warn", "metrics.jsonl: 2 damaged lines are left out (line 21, 22)"] in (
    made.data["findings"]
  )


@pytest.mark.parametrize("name", ["config.json", "run.json", "init.json", "goodput.jsonl"])
@pytest.mark.parametrize("content", ["{", "[]", "null", '"text"', "{}\n"])
def test_any_file_may_be_damaged(tmp_path, name, content):
  root = run_folders.usual(tmp_path / "w")
  storage.write_text(root / name, content)
  assert page(root).data["rows"] == 40


def test_values_of_other_types_are_borne(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  odd = {"total_samples": "many", "batch_size": 0, "data": {"sets": [3]}, "checkpoint": None}
  storage.write_json(root / "config.json", odd)
  storage.write_json(root / "run.json", {"programs": [{}], "mesh": 3, "command": None})
  storage.write_json(root / "skipped_samples.json", [{}])
  storage.write_json(root / "init.json", {"parameters": {"a": "other"}})
  events = [{"time": "now", "event": "end"}, {"time": 1.0, "event": "stopped"}]
  run_folders.lines(root / "supervisor.jsonl", events)
  span = run_folders.span(1, "tick", 1000.0, {}) | {"seconds": [1]}
  run_folders.lines(root / "goodput.jsonl", [span])
  made = page(root)
  assert made.data["rows"] == 40
  assert made.data["total_steps"] is None
  assert any("goodput.jsonl does not add up" in text for _, text in made.data["findings"])


def test_attempts_are_marked_and_steps_done_again_are_shown_once(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  rows = [run_folders.row(step) for step in range(1, 31)]
  rows += [run_folders.row(step, 2, loss=7.0) for step in range(21, 51)]
  rows += [run_folders.row(step, 3) for step in range(51, 61)]
  run_folders.lines(root / "metrics.jsonl", rows)
  spans = run_folders.ledger(1, 1, 30, None, 1000.0)
  spans += run_folders.ledger(2, 21, 50, "Preempted", 1100.0)
  spans += run_folders.ledger(3, 51, 60, "Preempted", 1200.0)
  run_folders.lines(root / "goodput.jsonl", spans)
  made = page(root)
  loss = dict(curves(made)["loss"]["points"])
  assert loss[20] == run_folders.row(20)["loss"]
  assert loss[25] == 7.0
  assert made.data["rows"] == 60
  assert "10 more were of steps that were done again" in made.words()
  assert ">attempt 2</text>" in made.text
  assert ">attempt 3</text>" in made.text
  assert made.data["goodput"]["wasted_steps"] == 10
  assert made.data["state"] == "stopped"


def test_a_long_run_is_thinned_and_keeps_its_peaks(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  steps = range(1, 8001)
  rows = [run_folders.row(step, loss=2.0 + (step * 7919 % 1000) / 1e4) for step in steps]
  rows[4321]["loss"], rows[6001]["loss"], rows[7000]["loss"] = 99.0, 0.01, None
  run_folders.lines(root / "metrics.jsonl", rows)
  made = page(root)
  points = curves(made)["loss"]["points"]
  assert len(points) <= 610
  assert [4322, 99.0] in points
  assert [6002, 0.01] in points
  assert [7001, None] in points
  assert points[0][0] == 1
  assert points[-1][0] == 8000
  by_step = {row["step"]: row["loss"] for row in rows}
  assert all(by_step[step] == value for step, value in points)
  assert "highest 99.0 at step 4322" in made.words()
  assert len(made.text) < 2_000_000


def test_samples_are_shown_by_step_and_bounded(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  run_folders.samples(root, range(1, 41))
  storage.write_bytes(root / "samples" / "00000040.mp4", b"no video")
  made = page(root)
  assert len(made.pictures) == gallery.MAX_STEPS - 1 + 1, "those of 15 steps, and the newest sheet"
  assert all(picture["src"].startswith("data:image/webp;base64,") for picture in made.pictures)
  assert all(picture["alt"] for picture in made.pictures)
  assert "15 of 40 steps are shown" in made.words()
  assert "samples/00000040.mp4 cannot be read" in made.words()
  assert "step 1 " in made.words()


def test_pictures_take_no_more_than_their_share(tmp_path, monkeypatch):
  root = run_folders.usual(tmp_path / "w")
  run_folders.samples(root, range(1, 11))
  whole = sum(len(picture["src"]) for picture in page(root).pictures)
  monkeypatch.setattr(gallery, "MAX_TOTAL", whole // 3)
  made = page(root)
  by_step = [picture for picture in made.pictures if "step" in picture["alt"]]
  assert sum(len(p["src"]) for p in by_step if "Moving" in p["alt"]) <= whole // 3
  assert made.pictures[0]["alt"].endswith("step 1")
  assert "at step 10" in made.pictures[-1]["alt"]


def test_two_runs_side_by_side(tmp_path):
  root = run_folders.usual(tmp_path / "a")
  other = run_folders.usual(tmp_path / "b", steps=20, outcome="Preempted")
  changed = run_folders.config(optimizer={"learning_rate": 0.5})
  storage.write_json(other / "config.json", changed)
  made = page(root, other)
  loss = next(c for c in made.data["charts"] if c["series"][0]["key"] == "loss")
  assert [(s["name"], len(s["points"])) for s in loss["series"]] == [("loss", 40), ("b", 20)]
  assert "optimizer.learning_rate 0.0001 0.5" in made.words()
  assert "Stopped: step 20 of 100" in made.words()


def test_the_page_of_a_run_in_an_object_store():
  with object_store.serve() as store, store.environment():
    root = run_folders.usual("gs://bucket/w")
    run_folders.samples(root, [10])
    for name in ("state/d", "record/metadata", "commit_success.txt"):
      storage.write_text(root / "checkpoints" / "30" / name, "x" * 1000)
    made = page(root)
    assert made.data["rows"] == 40
    assert len(made.pictures) == 2
    assert "30 complete 3 kB" in made.words()


def test_no_run_is_bad_input(tmp_path):
  for flags in ({"workdir": str(tmp_path / "none")}, {"workdir": str(tmp_path)}):
    with pytest.raises(FileNotFoundError, match=r"--workdir=.*no run began there") as info:
      report.report(**flags)
    assert errors.exit_code(info.value) == 2
  root = run_folders.usual(tmp_path / "w")
  with pytest.raises(FileNotFoundError, match="--compare="):
    report.report(str(root), compare=[str(tmp_path / "none")])
  with pytest.raises(ValueError, match=r"--out=x\.pdf: the page is HTML"):
    report.report(str(root), out="x.pdf")


def test_the_command(tmp_path):
  root = run_folders.usual(tmp_path / "w")
  out = tmp_path / "sent" / "page.html"
  done = run_vidjax("report", f"--workdir={root}", f"--out={out}")
  verdict, written = done.stdout.splitlines()
  assert Page(out.read_text()).data["line"].split(";")[0] == verdict.split(";")[0]
  assert written.startswith(f"{out}: ")
  assert not (root / "report.html").exists()
  assert "no run began there" in run_vidjax("report", f"--workdir={tmp_path}", code=2).stderr
  assert "--workdir" in run_vidjax("report", code=2).stderr
  assert "--compare" in run_vidjax("report", "--help", code=1).stdout
