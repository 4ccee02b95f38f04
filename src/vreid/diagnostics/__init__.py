"""Diagnostics of features and models: baselines, slices, camera gap, shortcuts, leaks, open set, saliency."""
