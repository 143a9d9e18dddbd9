"""Makes video files from a model.

  vidjax sample --model=DIR --image=photo.png --out=clip.mp4
  vidjax sample --model=DIR --prompt="a red car" --num_samples=4 --out=clips.mp4
  vidjax sample --model=DIR --prompt_file=prompts.txt --out=clips/all.mp4 --sampler=dpmpp_2m
  vidjax sample --model=DIR --image=first.png --last_image=last.png --out=clip.mp4
  vidjax sample --model=DIR --video=slow.mp4 --out=smooth.mp4

--out ends in .mp4, .webm, .gif or .mkv (lossless), in / for a folder of frames, or, for image
models, in .png. With `x.mp4` come `x.json` with every setting, from which the clip can be made
again, and `x.png`, a contact sheet. Several samples are `x_0000.mp4`, `x_0001.mp4` and so on,
sample i with seed `--seed + i`; what is there already with the same settings is not made again, so
that an interrupted batch goes on where it was. An image of another shape than the clip's is scaled
to cover it, and what is outside the middle is cut. The last two are for a model of interpolation:
the frames between two, and between each two neighbours of a clip, whose frame rate rises.
Exit codes: 0 done; 2 bad flag, image or model; 4 checkpoint; 7 disk full; 130 interrupted.
"""

from collections.abc import Sequence
import dataclasses
import io
from typing import Any

from absl import flags
import jax
import numpy as np

from vidjax import command, frame_rate, redaction, render, request_files, requests, storage
from vidjax import pipeline as pipelines
from vidjax.conditioning.modes import MODES
from vidjax.encoders import tokenizers
from vidjax.observe import console

_FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class _Clip:
  """One clip of a batch: where it goes, and what it is asked with besides the common settings."""

  path: storage.Path
  number: int
  seed: int
  prompt: str | None


def main() -> None:
  """The verb: see the module's text."""
  _check_flags()
  console.line(f"loading {_FLAGS.model}")
  pipe = pipelines.Pipeline.from_pretrained(_FLAGS.model, _FLAGS.params)
  clips = _clips()
  common = _common(pipe)
  _say_what_is_cut(pipe, clips)
  if _FLAGS.video is not None:
    _check_video_flags(pipe, len(clips))
  due = [c for c in clips if _FLAGS.save_array or not _is_done(c, _settings(common, pipe, c))]
  if len(due) < len(clips):
    console.line(f"{len(clips) - len(due)} of {len(clips)} clips are there already")
  given, start_noise = _given(pipe, common), _start_noise(len(clips))
  size = _FLAGS.batch_size or jax.local_device_count()
  fps = common.fps or pipe.config.data.fps
  arrays = []
  with console.Progress("sampling", total=len(due)) as progress:
    for start in range(0, len(due), size):
      part = due[start : start + size]
      request = _request(common, part, given, start_noise)
      made = _raised(pipe, request, size) if _FLAGS.video else pipe.generate(request)
      for clip, video_THWC in zip(part, made, strict=True):
        _write(clip, video_THWC, fps)
        storage.write_json(clip.path.with_suffix(".json"), _settings(common, pipe, clip))
        console.line(str(clip.path))
      arrays += [made] if _FLAGS.save_array else []
      progress.update(start + len(part))
  if _FLAGS.save_array:
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(arrays))
    storage.write_bytes(_FLAGS.save_array, buffer.getvalue())


def _check_flags() -> None:
  for name in ("num_samples", "batch_size"):
    value = getattr(_FLAGS, name)
    if value is not None and value < 1:
      raise ValueError(f"--{name}={value}: at least 1")
  if _FLAGS.prompt is not None and _FLAGS.prompt_file is not None:
    raise ValueError("--prompt and --prompt_file: give one of them")
  suffix = storage.Path(_FLAGS.out).suffix.lower()
  if not _FLAGS.out.endswith("/") and suffix not in (*render.VIDEO_SUFFIXES, ".png"):
    known = ", ".join(render.VIDEO_SUFFIXES)
    raise ValueError(f"--out={_FLAGS.out}: end the name in {known}, .png (images) or / (frames)")


