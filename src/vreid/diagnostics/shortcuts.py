"""Shortcuts: does something beside the vehicle tell which vehicle it is?

Pictures are cut into 8 x 8 cells, and each cell alone retrieves: how often is the picture whose cell is nearest one of
the same vehicle? The vehicle stands in the middle, so a cell at the border that tells more than every cell inside is
no vehicle: a mark drawn into the pictures of each vehicle at each camera shows *within a camera*, a background that
goes with the vehicle shows *across cameras*. No model is needed, and none can be fooled.

The cells are chosen on one half of the vehicles and compared on the other, so that the best of many is not best by
luck.
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
"""Cells a side; the outermost ones are the border."""
PIXELS = 6
"""Side of a cell in pixels, after the picture has been shrunk to 48 x 48."""
MARGIN = 0.1
"""How much more a border cell must tell (share of pictures), so that small natural differences are no shortcut."""
MOST = 400
"""Passes (one vehicle at one camera) that are looked at, drawn by the seed; more tell nothing more."""
FEWEST = 8
"""Vehicles in each half, at least."""

WITHIN, ACROSS = "within one camera", "across cameras"

_BORDER = np.ones((CELLS, CELLS), dtype=np.bool_)
_BORDER[1:-1, 1:-1] = False


def shortcuts(
    records: Records,
    where: str = "pictures",
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Part]:
    """What the border of the pictures tells of the vehicle, within a camera and across cameras: two parts.

    Args:
        records: pictures with identities and cameras, train or test; junk and unknown ones are left out.
        where: what they are called in the parts' names, for example "training pictures".
        seed: of the passes drawn, the halves and the intervals.
        progress: listener, counts pictures.

    Raises:
        InputError: too few vehicles with two pictures at a camera or with two cameras, or an unreadable picture.
    """
    first, last = _passes(records, seed)
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
    """(N, 64, 108) levels 0 to 1 of the cells of each picture, row by row.

    Raises:
        InputError: a picture cannot be read.
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


def _passes(records: Records, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last picture of every pass of a vehicle that was seen at two cameras or more, at most `MOST`."""
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
        raise InputError(
            f"shortcuts: {len(names)} vehicles were seen at two cameras; {2 * FEWEST} are the least that tell anything."
        )
    names = np.random.default_rng([seed, 1]).permutation(names)
    chosen = np.cumsum([np.sum(identity == name) for name in names]) <= MOST
    keep = np.isin(identity, names[chosen | (np.arange(len(names)) < 2 * FEWEST)])
    return first[keep], last[keep]


def nearest_hits(
    query: NDArray[np.float32], gallery: NDArray[np.float32], may: NDArray[np.bool_], vehicle: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(P, 64) whether the nearest of the passes that a pass `may` (P, P) be compared with is one of its vehicle, cell
    by cell; NaN for passes without such."""
    mates = may & (vehicle[:, None] == vehicle)
    evaluated = mates.any(axis=1) & (may & ~mates).any(axis=1)
    out = np.full((len(query), query.shape[1]), np.nan)
    for cell in range(query.shape[1]):
        a, b = query[:, cell], gallery[:, cell]
        distance = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
        distance = distance.round(5)  # equal cells are equally far, whatever the order of sums
        nearest_mate = np.where(mates, distance, np.inf).min(axis=1)
        nearest_stranger = np.where(may & ~mates, distance, np.inf).min(axis=1)
        out[evaluated, cell] = (nearest_mate < nearest_stranger)[evaluated]
    return out


def _part(name: str, where: str, hits: NDArray[np.float64], vehicle: NDArray[np.integer], seed: int) -> Part:
    """The best border cell against the best cell inside: chosen on half of the vehicles, compared on the others."""
    evaluated = ~np.isnan(hits[:, 0])
    hits, vehicle = hits[evaluated], vehicle[evaluated]
    names = np.unique(vehicle)
    if len(names) < 2 * FEWEST:
        raise InputError(f"shortcuts {name}: {len(names)} vehicles can be judged; {2 * FEWEST} are the least.")
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
        f"The most telling cell at the border of the pictures (row {row + 1}, column {column + 1} of {CELLS}) finds "
        f"the vehicle {name} in {at_border} % of cases, the most telling one inside in {at_inside} %"
    )
    decision = "something beside the vehicle says which one it is" if warning else "no shortcut"
    return Part(
        name=f"shortcut {name}, {where}",
        sentence=f"{reported}: {decision}.",
        numbers={"best border cell": at_border, "best inner cell": at_inside, "border more than inside": more},
        warning=warning,
        fix="look at that corner of the pictures of a few vehicles; cut the mark off, or mask what is around the "
        "vehicles, before training and testing",
        needs="identities, cameras, pictures",
        limits="A shortcut inside the picture, or one that few vehicles have, is not seen. Vehicles that stand still "
        "in their tracklets make every cell tell the vehicle within a camera.",
        chart=Grids({name: hits.mean(axis=0).reshape(CELLS, CELLS)}, "percent of passes that the cell alone finds"),
    )
