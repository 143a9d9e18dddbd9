"""What is known of a training program before anything is compiled."""

import jax

from vidjax import config as configs
from vidjax import program
from vidjax.parallel import mesh as meshes


def test_flops_are_those_of_all_rows_of_a_batch():
  """A picture has no time to attend along; rows of both kinds add up."""
  settings = ["data.kind=procedural", "data.num_frames=4", "data.height=16", "data.width=24"]
  settings += ["encoders.vae=random:tiny", "batch_size=4", "init_from=", "data.images.rows=2"]
  config = configs.load("configs/svd/video_lowres.py:tiny", settings)
  mixed = program.make(config, meshes.make_mesh(config.mesh, jax.devices()[:1]))
  alone = {name: a for name, a in mixed.batch.items() if name != "images"}
  videos, pictures = mixed.model_flops(alone), mixed.model_flops(mixed.batch["images"])
  assert mixed.model_flops() == videos + pictures
  assert 0 < pictures < videos / 2  # the encoder of captions works for both
