"""Ranking, re-ranking and evaluation on plain arrays; usable by itself, without torch."""
