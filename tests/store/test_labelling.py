"""Questions about pairs: which are asked, what the answers say, and whether the intervals hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.simulated_site import D, SimulatedSite, simulated_site
from vreid.errors import InputError
from vreid.store.centering import refit_means
from vreid.store.confidence import OperatingPoint, calibrate_without_labels
from vreid.store.engines import open_vectors
from vreid.store.labelling import (
    Pairs,
    answered_pairs,
    choose_pairs,
    estimate_share,
    fit_with_answers,
    pairs_of,
    put_answer,
    questions,
    read_answers,
)
from vreid.store.relative_distance import hold_contests


def made_up(seed: int, count: int = 1500) -> tuple[Pairs, NDArray[np.bool_]]:
    """Pairs whose probability of being wrong rises with their relative distance, and which are."""
    rng = np.random.default_rng(seed)
    relative = np.sort(rng.uniform(0.1, 1, count))
    doubt = 0.02 + 0.6 * np.clip(relative - 0.5, 0, 1)
    names = np.array([f"a/{row:04d}" for row in range(count)], dtype=object)
    pairs = Pairs(names, np.array([f"b/{row:04d}" for row in range(count)], object), relative, doubt, match=0.7)
    return pairs, rng.random(count) < doubt


def asked(pairs: Pairs, wrong: NDArray[np.bool_], rows: list[int]) -> NDArray[np.float64]:
    answers = np.full(len(pairs), np.nan)
    answers[rows] = wrong[rows]
    return answers


def test_intervals_from_200_answers_hold_and_are_shorter_than_those_of_random_pairs() -> None:
    held = 0
    chosen_width, random_width = [], []
    for seed in range(100):
        pairs, wrong = made_up(seed)
        matches = pairs.relative <= pairs.match
        rows = choose_pairs(pairs, 200, {}, seed=seed)
        assert abs(len(rows) - 200) <= 8
        found = estimate_share(pairs.stratum[matches], asked(pairs, wrong, rows)[matches], seed=seed)
        held += found.low <= wrong[matches].mean() <= found.high
        chosen_width.append(found.high - found.low)
        drawn = list(np.random.default_rng(seed).choice(len(pairs), 200, replace=False))
        one = np.zeros(int(matches.sum()), dtype=np.intp)
        found = estimate_share(one, asked(pairs, wrong, drawn)[matches], seed=seed)
        random_width.append(found.high - found.low)
    assert held >= 93
    assert np.mean(chosen_width) < np.mean(random_width)


def test_the_same_seed_asks_the_same_pairs_and_goes_on_after_answers() -> None:
    pairs, _ = made_up(0)
    first = choose_pairs(pairs, 60, {}, seed=3)
    assert choose_pairs(pairs, 60, {}, seed=3) == first
    assert choose_pairs(pairs, 60, {}, seed=4) != first
    half = dict.fromkeys([pairs.keys[row] for row in first[:25]], True)
    assert choose_pairs(pairs, 60, half, seed=3) == first[25:]
    assert choose_pairs(pairs, 60, dict.fromkeys([pairs.keys[row] for row in first], None), seed=3) == []


def truth(site: SimulatedSite, first: str, second: str) -> bool:
    vehicle = dict(zip(site.batch.id, site.vehicle, strict=True))
    return bool(vehicle[first] == vehicle[second])


def test_answers_state_the_share_of_wrong_matches_of_the_site() -> None:
    held = 0
    for seed in range(10):
        site = simulated_site(seed, vehicles=200, noise=0.4)
        contests = hold_contests(site.table)
        threshold = calibrate_without_labels(contests, model="m", tracklets=len(site.table))
        assert threshold is not None
        wide = OperatingPoint(0.55, max(threshold.tracklet.no_match, 0.9), 0.05, 0.0, 1.0, 100)
        pairs = pairs_of(site.table, contests, wide)
        rows = choose_pairs(pairs, 200, {}, seed=seed)
        answers = {pairs.keys[row]: truth(site, str(pairs.first[row]), str(pairs.second[row])) for row in rows}
        fitted = fit_with_answers(pairs, answers, threshold)
        assert fitted.answers == len(rows)
        assert "answers" in str(fitted)
        point = fitted.tracklet
        matches = np.flatnonzero(pairs.relative <= point.match)
        wrong = [not truth(site, str(pairs.first[row]), str(pairs.second[row])) for row in matches]
        held += not wrong or point.low <= np.mean(wrong) <= point.high
    assert held >= 9


def test_answers_are_documents_of_the_store(tmp_path: Path) -> None:
    vectors = open_vectors(tmp_path / "store", dimensions=D, model="m", create=True)
    site = simulated_site(vehicles=150)
    vectors.upsert(site.batch)
    refit_means(vectors)
    pairs = questions(vectors, 40, seed=1)
    assert len(pairs) > 20
    for first, second in pairs:
        put_answer(vectors, second, first, truth(site, first, second))
    assert questions(vectors, 40, seed=1) == []
    assert len(answered_pairs(vectors)) == len(pairs)


def test_files_of_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("first,second,answer\na/1,b/2,y\na/1,c/2, Unsure\n")
    assert read_answers(file) == [("a/1", "b/2", True), ("a/1", "c/2", None)]
    file.write_text("first,second,answer\na/1,b/2,perhaps\n")
    with pytest.raises(InputError, match=r"row 2: the answer is 'perhaps'; write y, n or unsure"):
        read_answers(file)
    file.write_text("first,answer\na/1,y\n")
    with pytest.raises(InputError, match="has no column 'second'"):
        read_answers(file)
