"""Secrets in command lines, logs, messages and configs."""

import json
import logging

import jax
from miniature_job import run_vidjax
import pytest

from vidjax import errors, redaction
from vidjax.observe import run_info

# Made here: what looks like a key must not stand in a file.
TOKEN = "hf_" + "Ab3" * 11
AWS = "AK" + "IA" + "Q7" * 8
SIGNED = f"https://store/x.mp4?X-Amz-Credential={AWS}%2F2026&X-Amz-Signature={'0f' * 32}&part=1"


@pytest.mark.parametrize(
  ("text", "secret", "shown"),
  [
    ("https://user:pa55word@host/a", "pa55word", "https://[redacted]@host/a"),
    (f"git+https://{TOKEN}@host", TOKEN, "git+https://[redacted]@host"),
    (SIGNED, "0f0f", "https://store/x.mp4?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]"),
    ("gs://b/x?X-Goog-Signature=abcdef99", "abcdef99", "gs://b/x?X-Goog-Signature=[redacted]"),
    ("az://c/x?sv=1&sig=Zm9vYmFyYg%3D", "Zm9v", "az://c/x?sv=1&sig=[redacted]"),
    (f"downloading with {TOKEN} now", TOKEN, "downloading with [redacted] now"),
    (f"key {AWS}", AWS, "key [redacted]"),
    ("--config.wandb.api_key=0123456789", "0123456789", "--config.wandb.api_key=[redacted]"),
    ("WANDB_API_KEY=0123456789", "0123456789", "WANDB_API_KEY=[redacted]"),
    ("{'aws_secret_access_key': 'w/K7+MDENG'}", "MDENG", "'aws_secret_access_key': '[redacted]'"),
    ('{"Authorization": "Bearer abc.def-ghi"}', "abc.def", '"Authorization": '),
    ("password: hunter22", "hunter22", "password: [redacted]"),
    ("a eyJhbGciOiJI.eyJzdWIiOiIx.SflKxw b", "SflKxw", "a [redacted] b"),
  ],
)
def test_secrets_are_hidden_and_the_rest_stays(text, secret, shown):
  found = redaction.redact(text)
  assert secret not in found
  assert shown in found
  assert redaction.redact(found) == found


@pytest.mark.parametrize(
  "text",
  [
    "s3://bucket/a b@c/x.mp4",
    "gs://bucket/shards/clips-train.array_record-00000-of-00002",
    "--config.model.overrides.num_tokens=1048576",
    "encoders.text='folder': tokenizer: vocab.json is missing",
    "step 12000: loss 0.0123, commit 0123456789abcdef0123456789abcdef01234567",
    "jax.random.key: use key=0 or keys=(1, 2)",
    "a prompt: the secret of the old monkey, someone@example.org",
  ],
)
def test_what_is_no_secret_stays(text):
  assert redaction.redact(text) == text


def test_values_of_the_environment_are_hidden_by_their_names(monkeypatch):
  monkeypatch.setenv("MY_STORE_SECRET", "plain words here")
  monkeypatch.setenv("MY_STORE_TOKEN_FILE", "folder/token.json")
  text = "said 'plain words here', see folder/token.json"
  assert redaction.redact(text) == "said '[redacted]', see folder/token.json"


def test_a_secret_behind_its_flag_is_hidden():
  shown = redaction.redact_command(["vidjax", "--api_key", "abc", "--steps", "3", "--token", "-v"])
  assert shown == ["vidjax", "--api_key", "[redacted]", "--steps", "3", "--token", "-v"]


def test_run_json_holds_the_command_without_secrets(monkeypatch):
  mesh = jax.make_mesh((1,), ("fsdp",), devices=jax.devices()[:1])
  monkeypatch.setattr("sys.argv", ["vidjax train", f"--config.data.path={SIGNED}", "--workdir=w"])
  stored = json.dumps(run_info.describe(mesh))
  assert "--workdir=w" in stored
  assert AWS not in stored
  assert "0f0f" not in stored


def test_configs_with_a_secret_are_refused_by_key():
  values = {"data": {"sets": [{"path": "gs://bucket/x"}, {"path": "s3://me:pa55word@bucket/x"}]}}
  with pytest.raises(ValueError, match=r"config\.data\.sets\.path holds what looks") as refused:
    redaction.refuse(values)
  assert "pa55word" not in str(refused.value)
  with pytest.raises(ValueError, match=r"config\.options\.api_key holds"):
    redaction.refuse({"options": {"api_key": "0123456789abcdef"}})
  redaction.refuse({"data": {"path": "gs://bucket/x", "captions": {"token": 1.0}}, "seed": 0})


def test_logs_are_redacted_with_their_tracebacks(caplog):
  make = logging.getLogRecordFactory()
  redaction.guard_logs()
  try:
    redaction.guard_logs()
    logging.getLogger("some.library").warning("GET %s failed", SIGNED)
    try:
      raise OSError(SIGNED)
    except OSError:
      logging.getLogger("some.library").exception("%d %s", "no number", TOKEN)
  finally:
    logging.setLogRecordFactory(make)
  assert "failed" in caplog.text
  assert "OSError: https://store/x.mp4?" in caplog.text
  for secret in (AWS, "0f0f", TOKEN):
    assert secret not in caplog.text


@pytest.mark.parametrize("error", [RuntimeError, errors.DataError])
def test_messages_of_commands_are_redacted(error, capsys):
  def fail():
    raise error(f"cannot read {SIGNED}")

  assert errors.run_main(fail, debug=True) == errors.exit_code(error())
  said = capsys.readouterr().err
  assert "Traceback" in said
  assert "cannot read https://store/x.mp4?" in said
  assert AWS not in said
  assert "0f0f" not in said


def test_a_run_stores_no_secret(tmp_path):
  """A secret in the config ends the command before anything is written, and is not repeated."""
  done = run_vidjax(
    "train",
    "--config=configs/svd/image.py:tiny",
    f"--workdir={tmp_path}/w",
    "--config.data.path=s3://me:pa55word@bucket/clips",
    code=2,
  )
  assert "config.data.path holds what looks like a secret" in done.stderr
  assert "pa55word" not in done.stdout + done.stderr
  assert not (tmp_path / "w").exists()
