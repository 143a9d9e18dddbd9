"""Encodes a data set once, so that training reads latents instead of decoding and encoding pixels.

  vidjax cache_latents --config=configs/svd/video_lowres.py --out=DIR [--config.key=value ...]

Reads every clip of the data set of `config.data` over its whole length, at `data.fps`, in the view
`data.height` x `data.width`, and writes the Gaussians that `encoders.vae` gives, in shards
(`vidjax.data.latents`); with --text also what `encoders.text` makes of each of the clips' texts, so
that training needs neither. Train on them with `--config.data.kind=latents --config.data.path=DIR`.
Clips that cannot be read are listed in `rejects-SPLIT.json`. An interrupted run goes on with the
first shard that is missing when it is started again, with the same settings.
Exit codes: 0 done; 2 bad flag or config; 3 data; 7 disk full; 130 interrupted.

Legend: F frames of a chunk, T frames of a clip, H W pixels, C colours (RGB) or moments (2 Z).
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import json
import math
from typing import Any

from absl import flags
import jax
import numpy as np

from vidjax import command, errors, latent_sets, redaction, storage
from vidjax import config as configs
from vidjax.data import latents, records, schema, shard_writer, sources
from vidjax.data.clip import Source
from vidjax.data.config import SetConfig
from vidjax.encoders import frozen
from vidjax.frame_encoder import Encoded, FrameEncoder, View
from vidjax.observe import console
from vidjax.parallel import mesh as meshes
from vidjax.text_embedder import TextEmbedder

_PARTIAL = ".partial-{}"  # folder of what a run that goes on has to know, by split


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which clips make which shard.

  Attributes:
    origin: `Listing.digest` of the pixels.
    made_by: `Manifest.digest`.
    chunk: frames encoded at once: other numbers round differently.
    ends: number of clips up to the end of each shard.
  """

  origin: str
  made_by: str
  chunk: int
  ends: tuple[int, ...]

  def clips(self, shard: int) -> range:
    """Numbers of the clips of a shard."""
    return range(self.ends[shard - 1] if shard else 0, self.ends[shard])


def cache(
  config: configs.TrainConfig,
  out: str,
  splits: list[str] | None = None,
  *,
  chunk: int = 32,
  shard_megabytes: float = 256.0,
  text: bool = False,
) -> None:
  """Writes the latents of a data set, or of what is missing of it.

  Args:
    config: `data`, `encoders` and `mesh` are used.
    out: folder to write to, local or remote.
    splits: of the data set; None: all that curated shards have, else `data.split`.
    chunk: frames that are encoded at once, on all devices together.
    shard_megabytes: about the size of a file.
    text: also what the text encoder makes of the clips' texts.

  Raises:
    ValueError: settings that do not fit, or `out` holds the latents of others.
    FileNotFoundError, DataError: the data set cannot be read.
  """
  data = config.data
  if len(data.members) != 1 or data.buckets:
    raise ValueError(
      f"one data set in one view is cached at a time: config.data has {len(data.members)} sets and"
      f" {len(data.buckets)} buckets"
    )
  (member,) = data.members
  if member.kind == "latents":
    raise ValueError(f"data.kind='latents': {member.path} holds latents already")
  vae = frozen.load_vae(config.encoders.vae)
  view = View(data.height, data.width, data.fps)
  encoder = FrameEncoder(vae, view, meshes.make_mesh(config.mesh), chunk)
  of_splits = {
    split: sources.open_source(dataclasses.replace(member, split=split))
    for split in splits or _splits(member)
  }
  described = latent_sets.describe_text(config.encoders.text) if text else {}
  embedder = TextEmbedder(config.encoders.text) if text else None
  manifest = latent_sets.manifest(vae, data.height, data.width, data.fps, described)
  _begin(out, manifest)
  if embedder:
    latents.write_no_text(out, embedder.embed([""])[0])
  for split, source in of_splits.items():
    _cache_split(source, out, split, manifest, encoder, embedder, shard_megabytes, data.num_workers)
  _describe(out)


def _begin(out: str, manifest: latents.Manifest) -> None:
  """Writes the manifest, or refuses a folder of other latents."""
  if (storage.Path(out) / latents.MANIFEST).exists():
    stored = latents.read_manifest(out)
    if changes := latent_sets.differences(stored, manifest):
      raise ValueError(
        f"--out={out} holds latents of other settings: {'; '.join(changes)}. Use those, or another"
        " folder"
      )
    return
  latents.write_manifest(out, manifest)


def _splits(member: SetConfig) -> list[str]:
  """The splits that curated shards have; of other kinds only the config knows."""
  if member.kind != "shards":
    return [member.split]
  there = [split for split in schema.SPLITS if records.has_shards(member.path, split)]
  return there or [member.split]


