"""Teaches Orbax `s3://`, which it lacks while its two libraries (epath, tensorstore) have it.

Orbax decides in a few small functions whether a path is an object store and how tensorstore opens
it, and knows `gs://` alone there. This module extends those functions; nothing else of Orbax
depends on the scheme. To be removed when Orbax has it (google/orbax pull request 2739).
"""

import functools
import os
from typing import Any
from urllib import parse

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from vidjax import storage


@functools.cache
def enable() -> None:
  """Extends Orbax in this process; calling it again does nothing."""
  gs_kvstore = gcs_utils.get_kvstore_for_gcs
  normalize = tensorstore_utils._normalize_path

  def kvstore(path: str) -> dict[str, Any]:
    return s3_kvstore(path) if path.startswith("s3://") else gs_kvstore(path)

  gcs_utils._GCS_PATH_PREFIX = ("gs://", "s3://")
  gcs_utils.get_kvstore_for_gcs = kvstore
  tensorstore_utils._use_gcs_driver = lambda path: path.startswith(("gs://", "s3://"))
  tensorstore_utils._normalize_path = lambda path: normalize(path).replace("s3:/", "s3://")


def is_s3(path: storage.PathLike) -> bool:
  """Whether Orbax needs `enable` for this path."""
  return os.fspath(path).startswith("s3://")


def s3_kvstore(path: str) -> dict[str, Any]:
  """Specification with which tensorstore opens `s3://bucket/key`.

  The endpoint and region come from the same variables that s3fs reads: `AWS_ENDPOINT_URL_S3`,
  `AWS_ENDPOINT_URL` (for stores other than Amazon's), `AWS_REGION`, `AWS_DEFAULT_REGION`.
  """
  parts = parse.urlsplit(path)
  spec = {"driver": "s3", "bucket": parts.netloc, "path": parts.path.lstrip("/")}
  if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
    spec["endpoint"] = endpoint
  if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
    spec["aws_region"] = region
  return spec
