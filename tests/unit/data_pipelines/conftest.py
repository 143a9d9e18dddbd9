from collections.abc import Iterator

import pytest

from data_pipelines import isolation


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left() -> Iterator[None]:
  yield
  isolation.close()
