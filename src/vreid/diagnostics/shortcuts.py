"""Shortcut detection: whether the border of images identifies vehicles better than their interior.

Images are divided into 8 x 8 cells, and each cell alone is used for retrieval: how often does the nearest image by this
cell show the same vehicle? The vehicle is in the middle of the image, so a border cell that identifies vehicles better
than every interior cell is a shortcut: for example an overlay drawn into the images of a vehicle (*within a camera*) or
a background that occurs with a vehicle (*across cameras*). No model is used.

The best cells are selected on one half of the vehicles and compared on the other half, which avoids selection bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import read_image
from vreid.data.records import Records, joint_codes
from vreid.diagnostics.diagnosis import Grids, Part
from vreid.diagnostics.estimates import means
from vreid.errors import InputError
from vreid.progress import Progress, job

CELLS = 8
"""Cells per side; the outermost ones are the border."""
PIXELS = 6
"""Side of a cell in pixels, after resizing the image to 48 x 48."""
MARGIN = 0.1
"""Minimum advantage of a border cell (share of images) for a warning."""
MOST = 400
"""Maximum number P of groups (images of one vehicle at one camera), drawn by the seed."""
FEWEST = 8
"""Minimum number of vehicles in each half."""

WITHIN, ACROSS = "within one camera", "across cameras"

_BORDER = np.ones((CELLS, CELLS), dtype=np.bool_)
_BORDER[1:-1, 1:-1] = False


def shortcuts(
    records: Records,
    where: str = "images",
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Part]:
    """Detect shortcuts within a camera and across cameras: one part each.

    Args:
        records: images with identities and cameras, train or test; junk and unknown vehicles are ignored.
        where: noun for the images in the parts' names, for example "training images".
        seed: random seed of the groups, the halves and the intervals.
        progress: listener that counts images.

    Raises:
        InputError: too few vehicles with two images at a camera or with two cameras, or an unreadable image.
    """
    first, last = _first_and_last(records, seed)
    vehicle, _ = joint_codes(records.identity[first], records.identity[last])
    camera = records.camera.codes[first]
    cells_first, cells_last = np.split(cells(records[np.concatenate([first, last])], progress), 2)
    same_camera = camera[:, None] == camera
    found = []
    several = first != last
    if several.any():
        hits = nearest_hits(cells_first, cells_last, same_camera & several, vehicle)
        found.append(_part(WITHIN, where, np.where(several[:, None], hits, np.nan), vehicle, seed))
    hits = nearest_hits(cells_first, cells_first, ~same_camera, vehicle)
    found.append(_part(ACROSS, where, hits, vehicle, seed))
    return found


def cells(records: Records, progress: Progress | None = None) -> NDArray[np.float32]:
    """Compute the RGB values in 0 to 1 of the cells of each image, row by row: (N, 64, 108).

    Raises:
        InputError: an image cannot be read.
    """
    side = CELLS * PIXELS
    out = np.empty((len(records), CELLS * CELLS, PIXELS * PIXELS * 3), dtype=np.float32)
    with job(progress, "shortcuts", len(records)) as listener:
        for row, (path, box) in enumerate(zip(records.path, records.box, strict=True)):
            image = read_image(path, box=None if np.isnan(box[0]) else box).resize((side, side), Image.Resampling.BOX)
            grid = np.asarray(image, dtype=np.float32).reshape(CELLS, PIXELS, CELLS, PIXELS, 3) / 255
            out[row] = grid.transpose(0, 2, 1, 3, 4).reshape(CELLS * CELLS, -1)
            listener.advance(1)
    return out


def _first_and_last(records: Records, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last image of each vehicle at each camera, for vehicles at two cameras or more; at most `MOST`."""
    known = np.flatnonzero(records.identity.known & records.camera.known)
    order = known[np.lexsort((records.frame[known], np.nan_to_num(records.time[known])))]
    key = records.identity.codes[order].astype(np.int64) * (records.camera.codes.max(initial=0) + 1)
    key += records.camera.codes[order]
    _, first = np.unique(key, return_index=True)
    _, last = np.unique(key[::-1], return_index=True)
    first, last = order[first], order[len(order) - 1 - last]
    identity = records.identity.codes[first]
    names, count = np.unique(identity, return_counts=True)
    names = names[count > 1]
    if len(names) < 2 * FEWEST:
        raise InputError(f"shortcuts: {len(names)} vehicles occur at two cameras; at least {2 * FEWEST} are needed.")
    names = np.random.default_rng([seed, 1]).permutation(names)
    chosen = np.cumsum([np.sum(identity == name) for name in names]) <= MOST
    keep = np.isin(identity, names[chosen | (np.arange(len(names)) < 2 * FEWEST)])
    return first[keep], last[keep]


