"""Devices, and the versions and hardware that results were computed with."""

from __future__ import annotations

from typing import Any

from vreid.errors import InputError
from vreid.threads import describe_threads


def resolve_device(name: str) -> str:
    """Return the device `name`; "auto" is a GPU if there is one, otherwise the CPU.

    Raises:
        InputError: this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=name).item()  # .item() also rejects "meta", whose tensors have no values
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: this machine has no such device; use cpu, or auto.") from error
    return name


def environment_facts(*, full: bool = True) -> dict[str, Any]:
    """Return the versions of installed packages and a description of this machine.

    Args:
        full: import torch to find device and precision; False takes a tenth of the time.
    """
    import os
    import platform
    from importlib import metadata

    from vreid import __version__
    from vreid.retrieval.nearest import core_info
    from vreid.simulator.city.presets import SIMULATOR_VERSION

    facts: dict[str, Any] = {
        "vreid": __version__,
        "simulator version": SIMULATOR_VERSION,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": describe_threads(),
    }
    for package in ("numpy", "scipy", "pillow", "torch", "torchvision", "timm"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    core = core_info()
    units = "with" if core.get("matrix_units") else "without"
    facts["retrieval core"] = (
        f"compiled, {core['instructions']}, {units} bfloat16 matrix units"
        if core["compiled"]
        else "not built: numpy and scipy are used, which is slower (make core)"
    )
    if not full:
        return facts
    try:
        import torch

        from vreid.training.precision import choose_precision

        facts["device"] = resolve_device("auto")
        place, dense = torch.device(facts["device"]), torch.nn.Conv2d(8, 8, 3)
        facts["precision"] = str(choose_precision("auto", place, dense, training=True))
        facts["torch threads"] = torch.get_num_threads()
    except ModuleNotFoundError:
        facts["device"] = "none: training and extraction need vehicle-reid[train]"
    return facts
