"""Models that write texts: behind a server of OpenAI's protocol, or from a folder of transformers.

Both are functions (JPEGs, prompt) -> text. They run where the accelerator is, in the pipeline's
worker. Texts are the likeliest ones, not drawn, so that a run that is repeated gives the same.

A server may refuse a request for what is in it: then this clip has no text of its model. If it
refuses all of them, the fault is not in the clips: see `RefusedError` and `Tally`.
"""

import base64
from collections.abc import Callable, Sequence
import dataclasses
import functools
import hashlib
import io
import os
import threading
from typing import Any, TypeAlias

from PIL import Image
import requests
from requests import adapters
from urllib3.util import retry

from data_pipelines import config as config_lib
from vidjax import errors, redaction, storage

# Pictures and a prompt in, text out.
Captioner: TypeAlias = Callable[[Sequence[bytes], str], str]

# What a server says about one request, not about all of them: too long, refused by a filter.
_ABOUT_THE_REQUEST = (400, 413, 422)
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
_MAX_BACKOFF_S = 60.0
_QUOTED = 300  # characters of a server's answer
# A model that has taken none of its first so many requests takes none.
FIRST_REQUESTS = 8
# Of a large file so many places are looked at, each with so many bytes.
_PLACES, _BYTES_AT_PLACE = 64, 4096
_lock = threading.Lock()
_counting = threading.Lock()


class EndpointError(errors.DataError):
  """A server does not answer, or not as the protocol says. Exit code 3; run again to go on."""


class RefusedError(Exception):
  """A server does not take one request; the text is what it answered."""


@dataclasses.dataclass
class Tally:
  """How a model of a server has answered in this process so far."""

  taken: int = 0
  refused: int = 0


@functools.cache
def _tally(endpoint: str, model: str) -> Tally:
  del endpoint, model
  return Tally()


def tally(captioner: config_lib.CaptionerConfig) -> Tally:
  """The one of a captioner's model."""
  with _counting:
    return _tally(captioner.endpoint, captioner.model)


def weights(folder: str) -> str:
  """Short hash of the model in a folder, wherever it lies and whenever it was copied there.

  Texts are remembered under it: weights that were trained on take no texts of those before. A path
  or modification times would say too little (the folder is filled anew) or too much (each machine
  has its own copy). Large files are looked at in many places, from the head on: training on changes
  all of them, and reading tens of gigabytes at each start would cost more than it is worth.

  Returns:
    The hash; "" where there is no such folder.
  """
  if not storage.Path(folder).is_dir():
    return ""
  found = hashlib.sha256()
  for path in storage.list_files(folder):
    name = path.relative_to(storage.Path(folder)).as_posix()
    with storage.open_read(path) as file:
      size = file.seek(0, os.SEEK_END)
      found.update(f"{name} {size}\n".encode())
      for place in range(_PLACES):
        file.seek(max(0, size - _BYTES_AT_PLACE) * place // (_PLACES - 1))
        found.update(file.read(_BYTES_AT_PLACE))
  return found.hexdigest()[:16]


def none_is_taken(name: str, captioner: config_lib.CaptionerConfig, answer: str) -> EndpointError:
  """What is said of a model that refuses whatever it is asked."""
  return EndpointError(
    f"the captioner at {captioner.endpoint} takes no request for caption.{name}"
    f" ({captioner.model}): {answer}; texts so far are kept: see to it, or to caption.{name}, and"
    " run the same command again"
  )


def load(config: config_lib.CaptionConfig, name: str) -> Captioner:
  """The captioner `name` of a config; loaded once for each process.

  Raises:
    ValueError: its folder holds no such model.
  """
  captioner = config.captioners[name]
  if captioner.endpoint:
    return functools.partial(_counted, name, config, captioner)
  with _lock:
    model = _text_model(captioner.model) if name == "llm" else _picture_model(captioner.model)
  return functools.partial(model, captioner.max_tokens)


def _counted(
  name: str,
  config: config_lib.CaptionConfig,
  captioner: config_lib.CaptionerConfig,
  jpegs: Sequence[bytes],
  prompt: str,
) -> str:
  """A request whose outcome is counted; the last one of a model that takes none is an error."""
  mine = tally(captioner)
  try:
    text = _ask(config, captioner, jpegs, prompt)
  except RefusedError as refused:
    with _counting:
      mine.refused += 1
      hopeless = not mine.taken and mine.refused >= FIRST_REQUESTS
    if hopeless:
      raise none_is_taken(name, captioner, str(refused)) from refused
    raise
  with _counting:
    mine.taken += 1
  return text


def _ask(
  config: config_lib.CaptionConfig,
  captioner: config_lib.CaptionerConfig,
  jpegs: Sequence[bytes],
  prompt: str,
) -> str:
  """One request to `/chat/completions`."""
  url = f"{captioner.endpoint.rstrip('/')}/chat/completions"
  pictures = [
    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(jpeg)}"}}
    for jpeg in jpegs
  ]
  body = {
    "model": captioner.model,
    "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}],
    "max_tokens": captioner.max_tokens,
    "temperature": 0.0,
    "seed": 0,
  }
  key = os.environ.get(config.api_key_env, "")
  headers = {"Authorization": f"Bearer {key}"} if key else {}
  session = _session(config.retries, config.concurrency)
  try:
    answer = session.post(url, json=body, headers=headers, timeout=config.timeout_s)
  except requests.RequestException as error:
    raise EndpointError(
      f"the captioner at {captioner.endpoint} does not answer ({type(error).__name__}); texts so"
      " far are kept: see to it and run the same command again"
    ) from error
  if answer.status_code in _ABOUT_THE_REQUEST:
    said = redaction.redact(" ".join(answer.text[: 2 * _QUOTED].split()))[:_QUOTED]
    raise RefusedError(f"{answer.status_code} {answer.reason}" + (f": {said}" if said else ""))
  if answer.status_code != 200:
    hint = f": is the key in ${config.api_key_env}?" if answer.status_code in (401, 403) else ""
    raise EndpointError(
      f"the captioner at {captioner.endpoint} answers {answer.status_code} {answer.reason}{hint};"
      " texts so far are kept: see to it and run the same command again"
    )
  try:
    return str(answer.json()["choices"][0]["message"]["content"]).strip()
  except (ValueError, LookupError, TypeError) as error:
    raise EndpointError(
      f"the captioner at {captioner.endpoint} does not speak OpenAI's protocol: no"
      f" choices[0].message.content in its answer"
    ) from error


