"""Evaluation on benchmarks: real videos as they lie on disk, and the prompts that are sampled."""