def _cache_split(
  source: Source,
  out: str,
  split: str,
  manifest: latents.Manifest,
  encoder: FrameEncoder,
  embedder: TextEmbedder | None,
  shard_megabytes: float,
  workers: int,
) -> None:
  """Writes the shards of a split that are missing, then its index."""
  origin = source.listing.digest
  if latents.index_file(out, split).exists():
    index = latents.read_index(out, split)
    if (index.origin, index.made_by) != (origin, manifest.digest):
      raise ValueError(f"--out={out} holds latents of another data set in the split {split!r}")
    console.line(f"{out}: the split {split!r} is cached already, nothing to do")
    return
  folder = storage.Path(out) / _PARTIAL.format(split)
  plan = _plan(source, folder, manifest, encoder, shard_megabytes)
  shards = range(len(plan.ends))
  names = [latents.shard_name(split, shard, len(shards)) for shard in shards]
  paths = [storage.Path(out) / name for name in names]
  done = [_is_done(path, _note(folder, shard)) for shard, path in enumerate(paths)]
  total = plan.ends[-1]
  before = sum(len(plan.clips(shard)) for shard in shards if done[shard])
  with console.Progress(f"caching {split}", total, initial=before) as progress:
    for shard in shards:
      if done[shard]:
        continue
      clips = _readable(source, plan.clips(shard))
      path = paths[shard]
      summary = _Summary(progress, before)
      encoded = encoder.encode(source, clips, workers)
      shard_writer.write_shard(path, summary.watch(encoded, manifest, embedder), compressed=False)
      note = summary.note | {"size": int(path.stat().length)}
      storage.write_json(_note(folder, shard), note)
      before += len(plan.clips(shard))
      progress.update(before)
  _finish(source, out, split, plan)
  storage.remove(folder)


class _Summary:
  """Turns encoded clips into records, and notes what the index has to know of them."""

  def __init__(self, progress: console.Progress, before: int):
    self._progress, self._before = progress, before
    self.note: dict[str, Any] = {"clips": [], "rejects": []}

  def watch(
    self, encoded: Iterator[Encoded], manifest: latents.Manifest, embedder: TextEmbedder | None
  ) -> Iterator[bytes]:
    for done, one in enumerate(encoded, 1):
      if one.error:
        self.note["rejects"].append({"clip": one.name, "error": one.error})
      else:
        record = _record(one, manifest, embedder)
        content = latents.serialize_record(record)
        digest = hashlib.sha256(content).hexdigest()
        # JSON has no infinity: null stands for a picture.
        seconds = None if math.isinf(record.duration_s) else record.duration_s
        self.note["clips"].append([seconds, len(content), digest])
        yield content
      self._progress.update(self._before + done)


def _record(
  one: Encoded, manifest: latents.Manifest, embedder: TextEmbedder | None
) -> latents.LatentRecord:
  clip, moments_THWC = one.clip, np.concatenate(one.parts)
  assert clip is not None
  frames, height, width, channels = moments_THWC.shape
  return latents.LatentRecord(
    clip_id=clip.clip_id,
    source=clip.source,
    moments=moments_THWC.astype("<f2").tobytes(),
    num_frames=frames,
    latent_height=height,
    latent_width=width,
    moment_channels=channels,
    fps=manifest.fps,
    height=manifest.height,
    width=manifest.width,
    duration_s=clip.duration_s,
    motion_score=clip.motion_score,
    captions_json=records.to_json(clip.captions),
    scores_json=records.to_json(clip.scores),
    text_embeddings=_embedded(clip.captions, embedder),
    made_by=manifest.digest,
  )


def _embedded(captions: Mapping[str, str], embedder: TextEmbedder | None) -> bytes:
  if embedder is None:
    return b""
  return embedder.embed([captions[name] for name in sorted(captions)]).tobytes()


def _readable(source: Source, clips: range) -> list[int]:
  """Those of which the listing knows how long they are; `_finish` lists the others."""
  return [clip for clip in clips if not np.isnan(source.listing.durations_s[clip])]


def _note(folder: Any, shard: int) -> Any:
  """Path of what is known of a finished shard."""
  return folder / f"{shard:05d}.json"


def _is_done(path: Any, note: Any) -> bool:
  if not path.exists() or not note.exists():
    return False
  return storage.read_json(note)["size"] == path.stat().length


