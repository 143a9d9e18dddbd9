"""One evaluation, from a protocol to a result: what `vidjax evaluate --protocol=NAME` does.

  plan -> inputs -> real features -> generated features -> scores -> result

`--out` holds `inputs.json` (all that the result depends on), `prompts.json`, `protocol.json`, the
features of both sides in parts, then `features/METRIC/{real,fake}.npz`, `report.html`, `report.md`,
and at the end `result.json`. A run that was killed goes on with the same command, and ends in the
same file. Several processes share the parts; the first one writes the result.
"""

import dataclasses
import json
import re
from typing import Any

from vidjax import storage
from vidjax.evaluation import (
  fakes,
  feature_files,
  generate,
  named,
  networks,
  plan,
  report,
  result_files,
  sample_plan,
  scores,
  sides,
  table,
)
from vidjax.evaluation import protocol as protocols
from vidjax.evaluation.datasets import read_clip
from vidjax.evaluation.protocol import Protocol
from vidjax.evaluation.store import Store
from vidjax.metrics import results
from vidjax.observe import console
from vidjax.parallel import distributed

INPUTS, PROMPTS, PROTOCOL, PAGE = "inputs.json", "prompts.json", "protocol.json", "report.html"
FEATURES = "features"


@dataclasses.dataclass(frozen=True)
class Job:
  """What is evaluated, and with what.

  Attributes:
    protocol: see `Protocol`.
    data: the data set, as it is on disk.
    weights: folder of `vidjax convert_weights`, or "random".
    out: folder of the result.
    model: any directory that `vidjax.pretrained` takes; "" where `fake` is given.
    params: "ema", "ema:DECAY" or "raw".
    fake: folder of generated clips; "" where `model` is given.
    sampling: of the model.
    lists: folder of UCF-101's official lists, if they are not beside the videos.
    sentences: file of prompts, for the protocols that take one.
    real: folder of the real side's features, to be shared by evaluations; "" is within `out`.
    samples: folder that all generated clips are written to, without loss; "" for none.
    allow_missing: go on where videos of the data set are not there.
  """

  protocol: Protocol
  data: str
  weights: str
  out: str
  model: str = ""
  params: str = "ema"
  fake: str = ""
  sampling: generate.Sampling = dataclasses.field(default_factory=generate.Sampling)
  lists: str = ""
  sentences: str = ""
  real: str = ""
  samples: str = ""
  allow_missing: bool = False


def of_step(job: Job, step: str, out: str, models: fakes.Models) -> str | None:
  """Evaluates one checkpoint of a run that is watched; the real side is shared by all of them."""
  real = job.real or str(storage.Path(job.out) / "real")
  return run(dataclasses.replace(job, model=step, out=out, real=real), models)


def run(job: Job, models: fakes.Models | None = None) -> str | None:
  """Runs or goes on with an evaluation, on all processes.

  Args:
    job: the evaluation.
    models: what was compiled for another step of the same run.

  Returns:
    The report; None where all was done already, and on all processes but the first.

  Raises:
    ValueError: `out` is of another evaluation, or the model, clips or weights do not fit.
    FileNotFoundError, DataError: of the data.
  """
  distributed.set_barrier_deadline(0)  # parts take as long as they take
  out, real_folder = storage.Path(job.out), storage.Path(job.real or storage.Path(job.out) / "real")
  planned = plan.make(
    job.protocol,
    job.data,
    lists=job.lists,
    sentences=job.sentences,
    allow_missing=job.allow_missing,
  )
  fake = _fake(job, planned, models or fakes.Models())
  loaded = networks.load(job.protocol, job.weights)
  real = sides.Videos("real", planned.real, job.protocol.real.clip)
  real_inputs = {
    "real": dataclasses.asdict(job.protocol.real),
    "dataset": planned.dataset.name,
    "ids": sides.ids_digest(real.ids),
    "weights": loaded.digests("real"),
  }
  inputs = {
    "protocol_hash": job.protocol.hash,
    "real": real_inputs,
    "fake": fake.inputs,
    "weights": loaded.digests("fake"),
  }
  done = distributed.by_first(lambda: _claim(out, inputs, job.protocol, planned))
  if distributed.from_first(int(bool(done))):
    return None
  distributed.by_first(lambda: _claim_folder(real_folder, real_inputs))
  extractors = (networks.Extractor(loaded, side) for side in ("real", "fake"))
  sides.fill(real_folder, "real", real.ids, real.batches, next(extractors))
  sides.fill(out / "fake", fake.name, fake.ids, fake.batches, next(extractors))
  distributed.meet("end of the parts")
  return distributed.by_first(lambda: _finish(job, planned, real, fake, real_folder, loaded))


