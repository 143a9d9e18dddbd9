"""Converts published weights of feature networks into the form that `evaluate` reads.

  vidjax convert_weights --network=NAME --file=PATH --out=DIR [--trust]
  vidjax convert_weights --list

One `.safetensors` a network is written into DIR, with the SHA-256 of the file that it came from.
Nothing is downloaded: --list says for each network which file it needs and where it is published.
Files that are programs (TorchScript, TensorFlow's graphs) are run, to prove that the converted
network computes the same; --trust says that this may be done.
Exit codes: 0 done; 2 bad flag, or a file of another network; 7 disk full; 130 interrupted.
"""

from absl import flags

from vidjax import command, storage
from vidjax.backbones import registry, weights
from vidjax.observe import console


def convert(name: str, file: str, out: str, *, trust: bool = False) -> storage.Path:
  """Converts `file` for the network `name` and writes it to folder `out`.

  Returns:
    The file written.

  Raises:
    ValueError: the network is unknown; the file is missing, is another network's, needs trust or a
      package, or computes something else than the converted network.
  """
  row = registry.get(name)
  if row.converter is None:
    raise ValueError(f"{name} is not converted: it is {row.origin}")
  if not storage.Path(file).exists():
    raise ValueError(f"{file} does not exist: {name} needs {' and '.join(row.files)}, {row.origin}")
  converted = row.converter(file, trust)
  facts, known = dict(converted.facts), row.sha256
  if known is not None:
    same = facts["source_sha256"].startswith(known)
    facts["as_published"] = "yes" if same else "no"
    if not same:
      console.line(
        f"{file} fits the network, but is not the published file, whose SHA-256 begins with"
        f" {known}: features from it are not those of others"
      )
  return weights.write(out, row.weights, converted.params, facts)


def listing() -> str:
  """For each network, which file it needs and where that is published."""
  lines = []
  for name, row in registry.BACKBONES.items():
    fewest, most = row.frames
    frames = "pictures" if most == 1 else f"clips of {fewest}{'' if most else ' or more'} frames"
    taps = ", ".join(f"{tap} ({width})" for tap, width in row.taps.items())
    lines.append(f"{name}\n  takes    {frames}\n  gives    {taps}")
    lines.append(f"  file     {', '.join(row.files)}\n  from     {row.origin}: {row.url}")
    known = f"{row.sha256}..." if row.sha256 else "not known here; that of your file is recorded"
    lines.append(f"  SHA-256  {known}")
    if row.converter is None:
      lines.append("  used as it is, without conversion")
    elif row.weights != name:
      lines.append(f"  written  as {weights.path('DIR', row.weights).name}, shared")
  return "\n".join(lines)


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  if given.list:
    console.line(listing())
    return
  for flag in ("network", "file", "out"):
    if not given[flag].value:
      raise ValueError(f"--{flag} is missing: see --help, or --list for what there is")
  written = convert(given.network, given.file, given.out, trust=given.trust)
  console.line(f"{given.file} -> {written}")


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("network", None, "Name of a feature network, see --list.")
  flags.DEFINE_string("file", None, "Its published file, or folder.")
  flags.DEFINE_string("out", None, "Folder to write the converted weights to.")
  flags.DEFINE_bool("trust", False, "Run the program in the file: only if you trust it.")
  flags.DEFINE_bool("list", False, "Print which file each network needs.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
