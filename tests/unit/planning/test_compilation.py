"""The cache of compiled programs, and what XLA's refusals say."""

from vidjax import storage
from vidjax.planning import compilation
from vidjax.planning.compilation import Cache, Compiled, Memory


def test_what_was_kept_is_found_again(tmp_path):
  compiled = Compiled("HloModule x", Memory(1, 2, 3, 4, 5), 6.5)
  cache = Cache(tmp_path)
  assert cache.get("a") is None
  cache.put("a", compiled)
  assert cache.get("a") == compiled
  assert cache.get("b") is None
  assert len(storage.list_files(tmp_path)) == 1


def test_a_damaged_file_is_as_good_as_none(tmp_path):
  cache = Cache(tmp_path)
  cache.put("a", Compiled("HloModule x", Memory(1, 2, 3, 4), 6.5))
  (path,) = storage.list_files(tmp_path)
  content = storage.read_bytes(path)
  for damaged in (content[: len(content) // 2], b"", b"x" * 100):
    storage.write_bytes(path, damaged)
    assert cache.get("a") is None


def test_refusals_are_read():
  text = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory"
    " required for HLO temporaries (8.00T) exceeds available HBM (15.75G). HLO module: jit_f."
  )
  assert compilation.needed_bytes(text) == 8 * 2**40
  assert compilation.needed_bytes("Ran out of memory") == 0


def test_memory_is_the_peak_where_it_is_known():
  assert Memory(1, 2, 3, 4).total == 10
  assert Memory(1, 2, 3, 4, 8).total == 8
