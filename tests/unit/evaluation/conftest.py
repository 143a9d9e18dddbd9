import pytest
import tiny_networks as tiny

from vidjax.backbones import registry


@pytest.fixture
def tiny_networks(monkeypatch):
  """The tiny rows are in the table of networks for the length of a test."""
  for name, row in tiny.ROWS.items():
    monkeypatch.setitem(registry.BACKBONES, name, row)
