"""Near-copies by comparing every image with every other one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vreid.data.doctor import Case
from vreid.data.doctor.duplicates import ALIKE, CLOSE, SAME
from vreid.data.images import read_image


def near_copies(case: Case) -> set[tuple[int, int]]:
    """For each image the one it is most alike with of those at odds with it, if closely the same; later one first."""
    records, out = case.records, set()
    rows = case.scan.thumbnail.reshape(len(records), -1).astype(np.float64)
    for one in range(len(records)):
        best, partner = ALIKE, None
        for other in range(len(records)):
            at_odds = case.train[one] != case.train[other]
            for labels in (records.identity, records.camera):
                a, b = labels.values[one], labels.values[other]
                at_odds = at_odds or (a != b and "" not in (a, b))
            if one != other and at_odds:
                likeness = np.corrcoef(rows[one], rows[other])[0, 1]
                if likeness > best:
                    best, partner = likeness, other
        if partner is not None and same_image(case, one, partner):
            out.add((max(one, partner), min(one, partner)))
    return out


def same_image(case: Case, one: int, other: int) -> bool:
    """Whether two images are the same, both decoded for this comparison alone."""
    parts = []
    for image in (one, other):
        box = case.records.box[image]
        parts.append(read_image(case.records.path[image], box=None if np.isnan(box).any() else box))
    size = min(CLOSE, *(part.width for part in parts)), min(CLOSE, *(part.height for part in parts))
    levels = [np.asarray(part.resize(size, Image.Resampling.BOX)).reshape(-1) for part in parts]
    return bool(np.corrcoef(*levels)[0, 1] >= SAME)
