"""The device mesh and the sharding plan."""
