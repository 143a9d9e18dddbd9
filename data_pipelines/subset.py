"""`vidjax select`: a part of a curated set, by thresholds on its scores; no clip is copied.

  vidjax select --clips=OUT/clips.parquet --out=SUBSET.parquet --config=configs/data/lvd_f.py
  vidjax select --clips=OUT/clips.parquet --out=SUBSET.parquet --config.drop_lowest.aesthetic=0.25
      --config.where="text_area <= 0.07 and motion_zoom > 0.05"

The scores in the table are scanned, and what is written is a list of clip ids, from which training
reads the same shards (`--config.data.options.subset=SUBSET.parquet`). Stable Video Diffusion trains
its stages on three such parts of one set: all of LVD, the filtered LVD-F, and the best of it.
`--clips` may name several tables, with commas between.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import difflib
import json
import sys
from typing import Any

from absl import flags
import duckdb
import pyarrow as pa
from pyarrow import dataset, parquet

from vidjax import command, config, errors, storage
from vidjax.data import subset

_CLIPS = flags.DEFINE_list("clips", None, "Tables that `vidjax curate` wrote.")
_OUT = flags.DEFINE_string("out", None, "File for the list of clips, a .parquet.")
_CONFIG = flags.DEFINE_string("config", None, "Config file, FILE.py[:variant].")
_ROWS_AT_ONCE = 100_000


@dataclasses.dataclass(frozen=True)
class SubsetConfig:
  """Which of the kept clips are chosen: those that no part of this excludes.

  Attributes:
    where: condition in SQL on the columns and scores, by name. A score that a clip does not have is
      NULL, for which a comparison does not hold.
    drop_lowest: score -> share of the clips that have it, that is dropped from below.
    drop_highest: score -> share that is dropped from above.
    within: another list of clips; others are not chosen. Shares are still those of all clips.
  """

  where: str = ""
  drop_lowest: Mapping[str, float] = dataclasses.field(default_factory=dict)
  drop_highest: Mapping[str, float] = dataclasses.field(default_factory=dict)
  within: str = ""

  def __post_init__(self) -> None:
    for name, share in {**self.drop_lowest, **self.drop_highest}.items():
      if not 0 <= float(share) < 1:
        raise ValueError(f"the share of {name!r} to drop is 0 <= share < 1, got {share}")


@dataclasses.dataclass(frozen=True)
class Rule:
  """A condition, and what it leaves: alone, and together with those before it."""

  text: str
  condition: str
  passes: int = 0
  remain: int = 0


def select(clips: Sequence[Any], out: Any, settings: SubsetConfig) -> list[Rule]:
  """Chooses clips and writes their ids.

  Args:
    clips: Tables as of `vidjax curate`, local or remote.
    out: Parquet file with a column `clip_id`, sorted, and in its metadata how it was made.
    settings: What to choose.

  Returns:
    The rules in force; of the first one, which every clip passes, `passes` is the number of clips.

  Raises:
    ValueError: an unknown score, or a condition that is no SQL.
    DataError: a table cannot be read, or nothing is chosen; then nothing is written.
  """
  for path in clips:
    if not storage.Path(path).exists():
      raise errors.DataError(f"--clips={path}: there is no such table")
  with contextlib.ExitStack() as stack:
    # Whatever a condition says, it sees these tables only.
    connection = stack.enter_context(duckdb.connect(config={"enable_external_access": "false"}))
    scores = _view(connection, [stack.enter_context(storage.local_copy(path)) for path in clips])
    rules = _rules(connection, settings, scores)
    if settings.within:
      connection.register("within", pa.table({"clip_id": subset.read(settings.within).astype(str)}))
      condition = "clip_id IN (SELECT clip_id FROM within)"
      rules.append(Rule(f"in {settings.within}", condition))
    rules = _counted(connection, rules)
    if not rules[-1].remain:
      raise errors.DataError(f"no clip is chosen:\n{table(rules)}")
    _write(connection, rules, settings, out)
  return rules


def _write(
  connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], settings: SubsetConfig, out: Any
) -> None:
  every = " AND ".join(rule.condition for rule in rules)
  query = f"SELECT clip_id FROM scored WHERE {every} ORDER BY clip_id"
  reader = connection.sql(query).to_arrow_reader(_ROWS_AT_ONCE)
  about = {"rules": [dataclasses.asdict(r) for r in rules], "config": config.to_dict(settings)}
  made = {subset.METADATA_KEY: json.dumps(about).encode()}
  schema = pa.schema({"clip_id": pa.string()}, made)
  with storage.staged(out) as local, parquet.ParquetWriter(local, schema) as writer:
    for batch in reader:
      writer.write_batch(batch)


def _view(connection: duckdb.DuckDBPyConnection, clips: Sequence[str]) -> list[str]:
  """Makes the view `scored` of all kept clips; names of the scores, each a column of its own."""
  try:
    everything = dataset.dataset([dataset.dataset(path) for path in clips])
  except (pa.ArrowException, OSError) as error:
    raise errors.DataError(f"--clips={','.join(clips)} cannot be read: {error}") from error
  missing = {"clip_id", "kept", "scores"} - set(everything.schema.names)
  if missing:
    raise errors.DataError(f"--clips: no table of `vidjax curate`, it lacks {sorted(missing)}")
  connection.register("clips", everything)
  names = connection.sql("SELECT DISTINCT unnest(map_keys(scores)) FROM clips").fetchall()
  scores = sorted(name for (name,) in names if name not in everything.schema.names)
  columns = ", ".join(f"scores[{_text(name)}] AS {_name(name)}" for name in scores)
  connection.sql(f"SELECT *{', ' if columns else ''}{columns} FROM clips WHERE kept").create_view(
    "scored"
  )
  numeric = [f.name for f in everything.schema if pa.types.is_floating(f.type)]
  return [*numeric, *scores]


def _rules(
  connection: duckdb.DuckDBPyConnection, settings: SubsetConfig, scores: Sequence[str]
) -> list[Rule]:
  rules = [Rule("kept by vidjax curate", "true")]
  if settings.where:
    try:
      connection.sql(f"SELECT clip_id FROM scored WHERE ({settings.where})").limit(0).fetchall()
    except duckdb.Error as error:
      reason = str(error).strip().splitlines()[0]
      known = f"; scores are {', '.join(scores)}" if "column" in reason else ""
      raise ValueError(f"config.where={settings.where!r}: {reason}{known}") from error
    rules.append(Rule(settings.where, f"coalesce(({settings.where}), false)"))
  for shares, lowest in ((settings.drop_lowest, True), (settings.drop_highest, False)):
    for name, share in shares.items():
      if name not in scores:
        near = difflib.get_close_matches(name, scores, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(scores)}"
        raise ValueError(f"no clip has the score {name!r}: {hint}")
      rules += _share(connection, name, float(share), lowest)
  return rules


def _share(
  connection: duckdb.DuckDBPyConnection, name: str, share: float, lowest: bool
) -> list[Rule]:
  """The rule that drops at most a share of the clips; clips without the score pass."""
  column = _name(name)
  scored = f"FROM scored WHERE {column} IS NOT NULL"
  (count,) = connection.sql(f"SELECT count(*) {scored}").fetchall()[0]
  if not count or not share:
    return []
  order = f"ORDER BY {column} {'ASC' if lowest else 'DESC'} LIMIT 1 OFFSET {int(share * count)}"
  (limit,) = connection.sql(f"SELECT {column} {scored} {order}").fetchall()[0]
  sign = ">=" if lowest else "<="
  text = f"{name} {sign} {limit:.6g} (all but the {'lowest' if lowest else 'highest'} {share:g})"
  return [Rule(text, f"({column} IS NULL OR {column} {sign} {limit!r})")]


def _counted(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule]) -> list[Rule]:
  """The rules with their numbers, found in one scan."""
  together = [" AND ".join(r.condition for r in rules[: i + 1]) for i in range(len(rules))]
  conditions = [condition for pair in zip(rules, together, strict=True) for condition in pair]
  counts = ", ".join(
    f"count(*) FILTER (WHERE {c.condition if isinstance(c, Rule) else c})" for c in conditions
  )
  found = connection.sql(f"SELECT {counts} FROM scored").fetchall()[0]
  return [
    dataclasses.replace(rule, passes=found[2 * i], remain=found[2 * i + 1])
    for i, rule in enumerate(rules)
  ]


def table(rules: Sequence[Rule]) -> str:
  """The rules and what they leave, one line each."""
  width = max(len(rule.text) for rule in rules)
  lines = [f"{'rule':<{width}}  {'passes':>12}  {'remain':>12}"]
  lines += [f"{rule.text:<{width}}  {rule.passes:>12}  {rule.remain:>12}" for rule in rules]
  return "\n".join(lines)


def _name(name: str) -> str:
  return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
  return "'" + value.replace("'", "''") + "'"


def main() -> None:
  """Reads the flags and selects."""
  if not _CLIPS.value or not _OUT.value:
    raise ValueError("write vidjax select --clips=OUT/clips.parquet --out=SUBSET.parquet")
  values = config.load_file(_CONFIG.value) if _CONFIG.value else {}
  values = config.apply_overrides(SubsetConfig, values, command.config_overrides())
  rules = select(_CLIPS.value, _OUT.value, config.from_dict(SubsetConfig, values))
  print(table(rules), file=sys.stderr)
  print(f"{rules[-1].remain} of {rules[0].passes} clips: {_OUT.value}")


if __name__ == "__main__":
  command.run(main)
