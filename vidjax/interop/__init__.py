"""Weights in the layouts of PyTorch code bases: names, files, folders."""
