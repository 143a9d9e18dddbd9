"""How gradients become weights: accumulation, optimizers, learning rates, averages, freezing."""
