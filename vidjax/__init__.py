"""vidjax: pretraining of latent video diffusion models in JAX, on TPU pods and GPU meshes."""
