"""Kernels: one file each, with the plain-JAX reference whose signature and values it has."""
