"""Exact nearest neighbours in bounded memory: numpy, the compiled core, or a GPU, with equal results."""
