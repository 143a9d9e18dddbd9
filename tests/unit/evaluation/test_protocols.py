"""Protocols: frozen, hashed, read from files, and compared field by field."""

import dataclasses
import json
import pathlib

import pytest

from vidjax.evaluation import named, published, table
from vidjax.evaluation import protocol as protocols
from vidjax.evaluation.named import PROTOCOLS

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "evaluation" / "protocols.txt"
DOCS = pathlib.Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_named_protocols_can_be_run(name):
  protocols.check(PROTOCOLS[name])
  assert PROTOCOLS[name].name == name


def test_a_name_stands_for_one_protocol_for_ever():
  """A protocol that changes gets another name: its results would not compare with older ones."""
  hashes = [f"{name} {PROTOCOLS[name].hash}" for name in sorted(PROTOCOLS)]
  assert hashes == GOLDEN.read_text().splitlines()
  assert len({line.split()[1] for line in hashes}) == len(hashes)


def test_the_default_is_svds():
  """Stable Video Diffusion, 2311.15127, appendix E.4."""
  protocol = named.load(named.DEFAULT)
  assert (protocol.fake.count, protocol.fake.prompts, protocol.fake.guidance) == (
    13_320,
    "classname",
    7.0,
  )
  assert (protocol.fake.num_frames, protocol.fake.fps) == (16, 25.0)
  sizes = [(s.kind, s.height, s.width, s.antialias) for s in protocol.fake.size]
  assert sizes == [("resize", 240, 432, True), ("centre_crop", 240, 320, False)]
  assert [(m.kind, m.backbone, m.ddof) for m in protocol.metrics] == [("fvd", "i3d/torchscript", 0)]


def fields(value, path=()):
  """Paths of all fields, in lists the first element's."""
  for field in dataclasses.fields(value):
    child = getattr(value, field.name)
    child = child[0] if isinstance(child, tuple) and child else child
    if dataclasses.is_dataclass(child):
      yield from fields(child, (*path, field.name))
    else:
      yield (*path, field.name)


def changed(value, path):
  """A copy with another value in one field."""
  name, *rest = path
  child = getattr(value, name)
  if isinstance(child, tuple) and child and rest:
    return dataclasses.replace(value, **{name: (changed(child[0], rest), *child[1:])})
  if rest:
    return dataclasses.replace(value, **{name: changed(child, rest)})
  other = {str: "other", bool: not child, int: 7, float: 7.5, type(None): 5}.get(type(child), ())
  object.__setattr__(copy := dataclasses.replace(value), name, other)
  return copy


def test_the_hash_depends_on_every_field():
  protocol = PROTOCOLS["pixeldance-ucf101"]
  paths = list(fields(protocol))
  assert len(paths) > 30
  hashes = {path: changed(protocol, path).hash for path in paths}
  assert protocol.hash not in hashes.values()
  assert len(set(hashes.values())) == len(paths)


def test_a_limit_is_another_protocol():
  limited = named.load("svd-ucf101", limit=256)
  assert limited.hash != PROTOCOLS["svd-ucf101"].hash
  assert published.beside(limited) == []
  assert [row.value for row in published.beside(PROTOCOLS["svd-ucf101"])] == [242.02]


def test_published_numbers_are_of_metrics_that_their_protocols_have():
  for row in published.PUBLISHED:
    names = [metric.name for metric in PROTOCOLS[row.protocol].metrics]
    assert row.metric in names, row


def test_a_protocol_of_a_file(tmp_path):
  file = tmp_path / "mine.json"
  mine = dataclasses.replace(PROTOCOLS["svd-ucf101"], name="mine")
  named.write(mine, file)
  assert named.load(str(file)) == mine
  named.write(PROTOCOLS["svd-ucf101"], file)
  assert named.load(str(file)) == PROTOCOLS["svd-ucf101"]


def edited(tmp_path, edit):
  content = PROTOCOLS["svd-ucf101"].as_dict() | {"name": "mine"}
  content = json.loads(json.dumps(content))
  edit(content)
  file = tmp_path / "mine.json"
  file.write_text(json.dumps(content))
  return str(file)


