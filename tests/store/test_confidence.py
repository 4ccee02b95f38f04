"""Thresholds of a search: estimated without labels, against the truth; their documents."""

from __future__ import annotations

import numpy as np
import pytest

from support.simulated_site import simulated_site
from vreid.errors import InputError
from vreid.store.confidence import (
    FalseMatchCurve,
    OperatingPoint,
    SearchThreshold,
    shipped_threshold,
)
from vreid.store.relative_distance import hold_contests

POINT = OperatingPoint(0.5, 0.9, 0.01, 0.0, 0.04, 100)


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_the_estimated_share_of_wrong_matches_is_near_the_truth(share: float) -> None:
    matches = wrong = 0
    for seed in range(4):
        site = simulated_site(seed, vehicles=200, noise=0.4)
        contests = hold_contests(site.table)
        right = site.vehicle[contests.query] == site.vehicle[contests.hit]
        curve = FalseMatchCurve.of(contests.relative)
        assert abs(curve.without_match - (~right).mean()) < 0.1
        here = contests.relative[:, 0] <= curve.relative[curve.largest(share) - 1]
        matches, wrong = matches + int(here.sum()), wrong + int((~right[here]).sum())
    assert 0.6 * share < wrong / matches < 1.4 * share


def test_without_any_match_nothing_is_called_one() -> None:
    relative = np.sort(np.random.default_rng(0).uniform(0.3, 1, (2000, 3)), axis=1)
    curve = FalseMatchCurve.of(np.random.default_rng(1).permuted(relative, axis=1))
    assert curve.without_match > 0.9
    assert curve.point().match == 0
    assert str(curve.point()) == "no hit is sure enough for a MATCH"


def test_decisions_differ_for_tracklets_and_images() -> None:
    image = OperatingPoint(0.2, 0.3, 0.01, 0.0, 0.04, 100)
    threshold = SearchThreshold(POINT, image, "this site, without labels", "m", 1000)
    assert threshold.classify([0.5, 0.6, 0.95, np.inf]) == ["MATCH", "UNCERTAIN", "NO MATCH", "NO MATCH"]
    assert threshold.classify([0.25, 0.35], image=True) == ["UNCERTAIN", "NO MATCH"]
    assert threshold.notes(1400) == ()
    assert "has grown from 1,000 to 1,600" in threshold.notes(1600)[0]


def test_documents_round_trip_and_damaged_ones_are_refused() -> None:
    threshold = SearchThreshold(POINT, POINT, "simulated cameras", "m", 1000)
    assert SearchThreshold.from_dict(threshold.as_dict()) == threshold
    assert "simulated cameras" in threshold.notes(5)[0]
    for damaged in (None, {}, {**threshold.as_dict(), "model": 3}, {**threshold.as_dict(), "source": "hearsay"}):
        with pytest.raises(InputError, match="threshold"):
            SearchThreshold.from_dict(damaged)
    with pytest.raises(InputError, match="in order"):
        OperatingPoint(0.9, 0.5)


def test_the_shipped_threshold_is_for_its_model_only() -> None:
    assert shipped_threshold("another model") is None
