"""Adapters for detectors and trackers of other packages."""
