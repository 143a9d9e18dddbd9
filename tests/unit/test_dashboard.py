"""TensorBoard's events beside the numbers, read back from the files."""

from event_files import events
import numpy as np
import object_store
import pytest
import run_folders

from vidjax import config as configs
from vidjax import dashboard, storage
from vidjax.observe import goodput, journal
from vidjax.observe.writers import Discarded, MetricsWriter

SECRET = "hf_" + "Zq9" * 11


def made(workdir, attempt: int = 3):
  values = run_folders.config(init_from="gs://b/|x|", data={"kind": "procedural"})
  config = configs.from_dict(configs.TrainConfig, values)
  root = storage.Path(workdir)
  with goodput.Ledger(root, attempt) as ledger, MetricsWriter(root, attempt) as writer:
    with dashboard.Dashboard(writer, config, root, ledger) as board:
      ledger.resumed(10)
      with ledger.phase("steps"):
        ledger.step_ended(11)
        ledger.step_ended(12)
      rows = [("down_blocks.0", "10", "-", "-", "-")]
      board.started_from(f"https://u:{SECRET}@host/a", ("block", "copied", "fresh"), rows)
      board.sampled(12, np.zeros((20, 30, 3), np.uint8))
      yield writer


def test_texts_pictures_and_goodput_come_back(tmp_path):
  run_folders.lines(tmp_path / goodput.NAME, run_folders.ledger(2, 1, 10, None, 1000.0))
  for _ in made(tmp_path):
    pass
  found = events(tmp_path / "tensorboard")
  ((step, changed),) = found["config/changed"]
  assert step == 3, "the attempt"
  assert "| `batch_size` | `1` | `4` |" in changed
  assert '| `init_from` | `""` | `gs://b/\\|x\\|` |' in changed
  assert "| `seed` | `0` |" in found["config/all"][0][1]
  assert "| `procedural` | `procedural` | `train` | `videos` | `100.0%` |" in found["data"][0][1]
  ((_, start),) = found["start"]
  assert "| `down_blocks.0` | `10` |" in start
  assert SECRET not in start
  assert found["clips"] == [(12, (20, 30))]
  shares = found["goodput/share"]
  assert [step for step, _ in shares] == [10, 12], "when the attempt begins, and when it ends"
  assert [value for _, value in found["goodput/attempts"]] == [2.0, 2.0]
  assert found["goodput/seconds/compile"][0][1] == 2.0


def test_nothing_is_added_by_the_step(tmp_path):
  for writer in made(tmp_path):
    for step in range(13, 200):
      writer.write(step, {"loss": 1.0})
  found = events(tmp_path / "tensorboard")
  assert len(found.pop("loss")) == 187
  assert {name: len(values) for name, values in found.items() if "goodput" not in name} == {
    **{"config/changed": 1, "config/all": 1, "data": 1, "start": 1, "clips": 1}
  }
  assert len(found["goodput/share"]) == 2


def test_other_processes_write_nothing(tmp_path):
  config = configs.from_dict(configs.TrainConfig, run_folders.config())
  with goodput.Ledger(tmp_path, 1, writes=False) as ledger, Discarded() as writer:
    with dashboard.Dashboard(writer, config, tmp_path, ledger) as board:
      board.started_from("a", (), ())
      board.sampled(1, np.zeros((2, 2, 3), np.uint8))
  assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_cannot_be_read_is_no_reason_to_stop(tmp_path, caplog):
  generator = made(tmp_path)
  next(generator)
  with (tmp_path / goodput.NAME).open("a") as file:
    file.write("nonsense\n")
  with pytest.raises(StopIteration):
    next(generator)
  assert "no goodput in TensorBoard" in caplog.text


def test_the_ledger_of_an_object_store_is_uploaded_when_it_is_asked_for():
  with object_store.serve() as store, store.environment():
    root = storage.Path("gs://bucket/w")
    with goodput.Ledger(root, 1) as ledger:
      assert not (root / goodput.NAME).exists()
      ledger.publish()
      assert [row["event"] for _, row in journal.read(root / goodput.NAME)] == ["begin", "tick"]