def nearest_hits(
    query: NDArray[np.float32], gallery: NDArray[np.float32], allowed: NDArray[np.bool_], vehicle: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return (P, 64) whether the nearest `allowed` (P, P) group by each cell is of the same vehicle, or NaN."""
    matches = allowed & (vehicle[:, None] == vehicle)
    evaluated = matches.any(axis=1) & (allowed & ~matches).any(axis=1)
    out = np.full((len(query), query.shape[1]), np.nan)
    for cell in range(query.shape[1]):
        a, b = query[:, cell], gallery[:, cell]
        distance = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
        distance = distance.round(5)  # makes equal cells equally far in spite of rounding
        nearest_match = np.where(matches, distance, np.inf).min(axis=1)
        nearest_negative = np.where(allowed & ~matches, distance, np.inf).min(axis=1)
        out[evaluated, cell] = (nearest_match < nearest_negative)[evaluated]
    return out


def _part(name: str, where: str, hits: NDArray[np.float64], vehicle: NDArray[np.integer], seed: int) -> Part:
    """Compare the best border and interior cells, selected on half of the vehicles and tested on the other half."""
    evaluated = ~np.isnan(hits[:, 0])
    hits, vehicle = hits[evaluated], vehicle[evaluated]
    names = np.unique(vehicle)
    if len(names) < 2 * FEWEST:
        raise InputError(f"shortcuts {name}: {len(names)} vehicles are usable; at least {2 * FEWEST} are needed.")
    chosen_on = np.isin(vehicle, np.random.default_rng([seed, 2]).permutation(names)[::2])
    share = hits[chosen_on].mean(axis=0)
    flat = _BORDER.ravel()
    border, inside = (int(np.where(kind, share, -1).argmax()) for kind in (flat, ~flat))
    held = hits[~chosen_on]
    at_border, at_inside, more = means(
        np.stack([held[:, border], held[:, inside], held[:, border] - held[:, inside]], axis=1),
        vehicle[~chosen_on],
        seed=seed,
    )
    warning = more.low > MARGIN
    row, column = divmod(border, CELLS)
    reported = (
        f"The best border cell (row {row + 1}, column {column + 1} of {CELLS}) retrieves the vehicle {name} in "
        f"{at_border} % of cases, the best interior cell in {at_inside} %"
    )
    decision = "something outside of the vehicle identifies it" if warning else "no shortcut"
    return Part(
        name=f"shortcut {name}, {where}",
        sentence=f"{reported}: {decision}.",
        numbers={"best border cell": at_border, "best interior cell": at_inside, "border minus interior": more},
        warning=warning,
        fix="inspect that part of the images of a few vehicles; crop the overlay or mask the background before "
        "training and testing",
        needs="identities, cameras, images",
        limits="Shortcuts in the interior, or of few vehicles, are not detected. If vehicles stand still in their "
        "tracklets, every cell identifies them within a camera.",
        chart=Grids({name: hits.mean(axis=0).reshape(CELLS, CELLS)}, "percent retrieved by the cell alone"),
    )
