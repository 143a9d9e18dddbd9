"""Configs as flat tables."""

from vidjax import config as configs
from vidjax.data.config import DataConfig
from vidjax.reporting import settings


def test_defaults_are_those_of_the_dataclasses():
  data = DataConfig(kind="procedural")  # the least that a config needs
  want = configs.to_dict(configs.TrainConfig(total_samples=1, data=data))
  want["data"]["kind"] = DataConfig().kind
  assert settings.defaults() == want | {"total_samples": 0}


def test_only_what_differs_is_listed():
  values = settings.defaults() | {"seed": 7}
  values["model"] = values["model"] | {"overrides": {"remat": ["block"], "in_channels": 8}}
  values["data"] = values["data"] | {"sets": [{"path": "a"}, {"path": "b", "weight": 2.0}]}
  rows = settings.differences([settings.defaults(), values])
  assert [(row.key, row.values) for row in rows] == [
    ("seed", ("0", "7")),
    ("data.sets[0].path", ("–", "a")),
    ("data.sets[1].path", ("–", "b")),
    ("data.sets[1].weight", ("–", "2.0")),
    ("model.overrides.remat", ("–", "(block,)")),
    ("model.overrides.in_channels", ("–", "8")),
  ]


def test_lists_of_json_and_tuples_are_the_same():
  assert settings.differences([{"a": (1, 2), "b": {}}, {"a": [1, 2], "b": {}}]) == []
