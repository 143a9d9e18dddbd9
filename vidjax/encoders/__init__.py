"""Frozen encoders: autoencoder, CLIP towers, tokenizers."""
