"""The autoencoder task: train an AutoencoderKL on single frames (LDM, 2112.10752, sec. 3.1).

The loss is L1 plus KL: the adversarial and perceptual terms of LDM need further networks.
"""

import jax
import jax.numpy as jnp

from vidjax.config import TrainConfig
from vidjax.diffusion import noise
from vidjax.encoders import vae
from vidjax.encoders.frozen import Frozen
from vidjax.nn.params import Network, Params
from vidjax.step import Batch, Metrics, Task


def make_task(config: TrainConfig) -> Task:
  """Describes the autoencoder of `config.autoencoder.preset`."""
  network = make_vae(config)

  def loss(
    params: Params, frozen: dict[str, Params], batch: Batch, keys_B: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    del frozen
    model = network.bind(params)
    x_BTHWC = batch["video_BTHWC"].astype(jnp.float32) / 127.5 - 1.0
    mean, log_var = model.encode_moments(x_BTHWC)
    z_BTHWC = mean + jnp.exp(0.5 * log_var) * noise.normal(keys_B, mean.shape[1:])
    y_BTHWC = model.decode(z_BTHWC)
    l1 = jnp.mean(jnp.abs(y_BTHWC - x_BTHWC))
    # KL to the unit normal: summed over a latent, averaged over latents' pixels in the image.
    kl = 0.5 * jnp.mean(
      jnp.sum(jnp.square(mean) + jnp.exp(log_var) - 1.0 - log_var, axis=(2, 3, 4))
    )
    means = {
      "l1": l1,
      "kl": kl,
      "mse": jnp.mean(jnp.square(y_BTHWC - x_BTHWC)),
      "latent_mean": jnp.mean(mean),
      "latent_square": jnp.mean(jnp.square(mean)),
    }
    return l1 + config.autoencoder.kl_weight * kl, means

  def report(means: Metrics) -> Metrics:
    variance = means["latent_square"] - jnp.square(means["latent_mean"])
    return {
      "l1": means["l1"],
      "kl": means["kl"],
      "psnr": 10.0 * jnp.log10(4.0 / means["mse"]),  # the range [-1, 1] is 2 wide
      "latent_std": jnp.sqrt(jnp.maximum(0.0, variance)),
    }

  return Task(network, Frozen({}), loss, report)


def make_vae(config: TrainConfig) -> Network[vae.AutoencoderKL]:
  """The autoencoder that the config describes, without values."""
  return vae.describe(vae.PRESETS[config.autoencoder.preset])
