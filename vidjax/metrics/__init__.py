"""Distances between sets of videos. Importing this needs numpy only."""

from vidjax.metrics.frechet import FeatureStats, frechet_distance, frechet_from_stats
from vidjax.metrics.kid import kid

__all__ = ["FeatureStats", "frechet_distance", "frechet_from_stats", "kid"]