def _plan(
  source: Source,
  folder: Any,
  manifest: latents.Manifest,
  encoder: FrameEncoder,
  shard_megabytes: float,
) -> Plan:
  """The plan of the run that was interrupted, else a new one.

  Raises:
    ValueError: that run was of another data set or other sizes.
    DataError: there are no clips.
  """
  durations_s = source.listing.durations_s
  known = np.where(np.isnan(durations_s), 0.0, durations_s)
  rows = np.array([latents.num_rows(seconds, manifest.fps) for seconds in known])
  if np.isnan(durations_s).all():
    raise errors.DataError(f"{source.path} has no clip that can be read")
  shard = (np.cumsum(rows) * encoder.frame_bytes / (shard_megabytes * 1e6)).astype(np.int64)
  last = np.append(np.flatnonzero(np.diff(shard)), len(rows) - 1)
  ends = tuple(int(n) + 1 for n in last)
  plan = Plan(source.listing.digest, manifest.digest, encoder.chunk, ends)
  file = folder / "plan.json"
  current = json.loads(json.dumps(dataclasses.asdict(plan)))
  if file.exists() and storage.read_json(file) != current:
    raise ValueError(
      f"{folder.parent} holds the beginning of another run: of other clips than {source.path} has,"
      " or with another --chunk or --shard_megabytes. Take that back, or use another folder"
    )
  storage.write_json(file, current)
  return plan


def _finish(source: Source, out: str, split: str, plan: Plan) -> None:
  """Writes the index and the list of rejects from the notes of all shards."""
  folder, count = storage.Path(out) / _PARTIAL.format(split), len(plan.ends)
  notes = [storage.read_json(_note(folder, shard)) for shard in range(count)]
  clips = [clip for note in notes for clip in note["clips"]]
  unreadable = np.flatnonzero(np.isnan(source.listing.durations_s))
  rejects = [{"clip": source.name(int(n)), "error": "cannot be opened"} for n in unreadable]
  rejects += [reject for note in notes for reject in note["rejects"]]
  storage.write_json(storage.Path(out) / f"rejects-{split}.json", redaction.redact_values(rejects))
  if not clips:
    raise errors.DataError(f"{source.path}: no clip of the split {split!r} can be read, see {out}")
  digest = hashlib.sha256("".join(content for _, _, content in clips).encode())
  index = latents.Index(
    shards=tuple(latents.shard_name(split, shard, count) for shard in range(count)),
    sizes=tuple(note["size"] for note in notes),
    counts=tuple(len(note["clips"]) for note in notes),
    num_bytes=tuple(sum(size for _, size, _ in note["clips"]) for note in notes),
    durations_s=np.array([math.inf if seconds is None else seconds for seconds, _, _ in clips]),
    digest=digest.hexdigest(),
    origin=plan.origin,
    made_by=plan.made_by,
  )
  latents.write_index(out, split, index)
  console.line(f"{out}: {len(clips)} clips of the split {split!r}, {len(rejects)} rejected")


def _describe(out: str) -> None:
  """Writes TFDS's description of all splits that are there."""
  written = []
  for file in sorted(storage.Path(out).glob("index-*.npz")):
    split = file.name.removeprefix("index-").removesuffix(".npz")
    index = latents.read_index(out, split)
    sizes = zip(index.counts, index.num_bytes, strict=True)
    written += [
      shard_writer.Shard(split, shard, len(index.counts), count, size)
      for shard, (count, size) in enumerate(sizes)
    ]
  shard_writer.write_metadata(
    out,
    written,
    latents.FIELDS,
    dataset=latents.DATASET_NAME,
    version=latents.DATASET_VERSION,
    description="Moments of an autoencoder's latents, written by vidjax cache_latents.",
  )


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string(
    "config", None, "FILE.py[:variant,...]; --config.a.b=VALUE overrides.", required=True
  )
  flags.DEFINE_string("out", None, "Folder to write to: local, gs:// or s3://.", required=True)
  flags.DEFINE_list("split", None, "Splits; without it all that there are.")
  flags.DEFINE_bool("text", False, "Also what encoders.text makes of the clips' texts.")
  flags.DEFINE_integer("chunk", 32, "Frames encoded at once, on all devices together.")
  flags.DEFINE_float("shard_megabytes", 256.0, "About the size of a file.")


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  if jax.process_count() > 1:
    raise ValueError("latents are cached by one process with all devices that it sees")
  if given.shard_megabytes <= 0:
    raise ValueError(f"--shard_megabytes={given.shard_megabytes}: must be positive")
  config = configs.load(given.config, command.config_overrides())
  cache(
    config,
    given.out,
    given.split,
    chunk=given.chunk,
    shard_megabytes=given.shard_megabytes,
    text=given.text,
  )


if __name__ == "__main__":
  define_flags()
  command.run(main)
