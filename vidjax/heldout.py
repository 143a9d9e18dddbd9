"""The protocol `demo`: held-out windows against samples of a model and simple baselines.

What is compared with the real windows:
  model        clips of the model, asked for with the windows' own first frames or captions;
  untrained    the same from fresh weights;
  mean_frame   the mean of training frames, all the time: the best guess without looking;
  first_frame  each window's first frame, all the time: what image-to-video gets for free.

Legend: N windows, T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Sequence
import dataclasses
import io

import av
import av.error
import numpy as np

from vidjax import config as configs
from vidjax import errors, lazy, pretrained, render, requests, storage
from vidjax import pipeline as pipelines
from vidjax.data import fingerprint, loader, video
from vidjax.data import samples as data_samples
from vidjax.metrics import comparison, protocols, results
from vidjax.observe import console

_BATCH = 4  # clips sampled at once
_SHOWN = 4  # windows of each split that people are shown
_SHEET = "contact_sheet.png"
_DECODER = f"PyAV {av.__version__}"


def evaluate_model(
  data: str, model: str, params: str, out: str, samples: str | None
) -> results.Result | None:
  """Samples a model for the held-out windows and compares; None if `out` has that already.

  Args:
    data: folder of shards with the splits train and holdout.
    model: any directory that `vidjax.pretrained` takes.
    params: "ema", "ema:DECAY" or "raw".
    out: folder of results; features and a contact sheet are written here.
    samples: folder for single clips, or None.

  Raises:
    ValueError: the model makes no video.
    DataError: the shards cannot be read.
  """
  loaded = pretrained.load(model, params)
  config = loaded.config
  if config.data.num_frames < 2:
    raise ValueError(f"--model={model}: {config.conditioning.mode} models make no video to compare")
  protocol = protocols.Demo(
    config.data.num_frames, config.data.fps, config.data.height, config.data.width
  )
  view = configs.DataConfig(
    path=data,
    num_frames=protocol.num_frames,
    fps=protocol.fps,
    height=protocol.height,
    width=protocol.width,
    captions=config.data.captions,
    template=config.data.template,
    scores=config.data.scores,
  )
  params_on_host = lazy.read_all(loaded.params, "reading weights")
  weights = {loaded.origin: lazy.sha256(params_on_host)}
  inputs = _inputs(protocol, view, weights)
  if _is_done(out, inputs, samples):
    return None
  storage.remove(storage.Path(out) / "result.json")  # of another model or other data

  pipe = pipelines.Pipeline(config, params_on_host, loaded.origin)
  windows = _windows(view, protocol)
  real = _video(windows)
  generated = _sample(pipe, windows, protocol, "sampling")
  examples = _examples(pipe, view, protocol, windows, generated)
  pipe.load(pipelines.fresh_weights(config))
  fakes = {
    "model": generated,
    "untrained": _sample(pipe, windows, protocol, "untrained"),
    **_baselines(view, protocol, real),
  }
  result = _compare(protocol, real, fakes, weights, out)
  render.write_png(storage.Path(out) / _SHEET, _sheet(examples))
  if samples:
    _write_samples(samples, examples, config.data.fps)
  storage.write_json(storage.Path(out) / "inputs.json", inputs)
  return result


def evaluate_given(data: str, fake: str, out: str) -> results.Result:
  """Compares a folder of .mp4 files; their shape and frame rate decide about the real windows.

  Raises:
    ValueError: there are fewer than 2 files, or they differ in shape.
    DataError: the shards cannot be read.
  """
  files = sorted(p for p in storage.Path(fake).glob("*.mp4")) if storage.Path(fake).is_dir() else []
  if len(files) < 2:
    raise ValueError(f"--fake={fake}: {len(files)} .mp4 files there, at least 2 are needed")
  clips, info = {}, None
  for file in files:
    content = storage.read_bytes(file)
    try:
      info = video.probe(content)
      clips[file] = video.read_frames_at(content, info.times_s).astype(np.float32) / 255.0
    except (av.error.FFmpegError, ValueError) as error:
      raise ValueError(f"{file} cannot be decoded: {error}") from error
  assert info is not None
  shapes = {clip.shape: file for file, clip in clips.items()}
  if len(shapes) > 1:
    listing = ", ".join(f"{shape} ({file.name})" for shape, file in list(shapes.items())[:3])
    raise ValueError(f"--fake={fake}: clips must have one shape (T, H, W, 3), found {listing}")
  fake_NTHWC = np.stack(list(clips.values()))
  protocol = protocols.Demo(
    fake_NTHWC.shape[1],
    round(info.fps, 3),
    *fake_NTHWC.shape[2:4],
    steps=None,
    guidance=None,
    noise_aug_strength=None,
  )
  view = configs.DataConfig(
    path=data,
    num_frames=protocol.num_frames,
    fps=protocol.fps,
    height=protocol.height,
    width=protocol.width,
  )
  real = _video(_windows(view, protocol))
  fakes = {"model": fake_NTHWC, **_baselines(view, protocol, real)}
  return _compare(protocol, real, fakes, {}, out)


def _windows(view: configs.DataConfig, protocol: protocols.Demo) -> list[data_samples.Sample]:
  view = dataclasses.replace(view, split=protocol.split)
  return list(loader.fixed_windows(view, protocol.windows, protocol.seed))


def _video(windows: Sequence[data_samples.Sample]) -> np.ndarray:
  return np.stack([window.frames for window in windows]).astype(np.float32) / 255.0


def _baselines(
  view: configs.DataConfig, protocol: protocols.Demo, real_NTHWC: np.ndarray
) -> dict[str, np.ndarray]:
  """Generated sets that took no model."""
  train = dataclasses.replace(protocol, split="train")
  mean_HWC = _video(_windows(view, train)).mean(axis=(0, 1))
  first_NTHWC = real_NTHWC[:, :1]
  return {
    "mean_frame": np.broadcast_to(mean_HWC, real_NTHWC.shape),
    "first_frame": np.broadcast_to(first_NTHWC, real_NTHWC.shape),
  }


def _sample(
  pipe: pipelines.Pipeline,
  windows: Sequence[data_samples.Sample],
  protocol: protocols.Demo,
  name: str,
) -> np.ndarray:
  """One clip for each window, from its first frame or caption and its motion."""
  assert protocol.guidance is not None
  assert protocol.noise_aug_strength is not None
  assert protocol.steps is not None
  conditioning = pipe.config.conditioning
  clips = []
  with console.Progress(name, total=len(windows)) as progress:
    for start in range(0, len(windows), _BATCH):
      part = windows[start : start + _BATCH]
      motion_N = np.array([window.motion_score for window in part])
      request = pipelines.Request(
        **requests.given(conditioning.mode, _video(part), [window.scores for window in part]),
        prompts=[window.caption for window in part],
        seeds=[protocol.seed + start + i for i in range(len(part))],
        motion_bucket_id=np.clip(motion_N * conditioning.motion_bucket_scale, 0, 255).tolist(),
        noise_aug_strength=protocol.noise_aug_strength,
        steps=protocol.steps,
        min_guidance=protocol.guidance,
        max_guidance=protocol.guidance,
      )
      clips.append(pipe.generate(request))
      progress.update(start + len(part))
  return np.concatenate(clips)


def _compare(
  protocol: protocols.Demo,
  real: np.ndarray,
  fakes: dict[str, np.ndarray],
  weights: dict[str, str],
  out: str,
) -> results.Result:
  for name, clips in fakes.items():
    if not np.isfinite(clips).all():
      raise errors.NonFiniteError(f"the clips of {name!r} hold NaN or infinity")
  total = len(real) + sum(len(clips) for clips in fakes.values())
  with console.Progress("measuring", total=total) as progress:
    measured, measured_fakes = comparison.measure(real, fakes, progress.update)
  arrays = {}
  for name, kept in {"real": measured, **measured_fakes}.items():
    arrays |= {f"{name}/{field}": value for field, value in vars(kept).items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  storage.write_bytes(storage.Path(out) / "features.npz", buffer.getvalue())
  metrics = {
    f"{name}/{term}": estimate
    for name, terms in comparison.distances(measured, measured_fakes).items()
    for term, estimate in terms.items()
  }
  n_fake = len(fakes["model"])
  return results.Result(protocol, len(real), n_fake, metrics, weights, _DECODER)


@dataclasses.dataclass(frozen=True)
class _Example:
  """A window, its way through the autoencoder, and what the model makes of its first frame."""

  split: str
  window: data_samples.Sample
  reconstructed: np.ndarray
  generated: np.ndarray


def _examples(
  pipe: pipelines.Pipeline,
  view: configs.DataConfig,
  protocol: protocols.Demo,
  windows: Sequence[data_samples.Sample],
  generated: np.ndarray,
) -> list[_Example]:
  """Some held-out windows, which the result counts, and some of training, which it does not."""
  heldout = windows[:_SHOWN]
  training = list(
    loader.fixed_windows(dataclasses.replace(view, split="train"), _SHOWN, protocol.seed)
  )
  remembered = _sample(pipe, training, protocol, "sampling, for the page")
  splits = [protocol.split] * len(heldout) + ["train"] * len(training)
  shown = [*heldout, *training]
  reconstructed = pipe.reconstruct(_video(shown))
  made = [*generated[: len(heldout)], *remembered]
  return [_Example(*parts) for parts in zip(splits, shown, reconstructed, made, strict=True)]


def _write_samples(folder: str, examples: Sequence[_Example], fps: float) -> None:
  """`NN_{real,reconstructed,generated}.mp4` and `NN.json` for each example, and their sheet."""
  for i, example in enumerate(examples):
    window, stem = example.window, str(storage.Path(folder) / f"{i:02d}")
    render.write_video(f"{stem}_real.mp4", window.frames, fps)
    render.write_video(f"{stem}_reconstructed.mp4", example.reconstructed, fps)
    render.write_video(f"{stem}_generated.mp4", example.generated, fps)
    note = {"clip_id": window.clip_id, "split": example.split, "caption": window.caption}
    storage.write_json(f"{stem}.json", note)
  render.write_png(storage.Path(folder) / _SHEET, _sheet(examples))


def _sheet(examples: Sequence[_Example]) -> np.ndarray:
  strips = []
  for example in examples:
    origin = "training" if example.split == "train" else "held out"
    label = f"real, {origin}: {example.window.caption[:90] or 'no caption'}"
    strips += [
      render.Strip(label, example.window.frames),
      render.Strip("generated", example.generated),
    ]
  return render.contact_sheet(strips)


def _inputs(
  protocol: protocols.Demo, view: configs.DataConfig, weights: dict[str, str]
) -> dict[str, object]:
  """All that the result depends on."""
  splits = {
    split: fingerprint.data_fingerprint(dataclasses.replace(view, split=split))
    for split in ("train", protocol.split)
  }
  return {
    "protocol_hash": protocols.protocol_hash(protocol),
    "weights": weights,
    "data": splits,
  }


def _is_done(out: str, inputs: dict[str, object], samples: str | None) -> bool:
  note = storage.Path(out) / "inputs.json"
  wanted = [storage.Path(out) / "result.json", note]
  if samples:
    wanted.append(storage.Path(samples) / _SHEET)
  return all(path.exists() for path in wanted) and storage.read_json(note) == inputs
