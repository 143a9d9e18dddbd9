"""A model's process as diffusers' scheduler, and back."""

import dataclasses

import numpy as np
import pytest

from vidjax.diffusion.process import DiffusionConfig
from vidjax.diffusion.schedules import Betas
from vidjax.interop import schedulers

SD21 = DiffusionConfig(levels="discrete", prediction="eps")
CONFIGS = {
  "svd": DiffusionConfig(),
  "other range": DiffusionConfig(sigma_min=0.01, sigma_max=80.0),
  "stable diffusion": SD21,
  "v": dataclasses.replace(SD21, prediction="v"),
  "x0, cosine": dataclasses.replace(SD21, prediction="x0", betas=Betas("cosine", steps=100)),
  "zero snr": dataclasses.replace(SD21, prediction="v", betas=Betas(zero_terminal_snr=True)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_process_survives(name):
  config = CONFIGS[name]
  assert schedulers.from_json(schedulers.to_json(config)) == config


def test_published_schedulers_are_understood():
  pndm = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
  }
  assert schedulers.from_json(pndm) == SD21
  assert schedulers.from_json({"_class_name": "DDIMScheduler"}) == dataclasses.replace(
    SD21, betas=Betas("linear", 0.0001, 0.02)
  )


def test_what_is_no_process_of_ours_is_not_guessed():
  for values in (
    {"prediction_type": "flow_prediction"},
    {"timestep_type": "continuous", "prediction_type": "epsilon"},
    {"trained_betas": [0.1, 0.2]},
    {"beta_schedule": "laplace"},
  ):
    assert schedulers.from_json({"_class_name": "Some", **values}) is None
  assert schedulers.to_json(DiffusionConfig(prediction="edm", sigma_data=0.5)) == {}


def test_a_shifted_schedule_is_written_as_numbers():
  config = dataclasses.replace(SD21, resolution_shift=2.0)
  values = schedulers.to_json(config)
  found = np.cumprod(1 - np.array(values["trained_betas"]))
  np.testing.assert_allclose(found, Betas(shift=2.0).alpha_bar(), rtol=1e-9)
