"""Raw video into annotated clips in shards, as an Apache Beam graph: see run.py."""
