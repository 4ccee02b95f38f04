"""The metrics of a training run, as its metrics.jsonl holds them; nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vreid.files import parse_errors, read_lines_bounded


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
        InputError: absent or damaged.
    """
    lines = read_lines_bounded(path).splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        with parse_errors(f"{path}, line {number}"):
            found.append(dict(json.loads(line)))
    return found
