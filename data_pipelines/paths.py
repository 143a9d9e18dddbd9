"""Where a run has its things: the videos, the results, and what an interrupted run left."""

import dataclasses

FOLDER_OF_EMBEDDINGS = "embeddings"


@dataclasses.dataclass(frozen=True)
class Paths:
  """Folders of one run, local or remote.

  Attributes:
    videos: What the paths of sources are relative to.
    out: The results.
    memory: What stages remember.
    weights: Short hash of the files of the networks that look at clips: what was remembered of
      others does not count.
  """

  videos: str
  out: str
  memory: str
  weights: str = ""

  def cache(self, name: str) -> str:
    """What a stage remembers: "analyses", "looks" and "captions".

    It stays for runs with other thresholds or more videos.
    """
    return f"{self.memory}/{name}"

  @property
  def encoded(self) -> str:
    """Encoded clips on their way into shards; removed by a finished run."""
    return f"{self.out}/.cache/encoded"

  def shards(self, rung: int = 0) -> str:
    """The result that training reads; a further size has a folder of its own."""
    return f"{self.out}/shards-{rung}" if rung else f"{self.out}/shards"
