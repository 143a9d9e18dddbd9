"""Captions to learn tokenizers from: made of few words, the same in every run."""

import random

_WORDS = """
  a the dog cat runs jumps through over snow winter forest mountain lake camera slowly pans while
  people walk city street at sunset naïve café they'll don't 北京 2023 red blue green, quickly
"""


def captions(count: int = 400) -> list[str]:
  rng, words = random.Random(0), _WORDS.split()
  return [" ".join(rng.choice(words) for _ in range(rng.randint(4, 16))) for _ in range(count)]
