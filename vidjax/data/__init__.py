"""Curated clips to batches: shards, windows, the order of the stream, decoding processes."""
