"""`config.json` and `run.json`."""

from vidjax import storage
from vidjax.observe import run_info


def test_another_process_sees_what_the_first_wrote(tmp_path, monkeypatch):
  monkeypatch.setattr(run_info, "_SEEN_SECONDS", 0.1)
  root = storage.Path(tmp_path)
  assert not run_info.seen(root)
  (root / "run.json").touch()
  assert run_info.seen(root)
