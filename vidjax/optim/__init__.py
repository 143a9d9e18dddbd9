"""AdamW, learning rates and averages of weights."""
