"""Reproduction of the papers' tables: rows as graphs of cached stages, one JSON line of results per row, tables."""
