"""Charts of pages: scales, gaps, labels, and bars that do not flatten each other."""

import itertools
import re

import pytest

from vidjax import charts


def test_bars_cut_what_would_flatten_the_rest():
  rows = [charts.Bar("a", (1.0, 1.0), 1.5, 2.5), charts.Bar("b", (100.0,), 90.0, 110.0)]
  text = charts.bars(rows)
  assert text.count("track cut") == 1
  assert "width:26.67%" in text  # 1 of 1.5 * 2.5
  assert charts.bars(rows[:1]).count("cut") == 0


def test_curve_takes_a_logarithmic_axis_where_the_loss_falls_far():
  assert "log scale" in charts.curve([1, 2, 3], [10.0, 1.0, 0.1], "steps")
  assert "log scale" not in charts.curve([1, 2, 3], [1.0, 0.5, 0.4], "steps")
  assert "log scale" not in charts.curve([1, 2], [1.0, -0.5], "steps")
  assert "nan" not in charts.curve([1, 2], [0.5, 0.5], "steps")


@pytest.mark.parametrize(
  ("value", "text"),
  [(0, "0"), (0.5, "0.500"), (123.4, "123"), (0.00123, "0.00123"), (1e4, "10,000")],
)
def test_figures_have_three_digits(value, text):
  assert charts.figure(value) == text


def places(text, style):
  """(x, y) of the points of the first path of a style."""
  path = re.search(rf'<path class="{style}" d="([^"]*)"', text)[1]
  return [tuple(map(float, pair.split(","))) for pair in re.findall(r"[ML]([-\d.,]+)", path)]


def test_values_lie_where_the_axis_says():
  text = charts.plot([charts.Line([0, 50, 100], [1.0, 10.0, 100.0], "line")], label="", log=True)
  (x0, y0), (x1, y1), (x2, y2) = places(text, "line")
  assert x1 == pytest.approx((x0 + x2) / 2)
  assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
  assert y0 > y2 == charts.TOP
  assert re.findall(r'text-anchor="end">([\d.,]+)<', text)[:3] == ["1", "10", "100"]


def test_a_gap_parts_a_line_and_a_lone_point_is_seen():
  ys = [1.0, 2.0, None, 4.0, None, 5.0, 6.0]
  text = charts.plot([charts.Line(range(7), ys, "line")], label="", log=False)
  path = re.search(r'd="([^"]*)"', text)[1]
  assert path.count("M") == 3
  assert path.count("h.1") == 1
  assert "None" not in text


def test_what_has_no_logarithm_is_a_gap():
  line = charts.Line(range(4), [1.0, 0.0, -1.0, 100.0], "line")
  assert len(places(charts.plot([line], label="", log=True), "line")) == 2


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-12, 1e12])
@pytest.mark.parametrize("log", [False, True])
def test_a_constant_has_an_axis(value, log):
  if log and value <= 0:
    return
  text = charts.plot([charts.Line([1, 1000], [value, value], "line")], label="", log=log)
  assert "nan" not in text
  assert "inf" not in text
  (_, y), _ = places(text, "line")
  assert charts.TOP < y < charts.HEIGHT - 20


def test_texts_of_a_plot_are_escaped():
  line = charts.Line([1, 2], [1.0, 2.0], "line")
  text = charts.plot([line], label='"><script>', log=False, marks=[(1.5, "<b>")])
  assert "<script>" not in text
  assert "<b>" not in text


def test_labels_of_marks_do_not_overlap():
  line = charts.Line([0, 1000], [1.0, 2.0], "line")
  marks = [(float(step), f"attempt {step}") for step in range(100, 900, 10)]
  text = charts.plot([line], label="", log=False, marks=marks)
  assert text.count('class="mark"') == 80
  at = [float(x) for x in re.findall(r'x="([\d.]+)" y="18">attempt', text)]
  assert len(at) > 1
  assert all(b - a > 50 for a, b in itertools.pairwise(at))


def test_the_running_mean_is_that_of_the_last_tenth():
  ys = [float(i % 7) for i in range(200)]
  means = charts.running_mean(ys)
  assert means[:2] == [0.0, 0.5]
  assert means[150] == pytest.approx(sum(ys[131:151]) / 20)
  huge = charts.running_mean([1e16] * 10 + [1.0] * 100)
  assert huge[-1] == 1.0, "what was large once leaves no rounding behind"


def test_parts_of_bars_have_notes():
  bar = charts.Bar("all", (60.0, 0.0, 40.0), text="60 %", notes=("a", "b", "<c>"))
  text = charts.bars([bar])
  assert 'class="part0" title="a" style="width:60.00%"' in text
  assert "part1" not in text, "nothing of no length"
  assert "&lt;c&gt;" in text
  assert ">60 %<" in text
