"""The rules of the house, held by a test each."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MAX_LINES = 400
CODE = sorted(
  path
  for folder in ("vidjax", "data_pipelines", "configs", "demo", "launch", "benchmarks", "tests")
  for path in (ROOT / folder).rglob("*.py")
)
LIBRARY = [p for p in CODE if p.relative_to(ROOT).parts[0] in ("vidjax", "data_pipelines")]

# Package -> packages of vidjax it may import besides itself. What is not listed joins the others
# (the verbs, step.py, pipeline.py and their like at the top of the package).
LEAVES = {"errors", "storage", "config", "command", "lazy", "flops", "redaction", "packed"}
ALLOWED = {
  "nn": {"parallel"},
  "parallel": set(),
  "models": {"nn", "parallel"},
  "diffusion": set(),
  "conditioning": {"diffusion"},
  "data": {"observe"},
  "encoders": {"nn", "parallel", "interop"},
  "interop": {"nn", "models", "encoders", "parallel", "diffusion"},
  "metrics": set(),
  "backbones": {"nn", "parallel", "interop", "encoders"},
  "optim": {"nn", "parallel"},
  "checkpoint": {"nn", "parallel"},
  "observe": {"parallel"},
  # Describes whole programs, so it joins what the modules at the top join.
  "planning": {
    *("program", "step", "flops", "compiling", "denoising", "divisibility", "observe"),
    *("conditioning", "diffusion", "encoders", "models", "nn", "parallel"),
  },
  # Reads what a run has written, of whatever kind.
  "reporting": {"charts", "goodput", "render", "checkpoint", "data", "diffusion", "observe"},
  # Joins data, models and metrics, as the modules at the top do.
  "evaluation": {
    *("pipeline", "pretrained", "render", "convert_weights"),
    *("backbones", "checkpoint", "conditioning", "data", "encoders", "metrics", "nn"),
    *("observe", "parallel"),
  },
}
# Files in which the project says something.
SPEAKING = (".py", ".md", ".toml", ".sh", ".j2", ".css", ".js", ".yaml", ".lock", ".in", "")
OPTIONAL = ("torch", "diffusers", "transformers", "apache_beam", "gradio", "libtpu", "wandb")


def imports(path: pathlib.Path) -> set[str]:
  """Dotted names of all modules that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      found.add(node.module)
      found.update(f"{node.module}.{alias.name}" for alias in node.names)
  return found


def name(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_import_rule(path):
  parts = path.relative_to(ROOT).parts
  for module in imports(path):
    words = module.split(".")
    if parts[0] == "vidjax":
      assert words[0] not in ("data_pipelines", "configs", "launch", "demo"), module
    if parts[0] == "vidjax" and len(parts) > 2 and words[0] == "vidjax" and len(words) > 1:
      allowed = ALLOWED[parts[1]] | {parts[1]} | LEAVES
      assert words[1] in allowed, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_storage_rule(path):
  """Files are reached through vidjax.storage, so that every path may be remote."""
  if path == ROOT / "vidjax" / "storage.py":
    return
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
      assert node.func.id != "open", f"{name(path)}:{node.lineno} calls open()"
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      dotted = f"{node.value.id}.{node.attr}"
      assert dotted != "os.path", f"{name(path)}:{node.lineno} uses os.path"
  assert "pathlib" not in imports(path), f"{name(path)} imports pathlib"


@pytest.mark.parametrize("path", CODE, ids=name)
def test_file_has_one_subject(path):
  assert len(path.read_text().splitlines()) <= MAX_LINES, f"{name(path)}: split it by subject"
  assert path.name != "utils.py", f"{name(path)}: name it after what it is about"


def test_importing_vidjax_needs_no_extra():
  """With the packages of the extras made impossible to import, the library still imports."""
  code = (
    f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}));"
    "import vidjax, vidjax.train, vidjax.pipeline, vidjax.export, vidjax.heldout, vidjax.metrics"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_data_modules_import_no_jax():
  """Decoding processes are spawned: what they import is paid for by each of them."""
  for path in (ROOT / "vidjax" / "data").rglob("*.py"):
    assert not {"jax", "flax"} & {m.split(".")[0] for m in imports(path)}, name(path)


def test_project_speaks_only_of_itself():
  """No paths of one machine, no registry hosts, nothing that looks like a key."""
  forbidden = re.compile(
    r"/(?:home|root|work)/\w|/tmp/\w|pypi\.(?:org|python)|files\.pythonhosted|registry\.npmjs"
    r"|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
  )
  listed = subprocess.run(
    ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
  ).stdout.splitlines()
  for file in listed:
    path = ROOT / file
    if path.suffix in SPEAKING and path.is_file() and path != pathlib.Path(__file__):
      for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
        assert not forbidden.search(line), f"{file}:{number}: {line.strip()[:80]}"


def commands(text: str) -> list[str]:
  """Command lines in the shell blocks of a markdown text; continuation lines are joined."""
  found = []
  for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.S):
    for line in block.replace("\\\n", " ").splitlines():
      line = re.sub(r"\s+#.*$", "", line.strip().removeprefix("$ "))
      if line and not line.startswith("#"):
        found.append(re.sub(r"\s+", " ", line))
  return found


def documents() -> list[pathlib.Path]:
  guides = sorted((ROOT / "docs").glob("*.md"))
  return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "launch" / "README.md", *guides]


def test_every_documented_command_is_run_by_a_test():
  """Each command of a document stands, word for word, in `RUN_BY` with the test that runs it."""
  registry = {}
  exec((ROOT / "tests" / "repo" / "documented_commands.py").read_text(), registry)
  run_by = registry["RUN_BY"]
  shown = {
    command for path in documents() if path.exists() for command in commands(path.read_text())
  }
  assert shown == set(run_by), f"not tested: {shown - set(run_by)}; gone: {set(run_by) - shown}"
  for test in run_by.values():
    file, _, function = test.partition("::")
    text = (ROOT / file).read_text()
    if file.endswith(".py"):
      assert re.search(rf"^def {function}\(", text, re.M), f"no test {test}"
    else:
      assert function in text, f"{file} does not contain {function!r}"
