"""Every threshold of the curation, with the values for pretraining as defaults.

A config file (`--config=FILE.py[:variant]`) gives only what differs;
`--config.select.min_seconds=2` on the command line changes one value.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import json

from vidjax import config as config_lib

# The search for near-duplicates finds every pair up to this many differing bits of 192.
MAX_HASH_DISTANCE = 11
_SHARES = ("drop_most_static", "drop_most_text", "drop_least_aesthetic", "drop_least_similar")


@dataclasses.dataclass(frozen=True)
class IngestConfig:
  """Which files are read, and how whole they have to be."""

  # A file that stops decoding half-way is rejected; True keeps the clips of its intact part, too.
  keep_intact_part: bool = False
  # A file on which nothing happens for so long is given up, and the process with it.
  stall_seconds: float = 120.0
  # What a process that works on a file may have of memory (Linux); above it the file is given up.
  # Pictures of 16K by a codec that refers to many of them need 10. 0 is any.
  max_gigabytes: float = 16.0
  # A file ends where a frame is shown for so long, or the next one follows so late: its clock lies.
  max_gap_seconds: float = 3600.0
  # A file is turned away unread if the codec's motion vectors are slower than this at all of eight
  # places (pixels per second at a shorter side of 16, noisier than motion scores); 0 looks at none.
  min_vector_speed: float = 0.0

  @property
  def limits(self) -> dict[str, float]:
    """Of the process that works on a file, see `isolation.call`."""
    return {"stall_seconds": self.stall_seconds, "max_gigabytes": self.max_gigabytes}


@dataclasses.dataclass(frozen=True)
class CutConfig:
  """Shot boundaries. Differences are means over a frame's RGB values, in steps of 0 to 255.

  The defaults find every cut of the labelled sample videos within two frames, and no other.
  """

  # A hard cut in a moving surrounding: a large change to a picture that no shift explains.
  hard_difference: float = 25.0
  hard_correlation: float = 0.5
  # A hard cut in a still surrounding (slides): a small change, but far above its neighbours.
  still_difference: float = 7.0
  still_ratio: float = 4.0
  # Gradual changes are looked for between frames this far apart, the cascade's lower frame rates.
  gradual_spans_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
  gradual_difference: float = 8.0
  # How far the frames between may be from a blend of the ends: what no blend explains, relative to
  # the difference of the ends, plus the fine detail that a blend would have lost and they have not.
  gradual_misfit: float = 0.35
  # A longer shot is split into equal pieces no longer than this.
  max_seconds: float = 20.0


@dataclasses.dataclass(frozen=True)
class LookConfig:
  """What is looked for on the first, middle and last frame of clips that passed so far."""

  text_area: bool = True
  # Shorter side at which text is looked for; twice the side takes four times the time.
  text_short_side: int = 320
  # Folder of CLIP, both towers and tokenizer, as transformers lays it out; "" for no CLIP scores.
  clip: str = ""
  # File of a head on CLIP's image embeddings, such as LAION's for ViT-L/14; "" for none.
  aesthetic: str = ""
  # Pictures at once on the accelerator, always so many: what is left at an end is filled up.
  batch_size: int = 12


@dataclasses.dataclass(frozen=True)
class CaptionerConfig:
  """A model that writes texts; without `model` there is none."""

  # A folder in transformers' layout; or, with `endpoint`, the name under which a server knows it.
  model: str = ""
  # Address of a server that speaks OpenAI's protocol (vLLM, SGLang, ...), up to and with `/v1`.
  endpoint: str = ""
  # What it is told, "" for `caption.PROMPTS`; models without a chat template get pictures alone.
  # In that of the summary "{image}" and "{video}" stand for the texts of the other two.
  prompt: str = ""
  max_tokens: int = 120


@dataclasses.dataclass(frozen=True)
class CaptionConfig:
  """Texts by three captioners, as SVD has them (appendix C); clips come with others by side-car."""

  image: CaptionerConfig = dataclasses.field(default_factory=CaptionerConfig)
  video: CaptionerConfig = dataclasses.field(default_factory=CaptionerConfig)
  llm: CaptionerConfig = dataclasses.field(default_factory=CaptionerConfig)
  # Frames that the video captioner sees, evenly spread, and the shorter side of all pictures.
  num_frames: int = 8
  short_side: int = 384
  # Requests at once in each worker process, of all its sources; how often each is repeated, and its
  # time.
  concurrency: int = 16
  retries: int = 6
  timeout_s: float = 120.0
  # Environment variable with the key for a server that asks for one.
  api_key_env: str = "OPENAI_API_KEY"

  @property
  def captioners(self) -> dict[str, CaptionerConfig]:
    """Those that there are, by the name of their texts."""
    named = {"image": self.image, "video": self.video, "llm": self.llm}
    return {name: captioner for name, captioner in named.items() if captioner.model}


@dataclasses.dataclass(frozen=True)
class SelectConfig:
  """Which clips are kept."""

  # 16 frames at 4 fps span 3.75 s and need a little play for their phase.
  min_seconds: float = 4.0
  # Pixels per second at a shorter side of 16; below it nothing on screen moves.
  min_motion_score: float = 0.12
  # `drop_...`: of the clips that come to the stage and have the score, the share at most that is
  # dropped, too, the worst first. SVD's, of its whole set (appendix C): 0.25 most static, 0.25 most
  # text, 0.25 least aesthetic, 0.5 least similar.
  drop_most_static: float = 0.0
  # Trembling of the camera, in pixels at a shorter side of 16; None for any.
  max_shake: float | None = None
  # Share of the frame under text, on the one of three frames that has most (SVD, appendix C).
  max_text_area: float | None = 0.07
  drop_most_text: float = 0.0
  # Scores of the head that is given; LAION's are 1 to 10.
  min_aesthetic: float | None = None
  drop_least_aesthetic: float = 0.0
  # Cosine of the middle frame and the first caption.
  min_clip_similarity: float | None = None
  drop_least_similar: float = 0.0
  # Below the rate of the training window frames would only repeat.
  min_fps: float = 4.0
  # Shorter side of the source as displayed.
  min_short_side: int = 0
  # Bits of 192 in which two clips may differ and still be near-duplicates; -1 keeps duplicates.
  max_hash_distance: int = 10
  # Clips whose CLIP embeddings have a cosine above 1 - this are repeats, too; 0 keeps them.
  min_embedding_distance: float = 0.01
  # A list of clips (`vidjax select`): others are dropped. For a further size of the best ones only.
  within: str = ""
  holdout_fraction: float = 0.01
  # At least this many clips are held out, as long as as many remain for training.
  holdout_min_clips: int = 1


@dataclasses.dataclass(frozen=True)
class EncodeConfig:
  """How clips are stored."""

  # As they are in the source, from key frame to key frame, where an mp4 can hold them: all below is
  # then for the others only.
  copy: bool = False
  short_side: int = 256
  # Further sizes, each in shards of its own (`shards-576`), of the sources that are that large.
  rungs: tuple[int, ...] = ()
  max_fps: float = 30.0
  crf: int = 20
  # As good as "fast" at the same crf, in fewer bytes and half the time (benchmarks/results).
  preset: str = "veryfast"
  key_frame_every_s: float = 1.0


@dataclasses.dataclass(frozen=True)
class ShardConfig:
  """How records are packed."""

  megabytes: float = 512.0


@dataclasses.dataclass(frozen=True)
class ReportConfig:
  """What the page shows."""

  # Moving thumbnails for each reason to drop clips, and of those kept.
  examples: int = 4
  # What a core costs for an hour, in any currency, for the projection.
  core_hour_price: float = 0.04


@dataclasses.dataclass(frozen=True)
class CurateConfig:
  """All of it."""

  ingest: IngestConfig = dataclasses.field(default_factory=IngestConfig)
  cut: CutConfig = dataclasses.field(default_factory=CutConfig)
  look: LookConfig = dataclasses.field(default_factory=LookConfig)
  caption: CaptionConfig = dataclasses.field(default_factory=CaptionConfig)
  select: SelectConfig = dataclasses.field(default_factory=SelectConfig)
  encode: EncodeConfig = dataclasses.field(default_factory=EncodeConfig)
  shard: ShardConfig = dataclasses.field(default_factory=ShardConfig)
  report: ReportConfig = dataclasses.field(default_factory=ReportConfig)

  def __post_init__(self) -> None:
    """Refuses values that no run can mean."""
    positive = {
      "ingest.stall_seconds": self.ingest.stall_seconds,
      "ingest.max_gap_seconds": self.ingest.max_gap_seconds,
      "cut.max_seconds": self.cut.max_seconds,
      "look.text_short_side": self.look.text_short_side - 31,
      "look.batch_size": self.look.batch_size,
      "caption.num_frames": self.caption.num_frames,
      "caption.concurrency": self.caption.concurrency,
      "encode.short_side": self.encode.short_side - 1,
      "encode.max_fps": self.encode.max_fps,
      "encode.key_frame_every_s": self.encode.key_frame_every_s,
      "shard.megabytes": self.shard.megabytes,
    }
    for name, value in positive.items():
      if value <= 0:
        raise ValueError(f"config key {name!r} is too small: set a larger value")
    for name in (*_SHARES, "holdout_fraction"):
      value = getattr(self.select, name)
      if not 0 <= value < 1:
        raise ValueError(f"config key 'select.{name}' is a share, 0 <= share < 1, got {value}")
    if self.select.min_seconds > self.cut.max_seconds:
      raise ValueError(
        f"select.min_seconds={self.select.min_seconds} is above cut.max_seconds="
        f"{self.cut.max_seconds}: no clip could be kept"
      )
    if self.select.max_hash_distance > MAX_HASH_DISTANCE:
      raise ValueError(
        f"config key 'select.max_hash_distance' is at most {MAX_HASH_DISTANCE}, got "
        f"{self.select.max_hash_distance}"
      )
    for name in ("image", "video", "llm"):
      if getattr(self.caption, name).endpoint and name not in self.caption.captioners:
        raise ValueError(
          f"caption.{name}.endpoint is set: set caption.{name}.model to the name under which the "
          "server knows its model"
        )
    if self.look.aesthetic and not self.look.clip:
      raise ValueError("look.aesthetic is a head on CLIP's embeddings: set look.clip, too")
    if any(rung <= self.encode.short_side for rung in self.encode.rungs):
      raise ValueError(
        f"encode.rungs={self.encode.rungs}: further sizes are larger than the first, "
        f"encode.short_side={self.encode.short_side}"
      )
    if self.encode.copy and self.encode.rungs:
      raise ValueError(
        f"encode.copy=True stores clips in the size of the source, and encode.rungs="
        f"{self.encode.rungs} would store them once more: set one of the two"
      )
    if self.ingest.max_gigabytes < 0:
      raise ValueError(
        f"config key 'ingest.max_gigabytes' is above 0, or 0 for any, got "
        f"{self.ingest.max_gigabytes}"
      )
    if not 0 <= self.encode.crf <= 51:
      raise ValueError(f"config key 'encode.crf' must be 0 to 51, got {self.encode.crf}")


def load(flag: str | None, overrides: Sequence[str] = ()) -> CurateConfig:
  """Builds the config from `--config=FILE.py[:variant]` and `--config.a.b=value` overrides.

  Raises:
    ValueError: a file that does not exist, an unknown key (with the nearest one), a bad value.
  """
  values = config_lib.load_file(flag) if flag else {}
  values = config_lib.apply_overrides(CurateConfig, values, overrides)
  return config_lib.from_dict(CurateConfig, values)


def fingerprint(*parts: object) -> str:
  """Short hash of configs and plain values: what results are remembered under."""
  plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]  # type: ignore[call-overload]
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
