"""Frozen encoders: autoencoder, CLIP towers, T5, tokenizers."""
