"""Layers: convolutions, attention, norms, embeddings. They name sharding roles, never mesh axes."""
