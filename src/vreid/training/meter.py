"""Running means of loss terms without synchronising the device in every step, throughput, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

_OF = "batches of "


class Meter:
    """Means of loss terms over batches; sums stay on the device until they are read.

    A term missing from some batches is averaged over those that have it.

    Args:
        sums: the sums of an interrupted meter, from `Meter.sums`.

    Example:
        >>> import torch
        >>> meter = Meter()
        >>> meter.add({"loss": torch.tensor(2.0)}, images=8)
        >>> meter.add({"loss": torch.tensor(4.0)}, images=8)
        >>> meter.means()
        {'loss': 3.0}
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        held = dict(sums or {})
        self.batches = int(held.pop("batches", 0))
        self.images = int(held.pop("images", 0))
        self._begun = time.perf_counter() - held.pop("seconds", 0.0)
        self._batches_of = Counter({name.removeprefix(_OF): int(n) for name, n in held.items() if name.startswith(_OF)})
        self._sums: dict[str, Tensor | float] = {name: n for name, n in held.items() if not name.startswith(_OF)}

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Add a batch."""
        self.batches += 1
        self.images += images
        for name, value in terms.items():
            # Not in place, in float32: a float64 sum is no faster on a GPU and not available on all of them.
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
            self._batches_of[name] += 1

    @property
    def seconds(self) -> float:
        """Seconds since the meter was created, including those of an interrupted meter."""
        return time.perf_counter() - self._begun

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the batches that have it."""
        return {name: float(total) / self._batches_of[name] for name, total in self._sums.items()}

    def sums(self) -> dict[str, float]:
        """Return the state from which `Meter(sums)` continues."""
        counts = {"batches": float(self.batches), "images": float(self.images), "seconds": self.seconds}
        counts |= {_OF + name: float(number) for name, number in self._batches_of.items()}
        return {name: float(total) for name, total in self._sums.items()} | counts

    def line(self) -> dict[str, float]:
        """Return means, images per second and seconds, for metrics.jsonl."""
        means, seconds = self.means(), self.seconds  # the means first: reading them waits for the device
        return means | {"images_per_second": round(self.images / seconds, 1), "seconds": round(seconds, 3)}


class Pace:
    """Measure the time per step once, after the first steps, which allocate memory and select kernels."""

    UNTIMED, TIMED = 3, 8

    def __init__(self) -> None:
        self._steps = 0
        self._begun = 0.0

    def tick(self) -> float | None:
        """Count a step; return the mean seconds per step when the measurement is complete, otherwise None."""
        self._steps += 1
        if self._steps == self.UNTIMED:
            self._begun = time.perf_counter()
        if self._steps == self.UNTIMED + self.TIMED:
            return (time.perf_counter() - self._begun) / self.TIMED
        return None


def memory_at_most(device: torch.device) -> str:
    """Format the peak memory of this process: memory of tensors on a GPU, otherwise resident main memory.

    Example:
        >>> memory_at_most(torch.device("cpu")).endswith(" GiB")
        True
    """
    if device.type == "cuda":
        held = torch.cuda.max_memory_allocated(device)
    else:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{held / 2**30:.1f} GiB"
