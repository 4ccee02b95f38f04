"""Processors and memory for this process: limits of containers, and processes that torchrun started beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def processes_here() -> int:
    """Return the number of processes that torchrun has started on this machine; 1 without torchrun."""
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def processors(root: Path = ROOT) -> int:
    """Return the number of processors for this process, at least 1: its share of those that are granted.

    Granted are the processors of the affinity mask, and at most the CPU quota of the control group (cpu limit of a
    container).

    Args:
        root: folder with proc/ and sys/, for tests.
    """
    granted = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _control_groups("cpu", root):
        with suppress(OSError, ValueError):  # absent, or "max": no quota
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            granted = min(granted, quota / period)
        with suppress(OSError, ValueError):
            quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            granted = min(granted, quota / period) if quota > 0 else granted
    return max(int(granted) // processes_here(), 1)


def memory(root: Path = ROOT) -> int | None:
    """Return the bytes of memory for this process: its share of those available; None if the system does not say.

    Available is what the system can give without swapping, and at most what the control group (memory limit of a
    container) leaves; its file cache counts as free.

    Args:
        root: folder with proc/ and sys/, for tests.
    """
    free: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free.append(int(lines.get("MemAvailable", "").split()[0]) * 1024)
    for folder in _control_groups("memory", root):
        for limit, used, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):  # absent, or "max": no limit
                most, held = (int((folder / name).read_text()) for name in (limit, used))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                free.append(max(most - held + int(stat.get(files, 0)), 0))
    return min(free) // processes_here() if free else None


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups of this process and those above it, of both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = top / path.lstrip("/")
        yield from (one for one in (folder, *folder.parents) if one == top or top in one.parents)
