"""Programs for TPUs that are not here are not kept by JAX, which could not read them again."""

from collections.abc import Iterator

import pytest

from vidjax import compiling


@pytest.fixture(scope="module", autouse=True)
def _nothing_kept() -> Iterator[None]:
  with compiling.without_cache():
    yield
