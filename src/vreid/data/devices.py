"""Copies between host and device that wait for nothing else, and smaller parts of a job when a device's memory is full.

On a GPU, work is queued: an operation returns before it is done. A plain copy, in either direction, waits for all that
is queued before it, so that the GPU idles until the host has queued more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from vreid.errors import InputError

Value = TypeVar("Value")


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return `values` of the host on `device`; to a GPU they go through pinned memory and nothing waits for them."""
    if torch.device(device).type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """The copy of a tensor to the host, queued behind the work that makes the tensor."""

    def __init__(self, values: Tensor) -> None:
        self._event = None
        if values.device.type != "cuda":
            self._values = values.cpu()
            return
        self._values = values.to("cpu", non_blocking=True)  # torch takes pinned memory for it
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(values.device))

    def get(self) -> NDArray[Any]:
        """Wait for this copy, not for what is queued after it, and return the values."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.numpy()


def fetch_behind(made: Iterable[Tensor]) -> Iterator[NDArray[Any]]:
    """Yield the values of tensors on the host, those of each after the work of the next is queued on the device."""
    behind = None
    for values in made:
        copy = HostCopy(values)
        if behind is not None:
            yield behind.get()
        behind = copy
    if behind is not None:
        yield behind.get()


class Backoff:
    """Process rows in parts; whenever the device's memory is full, parts are half as large from then on.

    Args:
        size: rows of a part, at first.
        rows: what the rows are, for messages.
        device: the device.
        note: called with one sentence at each halving.

    Attributes:
        size: rows of a part at present.

    Example:
        >>> Backoff(2, "images", "cpu").run(5, lambda part: (part.start, part.stop))
        [(0, 2), (2, 4), (4, 5)]
    """

    def __init__(
        self, size: int, rows: str, device: torch.device | str, note: Callable[[str], None] | None = None
    ) -> None:
        self.size = size
        self._rows, self._device, self._note = rows, device, note

    def run(self, count: int, work: Callable[[slice], Value]) -> list[Value]:
        """Return what `work` returns for consecutive parts of `count` rows; it is called again for a part that failed.

        Raises:
            InputError: the memory does not even suffice for a single row.
        """
        made: list[Value] = []
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                made.append(work(part))
                start = part.stop
                continue
            except torch.OutOfMemoryError:
                pass  # the error holds the tensors of `work`: it is gone below, where their memory is given back
            self._halve(part.stop - part.start)
        return made

    def _halve(self, failed: int) -> None:
        if failed == 1:
            raise InputError(
                f"{self._device} has too little free memory for one of the {self._rows}; end other programs on it, or "
                "use the CPU (--device cpu)."
            )
        self.size = failed // 2
        torch.cuda.empty_cache()
        if self._note is not None:
            self._note(
                f"{self._device} is out of memory with {failed} {self._rows} at once; it goes on with {self.size}."
            )
