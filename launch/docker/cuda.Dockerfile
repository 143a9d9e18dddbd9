# The image that trains on NVIDIA GPUs. Build it at the root, with a version as its tag:
#
#   docker build -f launch/docker/cuda.Dockerfile -t IMAGE:VERSION .
#
# CUDA 13, cuDNN and NCCL are wheels of requirements/cuda13.in (the extra `cuda13`, and access to
# buckets), so the base needs none; the nodes need a driver of the 580 series or newer. For a base
# that nobody can change give a digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}

# NCCL speaks to InfiniBand through these.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ibverbs-providers libibverbs1 librdmacm1 \
  && rm -rf /var/lib/apt/lists/*
# By these enroot, apptainer and the container toolkit know that the driver is wanted.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 vidjax
WORKDIR /vidjax

# Large and rarely changed first: a new version of the code is a layer of a few megabytes.
COPY requirements/base.lock requirements/
RUN pip install --require-hashes -r requirements/base.lock
COPY requirements/cuda13.lock requirements/
RUN pip install --require-hashes -r requirements/cuda13.lock

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
