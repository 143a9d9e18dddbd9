"""Fills the templates of `launch/templates`. What a template names and nobody gives is an error."""

import json
import pathlib
import shlex
from typing import Any

import jinja2

FOLDER = pathlib.Path(__file__).parent / "templates"


def fill(name: str, **values: Any) -> str:
  """The template `name` with `values`; filters quote them for what reads the result.

  sh      a word of a shell
  yaml    a text of YAML (JSON's texts are some)
  k8s     a word in which Kubernetes would replace `$(NAME)`; it comes out as it is
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # shell and YAML, quoted by the filters
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters |= {"sh": shlex.quote, "yaml": json.dumps, "k8s": for_kubernetes}
  return environment.get_template(name).render(**values)


def for_kubernetes(text: str) -> str:
  """`text` as Kubernetes takes it in commands, arguments and variables: `$$` is one `$` there."""
  return text.replace("$", "$$")
