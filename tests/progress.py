"""What a long test run says on its way, and in which order it goes: hooks for pytest.

A failure is printed when it happens, with its traceback, and what took a minute is named with its
time, so that a run that is cut off has told it.

  pytest --minutes=70    stops after this time, with the report of what there is until then

Files with slow tests come first: what takes long is not what the other processes wait for.
"""

from collections.abc import Generator
import time

import pytest

LONG = 60.0  # seconds
_BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption("--minutes", type=float, help="Ends the run after the test of that minute.")


def pytest_configure(config: pytest.Config) -> None:
  if not hasattr(config, "workerinput"):  # the process that reports, of those of xdist
    config.pluginmanager.register(_OnTheWay(config))


class _OnTheWay:
  """Prints what `pytest` itself prints at the end only."""

  def __init__(self, config: pytest.Config) -> None:
    self._config = config

  @pytest.hookimpl(trylast=True)
  def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
    reporter = self._config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not (report.failed or report.duration >= LONG):
      return
    now = (time.monotonic() - _BEGAN) / 60
    reporter.line("")
    reporter.line(f"{now:.1f} min: {report.nodeid} {report.when} took {report.duration:.0f} s")
    if report.failed:
      reporter.line(report.longreprtext)
      for title, text in report.sections:
        reporter.line(f"--- {title}\n{text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
  yield
  minutes = item.config.getoption("minutes")
  if minutes and time.monotonic() - _BEGAN > 60 * minutes:
    item.session.shouldstop = f"the {minutes:g} minutes of --minutes are over"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  slow = {item.path for item in items if item.get_closest_marker("slow")}
  items.sort(key=lambda item: item.path not in slow)
