"""Persistent, searchable store of tracklets."""