def _check_video_flags(pipe: pipelines.Pipeline, clips: int) -> None:
  mode = pipe.config.conditioning.mode
  if len(MODES[mode].images) < 2:
    raise ValueError(
      f"--video: raising a frame rate takes a model of interpolation, that in {pipe.origin} was"
      f" trained for {mode!r}"
    )
  for name in ("image", "last_image", "noise", "image_noise"):
    if getattr(_FLAGS, name) is not None:
      raise ValueError(f"--video and --{name}: give one of them")
  if clips != 1:
    raise ValueError(f"--video: one clip is made of it, not {clips} (--num_samples, --prompt_file)")


def _raised(pipe: pipelines.Pipeline, request: pipelines.Request, batch_size: int) -> np.ndarray:
  """The clip of --video with more frames, (1, T, H, W, 3)."""
  assert request.height is not None
  assert request.width is not None
  frames_KHWC, own_fps = request_files.read_clip(
    "video", _FLAGS.video, request.height, request.width
  )
  video_THWC = frame_rate.raised(
    pipe.generate, request, frames_KHWC, seed=request.seeds[0], batch_size=batch_size
  )
  same_speed = own_fps * (len(video_THWC) - 1) / (len(frames_KHWC) - 1)
  fps = request.fps or pipe.config.data.fps
  if abs(fps / same_speed - 1) > 0.01:
    console.line(
      f"{_FLAGS.video} has {own_fps:g} frames per second: at {fps:g} the result plays"
      f" {fps / same_speed:.2g} times as fast, at --fps={same_speed:g} as it was"
    )
  return video_THWC[None]


def _clips() -> list[_Clip]:
  """All clips that the flags ask for, in the order of their seeds."""
  prompts: list[str | None] = [_FLAGS.prompt]
  if _FLAGS.prompt_file is not None:
    if not storage.Path(_FLAGS.prompt_file).is_file():
      raise ValueError(f"--prompt_file={_FLAGS.prompt_file}: there is no such file")
    lines = storage.read_text(_FLAGS.prompt_file).splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
      raise ValueError(f"--prompt_file={_FLAGS.prompt_file}: no line holds a prompt")
  out = storage.Path(_FLAGS.out.rstrip("/"))
  asked = [prompt for prompt in prompts for _ in range(_FLAGS.num_samples)]
  single = len(asked) == 1
  return [
    _Clip(
      path=out if single else out.with_name(f"{out.stem}_{i:04d}{out.suffix}"),
      number=i,
      seed=_FLAGS.seed + i,
      prompt=prompt,
    )
    for i, prompt in enumerate(asked)
  ]


def _say_what_is_cut(pipe: pipelines.Pipeline, clips: Sequence[_Clip]) -> None:
  if pipe.tokenizer is None:
    return
  asked = [clip.prompt for clip in clips] + [_FLAGS.negative_prompt]
  for prompt in dict.fromkeys(filter(None, asked)):
    if cut := tokenizers.unread(pipe.tokenizer, prompt):
      console.line(
        f"warning: the text encoder reads {pipe.tokenizer.length} tokens, so the end of a prompt is"
        f" not read: {cut!r}"
      )


