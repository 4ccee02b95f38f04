"""Clock offsets of cameras, estimated without labels from traffic in both directions.

If vehicles need the same time from a to b as from b to a, the differences of their times at a and b cluster at two
places that are symmetric about zero. A clock that is off moves the centre of symmetry, by the same seconds for all
pairs of its camera. An offset is accepted only if at least two pairs of cameras support it; what all clocks share, and
the offset of a camera with traffic in one direction only, cannot be seen.

Shapes: N tracklets, C cameras, B bins of differences, O offsets that are tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.progress import Progress
from vreid.trips.candidate_links import Appearances, nearest_by_camera

_BIN = 2.0  # seconds
_KERNEL = 4  # standard deviation of the smoothing in bins
_DEVIATIONS = 3.0  # a cluster exceeds the background by so many standard deviations of its counts
_FEWEST = 20  # mutual nearest neighbours of a pair of cameras
_LEAST = 20.0  # seconds; smaller offsets are not told from roads that are slower in one direction
_GAIN = 1.5  # factor by which an offset must improve the symmetry of its camera's pairs
_SUPPORT = 2  # pairs of cameras
_CHANCE = 2.0  # differences that meet by chance
_LEAST_GAIN = 10.0  # differences
_CENTRE = 5  # bins on both sides of the centre of symmetry, where no vehicle can be


def clock_offsets(looks: Appearances, longest: float, largest: float, progress: Progress) -> NDArray[np.float64]:
    """Estimate how many seconds each clock is ahead (C,); 0 where nothing is found.

    Args:
        looks: tracklets.
        longest: largest difference of times in seconds.
        largest: largest offset in seconds.
        progress: listener.
    """
    table = looks.table
    offsets = np.zeros(table.cameras)
    links = nearest_by_camera(looks, longest, 0.0, progress)
    if table.cameras < 3 or not len(links):
        return offsets
    camera = table.camera.codes.astype(np.int64)
    low, high = (
        np.minimum(camera[links.first], camera[links.second]),
        np.maximum(camera[links.first], camera[links.second]),
    )
    difference = table.start[links.second] - table.start[links.first]
    difference = np.where(camera[links.first] == low, difference, -difference)
    shift = np.arange(-round(largest / _BIN), round(largest / _BIN) + 1)
    pairs, symmetry = [], []
    for pair in np.unique((low * table.cameras + high)[low != high]):
        chosen = low * table.cameras + high == pair
        if chosen.sum() >= _FEWEST:
            found = _symmetry(difference[chosen], longest, shift)
            if found.max() > 0:
                pairs.append(divmod(int(pair), table.cameras))
                symmetry.append(found)
    return _consistent(pairs, np.array(symmetry), shift, table.cameras) if pairs else offsets


def _symmetry(difference: NDArray[np.float64], longest: float, shift: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of differences (O,) in clusters that are symmetric about each shift."""
    half = round(longest / _BIN)
    counts = np.bincount(np.clip(np.round(difference / _BIN).astype(np.int64) + half, 0, 2 * half)).astype(np.float64)
    counts = np.pad(counts, (0, 2 * half + 1 - len(counts)))
    counts[[0, -1]] = 0
    reach = np.arange(-3 * _KERNEL, 3 * _KERNEL + 1)
    kernel = np.exp(-0.5 * (reach / _KERNEL) ** 2)
    kernel /= kernel.sum()
    smooth = np.convolve(counts, kernel, mode="same")
    wide = np.ones(151) / 151
    background = np.minimum(np.convolve(counts, wide, mode="same"), counts.mean())
    noise = np.sqrt(background * (kernel**2).sum()) + 1e-9
    excess = np.maximum(smooth - background - _DEVIATIONS * noise - _CHANCE * kernel.max(), 0)
    reach = np.arange(_CENTRE, half)
    out = np.zeros(len(shift))
    for number, centre in enumerate(shift + half):
        span = reach[(centre + reach <= 2 * half) & (centre - reach >= 0)]
        both = np.sqrt(excess[centre + span] * excess[centre - span])
        if len(both) and excess[centre - _CENTRE : centre + _CENTRE + 1].max() < 0.5 * both.max():
            out[number] = 2 * both.sum()
    return out


def _consistent(
    pairs: list[tuple[int, int]], symmetry: NDArray[np.float64], shift: NDArray[np.int64], cameras: int
) -> NDArray[np.float64]:
    """Return offsets (C,) that make the pairs symmetric, changed one camera at a time while that helps."""
    chosen = np.zeros(cameras, dtype=np.int64)  # in bins
    zero = len(shift) // 2

    def of_pairs(camera: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the symmetry (pairs, O) for each offset of a camera, and (pairs,) as it is."""
        rows, now = [], []
        for (a, b), values in zip(pairs, symmetry, strict=True):
            if camera in (a, b):
                sign = 1 if camera == b else -1
                place = zero + (chosen[b] - chosen[a]) + sign * (shift - chosen[camera])
                inside = (place >= 0) & (place < len(shift))
                rows.append(np.where(inside, values[place.clip(0, len(shift) - 1)], 0.0))
                as_is = zero + chosen[b] - chosen[a]
                now.append(values[as_is] if 0 <= as_is < len(shift) else 0.0)
        return np.array(rows), np.array(now)

    for _ in range(2 * cameras):
        best = (0.0, -1, 0)
        for camera in range(cameras):
            rows, now = of_pairs(camera)
            if not len(rows):
                continue
            total = rows.sum(axis=0)
            place = int(np.argmax(total))
            gain = float(total[place] - now.sum())
            better = int((rows[:, place] > now + 1e-6).sum())
            far = abs(shift[place] - chosen[camera]) * _BIN >= _LEAST
            if far and better >= _SUPPORT and total[place] > _GAIN * now.sum() and gain > max(best[0], _LEAST_GAIN):
                best = (gain, camera, int(shift[place]))
        if best[1] < 0:
            break
        chosen[best[1]] = best[2]
    return (chosen - np.median(chosen)) * _BIN
