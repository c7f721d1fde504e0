"""Experiments on whole data sets: what maps are worth, in numbers."""