def _common(pipe: pipelines.Pipeline) -> pipelines.Request:
  """What all clips share, checked before any is made."""
  data = pipe.config.data
  interval = None
  if _FLAGS.guidance_interval is not None:
    interval = tuple(float(end) for end in _FLAGS.guidance_interval)
    if len(interval) != 2 or not interval[0] < interval[1]:
      raise ValueError(f"--guidance_interval={_FLAGS.guidance_interval}: write LOW,HIGH of sigma")
  request = pipelines.Request(
    mode=_FLAGS.mode,
    num_frames=_FLAGS.num_frames,
    height=_FLAGS.height or data.height,
    width=_FLAGS.width or data.width,
    fps=_FLAGS.fps,
    motion_bucket_id=_FLAGS.motion_bucket_id,
    noise_aug_strength=_FLAGS.noise_aug_strength,
    elevation=_FLAGS.elevation,
    sampler=_FLAGS.sampler,
    schedule=_FLAGS.schedule,
    steps=_FLAGS.steps,
    min_guidance=_FLAGS.min_guidance,
    max_guidance=_FLAGS.max_guidance,
    guidance_interval=interval,
    guidance_rescale=_FLAGS.guidance_rescale,
    temporal_guidance=_FLAGS.temporal_guidance,
    decode_chunk=_FLAGS.decode_chunk,
  )
  if _FLAGS.out.lower().endswith(".png") and not MODES[pipe.config.conditioning.mode].stills:
    raise ValueError(
      f"--out={_FLAGS.out}: this model makes video; for single frames write --out=DIR/"
    )
  return request


def _given(pipe: pipelines.Pipeline, common: pipelines.Request) -> dict[str, np.ndarray]:
  """What the flags name files for and all clips share, by the fields of a request."""
  found = {}
  for flag, field in (("image", "images_NHWC"), ("last_image", "last_images_NHWC")):
    if path := getattr(_FLAGS, flag):
      assert common.height is not None
      assert common.width is not None
      found[field] = request_files.read_image(flag, path, common.height, common.width)
  if _FLAGS.image_noise:
    found[MODES[pipe.config.conditioning.mode].noise] = _read_array(_FLAGS.image_noise)
  return found


def _start_noise(clips: int) -> np.ndarray | None:
  """The array of --noise, with a row for each clip."""
  if not _FLAGS.noise:
    return None
  found = _read_array(_FLAGS.noise)
  if len(found) != clips:
    raise ValueError(f"--noise={_FLAGS.noise} holds noise for {len(found)} clips, not {clips}")
  return found


def _request(
  common: pipelines.Request,
  clips: Sequence[_Clip],
  given: dict[str, np.ndarray],
  start_noise: np.ndarray | None,
) -> pipelines.Request:
  prompts = [clip.prompt for clip in clips if clip.prompt is not None]
  negative = _FLAGS.negative_prompt
  numbers = [clip.number for clip in clips]
  return dataclasses.replace(
    common,
    **{field: np.repeat(value[None], len(clips), axis=0) for field, value in given.items()},
    noise_NThwC=None if start_noise is None else start_noise[numbers],
    prompts=prompts or None,
    negative_prompts=None if negative is None else [negative] * len(clips),
    seeds=[clip.seed for clip in clips],
  )


def _write(clip: _Clip, video_THWC: np.ndarray, fps: float) -> None:
  if _FLAGS.out.endswith("/"):
    for i, frame in enumerate(video_THWC):
      render.write_png(clip.path / f"{i:04d}.png", frame)
  elif clip.path.suffix.lower() == ".png":
    render.write_png(clip.path, video_THWC[0])
    return
  else:
    render.write_video(clip.path, video_THWC, fps)
  sheet = render.contact_sheet([render.Strip(clip.prompt or "", video_THWC)])
  render.write_png(clip.path.with_suffix(".png"), sheet)


def _settings(common: pipelines.Request, pipe: pipelines.Pipeline, clip: _Clip) -> dict[str, Any]:
  """Everything that a clip depends on."""
  of_clip = ("seeds", "prompts", "negative_prompts")
  plain = {
    field.name: getattr(common, field.name)
    for field in dataclasses.fields(common)
    if field.name not in of_clip and "_N" not in field.name  # arrays, whose files are named below
  }
  interval = plain["guidance_interval"]
  stated = plain | {
    "guidance_interval": None if interval is None else list(interval),
    "model": _FLAGS.model,
    "origin": pipe.origin,
    "image": _FLAGS.image,
    "last_image": _FLAGS.last_image,
    "video": _FLAGS.video,
    "prompt": clip.prompt,
    "negative_prompt": _FLAGS.negative_prompt,
    "noise": _FLAGS.noise,
    "image_noise": _FLAGS.image_noise,
    "seed": clip.seed,
  }
  return redaction.redact_values(stated)


