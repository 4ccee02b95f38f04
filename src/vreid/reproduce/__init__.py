"""Experiments: rows, what they make cached by hash, one JSON line a row, tables. `rows`, `lines`, `runner`, `table`."""
