"""What a model knows of noise, as diffusers' `scheduler_config.json`, and back."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from vidjax.diffusion.process import DiffusionConfig
from vidjax.diffusion.schedules import Betas

Json = dict[str, Any]

_PREDICTIONS = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
_KINDS = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}


def to_json(config: DiffusionConfig) -> Json:
  """The scheduler that a model of this process samples with; {} where diffusers has none.

  Continuous levels are SVD's Euler scheduler, beside whose noise levels a DDPM schedule is stated
  because the class asks for one; time steps are DDIM's, from the last one on.
  """
  if config.discrete:
    return {"_class_name": "DDIMScheduler", **_discrete_to_json(config)}
  if config.prediction != "v":
    return {}
  return {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": config.sigma_max,
    "sigma_min": config.sigma_min,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "trained_betas": None,
    "use_karras_sigmas": True,
  }


def from_json(values: Mapping[str, Any]) -> DiffusionConfig | None:
  """The process of a model with this scheduler, whatever its class; None if it is not one of ours.

  A scheduler says how to sample, and with that what the network predicts and which levels it
  knows. Missing keys have the values of diffusers' classes.
  """
  predictions = {theirs: ours for ours, theirs in _PREDICTIONS.items()}
  prediction = predictions.get(values.get("prediction_type", "epsilon"))
  if values.get("timestep_type") == "continuous":
    if prediction != "v":
      return None
    sigma_min, sigma_max = values.get("sigma_min"), values.get("sigma_max")
    return DiffusionConfig(sigma_min=sigma_min or 0.002, sigma_max=sigma_max or 700.0)
  kinds = {theirs: ours for ours, theirs in _KINDS.items()}
  kind = kinds.get(values.get("beta_schedule", "linear"))
  if prediction is None or kind is None or values.get("trained_betas") is not None:
    return None
  betas = Betas(
    kind=kind,
    start=values.get("beta_start", 0.0001),
    end=values.get("beta_end", 0.02),
    steps=values.get("num_train_timesteps", 1000),
    zero_terminal_snr=values.get("rescale_betas_zero_snr", False),
  )
  if betas.zero_terminal_snr and prediction == "eps":
    return None
  return DiffusionConfig(prediction=prediction, levels="discrete", betas=betas)


def _discrete_to_json(config: DiffusionConfig) -> Json:
  betas = config.betas
  found: Json = {
    "beta_start": betas.start,
    "beta_end": betas.end,
    "beta_schedule": _KINDS[betas.kind],
    "num_train_timesteps": betas.steps,
    "prediction_type": _PREDICTIONS[config.prediction],
    "rescale_betas_zero_snr": betas.zero_terminal_snr,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "trained_betas": None,
  }
  shift = betas.shift * config.resolution_shift
  if shift != 1:  # diffusers has no word for it, but takes the numbers
    alpha_bar = dataclasses.replace(betas, shift=shift).alpha_bar()
    ratio = alpha_bar / np.append(1.0, alpha_bar[:-1])
    found |= {"trained_betas": (1 - ratio).tolist(), "rescale_betas_zero_snr": False}
  return found
