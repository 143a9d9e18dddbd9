"""The main job on real video and the page it ends in: `make demo`."""
