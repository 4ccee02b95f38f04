"""Which queries a number is about: all of them, those at cameras the model has seen, those at cameras new to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records

ALL, SEEN, NEW = "all cameras", "seen cameras", "new cameras"


def camera_parts(train: Records, query: Records) -> dict[str, NDArray[np.bool_]]:
    """Masks over the Q queries by whether their camera also took training images; one entry where all are alike.

    Example:
        >>> train = Records.of(path=["a.jpg"], camera=["c1"])
        >>> query = Records.of(path=["q.jpg", "r.jpg"], camera=["c1", "c9"])
        >>> {name: mask.tolist() for name, mask in camera_parts(train, query).items()}
        {'all cameras': [True, True], 'seen cameras': [True, False], 'new cameras': [False, True]}
    """
    parts = {ALL: np.ones(len(query), dtype=np.bool_)}
    trained = set(train.camera.values[train.camera.known])
    seen = np.array([camera in trained for camera in query.camera.values], dtype=np.bool_)
    if trained and seen.any() and not seen.all():
        parts |= {SEEN: seen, NEW: ~seen}
    return parts
