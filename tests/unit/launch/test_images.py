"""The images of training name what is there: they cannot be built by a test."""

import fnmatch
import re

import pytest

IMAGES = {"tpu": "tpu", "cuda": "cuda13"}  # Dockerfile -> extra of setup.py


def instructions(text: str) -> list[tuple[str, str]]:
  lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
  joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
  return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


@pytest.fixture(params=IMAGES)
def name(request):
  return request.param


@pytest.fixture
def image(repo_root, name):
  return instructions((repo_root / "launch" / "docker" / f"{name}.Dockerfile").read_text())


def test_the_base_is_pinned(image):
  (arg,) = (rest for word, rest in image if word == "ARG")
  assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", arg)
  assert [rest for word, rest in image if word == "FROM"] == ["${BASE}"]


def test_what_is_copied_is_there_and_reaches_docker(repo_root, image):
  ignored = (repo_root / ".dockerignore").read_text().splitlines()
  assert "*" in ignored
  allowed = [line[1:] for line in ignored if line.startswith("!")]
  copied = [source for word, rest in image if word == "COPY" for source in rest.split()[:-1]]
  assert {"vidjax", "launch", "configs"} <= set(copied)
  beam = (repo_root / "launch" / "beam" / "Dockerfile").read_text()
  copied += [s for word, rest in instructions(beam) if word == "COPY" for s in rest.split()[:-1]]
  for source in copied:
    assert (repo_root / source).exists(), source
    assert any(fnmatch.fnmatch(source.split("/")[0], one) for one in allowed), source


def test_packages_are_locked_with_hashes(repo_root, name, image):
  runs = [rest for word, rest in image if word == "RUN" and "pip install" in rest]
  *installed, itself = runs
  assert itself == "pip install --no-deps --no-build-isolation --editable ."
  locks = [re.fullmatch(r"pip install --require-hashes -r (\S+)", rest) for rest in installed]
  assert [lock and lock[1] for lock in locks] == [
    "requirements/base.lock",
    f"requirements/{IMAGES[name]}.lock",
  ]
  extra = IMAGES[name]
  assert f'"{extra}": ["jax[{extra}]"]' in (repo_root / "setup.py").read_text()
  wanted = (repo_root / "requirements" / f"{extra}.in").read_text().splitlines()
  assert f"jax[{extra}]" in wanted
  lock = (repo_root / "requirements" / f"{extra}.lock").read_text()
  assert f"-r {extra}.in" in lock
  assert "\nsetuptools==" in lock
  assert lock.count("--hash=sha256:") > lock.count("==") > 20
  assert f" {extra}" in (repo_root / "requirements" / "compile.sh").read_text()


def test_the_locks_of_an_image_agree(repo_root, name):
  """One after the other they are installed; the second must not change what the first has."""

  def versions(lock: str) -> set[str]:
    text = (repo_root / "requirements" / f"{lock}.lock").read_text()
    return set(re.findall(r"^([\w.-]+==[^\\\n]+?) *\\$", text, re.M))

  base, more = versions("base"), versions(IMAGES[name])
  names = {one.split("==")[0] for one in base}
  assert {one for one in more if one.split("==")[0] in names} <= base


def test_nobody_is_root_and_the_supervisor_comes_first(image):
  words = dict(image)
  assert words["USER"] == "vidjax"
  assert words["ENTRYPOINT"] == '["python3", "-m", "launch.supervise"]'
  assert words["WORKDIR"] == "/vidjax"
  order = [rest for _, rest in image]
  assert order.index("vidjax vidjax") > max(
    i for i, rest in enumerate(order) if rest.startswith("pip install --require-hashes")
  ), "code after packages: it changes more often"
