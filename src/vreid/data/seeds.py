"""Random generators: every random choice is a pure function of an integer seed and the name of the draw."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np

from vreid.errors import InputError


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator of the thing named by `keys`; equal names give equal draws, other names independent ones.

    A draw is named by what it is for ("sampler", epoch), never by its place in time, so it does not depend on what was
    drawn before, on the number of processes, or on whether a run was interrupted.

    Example:
        >>> generator(1, "sampler", 3).integers(100) == generator(1, "sampler", 3).integers(100)
        np.True_

    Raises:
        InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give an integer of 0 or more.")
    words = tuple(_word(key) if isinstance(key, str) else key for key in keys)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=words)))


def seed_everything(seed: int, *, deterministic: bool = True) -> None:
    """Seed the global generators of Python, numpy and torch (initial weights, dropout); see `deterministic_torch`."""
    import torch

    random.seed(int(generator(seed, "python").integers(2**63)))
    np.random.seed(int(generator(seed, "numpy").integers(2**32)))
    torch.manual_seed(int(generator(seed, "torch").integers(2**63)))
    if deterministic:
        deterministic_torch()


def deterministic_torch() -> None:
    """Make torch choose the same algorithms each time: no cuDNN auto-tuning, deterministic kernels where there are any.

    An operation without a deterministic kernel warns instead of failing. cuBLAS reads its setting when CUDA starts, so
    call this before the first use of a GPU.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)


def _word(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little")
