"""Hold-out splits of the target: earlier and later images, and tracklets held out for the gate.

In deployment, a model is adapted to earlier images and searches later ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.retrieval.postprocessing.tracklet_features import units_of_codes


def earlier(records: Records, share: float) -> NDArray[np.bool_]:
    """Mark (N,) the earlier `share` of the images: whole tracklets, by the mean time of their images.

    Example:
        >>> records = Records.of(path=list("abcd"), time=[1.0, 9.0, 2.0, 8.0], tracklet=["t", "", "t", "u"])
        >>> earlier(records, 0.5).tolist()
        [True, False, True, False]

    Raises:
        InputError: an image has no time, the share is not between 0 and 1, or a part has no images.
    """
    if not 0 < share < 1:
        raise InputError(f"The earlier part is {share} of the images; give a share between 0 and 1.")
    unknown = np.isnan(records.time)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise InputError(
            f"{records.path[row]} (image {row + 1}) has no time; give the column `time`, or adapt to all images."
        )
    unit, first = units_of_codes(records.tracklet.codes)
    counts = np.bincount(unit)
    mean = np.bincount(unit, weights=records.time - records.time.min()) / counts
    order = np.argsort(mean, kind="stable")
    taken = np.cumsum(counts[order]) <= share * len(records)
    early = np.zeros(len(first), dtype=bool)
    early[order[taken]] = True
    chosen: NDArray[np.bool_] = early[unit]
    if chosen.all() or not chosen.any():
        raise InputError("All images are of one part of the time; choose another share, or adapt to all images.")
    return chosen


def hold_out(records: Records, share: float, seed: int) -> NDArray[np.bool_]:
    """Mark (N,) the images of a random `share` of the tracklets; an image without a tracklet counts as one.

    Example:
        >>> records = Records.of(path=list("abcd"), tracklet=["t", "", "t", "u"])
        >>> hold_out(records, 0.34, seed=1).tolist()
        [True, False, True, False]
    """
    unit, first = units_of_codes(records.tracklet.codes)
    drawn = generator(seed, "held out").permutation(len(first))[: round(share * len(first))]
    return np.isin(unit, drawn)
