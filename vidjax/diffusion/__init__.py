"""The math of diffusion, float32, with its equations; knows no models."""