@functools.cache
def _session(retries: int, concurrency: int) -> requests.Session:
  """Repeats what fails in passing, more and more slowly, or when the server says."""
  policy = retry.Retry(
    total=retries,
    backoff_factor=1.0,
    backoff_max=_MAX_BACKOFF_S,
    backoff_jitter=0.5,
    status_forcelist=_PASSING,
    allowed_methods=None,
    raise_on_status=False,
  )
  session = requests.Session()
  for scheme in ("http://", "https://"):
    session.mount(scheme, adapters.HTTPAdapter(max_retries=policy, pool_maxsize=concurrency))
  return session


@functools.lru_cache(maxsize=2)
def _picture_model(folder: str) -> Callable[[int, Sequence[bytes], str], str]:
  """A model that is shown pictures: one that is talked to, or a plain captioner such as BLIP."""
  torch, transformers = _libraries(folder)
  processor = _opened(folder, transformers.AutoProcessor.from_pretrained)
  model = _model(folder, transformers.AutoModelForImageTextToText, torch)
  talks = getattr(processor, "chat_template", None) is not None

  def caption(max_tokens: int, jpegs: Sequence[bytes], prompt: str) -> str:
    pictures = [Image.open(io.BytesIO(jpeg)) for jpeg in jpegs]
    if not talks and len(pictures) > 1:
      raise ValueError(
        f"caption.video.model={folder} has no chat template: it takes one picture, not the frames"
        " of a video"
      )
    if talks:
      content = [*({"type": "image", "image": p} for p in pictures), _text(prompt)]
      inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        **{"add_generation_prompt": True, "tokenize": True},
        **{"return_dict": True, "return_tensors": "pt"},
      )
    else:
      inputs = processor(images=pictures, return_tensors="pt")
    return _generated(model, inputs, max_tokens, processor)

  return caption


@functools.lru_cache(maxsize=1)
def _text_model(folder: str) -> Callable[[int, Sequence[bytes], str], str]:
  torch, transformers = _libraries(folder)
  tokenizer = _opened(folder, transformers.AutoTokenizer.from_pretrained)
  model = _model(folder, transformers.AutoModelForCausalLM, torch)

  def caption(max_tokens: int, jpegs: Sequence[bytes], prompt: str) -> str:
    assert not jpegs, "a model of texts is shown no pictures"
    if tokenizer.chat_template is None:
      inputs = tokenizer(prompt, return_tensors="pt")
    else:
      inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        **{"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"},
      )
    return _generated(model, inputs, max_tokens, tokenizer)

  return caption


def _libraries(folder: str) -> tuple[Any, Any]:
  try:
    import torch
    import transformers
  except ModuleNotFoundError as error:
    raise ValueError(
      f"the captioner {folder} is run by transformers: install the extra `torch`"
    ) from (error)
  return torch, transformers


def _opened(folder: str, opener: Callable[..., Any], **how: Any) -> Any:
  try:
    return opener(folder, local_files_only=True, trust_remote_code=False, **how)
  except (OSError, ValueError) as error:
    raise ValueError(f"the captioner {folder} cannot be opened: {error}") from error


def _model(folder: str, kind: Any, torch: Any) -> Any:
  # Pickled weights may run any program when they are read.
  model = _opened(folder, kind.from_pretrained, use_safetensors=True, dtype="auto")
  return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _generated(model: Any, inputs: Any, max_tokens: int, decoder: Any) -> str:
  inputs = inputs.to(model.device)
  with _lock:  # the threads of a worker share the device
    tokens = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
  if "input_ids" in inputs and not model.config.is_encoder_decoder:
    tokens = tokens[:, inputs["input_ids"].shape[1] :]
  return decoder.batch_decode(tokens, skip_special_tokens=True)[0].strip()


def _text(prompt: str) -> dict[str, str]:
  return {"type": "text", "text": prompt}


def _base64(data: bytes) -> str:
  return base64.b64encode(data).decode()
