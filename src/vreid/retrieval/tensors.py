"""Torch tensors where arrays may stand, without importing torch for those who have none."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def is_tensor(values: Any) -> bool:
    """Whether this is a torch tensor, found out without importing torch."""
    return any(
        kind.__module__.partition(".")[0] == "torch" and kind.__name__ == "Tensor" for kind in type(values).__mro__
    )


def on_host(values: Any) -> Any:
    """A torch tensor of any device and precision as a numpy array; anything else as it is."""
    if not is_tensor(values):
        return values
    values = values.detach().cpu()
    small = values.is_floating_point() and values.element_size() < 4  # numpy has no bfloat16
    return (values.float() if small else values).numpy()


def like(example: Any, values: NDArray[Any]) -> Any:
    """`values` as they are, or as a tensor where `example` is one, on its device."""
    if not is_tensor(example):
        return values
    import torch

    return torch.from_numpy(values).to(example.device)
