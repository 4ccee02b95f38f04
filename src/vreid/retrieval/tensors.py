"""Accept torch tensors in place of arrays without importing torch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def is_tensor(values: Any) -> bool:
    """Whether `values` is a torch tensor; does not import torch."""
    return any(
        kind.__module__.partition(".")[0] == "torch" and kind.__name__ == "Tensor" for kind in type(values).__mro__
    )


def on_host(values: Any) -> Any:
    """Convert a torch tensor of any device and precision to a numpy array; return other values unchanged."""
    if not is_tensor(values):
        return values
    values = values.detach().cpu()
    small = values.is_floating_point() and values.element_size() < 4  # numpy has no bfloat16
    return (values.float() if small else values).numpy()


def like(example: Any, values: NDArray[Any]) -> Any:
    """Convert `values` to a tensor on the device of `example` if that is a tensor; otherwise return them unchanged."""
    if not is_tensor(example):
        return values
    import torch

    return torch.from_numpy(values).to(example.device)