def _is_done(clip: _Clip, settings: dict[str, Any]) -> bool:
  note = clip.path.with_suffix(".json")  # written after the clip
  return clip.path.exists() and note.exists() and storage.read_json(note) == settings


def _read_array(path: str) -> np.ndarray:
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  default = requests.Request()
  flags.DEFINE_string(
    "model", None, "Workdir, checkpoint step or exported directory.", required=True
  )
  flags.DEFINE_string(
    "out", None, "File to write: .mp4, .webm, .gif, .mkv; or DIR/.", required=True
  )
  flags.DEFINE_string("mode", None, "How to generate; default: what the model was trained for.")
  flags.DEFINE_string("prompt", None, "Text, for the text modes.")
  flags.DEFINE_string("prompt_file", None, "Text file, one prompt a line.")
  flags.DEFINE_string("negative_prompt", None, "What guidance leads away from.")
  flags.DEFINE_string("image", None, "First frame: png, jpg or webp.")
  flags.DEFINE_string("last_image", None, "Last frame, for interpolation.")
  flags.DEFINE_string("video", None, "Clip whose frame rate a model of interpolation raises.")
  flags.DEFINE_integer("num_frames", None, "Frames of the clip.")
  flags.DEFINE_integer("height", None, "Pixels.")
  flags.DEFINE_integer("width", None, "Pixels.")
  flags.DEFINE_float("fps", None, "Real frame rate of the clip.")
  flags.DEFINE_float("motion_bucket_id", 127.0, "How much moves, 0 to 255.")
  flags.DEFINE_float("noise_aug_strength", default.noise_aug_strength, "Noise on the image, sigma.")
  flags.DEFINE_float("elevation", None, "Degrees of the camera above the horizon, for multi_view.")
  flags.DEFINE_string("sampler", default.sampler, "euler, heun, ddim, dpmpp_2m, unipc, ...")
  flags.DEFINE_string(
    "schedule", None, "karras, exponential, uniform; trailing, leading, linspace."
  )
  flags.DEFINE_integer("steps", default.steps, "Sampler steps.")
  flags.DEFINE_float("min_guidance", default.min_guidance, "Guidance scale of the first frame.")
  flags.DEFINE_float(
    "max_guidance", default.max_guidance, "Guidance scale of the last frame, and of an image."
  )
  flags.DEFINE_list("guidance_interval", None, "LOW,HIGH: guide only at these noise levels.")
  flags.DEFINE_float("guidance_rescale", 0.0, "0 to 1, against overexposure.")
  flags.DEFINE_float(
    "temporal_guidance", None, "Above 1: smoother motion, below: flicker. Half as much work again."
  )
  flags.DEFINE_integer("decode_chunk", default.decode_chunk, "Frames decoded at once.")
  flags.DEFINE_integer("num_samples", 1, "How many clips, of each prompt.")
  flags.DEFINE_integer("batch_size", None, "Clips made at once; default: one on each device.")
  flags.DEFINE_integer("seed", 0, "Seed of the first clip.")
  flags.DEFINE_string("params", "ema", "Which weights of a workdir: ema, ema:DECAY or raw.")
  flags.DEFINE_string("noise", None, "Start noise: .npy float32 (N, T, h, w, C).")
  flags.DEFINE_string(
    "image_noise", None, "Noise on the image: .npy (H, W, 3), or (2, h, w, C) of latents."
  )
  flags.DEFINE_string("save_array", None, "Also write .npy (N, T, H, W, 3) in [0, 1].")


if __name__ == "__main__":
  define_flags()
  command.run(main)
