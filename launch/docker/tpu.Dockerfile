# The image that trains on TPUs. Build it at the root, with a version as its tag:
#
#   docker build -f launch/docker/tpu.Dockerfile -t IMAGE:VERSION .
#
# What it adds to base.lock is requirements/tpu.in (the extra `tpu`, and access to buckets); more goes
# there, and `make lock` resolves it. For a base that nobody can change give a digest:
# --build-arg BASE=python@sha256:...
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 vidjax
WORKDIR /vidjax

# Large and rarely changed first: a new version of the code is a layer of a few megabytes.
COPY requirements/base.lock requirements/
RUN pip install --require-hashes -r requirements/base.lock
COPY requirements/tpu.lock requirements/
RUN pip install --require-hashes -r requirements/tpu.lock

# It stays where it is (--editable), since configs are named by their path in this folder. The
# setuptools that are needed for that are locked, too, so nothing is fetched.
COPY setup.py README.md ./
COPY configs configs
COPY data_pipelines data_pipelines
COPY launch launch
COPY vidjax vidjax
RUN pip install --no-deps --no-build-isolation --editable .

USER vidjax
ENTRYPOINT ["python3", "-m", "launch.supervise"]
