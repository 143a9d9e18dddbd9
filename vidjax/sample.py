"""Makes video files from a model.

  vidjax sample --model=DIR --image=photo.png --out=clip.mp4
  vidjax sample --model=DIR --prompt="a red car" --num_samples=4 --out=clips.mp4

Beside `x.mp4` comes `x.json` with every setting, from which the clip can be made again; several
samples are `x_0000.mp4`, `x_0001.mp4` and so on, sample i with seed `--seed + i`.
Exit codes: 0 done; 2 bad flag, image or model; 4 checkpoint; 7 disk full; 130 interrupted.
"""

import dataclasses
import io
from typing import Any

from absl import flags
import numpy as np
import PIL.Image

from vidjax import command, render, storage
from vidjax import pipeline as pipelines
from vidjax.data import transforms
from vidjax.observe import console

_FLAGS = flags.FLAGS


def read_image(path: str, height: int, width: int) -> np.ndarray:
  """An image file as (H, W, 3) float32 in [0, 1], scaled to cover and centre-cropped.

  Raises:
    ValueError: the file is missing or no image.
  """
  if not storage.Path(path).is_file():
    raise ValueError(f"--image={path}: there is no such file")
  try:
    picture = PIL.Image.open(io.BytesIO(storage.read_bytes(path))).convert("RGB")
  except (PIL.UnidentifiedImageError, OSError) as error:
    raise ValueError(f"--image={path} cannot be read as an image: {error}") from error
  cropped = transforms.cover_crop(np.asarray(picture)[None], height, width)[0]
  return cropped.astype(np.float32) / 255.0


def main() -> None:
  """The verb: see the module's text."""
  if _FLAGS.num_samples < 1:
    raise ValueError(f"--num_samples={_FLAGS.num_samples}: at least 1")
  if storage.Path(_FLAGS.out).suffix.lower() not in render.VIDEO_SUFFIXES:
    raise ValueError(f"--out={_FLAGS.out}: end the name in {', '.join(render.VIDEO_SUFFIXES)}")
  console.line(f"loading {_FLAGS.model}")
  pipe = pipelines.Pipeline.from_pretrained(_FLAGS.model, _FLAGS.params)
  request = _request(pipe)
  console.line(f"sampling {_FLAGS.num_samples} clip(s), {request.steps} steps, from {pipe.origin}")
  clips = pipe.generate(request)
  out = storage.Path(_FLAGS.out)
  for i, (seed, clip) in enumerate(zip(request.seeds, clips, strict=True)):
    path = out if len(clips) == 1 else out.with_name(f"{out.stem}_{i:04d}{out.suffix}")
    render.write_video(path, clip, request.fps or pipe.config.data.fps)
    storage.write_json(path.with_suffix(".json"), _settings(request, pipe, seed))
    console.line(str(path))
  if _FLAGS.save_array:
    buffer = io.BytesIO()
    np.save(buffer, clips)
    storage.write_bytes(_FLAGS.save_array, buffer.getvalue())


def _request(pipe: pipelines.Pipeline) -> pipelines.Request:
  n, data = _FLAGS.num_samples, pipe.config.data
  height, width = _FLAGS.height or data.height, _FLAGS.width or data.width
  images = image_noise = None
  if _FLAGS.image:
    images = np.repeat(read_image(_FLAGS.image, height, width)[None], n, axis=0)
  if _FLAGS.image_noise:
    image_noise = np.repeat(_read_array(_FLAGS.image_noise)[None], n, axis=0)
  return pipelines.Request(
    mode=_FLAGS.mode,
    images_NHWC=images,
    prompts=None if _FLAGS.prompt is None else [_FLAGS.prompt] * n,
    seeds=[_FLAGS.seed + i for i in range(n)],
    num_frames=_FLAGS.num_frames,
    height=height,
    width=width,
    fps=_FLAGS.fps,
    motion_bucket_id=_FLAGS.motion_bucket_id,
    noise_aug_strength=_FLAGS.noise_aug_strength,
    steps=_FLAGS.steps,
    min_guidance=_FLAGS.min_guidance,
    max_guidance=_FLAGS.max_guidance,
    decode_chunk=_FLAGS.decode_chunk,
    noise_NThwC=None if not _FLAGS.noise else _read_array(_FLAGS.noise),
    image_noise_NHWC=image_noise,
  )


def _settings(request: pipelines.Request, pipe: pipelines.Pipeline, seed: int) -> dict[str, Any]:
  plain = {
    field.name: getattr(request, field.name)
    for field in dataclasses.fields(request)
    if field.name not in ("images_NHWC", "noise_NThwC", "image_noise_NHWC", "seeds", "prompts")
  }
  return plain | {
    "model": _FLAGS.model,
    "origin": pipe.origin,
    "image": _FLAGS.image,
    "prompt": _FLAGS.prompt,
    "noise": _FLAGS.noise,
    "image_noise": _FLAGS.image_noise,
    "seed": seed,
  }


def _read_array(path: str) -> np.ndarray:
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string(
    "model", None, "Workdir, checkpoint step or exported directory.", required=True
  )
  flags.DEFINE_string("out", None, "File to write: .mp4, .gif or .webm.", required=True)
  flags.DEFINE_string("mode", None, "How to generate; default: what the model was trained for.")
  flags.DEFINE_string("prompt", None, "Text, for the text modes.")
  flags.DEFINE_string("image", None, "First frame: png, jpg or webp.")
  flags.DEFINE_integer("num_frames", None, "Frames of the clip.")
  flags.DEFINE_integer("height", None, "Pixels.")
  flags.DEFINE_integer("width", None, "Pixels.")
  flags.DEFINE_float("fps", None, "Real frame rate of the clip.")
  flags.DEFINE_float("motion_bucket_id", 127.0, "How much moves, 0 to 255.")
  flags.DEFINE_float("noise_aug_strength", 0.02, "Sigma of the noise on the image.")
  flags.DEFINE_integer("steps", 25, "Sampler steps.")
  flags.DEFINE_float("min_guidance", 1.0, "Guidance scale of the first frame.")
  flags.DEFINE_float("max_guidance", 3.0, "Guidance scale of the last frame.")
  flags.DEFINE_integer("decode_chunk", 16, "Frames decoded at once.")
  flags.DEFINE_integer("num_samples", 1, "How many clips.")
  flags.DEFINE_integer("seed", 0, "Seed of the first clip.")
  flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Which weights of a workdir.")
  flags.DEFINE_string("noise", None, "Start noise: .npy float32 (N, T, h, w, C).")
  flags.DEFINE_string("image_noise", None, "Noise on the image: .npy (H, W, 3).")
  flags.DEFINE_string("save_array", None, "Also write .npy (N, T, H, W, 3) in [0, 1].")


if __name__ == "__main__":
  define_flags()
  command.run(main)
