"""Foreign file formats: detection by contents, and safe readers of NumPy and PyTorch files."""
