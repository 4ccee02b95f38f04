"""Run a `vreid` command line in a test and check how it ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vreid.files import read_tensors, write_tensors


class Outcome(NamedTuple):
    """How a `vreid` line ended."""

    code: int
    out: str
    err: str


Run = Callable[[str], Outcome]

SMALLEST = "--set epochs=1 --set num_identities=4 --set transform.height=32 --set transform.width=32"


def reported(outcome: Outcome, *parts: str) -> str:
    """Assert that the line was refused as it should be: exit code 2, one sentence that holds all `parts`; return it."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("vreid: "), outcome
    assert outcome.err.count("\n") == 1 and outcome.err.endswith("\n"), outcome
    assert not re.search(r"Traceback|Errno|[a-z]Error|<class", outcome.err), outcome
    for part in parts:
        assert part in outcome.err, (part, outcome)
    return outcome.err


def state(folder: Path) -> dict[str, object]:
    """Everything below `folder`: the bytes of files, where links lead, and of what else there is the kind."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Let `change` alter arrays and facts of a safetensors file of vreid; its hash is that of the new contents."""
    arrays, facts = read_tensors(path, "numpy")
    change(arrays, facts)
    write_tensors(path, arrays, facts, "numpy")
