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

from vidjax import command, storage
from vidjax import pipeline as pipelines
from vidjax.data import mp4, transforms
from vidjax.observe import console

_MODEL = flags.DEFINE_string("model", None, "Workdir, checkpoint step or exported directory.")
_OUT = flags.DEFINE_string("out", None, "File to write: .mp4 or .gif.")
_MODE = flags.DEFINE_string(
  "mode", None, "How to generate; default: what the model was trained for."
)
_PROMPT = flags.DEFINE_string("prompt", None, "Text, for the text modes.")
_IMAGE = flags.DEFINE_string("image", None, "First frame: png, jpg or webp.")
_NUM_FRAMES = flags.DEFINE_integer("num_frames", None, "Frames of the clip.")
_HEIGHT = flags.DEFINE_integer("height", None, "Pixels.")
_WIDTH = flags.DEFINE_integer("width", None, "Pixels.")
_FPS = flags.DEFINE_float("fps", None, "Real frame rate of the clip.")
_MOTION = flags.DEFINE_float("motion_bucket_id", 127.0, "How much moves, 0 to 255.")
_NOISE_AUG = flags.DEFINE_float("noise_aug_strength", 0.02, "Sigma of the noise on the image.")
_STEPS = flags.DEFINE_integer("steps", 25, "Sampler steps.")
_MIN_GUIDANCE = flags.DEFINE_float("min_guidance", 1.0, "Guidance scale of the first frame.")
_MAX_GUIDANCE = flags.DEFINE_float("max_guidance", 3.0, "Guidance scale of the last frame.")
_DECODE_CHUNK = flags.DEFINE_integer("decode_chunk", 16, "Frames decoded at once.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1, "How many clips.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first clip.")
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Which weights of a workdir.")
_NOISE = flags.DEFINE_string("noise", None, "Start noise: .npy float32 (N, T, h, w, C).")
_IMAGE_NOISE = flags.DEFINE_string("image_noise", None, "Noise on the image: .npy (H, W, 3).")
_SAVE_ARRAY = flags.DEFINE_string("save_array", None, "Also write .npy (N, T, H, W, 3) in [0, 1].")


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


def write_clip(path: str, clip_THWC: np.ndarray, fps: float) -> None:
  """Writes float32 [0, 1] frames as .mp4 (H.264) or .gif.

  Raises:
    ValueError: the suffix is neither.
  """
  frames = np.round(clip_THWC * 255.0).astype(np.uint8)
  match storage.Path(path).suffix:
    case ".mp4":
      mp4.write_mp4(path, frames, fps)
    case ".gif":
      pictures = [PIL.Image.fromarray(frame) for frame in frames]
      buffer = io.BytesIO()
      pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0
      )
      storage.write_bytes(path, buffer.getvalue())
    case suffix:
      raise ValueError(f"--out={path}: suffix {suffix!r} is not known, use .mp4 or .gif")


def main() -> None:
  """The verb: see the module's text."""
  if _NUM_SAMPLES.value < 1:
    raise ValueError(f"--num_samples={_NUM_SAMPLES.value}: at least 1")
  if storage.Path(_OUT.value).suffix not in (".mp4", ".gif"):
    raise ValueError(f"--out={_OUT.value}: use a name that ends in .mp4 or .gif")
  console.line(f"loading {_MODEL.value}")
  pipe = pipelines.Pipeline.from_pretrained(_MODEL.value, _PARAMS.value)
  request = _request(pipe)
  console.line(f"sampling {_NUM_SAMPLES.value} clip(s), {request.steps} steps, from {pipe.origin}")
  clips = pipe.generate(request)
  out = storage.Path(_OUT.value)
  for i, (seed, clip) in enumerate(zip(request.seeds, clips, strict=True)):
    path = out if len(clips) == 1 else out.with_name(f"{out.stem}_{i:04d}{out.suffix}")
    write_clip(str(path), clip, request.fps or pipe.config.data.fps)
    storage.write_json(path.with_suffix(".json"), _settings(request, pipe, seed))
    console.line(str(path))
  if _SAVE_ARRAY.value:
    buffer = io.BytesIO()
    np.save(buffer, clips)
    storage.write_bytes(_SAVE_ARRAY.value, buffer.getvalue())


def _request(pipe: pipelines.Pipeline) -> pipelines.Request:
  n, data = _NUM_SAMPLES.value, pipe.config.data
  height, width = _HEIGHT.value or data.height, _WIDTH.value or data.width
  images = image_noise = None
  if _IMAGE.value:
    images = np.repeat(read_image(_IMAGE.value, height, width)[None], n, axis=0)
  if _IMAGE_NOISE.value:
    image_noise = np.repeat(_read_array(_IMAGE_NOISE.value)[None], n, axis=0)
  return pipelines.Request(
    mode=_MODE.value,
    images_NHWC=images,
    prompts=None if _PROMPT.value is None else [_PROMPT.value] * n,
    seeds=[_SEED.value + i for i in range(n)],
    num_frames=_NUM_FRAMES.value,
    height=height,
    width=width,
    fps=_FPS.value,
    motion_bucket_id=_MOTION.value,
    noise_aug_strength=_NOISE_AUG.value,
    steps=_STEPS.value,
    min_guidance=_MIN_GUIDANCE.value,
    max_guidance=_MAX_GUIDANCE.value,
    decode_chunk=_DECODE_CHUNK.value,
    noise_NThwC=None if not _NOISE.value else _read_array(_NOISE.value),
    image_noise_NHWC=image_noise,
  )


def _settings(request: pipelines.Request, pipe: pipelines.Pipeline, seed: int) -> dict[str, Any]:
  plain = {
    field.name: getattr(request, field.name)
    for field in dataclasses.fields(request)
    if field.name not in ("images_NHWC", "noise_NThwC", "image_noise_NHWC", "seeds", "prompts")
  }
  return plain | {
    "model": _MODEL.value,
    "origin": pipe.origin,
    "image": _IMAGE.value,
    "prompt": _PROMPT.value,
    "noise": _NOISE.value,
    "image_noise": _IMAGE_NOISE.value,
    "seed": seed,
  }


def _read_array(path: str) -> np.ndarray:
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)


if __name__ == "__main__":
  flags.mark_flags_as_required(["model", "out"])
  command.run(main)
