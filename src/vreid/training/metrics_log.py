"""Read the metrics.jsonl of a training run, without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vreid.files import parse_errors, read_lines_bounded


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics.jsonl.

    Raises:
        InputError: the file is missing or damaged.
    """
    lines = read_lines_bounded(path).splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        with parse_errors(f"{path}, line {number}"):
            found.append(dict(json.loads(line)))
    return found
