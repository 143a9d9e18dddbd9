"""The made-up films: shares as asked for, known boundaries, the same bytes again."""

import io

import av
import numpy as np
import pytest

from benchmarks.studies import films

OPTIONS = {
  "count": 2,
  "shots": 3,
  "height": 32,
  "width": 48,
  "fps": 6.0,
  "shortest_s": 2.0,
  "longest_s": 3.0,
  "static": 0.0,
  "text": 0.0,
  "cut": 1.0,
  "dissolve": 0.0,
  "seed": 1,
  "shapes": {"camera": 1.0, "cuts": 0.0, "backgrounds": "clouds"},
}


def planned(**changes) -> films.Films:
  return films.Films(**{**OPTIONS, **changes})


def drawn(of: films.Films) -> np.ndarray:
  return np.stack(list(films.draw(of, 0))).astype(np.float32)


def changes_of(video_THWC: np.ndarray) -> np.ndarray:
  return np.abs(np.diff(video_THWC, axis=0)).mean(axis=(1, 2, 3))


def test_shots_follow_each_other_with_cuts_where_the_script_says():
  of = planned()
  script, video_THWC = films.script(of, 0), drawn(of)
  assert len(video_THWC) == sum(shot.frames for shot in script)
  cuts = np.argsort(changes_of(video_THWC))[-2:] + 1
  assert sorted(cuts.tolist()) == [shot.first for shot in script[1:]]


def test_fades_and_dissolves_have_no_jump():
  cut = changes_of(drawn(planned())).max()
  for changes in ({"cut": 0.0, "dissolve": 1.0}, {"cut": 0.0, "dissolve": 0.0}):
    assert changes_of(drawn(planned(**changes))).max() < 0.7 * cut
  fade = drawn(planned(cut=0.0))
  end = films.script(planned(cut=0.0), 0)[0].frames
  assert fade[end - 1].mean() < 0.2 * fade[0].mean()


def test_static_shots_stand_still_and_text_covers_much():
  still = drawn(planned(static=1.0))
  first = films.script(planned(static=1.0), 0)[1].first
  assert changes_of(still[:first]).max() == 0.0
  with_text, without = drawn(planned(text=1.0)), drawn(planned())
  changed = (np.abs(with_text - without).max(axis=-1) > 8).mean()
  assert changed > 0.2


def test_shares_are_as_asked_for_over_many_shots():
  of = planned(count=60, static=0.3, text=0.2, cut=0.5, dissolve=0.25)
  shots = [shot for number in range(60) for shot in films.script(of, number)]
  assert np.mean([shot.static for shot in shots]) == pytest.approx(0.3, abs=0.1)
  assert np.mean([bool(shot.text) for shot in shots]) == pytest.approx(0.2, abs=0.1)
  between = [shot.boundary for shot in shots if shot.boundary != "end"]
  assert between.count("cut") / len(between) == pytest.approx(0.5, abs=0.13)
  assert len(shots) - len(between) == 60


def test_files_are_the_same_again_and_stay(tmp_path):
  counts = films.write(str(tmp_path / "a"), OPTIONS)
  assert counts == {"good": 6, "static": 0, "text": 0, "all": 6}
  films.write(str(tmp_path / "b"), OPTIONS)
  names = sorted(path.name for path in (tmp_path / "a").iterdir())
  assert names == ["film_000.mp4", "film_001.mp4"]
  content = (tmp_path / "a" / names[0]).read_bytes()
  assert content == (tmp_path / "b" / names[0]).read_bytes()
  with av.open(io.BytesIO(content)) as container:
    decoded = sum(1 for _ in container.decode(video=0))
  assert decoded == sum(shot.frames for shot in films.script(planned(), 0))
  (tmp_path / "a" / names[0]).write_bytes(b"kept")
  films.write(str(tmp_path / "a"), OPTIONS)
  assert (tmp_path / "a" / names[0]).read_bytes() == b"kept"


def test_an_unknown_option_is_named():
  with pytest.raises(ValueError, match=r"unknown config key 'films\.shot'"):
    films.write("nowhere", {"shot": 1})
