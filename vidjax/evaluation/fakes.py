"""The generated side of an evaluation: clips of a model, or those in a folder.

Both know their ids, texts and classes before a clip is read or made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from vidjax import lazy, pretrained, render, storage
from vidjax import pipeline as pipelines
from vidjax.config import TrainConfig
from vidjax.errors import DataError
from vidjax.evaluation import datasets, generate, sides
from vidjax.evaluation.datasets import ClipRule, Item
from vidjax.evaluation.datasets.items import listed
from vidjax.evaluation.plan import Plan
from vidjax.evaluation.protocol import Protocol
from vidjax.evaluation.sample_plan import Prompt
from vidjax.nn.params import Params


@dataclasses.dataclass(frozen=True)
class Fake:
  """Generated clips that can be asked for by id.

  Attributes:
    name: for progress.
    origin: model or folder, for the result.
    ids: of all clips.
    texts: id -> prompt; a clip without one is not there.
    labels: id -> class; likewise.
    videos: id -> the real video that it goes back to, else its own id: what is not independent.
    inputs: all that the clips depend on.
    sampling: how a model was sampled, in plain values; empty for a folder.
    batches: clips of some ids, in order.
  """

  name: str
  origin: str
  ids: Sequence[str]
  texts: Mapping[str, str]
  labels: Mapping[str, str]
  videos: Mapping[str, str]
  inputs: Mapping[str, Any]
  sampling: Mapping[str, Any]
  batches: Callable[[Sequence[str]], Iterator[list[sides.Made]]]


class Models:
  """The pipeline of the model that was evaluated last: another step of its run compiles nothing."""

  def __init__(self):
    self._pipe: pipelines.Pipeline | None = None

  def pipeline(self, config: TrainConfig, weights: Params, origin: str) -> pipelines.Pipeline:
    """A pipeline with these weights."""
    if self._pipe is None or self._pipe.config != config:
      self._pipe = pipelines.Pipeline(config, weights, origin)
    else:
      self._pipe.load(weights)
    return self._pipe


def of_model(
  protocol: Protocol,
  plan: Plan,
  model: str,
  params: str,
  sampling: generate.Sampling,
  samples: str,
  models: Models,
) -> Fake:
  """Clips that a model makes for the prompts of the plan.

  Args:
    protocol: of the evaluation.
    plan: its samples, and the real videos for the models that are shown a frame.
    model: any directory that `vidjax.pretrained` takes.
    params: "ema", "ema:DECAY" or "raw".
    sampling: how it is sampled.
    samples: folder to which each clip is written as `ID.mkv`, without loss; "" for none.
    models: keeps what is compiled.

  Raises:
    ValueError: `model` is none, or makes nothing that the protocol compares.
    CheckpointError: its files are incomplete.
  """
  found = pretrained.load(model, params)
  if found.config.task != "diffusion":
    raise ValueError(f"--model={model} holds an autoencoder, which makes no clips")
  generate.check_mode(found.config.conditioning.mode, protocol, found.origin)
  weights = lazy.read_all(found.params, "reading weights")
  pipe = models.pipeline(found.config, weights, found.origin)
  by_id = {item.id: item for item in plan.real}

  def first_frame(video_id: str):
    clip = datasets.read_clip(by_id[video_id], protocol.real.clip)
    if clip is None:
      raise DataError(
        f"{video_id} is too short for the protocol's rule for clips, so it has no first frame"
      )
    return clip.frames_THWC[0]

  generator = generate.Generator(pipe, protocol, sampling, first_frame)
  prompts = {prompt.sample_id: prompt for prompt in plan.prompts}

  def batches(ids: Sequence[str]) -> Iterator[list[sides.Made]]:
    for start in range(0, len(ids), sampling.batch_size):
      part = ids[start : start + sampling.batch_size]
      clips_NTHWC = generator.clips([prompts[id_] for id_ in part])
      if samples:
        for id_, clip_THWC in zip(part, clips_NTHWC, strict=True):
          render.write_video(storage.Path(samples) / f"{id_}.mkv", clip_THWC, generator.fps)
      yield [
        sides.Made(id_, clip, generator.fps, generator.given(prompts[id_]))
        for id_, clip in zip(part, clips_NTHWC, strict=True)
      ]

  settings = dataclasses.asdict(sampling) | {"scale": generator.scale, "fps": generator.fps}
  return Fake(
    name="generating",
    origin=found.origin,
    ids=list(prompts),
    texts={id_: prompt.prompt for id_, prompt in prompts.items()},
    labels={id_: p.label for id_, p in prompts.items() if p.label is not None},
    videos=_videos(plan.prompts),
    inputs={"model": lazy.sha256(weights), "sampling": settings, "prompts": digest(plan.prompts)},
    sampling=settings,
    batches=batches,
  )


def of_folder(protocol: Protocol, plan: Plan, folder: str) -> Fake:
  """Clips that are there already.

  Raises:
    ValueError: there are fewer than the protocol compares, or texts are needed and missing.
    FileNotFoundError, DataError: no such folder, or what is in it are no clips.
  """
  found = datasets.open_dataset("folder", folder)
  wanted = protocol.fake.count
  if protocol.fake.prompts != "given" and wanted is None:
    wanted = len(plan.prompts)
  if protocol.limit is not None:
    wanted = min(protocol.limit, len(found.items) if wanted is None else wanted)
  if wanted is not None and len(found.items) < wanted:
    raise ValueError(
      f"--fake={folder} holds {len(found.items)} clips, protocol {protocol.name!r} compares"
      f" {wanted}: make the rest, or take --limit={len(found.items)}, which is another protocol"
    )
  planned = {prompt.sample_id: prompt for prompt in plan.prompts}
  items = sides.drawn(found.items, wanted, protocol.fake.seed)
  if planned and all(item.id in planned for item in found.items):
    items = [item for item in found.items if item.id in planned][:wanted]
  texts = {item.id: text for item in items if (text := _text(item, planned))}
  if any(metric.kind == "clipsim" for metric in protocol.metrics) and len(texts) < len(items):
    without = [item.id for item in items if item.id not in texts]
    raise ValueError(
      f"--fake={folder}: {listed(without, 'clips')} have no text, which CLIPSIM compares with: put"
      " captions.json (id -> text) there, or name the clips like the samples in prompts.json"
    )
  rule = ClipRule(frames=protocol.fake.num_frames, short="error")
  videos = sides.Videos("generated", items, rule)
  labels = {item.id: label for item in items if (label := _label(item, planned))}
  return Fake(
    name="generated",
    origin=folder,
    ids=videos.ids,
    texts=texts,
    labels=labels,
    videos={id_: video for id_, video in _videos(plan.prompts).items() if id_ in set(videos.ids)},
    inputs={"ids": sides.ids_digest(videos.ids), "files": _files_digest(folder)},
    sampling={},
    batches=videos.batches,
  )


def digest(prompts: Sequence[Prompt]) -> str:
  """16 hex digits of a list of samples."""
  return sides.ids_digest(repr(dataclasses.astuple(prompt)) for prompt in prompts)


def _files_digest(folder: str) -> str:
  """16 hex digits of what is in a folder: names, sizes and versions of files, unopened."""
  return sides.ids_digest(repr(dataclasses.astuple(state)) for state in storage.file_states(folder))


def _videos(prompts: Sequence[Prompt]) -> dict[str, str]:
  return {p.sample_id: p.video_id for p in prompts if p.video_id is not None}


def _text(item: Item, planned: Mapping[str, Prompt]) -> str:
  if item.captions:
    return item.captions[0].text
  return planned[item.id].prompt if item.id in planned else ""


def _label(item: Item, planned: Mapping[str, Prompt]) -> str | None:
  return planned[item.id].label if item.id in planned else item.label
