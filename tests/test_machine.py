"""Processors and memory for a process: limits of control groups of both versions, shared among local processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vreid.data.loading import CACHE, image_cache_bytes
from vreid.errors import InputError
from vreid.machine import memory, processors

GB = 10**9


@pytest.fixture(autouse=True)
def sixty_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {512 * GB // 1024} kB\nHugePages_Total: 0\n"}
FREE = 512 * GB // 1024 * 1024


def test_without_control_groups_the_machine_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = files(tmp_path, MEMINFO)
    assert (processors(root), memory(root)) == (64, FREE)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert (processors(root), memory(root)) == (8, FREE // 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    assert processors(root) == 1
    assert memory(tmp_path / "no such system") is None


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    """The pod has 100 GB, of which 40 are used, 10 of them by files; the container in it has none of its own."""
    pod = "sys/fs/cgroup/kubepods/pod"
    root = files(
        tmp_path,
        MEMINFO
        | {
            "proc/self/cgroup": "0::/kubepods/pod/container\n",
            f"{pod}/container/memory.max": "max\n",
            f"{pod}/container/memory.current": "1\n",
            f"{pod}/container/memory.stat": "inactive_file 0\n",
            f"{pod}/container/cpu.max": "max 100000\n",
            f"{pod}/memory.max": f"{100 * GB}\n",
            f"{pod}/memory.current": f"{40 * GB}\n",
            f"{pod}/memory.stat": f"anon 5\ninactive_file {10 * GB}\n",
            f"{pod}/cpu.max": "1250000 100000\n",
        },
    )
    assert (processors(root), memory(root)) == (12, 70 * GB)


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    """The path of the group is not visible in the container, whose own limits lie at the top."""
    root = files(
        tmp_path,
        MEMINFO
        | {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GB}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (processors(root), memory(root)) == (2, 6 * GB)
    files(
        root, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GB}"}
    )
    assert (processors(root), memory(root)) == (64, 0)


def test_the_image_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vreid.data.loading.memory", lambda: 80 * GB)
    assert image_cache_bytes() == 20 * GB
    monkeypatch.setattr("vreid.data.loading.memory", lambda: None)
    assert image_cache_bytes() == GB
    monkeypatch.setenv(CACHE, "0.5")
    assert image_cache_bytes() == GB // 2
    for text in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv(CACHE, text)
        with pytest.raises(InputError, match=f"VREID_IMAGE_CACHE={text}: is not a number of GB"):
            image_cache_bytes()


@pytest.mark.parametrize(("processes", "device", "expected"), [(1, "cuda", 16), (8, "cuda", 8), (8, "cpu", 0)])
def test_worker_processes_of_a_loader(
    processes: int, device: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes on a machine of 64 cores start 64 workers, not 128."""
    from vreid.data import loading

    monkeypatch.setattr("vreid.data.loading.processors", lambda: 64 // processes)
    assert loading.number_of_workers(None, device) == expected
    assert loading.number_of_workers(3, device) == 3
