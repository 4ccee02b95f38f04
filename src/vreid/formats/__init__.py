"""File formats of other programs: detection by contents, and safe readers of NumPy and PyTorch files."""
