"""What no line of the code may do; docs/security.md says what each rule is for."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("vidjax", "data_pipelines", "configs", "demo", "launch", "benchmarks")
SHIPPED = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
# torch's own reader is used in one place, which asks it for tensors alone.
TORCH_LOAD = {"vidjax/interop/pickles.py"}
# TorchScript is run in one place, if the user says to trust the file: docs/security.md.
TORCH_PROGRAMS = {"vidjax/backbones/torchscript.py"}
SHELLS = {
  *("os.system", "os.popen", "os.spawnl", "os.spawnlp", "os.spawnv", "os.spawnvp"),
  *("subprocess.getoutput", "subprocess.getstatusoutput"),
}
# Process 0 tries whether it can listen where the others will look for it, on any address it has.
EVERYWHERE = {("vidjax/parallel/distributed.py", "socket.create_server")}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SERVERS = re.compile(r"(?:^|\.)(?:create_server|bind|\w*Server|start_server|run_server)$")


def name(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


def dotted(node: ast.AST) -> str:
  """`a.b.c` of an expression; "" for what is no chain of names."""
  if isinstance(node, ast.Name):
    return node.id
  if isinstance(node, ast.Attribute):
    before = dotted(node.value)
    return f"{before}.{node.attr}" if before else node.attr
  return ""


def breaches(source: str, file: str) -> list[str]:
  """Which rules a file breaks, and where."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
      for module in modules:
        if module.split(".")[0] in UNPICKLERS:
          found.append(f"{node.lineno}: imports {module}, which runs programs out of files")
    if not isinstance(node, ast.Call):
      continue
    called = dotted(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    constants = {key: getattr(value, "value", None) for key, value in keywords.items()}
    if called in ("eval", "exec", "__import__"):
      found.append(f"{node.lineno}: {called}")
    if constants.get("allow_pickle", False) is not False:
      found.append(f"{node.lineno}: allow_pickle")
    tensors_alone = file in TORCH_LOAD and constants.get("weights_only") is True
    trusted = file in TORCH_PROGRAMS and called == "torch.jit.load"
    if called in ("torch.load", "torch.jit.load") and not (tensors_alone or trusted):
      found.append(f"{node.lineno}: {called} that is not asked for weights only")
    if constants.get("shell", False) is not False or called in SHELLS:
      found.append(f"{node.lineno}: {called} goes through a shell")
    as_text = bool(node.args) and isinstance(node.args[0], (ast.Constant, ast.JoinedStr))
    if called in ("subprocess.run", "subprocess.Popen", "subprocess.check_output") and as_text:
      found.append(f"{node.lineno}: {called} takes a list of arguments")
    if called.endswith("mktemp"):
      found.append(f"{node.lineno}: {called}: a name that others can take first")
    if called.rpartition(".")[2] in ("extractall", "extract", "unpack_archive"):
      found.append(f"{node.lineno}: {called}: archives are read in place")
    if SERVERS.search(called) and (file, called) not in EVERYWHERE:
      # A network of ours is bound to its weights, a socket to an address: a pair.
      elsewhere = called.endswith("bind") and not any(isinstance(a, ast.Tuple) for a in node.args)
      if not elsewhere and not binds_to_loopback(node, keywords):
        found.append(f"{node.lineno}: {called} has to name a loopback address")
  return found


def binds_to_loopback(node: ast.Call, keywords: dict) -> bool:
  """Whether an address of this machine's own is written out in the call."""
  places = [*node.args, *keywords.values()]
  texts = [n.value for place in places for n in ast.walk(place) if isinstance(n, ast.Constant)]
  return any(text in LOOPBACK for text in texts if isinstance(text, str))


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_shipped_code_keeps_the_rules(path):
  assert not breaches(path.read_text(), name(path))


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_test_servers_are_for_this_machine_alone(path):
  found = breaches(path.read_text(), name(path))
  assert not [text for text in found if "loopback" in text or "shell" in text]


@pytest.mark.parametrize(
  "line",
  [
    "import pickle",
    "from joblib import load",
    "np.load(file, allow_pickle=True)",
    "np.load(file, allow_pickle=given)",
    "torch.load(file)",
    "torch.load(file, weights_only=False)",
    "torch.jit.load(file)",
    "eval(text)",
    "subprocess.run(command, shell=True)",
    "subprocess.run(f'ls {name}')",
    "os.system('ls')",
    "tempfile.mktemp()",
    "tarfile.open(f).extractall(folder)",
    "http.server.ThreadingHTTPServer(('0.0.0.0', 80), Handler)",
    "socket.create_server(('', 0))",
    "jax.profiler.start_server(9999)",
    "listener.bind(('', 80))",
  ],
)
def test_the_rules_find_what_they_are_for(line):
  assert breaches(line, "vidjax/some.py"), line


@pytest.mark.parametrize(
  "line",
  [
    "np.load(file, allow_pickle=False)",
    "subprocess.run(['git', 'status'], check=True)",
    "socket.create_server(('127.0.0.1', 0))",
    "ast.literal_eval(text)",
  ],
)
def test_the_rules_let_the_rest_pass(line):
  assert not breaches(line, "vidjax/some.py"), line


def requirements(lock: pathlib.Path) -> list[str]:
  """The entries of a lock file, each with its hashes on one line."""
  lines = lock.read_text().replace("\\\n", " ").splitlines()
  return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize(
  "lock",
  [
    *("requirements/base.lock", "requirements/dev.lock", "requirements/beam.lock"),
    "demo/media.lock",
  ],
)
def test_every_locked_package_has_a_version_and_hashes(lock):
  entries = requirements(ROOT / lock)
  assert entries
  for entry in entries:
    assert re.match(r"^[A-Za-z0-9._-]+(?:\[[\w,]+\])?==[^\s;]+", entry), entry
    assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_what_is_installed_is_checked_against_its_hashes():
  """Every `pip install` of the Makefile names a lock and its hashes, ourselves, or a known tool."""
  apart = re.compile(
    r"(?:torch==\$\(TORCH\)|--no-deps --editable \.|install -q (?:uv|pip-audit==[\d.]+))$"
  )
  lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
  assert lines
  for line in lines:
    if not apart.search(line.strip()):
      assert re.search(r"--require-hashes -r requirements/\w+\.lock", line), line


def test_one_command_audits_all_locks():
  done = subprocess.run(
    ["make", "-n", "audit"], capture_output=True, text=True, cwd=ROOT, check=True
  )
  for lock in ("requirements/base.lock", "requirements/dev.lock", "requirements/beam.lock"):
    assert re.search(rf"pip-audit --strict .*--require-hashes .*-r {lock}", done.stdout), lock
  assert re.search(r"torch==[\d.]+ \| .*pip-audit --strict .*--no-deps", done.stdout)
  assert "pip-audit==" in done.stdout, "the auditor has a version of its own"
  continuous = (ROOT / ".ci" / "run").read_text()
  assert "audit" not in continuous, "needs the network: a test that fails by itself is no test"
