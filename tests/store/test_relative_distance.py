"""Relative distances of stores and of single searches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oracles.plain_store import PlainStore
from oracles.relative_distance import relative_distance
from support.simulated_site import D, simulated_site
from support.tracklets import names, tracklets
from vreid.store.centering import refit_means
from vreid.store.engines import open_vectors
from vreid.store.interface import NO_TIME, VectorStore
from vreid.store.relative_distance import (
    FRAGMENT,
    TrackletTable,
    fragments,
    hold_contests,
    relative_distances,
)


def filled(folder: Path, *, timed: bool = True) -> VectorStore:
    vectors = open_vectors(folder, dimensions=D, model="m", create=True)
    vectors.upsert(simulated_site(timed=timed, horizon=200).batch)
    refit_means(vectors)
    return vectors


@pytest.mark.parametrize("timed", [False, True])
def test_a_search_gives_the_relative_distances_of_the_contests(tmp_path: Path, timed: bool) -> None:
    vectors = filled(tmp_path / "store", timed=timed)
    table = TrackletTable.load(vectors)
    contests = hold_contests(table)
    assert len(contests) > 300
    for number in range(0, len(contests), 97):
        query, hit = contests.query[number], contests.hit[number]
        row = vectors.fetch([str(table.id[query])])
        hits = vectors.fetch([str(table.id[hit])])
        distance = 2 - 2 * (hits.vector @ row.vector[0])
        asked = {"camera": str(row.camera[0]), "start": int(row.start[0]), "end": int(row.end[0])}
        two = relative_distances(vectors, row.vector[0], hits, distance, tracklet=str(row.id[0]), **asked)
        one = relative_distances(vectors, row.vector[0], hits, distance)
        np.testing.assert_allclose(two, contests.relative[number, 0], rtol=1e-3)
        np.testing.assert_allclose(one, contests.one_sided[number, 0], rtol=1e-3)


def test_a_search_equals_the_definition(tmp_path: Path) -> None:
    """With passes in parts, crowded and lonely cameras, and tracklets without a time."""
    rng, scale, lonely = np.random.default_rng(4), 400, 0
    engine = open_vectors(tmp_path / "store", dimensions=8, model="m", create=True)
    plain = PlainStore()
    for camera, count, spread in (("a", 40, 1), ("b", 25, 20), ("c", 6, 400), ("d", 1, 1)):
        batch = tracklets(names(camera, count), count, crops=1)
        timed = batch.start != NO_TIME
        start = np.where(timed, batch.start * scale * spread, NO_TIME)
        batch = replace(batch, start=start, end=np.where(timed, start + rng.integers(0, 9000, count), NO_TIME))
        engine.upsert(batch)
        plain.upsert(batch)
    hits = engine.fetch(sorted(plain.rows))
    for name in ("a/0", "a/7", "b/3", "c/1", *hits.id[hits.start == NO_TIME][:3]):
        query = plain.rows[name]
        place = {"camera": str(query.camera[0]), "start": int(query.start[0]), "end": int(query.end[0])}
        distances = 2 - 2 * (hits.vector @ query.vector[0]).astype(float)
        for two_sided, asked in ((False, {}), (True, place)):
            found = relative_distances(engine, query.vector[0], hits, distances, tracklet=name, **asked)
            wanted = [relative_distance(plain, query, plain.rows[one], two_sided=two_sided) for one in hits.id]
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
            lonely += int(np.isinf(found).sum())
    assert 0 < lonely < len(hits)


def test_relative_distances_tell_vehicles_from_look_alikes_better_than_plain_ones() -> None:
    site = simulated_site(vehicles=200)
    table = site.table
    contests = hold_contests(table)
    right = site.vehicle[contests.query] == site.vehicle[contests.hit]
    plain = 2 - 2 * np.einsum("md,md->m", table.vector[contests.query], table.vector[contests.hit])

    def wrong_among_nearest(values: np.ndarray) -> float:
        return float((~right[np.argsort(values)[: right.sum() // 2]]).mean())

    assert wrong_among_nearest(contests.relative[:, 0]) < wrong_among_nearest(plain)


def test_parts_of_one_pass_do_not_compete() -> None:
    gaps = np.array([-1.0, 0.5, FRAGMENT, FRAGMENT + 1, np.nan])
    found = fragments(np.zeros(5), np.ones(5), 1 + gaps, 3 + gaps)
    assert found.tolist() == [False, True, True, False, False]


def test_a_hit_without_competitor_has_no_relative_distance(tmp_path: Path) -> None:
    vectors = open_vectors(tmp_path / "store", dimensions=D, model="m", create=True)
    batch = simulated_site(vehicles=1, stops=1).batch
    vectors.upsert(batch)
    assert relative_distances(vectors, batch.vector[0], batch, np.array([0.5])).tolist() == [np.inf]


def test_a_store_of_one_camera_or_none_has_no_contests(tmp_path: Path) -> None:
    vectors = open_vectors(tmp_path / "store", dimensions=D, model="m", create=True)
    assert len(hold_contests(TrackletTable.load(vectors))) == 0
    batch = simulated_site(cameras=1, stops=1).batch
    vectors.upsert(batch)
    assert len(hold_contests(TrackletTable.load(vectors))) == 0
    assert NO_TIME not in batch.start