def _fake(job: Job, planned: plan.Plan, models: fakes.Models) -> fakes.Fake:
  if job.fake:
    return fakes.of_folder(job.protocol, planned, job.fake)
  return fakes.of_model(
    job.protocol, planned, job.model, job.params, job.sampling, job.samples, models
  )


def _claim(
  out: storage.Path, inputs: dict[str, Any], protocol: Protocol, planned: plan.Plan
) -> bool:
  """Whether the evaluation in `out` is done; a fresh folder becomes this evaluation's.

  Raises:
    ValueError: it is of other inputs; says which.
  """
  done = (out / table.RESULT).exists()
  _claim_folder(out, inputs)
  if not done:
    named.write(protocol, out / PROTOCOL)
    if planned.prompts:
      sample_plan.write_prompts(out / PROMPTS, planned.prompts)
  return done


def _claim_folder(folder: storage.Path, inputs: dict[str, Any]) -> None:
  file = folder / INPUTS
  wanted = json.loads(json.dumps(inputs))
  if not file.exists():
    storage.write_json(file, wanted)
    return
  if different := protocols.differences(storage.read_json(file), wanted):
    raise ValueError(
      f"{folder} holds features of another evaluation: {'; '.join(different[:4])}. Give another"
      " folder, or remove it"
    )


def _finish(
  job: Job,
  planned: plan.Plan,
  real: sides.Videos,
  fake: fakes.Fake,
  real_folder: storage.Path,
  loaded: networks.Loaded,
) -> str:
  """Scores what is there and writes the result; the report."""
  out, protocol = storage.Path(job.out), job.protocol
  labels = {item.id: item.label for item in planned.real if item.label is not None}
  real_side = scores.side(Store(real_folder, real.ids).read(), {}, labels)
  fake_side = scores.side(Store(out / "fake", fake.ids).read(), fake.videos, fake.labels)
  with console.Progress("statistics", total=len(protocol.metrics) + 1) as progress:
    texts = loaded.texts(fake_side.features.ids, fake.texts)
    metrics, warnings = scores.all_metrics(protocol, real_side, fake_side, texts, progress.update)
  discarded = len(real.ids) - len(real_side)
  if planned.missing:
    warnings.insert(0, f"{planned.missing} of {planned.dataset.expected} real videos are missing")
  if loaded.folder == networks.RANDOM:
    warnings.insert(0, "the networks have random weights: nothing here compares with anything")
  if discarded:
    warnings.append(f"{discarded} real videos are too short for the protocol's clips")
  _write_features(out / FEATURES, protocol, real_side, fake_side)
  result = results.Result(
    protocol,
    len(real_side),
    len(fake_side),
    metrics,
    loaded.digests("fake"),
    _decoder(real),
    details={
      "protocol_fields": protocol.as_dict(),
      "dataset": planned.dataset.name,
      "model": fake.origin,
      "sampling": dict(fake.sampling),
      "missing": {"real": planned.missing, "discarded": discarded},
      "random_weights": loaded.folder == networks.RANDOM,
      "warnings": warnings,
      "classes": scores.classes(protocol, real_side, fake_side),
    },
  )
  content = result_files.content(result)
  page = report.render(
    protocol,
    content,
    sides.shown(out / "fake"),
    sides.shown(real_folder),
    [*report.history(out, protocol.hash), *_own_step(out, content)],
  )
  storage.write_text(out / PAGE, page)
  return result_files.write(out, result)


def _write_features(
  folder: storage.Path, protocol: Protocol, real: scores.Side, fake: scores.Side
) -> None:
  """Features of a clip each, `METRIC/{real,fake}.npz`, in the form that feature files have."""
  for metric in protocol.metrics:
    name = scores.key(metric.backbone, metric.tap)
    for side_name, side in (("real", real), ("fake", fake)):
      values = side.features.arrays.get(name)
      if values is not None and values.ndim == 2:
        place = folder / metric.name.replace("/", "-") / f"{side_name}.npz"
        feature_files.write(place, values, side.features.ids)


def _decoder(real: sides.Videos) -> str | None:
  """What decodes the real videos; None if all are too short."""
  clips = (read_clip(item, real.rule) for item in real.items)
  return next((clip.decoder for clip in clips if clip is not None), None)


def _own_step(out: storage.Path, content: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
  match = re.fullmatch(r"step_(\d+)", out.name)
  return [(int(match[1]), content["metrics"])] if match else []
