"""The page shows every clip with its verdict, and thresholds where they lie."""

import base64
import dataclasses
import html.parser
import io

import numpy as np
from PIL import Image

from data_pipelines import analyse, config, graph, ingest, report, tables, thumbnails
from tests import media
from vidjax import errors


class _Parser(html.parser.HTMLParser):
  """Counts tags and checks that they close."""

  def __init__(self):
    super().__init__()
    self.open, self.count = [], {}

  def handle_starttag(self, tag, attrs):
    self.count[tag] = self.count.get(tag, 0) + 1
    if tag not in ("meta", "img", "line", "polyline", "rect", "br"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in ("rect", "line", "polyline"):
      assert self.open.pop() == tag


def test_the_page_is_whole_and_escapes_what_users_write(tmp_path):
  path = media.write(tmp_path / "<b>v&.mkv", media.shot(1, 60))
  (tmp_path / "<b>v&.txt").write_text("A <script>caption</script>")
  found = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig())
  kept = [dataclasses.replace(clip, kept=True) for clip in found.clips]
  listing = ingest.Listing("videos", (path.name,), 1, 1, ())
  page = report.render(kept, [], [found], [], [], listing, config.CurateConfig())
  parser = _Parser()
  parser.feed(page)
  assert parser.open == []
  assert parser.count["img"] == len(found.strip) > 5
  assert "<script>caption" not in page
  assert "&lt;b&gt;v&amp;.mkv" in page


def test_thumbnails_move(tmp_path):
  path = media.write(tmp_path / "v.mkv", media.shot(1, 120, speed=4.0))
  (clip,) = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig()).clips
  gone = dataclasses.replace(clip, start_time_s=1.0, end_time_s=1.01)
  uris = thumbnails.moving(str(path), [clip, gone])
  for uri, count in zip(uris, (12, 1), strict=True):
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))
    assert getattr(image, "n_frames", 1) == count
    assert image.size == (128, 72)
  (path.parent / "broken.mkv").write_bytes(path.read_bytes()[:3000])
  assert thumbnails.moving(str(path.parent / "broken.mkv"), [clip]) == [""]


def test_numbers_verdicts_and_costs_are_on_the_page(tmp_path):
  path = media.write(tmp_path / "v.mkv", media.shot(1, 120))
  found = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig())
  (clip,) = found.clips
  clips = [
    dataclasses.replace(clip, kept=True, text_area=0.01),
    dataclasses.replace(clip, clip_id="b", drop_reasons=("text",), text_area=0.3),
    dataclasses.replace(clip, clip_id="c", drop_reasons=("low_motion", "text"), text_area=0.2),
  ]
  examples = [("kept", clips[0], "data:,kept"), ("text", clips[1], "data:,text")]
  costs = [tables.Cost("analyse", 2.0, 20.0), tables.Cost("look", 1.0, 5.0)]
  costs += [tables.Cost("analyse", 2.0, 20.0)]
  listing = ingest.Listing("videos", (path.name,), 0, 0, ())
  page = report.render(clips, [], [found], examples, costs, listing, config.CurateConfig())
  for verdict in ('kept</span></td><td class="n">1<', 'text</td><td class="n">2<'):
    assert verdict in page
  assert page.index("text</td>") < page.index("low_motion</td>")  # the frequent one first
  assert page.count('src="data:,') == 2
  assert "Text, share of the frame: <b>2</b> of 3 above 0.07" in page
  assert "0.1250</th>" in page  # core hours per hour: 5 s for 40 s
  assert "125000 core hours, 5000</b>" in page
  assert '<td>clips</td><td class="n">3</td><td class="n">1</td>' in page


def test_the_curve_peaks_where_the_cut_is(tmp_path):
  frames = np.concatenate([media.shot(1, 300), media.shot(2, 500)])
  path = media.write(tmp_path / "v.mkv", frames)
  curve = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig()).curve
  assert abs(np.argmax(curve) / len(curve) - 300 / 800) < 0.01


def test_an_empty_result_has_a_page_too():
  listing = ingest.Listing("videos", ("a.mp4",), 0, 0, ())
  assert "0</b>clips kept" in report.render([], [], [], [], [], listing, config.CurateConfig())


def test_a_full_disk_is_recognised_inside_beam():
  wrapped = RuntimeError("OSError: [Errno 28] No space left on device [while running 'analyse']")
  assert isinstance(graph.user_error(wrapped), errors.NoSpaceError)
  other = RuntimeError("KeyError: 'x' [while running 'analyse']")
  assert graph.user_error(other) is other
