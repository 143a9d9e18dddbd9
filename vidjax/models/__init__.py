"""Trainable diffusion networks."""
