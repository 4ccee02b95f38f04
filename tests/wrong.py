"""What is asked of every `vreid` line with wrong input."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import Outcome


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
