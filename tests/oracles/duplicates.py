"""Near-copies by comparing every image with every other one."""

from __future__ import annotations

import numpy as np

from vreid.data.doctor import Case
from vreid.data.doctor.duplicates import ALIKE, same_image


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
