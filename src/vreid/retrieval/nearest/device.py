"""Nearest neighbours with torch on the device of the features, for example a GPU.

Shapes: Q rows of a block, G others, D feature dimensions, K candidates per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vreid.retrieval.nearest.candidates import window

if TYPE_CHECKING:
    import torch

    from vreid.retrieval.nearest.lists import Lists
    from vreid.retrieval.nearest.points import Points

_NUMBERS = 1 << 27  # numbers in a tile of distances, and in the float64 differences of candidates
_SPARE = 32  # additional candidates per row, for neighbours that are too close to call
INPUT_ROUNDING = {
    "highest": 0.0,
    "ieee": 0.0,
    "none": 0.0,
    "high": 2.0**-10,
    "tf32": 2.0**-10,
    "medium": 2.0**-8,
    "bf16": 2.0**-8,
}
"""Relative rounding of float32 inputs, by the names of both of torch's settings."""


def propose(
    points: Points, others: Points, lists: Lists, farthest: bool, device: torch.device | str
) -> NDArray[np.intp]:
    """Fill `lists` with torch on `device`; return the rows whose neighbours must be computed in another way.

    Where a tile of distances does not fit the device's memory, tiles are half as high from then on.

    Raises:
        InputError: not even one row of distances fits.
    """
    import torch

    from vreid.data.devices import Backoff

    alone, count = points is others, lists.index.shape[1]
    ours = [torch.from_numpy(part).to(device) for part in points.parts]
    points_QD = torch.cat(ours) if len(ours) > 1 else ours[0]
    del ours  # otherwise the features are on the device twice
    others_GD = points_QD if alone else torch.from_numpy(others.parts[0]).to(device)
    rough = INPUT_ROUNDING[product_precision(torch.device(device).type)]
    rounding = (rough * np.sqrt(points.squares), rough * np.sqrt(others.squares)) if rough else None
    squares_G = torch.from_numpy(others.squares).to(device, torch.float32)
    error = window(points.squares, others.squares, points.dimensions, rounding=rounding)

    def search(block: slice) -> list[NDArray[np.intp]]:
        failed = []
        distances_QG = torch.addmm(squares_G, points_QD[block], others_GD.T, alpha=-2)
        distances_QG += torch.from_numpy(points.squares[block]).to(device, torch.float32)[:, None]
        window_Q = torch.from_numpy(error[block]).to(device)
        own = torch.arange(block.start, block.stop, device=device) if alone else None
        sides = [("near", count)] * (count > 0) + [("far", 1)] * (farthest and len(others) > 1)
        for side, wanted in sides:
            sign = 1 if side == "near" else -1
            exact, index, sure = _decided(distances_QG, sign, wanted, points_QD[block], others_GD, window_Q, own)
            failed.append(block.start + np.flatnonzero(~sure.cpu().numpy()))
            if side == "near":
                lists.squared[block], lists.index[block] = exact.cpu().numpy(), index.cpu().numpy()
            else:
                lists.farthest[block] = exact[:, 0].cpu().numpy()
        return failed

    rows = max(1, min(4096, _NUMBERS // len(others)))
    failed = [some for made in Backoff(rows, "rows of distances", device).run(len(points), search) for some in made]
    return np.unique(np.concatenate(failed)) if failed else np.empty(0, dtype=np.intp)


def product_precision(kind: str) -> str:
    """Return the name of the precision in which torch multiplies float32 on a kind of device ("cuda", "cpu")."""
    import torch

    backend = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}.get(kind)
    newer = getattr(getattr(backend, "matmul", None), "fp32_precision", None)  # if set, the older function raises
    return newer or torch.get_float32_matmul_precision()


def _decided(
    distances_QG: torch.Tensor,
    sign: int,
    count: int,
    points_QD: torch.Tensor,
    others_GD: torch.Tensor,
    window_Q: torch.Tensor,
    own_Q: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the `count` nearest (sign 1) or farthest (-1) of each row: distances, columns, and certainty."""
    import torch

    if own_Q is not None:
        distances_QG.scatter_(1, own_Q[:, None], sign * torch.inf)
    total = distances_QG.shape[1] - (own_Q is not None)
    kept = min(count + _SPARE, total)
    near_QK, index_QK = distances_QG.topk(kept, dim=1, largest=sign < 0, sorted=True)
    near_QK = sign * near_QK.double()
    sure_Q = (near_QK[:, count - 1] + window_Q < near_QK[:, -1]) | (kept == total)
    index_QK = index_QK.sort(dim=1).values  # equal values in the order of columns
    exact_QK = torch.empty_like(near_QK, dtype=torch.float32)
    rows = max(1, _NUMBERS // (kept * points_QD.shape[1]))
    for start in range(0, len(points_QD), rows):
        block = slice(start, start + rows)
        difference = others_GD[index_QK[block]].double() - points_QD[block, None].double()
        exact_QK[block] = sign * difference.square_().sum(dim=2).float()
    exact_QK, order_QK = exact_QK.sort(dim=1, stable=True)
    return sign * exact_QK[:, :count], index_QK.gather(1, order_QK)[:, :count], sure_Q
