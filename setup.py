"""Package metadata, the `vidjax` command and the optional extras."""

import pathlib

import setuptools

_ROOT = pathlib.Path(__file__).parent

setuptools.setup(
  name="vidjax",
  version="0.1.0",
  description="Pretraining of latent video diffusion models in JAX, on TPU pods and GPU meshes",
  long_description=(_ROOT / "README.md").read_text() if (_ROOT / "README.md").exists() else "",
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["vidjax*", "data_pipelines*", "configs*", "launch*"]),
  package_data={
    "data_pipelines": ["*.j2"],
    "launch": ["chains/*.toml", "jobs/*.toml", "templates/*.j2"],
    "vidjax.evaluation": ["*.j2"],
    "vidjax.reporting": ["*.j2", "*.css", "*.js"],
  },
  install_requires=[
    "absl-py",
    "array_record",
    "av",
    "etils[epath,epy]",
    "flax>=0.12.8",
    "fsspec",
    "grain>=0.2.18",
    "jax>=0.10",
    "jinja2",
    "ml_collections",
    "ml_dtypes",
    "numpy",
    "opencv-python-headless",
    "optax",
    "orbax-checkpoint>=0.12.8",
    "pillow",
    "protobuf",
    "rich",
    "safetensors",
    "sentencepiece",
    "tensorboardX",
    "tensorflow-datasets",
  ],
  extras_require={
    "tpu": ["jax[tpu]"],
    "cuda13": ["jax[cuda13]"],
    "curate": [
      "apache-beam",
      "duckdb",
      "onnxruntime",
      "pyarrow",
      "rapidocr",
      "requests",
      "scipy",
      "urllib3",
    ],
    "eval": ["pyarrow"],
    "gcs": ["gcsfs"],
    "s3": ["s3fs"],
    "torch": ["torch>=2.6", "diffusers", "transformers"],
    "wandb": ["wandb"],
    "dev": [
      "gcsfs",
      "moto[server]",
      "pre-commit",
      "pyright",
      "pytest",
      "pytest-xdist",
      "ruff",
      "s3fs",
    ],
  },
  entry_points={"console_scripts": ["vidjax = vidjax.cli:main"]},
)
