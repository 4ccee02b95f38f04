"""Candidate links equal those of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.progress import Progress
from vreid.trips.candidate_links import Appearances, Looks, candidate_links
from vreid.trips.directions import Headings
from vreid.trips.link_model import LinkModel
from vreid.trips.solve import TripConfig, link_trips
from vreid.trips.tables import TimedTracklets

LEAST = -7.0


@pytest.fixture(scope="module")
def learned() -> tuple[Appearances, LinkModel]:
    """A world and its model, with headings drawn at random for some tracklets."""
    table = traffic_world(0, ToyTraffic(vehicles=250, hours=1.0))[0]
    model = link_trips(table, TripConfig(longest_gap=900.0)).model
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        drawn = rng.dirichlet(np.ones(table.cameras + 1), len(table)).astype(np.float32)
        drawn[rng.random(len(table)) < 0.3] = 0  # nothing is known
        sides.append(drawn)
    return Appearances.of(table, Looks(table.vector, table.vector, Headings(*sides))), model


def every_pair(appearances: Appearances, model: LinkModel, most: int) -> dict[tuple[int, int], float]:
    """Candidates and log-odds by a comparison of all pairs."""
    table, found = appearances.table, {}
    births, codes = model.log_births(table), table.camera.codes
    leaving, arriving = (
        model.turns.leaving(appearances.looks.headings, codes),
        model.turns.arriving(appearances.looks.headings, codes),
    )
    everyone = np.arange(len(table))
    for i in everyone:
        first = np.full(len(table), i)
        total = model.appearance.of(appearances.score(first, everyone)) + model.of_timing(
            table, births, first, everyone
        )
        total += leaving[i, codes] + arriving[:, codes[i]]
        best = np.lexsort((everyone, -total))[:most]
        found.update({(int(i), int(j)): float(total[j]) for j in best if total[j] >= LEAST})
    return found


@pytest.mark.parametrize("most", [3, 24])
def test_candidates_are_those_of_all_pairs(learned: tuple[Appearances, LinkModel], most: int) -> None:
    appearances, model = learned
    links, odds = candidate_links(appearances, model, most, LEAST, Progress())
    found = dict(zip(zip(links.first.tolist(), links.second.tolist(), strict=True), odds.tolist(), strict=True))
    expected = every_pair(appearances, model, most)
    clear = {pair for pair, value in expected.items() if value > LEAST + 1e-3}
    assert len(clear) > len(appearances.table)
    assert clear <= found.keys()
    assert found.keys() <= expected.keys()
    np.testing.assert_allclose([found[pair] for pair in sorted(clear)], [expected[p] for p in sorted(clear)], atol=1e-3)


def test_the_size_of_blocks_does_not_matter(
    learned: tuple[Appearances, LinkModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    appearances, model = learned
    whole = candidate_links(appearances, model, 24, LEAST, Progress())[0]
    monkeypatch.setattr("vreid.trips.candidate_links.ROWS", 16)
    small = candidate_links(appearances, model, 24, LEAST, Progress())[0]
    np.testing.assert_array_equal(small.first, whole.first)
    np.testing.assert_array_equal(small.second, whole.second)


def test_no_tracklets_give_no_links(learned: tuple[Appearances, LinkModel]) -> None:
    appearances, model = learned
    table: TimedTracklets = appearances.table[np.array([0])]
    links, odds = candidate_links(Appearances.of(table), model, 24, LEAST, Progress())
    assert len(links) == len(odds) == 0