@pytest.mark.parametrize(
  ("edit", "message"),
  [
    (lambda c: c.update(nonsense=1), r"mine.json: unknown fields \['nonsense'\]; known are name"),
    (lambda c: c.pop("real"), r"mine.json: the fields \['real'\] are missing"),
    (lambda c: c["fake"].update(counts=3), r"mine.json: fake: unknown fields \['counts'\]"),
    (lambda c: c["fake"].update(count="3"), r"fake.count: '3' is str, expected int or None"),
    (lambda c: c["fake"].update(count=0), r"fake.count=0, at least 1"),
    (lambda c: c["fake"].update(prompts="x"), r"fake.prompts='x', known are classname"),
    (lambda c: c.update(metrics=[]), r"metrics is empty"),
    (lambda c: c.update(metrics={}), r"metrics: expected a list, got dict"),
    (lambda c: c["metrics"][0].update(ddof=2), r"metrics.ddof=2, known are 0, 1"),
    (lambda c: c["metrics"].append(c["metrics"][0]), r"two metrics have one name: fvd/i3d"),
    (lambda c: c["fake"]["size"][0].update(kind="warp"), r"fake.size.kind='warp'"),
    (lambda c: c["real"]["clip"].update(start="end"), r"start='end'"),
    (lambda c: c.update(name="svd-ucf101", limit=7), r"differs in limit: 7, not None: give yours"),
  ],
)
def test_files_that_are_no_protocol(tmp_path, edit, message):
  with pytest.raises(ValueError, match=message):
    named.load(edited(tmp_path, edit))


def test_unknown_names():
  with pytest.raises(ValueError, match="did you mean 'svd-ucf101'"):
    named.load("svd-ucf11")
  with pytest.raises(ValueError, match="there is no such file"):
    named.load("missing.json")
  with pytest.raises(ValueError, match="limit=1, at least 2"):
    named.load("svd-ucf101", limit=1)


# --- Tables -------------------------------------------------------------------------------------


def stored(folder, protocol, value, missing=0, weights="aa"):
  folder.mkdir()
  metric = {"value": value, "low": value - 2, "high": value + 2, "unit": "u"}
  content = {
    "protocol": protocol.name,
    "protocol_hash": protocol.hash,
    "protocol_fields": json.loads(json.dumps(protocol.as_dict())),
    "n_real": 13_320 - missing,
    "n_fake": 13_320,
    "metrics": {"fvd/i3d-torchscript": metric},
    "missing": {"real": missing},
    "weights": {"i3d/torchscript": weights},
  }
  (folder / "result.json").write_text(json.dumps(content))
  return table.read(folder)


def test_results_of_one_protocol_stand_in_one_table(tmp_path):
  protocol = PROTOCOLS["svd-ucf101"]
  rows = [
    stored(tmp_path / "a", protocol, 242.0),
    stored(tmp_path / "b", protocol, 300.0, missing=12),
  ]
  text = table.render(rows)
  assert f"| {tmp_path}/a | 13320 | 242 ± 2 |" in text
  assert f"| {tmp_path}/b † | 13320 | 300 ± 2 |" in text
  assert f"† {tmp_path}/b: 12 real videos missing" in text


def test_results_of_different_protocols_are_refused(tmp_path):
  one = stored(tmp_path / "a", PROTOCOLS["svd-ucf101"], 242.0)
  other = stored(tmp_path / "b", named.load("svd-ucf101", limit=256), 500.0)
  with pytest.raises(ValueError, match=r"cannot stand in one table: limit: None, not 256"):
    table.render([one, other])
  other = stored(tmp_path / "d", PROTOCOLS["svd-ucf101"], 500.0, weights="bb")
  with pytest.raises(ValueError, match=r"other weights: i3d/torchscript: 'aa', not 'bb'"):
    table.render([one, other])
  with pytest.raises(ValueError, match=r"has no result.json"):
    table.read(tmp_path / "c")
