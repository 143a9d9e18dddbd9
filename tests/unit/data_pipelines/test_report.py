"""The page shows every clip with its verdict, and thresholds where they lie."""

import dataclasses
import html.parser

import numpy as np

from data_pipelines import analyse, config, graph, ingest, report
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
  page = report.render(kept, [], [found], [], listing, config.CurateConfig())
  parser = _Parser()
  parser.feed(page)
  assert parser.open == []
  assert parser.count["img"] == len(found.strip) > 5
  assert "script" not in parser.count
  assert "&lt;b&gt;v&amp;.mkv" in page


def test_the_curve_peaks_where_the_cut_is(tmp_path):
  frames = np.concatenate([media.shot(1, 300), media.shot(2, 500)])
  path = media.write(tmp_path / "v.mkv", frames)
  curve = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig()).curve
  assert abs(np.argmax(curve) / len(curve) - 300 / 800) < 0.01


def test_an_empty_result_has_a_page_too():
  listing = ingest.Listing("videos", ("a.mp4",), 0, 0, ())
  assert "0</b>clips kept" in report.render([], [], [], [], listing, config.CurateConfig())


def test_a_full_disk_is_recognised_inside_beam():
  wrapped = RuntimeError("OSError: [Errno 28] No space left on device [while running 'analyse']")
  assert isinstance(graph.user_error(wrapped), errors.NoSpaceError)
  other = RuntimeError("KeyError: 'x' [while running 'analyse']")
  assert graph.user_error(other) is other
