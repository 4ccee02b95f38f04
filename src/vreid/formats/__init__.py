"""File formats of other programs: what a file is by its contents, and safe readers of NumPy and PyTorch files."""
