"""Measure the thresholds of a search on simulated sites, and make the one that ships with the bundled model.

    python studies/search_threshold.py [--worlds 201,202,203,204] [--out runs/search_threshold] [--write]

A world is two sites: six cameras by day, six by night, 160 vehicles each, of which half are look-alikes (another one
has the same model and colour). Departures, which the simulator spreads over an hour, are brought into ten minutes, so
that a site is as busy as a city's junctions. For each requested share of wrong matches, the share that the truth gives
and the part of all true cross-camera matches that is found are printed: estimated without labels on each site, and
with the threshold fitted to the truth of the other worlds, which is what a shipped threshold does on a new site.
--write stores the threshold of all worlds in src/vreid/models/bundled/. A world takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.console import echo
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.files import write_json
from vreid.inference.embedder import load_model
from vreid.retrieval.features import unit_rows
from vreid.retrieval_run import RetrievalRun
from vreid.simulator import simulate
from vreid.simulator.city.presets import PRESETS, Scene
from vreid.store.centering import shrink, subtract_mean
from vreid.store.confidence import (
    DOUBTFUL,
    SHIPPED,
    TARGETS,
    FalseMatchCurve,
    OperatingPoint,
    SearchThreshold,
    decoy_interval,
)
from vreid.store.relative_distance import Contests, TrackletTable, hold_contests
from vreid.workflow import extract

SITE = replace(
    PRESETS["demo"],
    name="site",
    train_identities=2,
    test_identities=160,
    synthetic_identities=0,
    synthetic_images=0,
    test_frames=(4, 5),
    models=60,
    bystanders=24,
    motorcycle_share=0.1,
)
DAYS = ("day_a", "day_b", "day_c", "day_d")
HORIZON, SIMULATED_HORIZON, VIEW = 600.0, 3600.0, 3.0
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SIDES = ("relative", "one_sided")
USEFUL = 0.1
"""Part of the true matches that the shipped threshold must find, or it allows more wrong ones (`TARGETS`)."""


@dataclass(frozen=True, eq=False)
class Site:
    """Contests of a site with the truth: which targets are right, and the number of true cross-camera matches."""

    contests: Contests
    right: NDArray[np.bool_]
    matches: int
    tracklets: int


def sites(seed: int, out: Path) -> list[Site]:
    """Simulate a world, extract features, and return its site by day and by night."""
    world, features = out / f"site{seed}", out / f"sitefeat{seed}"
    if not features.exists():
        if not world.exists():
            simulate(world, preset=replace(SITE, scenes=(Scene(DAYS[seed % len(DAYS)], 6),)), seed=seed)
        extract("default", open_dataset(world / "AIC21_Track2_ReID", labels="auto"), out=features)
    run = RetrievalRun.load(features)
    records = Records.concat([run.query.records, run.gallery.records])
    vectors = np.concatenate([run.query.features, run.gallery.features])
    by_night = np.array([str(name) >= "c041" for name in records.camera.values])
    return [_site(records[part], vectors[part]) for part in (~by_night, by_night)]


def _site(records: Records, features_ND: NDArray[np.float32]) -> Site:
    names, first, tracklet = np.unique(records.tracklet.values.astype(str), return_index=True, return_inverse=True)
    count = len(names)
    raw = unit_rows(np.stack([features_ND[tracklet == row].mean(axis=0) for row in range(count)]))
    camera_names, camera = np.unique(records.camera.values[first].astype(str), return_inverse=True)
    vehicle = np.unique(records.identity.values[first].astype(str), return_inverse=True)[1]
    vectors, overall = np.empty_like(raw), raw.mean(axis=0, dtype=np.float64)
    for code in range(len(camera_names)):
        rows = np.flatnonzero(camera == code)
        mean = raw[rows].mean(axis=0, dtype=np.float64)
        vectors[rows] = subtract_mean(raw[rows], shrink(mean, len(rows), overall))
    middle = np.array([records.time[tracklet == row].mean() for row in range(count)])
    departure = np.array([middle[vehicle == one].min() for one in vehicle])
    middle -= (departure - departure.min()) * (1 - HORIZON / SIMULATED_HORIZON)
    table = TrackletTable(
        names.astype(object), vectors, camera, middle - VIEW, middle + VIEW, tuple(map(str, camera_names))
    )
    contests = hold_contests(table)
    same = (vehicle[:, None] == vehicle[None]) & (camera[:, None] != camera[None])
    return Site(contests, vehicle[contests.query] == vehicle[contests.hit], int(same.sum()), count)


def counts(site: Site, side: str, limit: float) -> tuple[int, int, float]:
    """Return MATCHes, wrong ones among them, and the part of the true matches that they are."""
    here = getattr(site.contests, side)[:, 0] <= limit
    right = int(site.right[here].sum())
    return int(here.sum()), int(here.sum()) - right, right / site.matches


def true_limit(known: Sequence[Site], side: str, share: float) -> float:
    """Return the largest relative distance up to which at most `share` of the targets of `known` are wrong."""
    relative = np.concatenate([getattr(site.contests, side)[:, 0] for site in known])
    order = np.argsort(relative, kind="stable")
    wrong = np.cumsum(~np.concatenate([site.right for site in known])[order])
    fits = np.flatnonzero(wrong <= share * np.arange(1, len(order) + 1))
    return float(relative[order[fits[-1]]]) if len(fits) else 0.0


def report(worlds: Sequence[Sequence[Site]]) -> None:
    """Print requested and true shares with the coverage, pooled over sites."""
    for side in SIDES:
        for how in ("without labels", "from other worlds"):
            echo(f"{side}, {how}: requested share of wrong matches, true share (wrong of all), coverage")
            for share in SHARES:
                rows = []
                for world in worlds:
                    others = [site for other in worlds if other is not world for site in other]
                    for site in world:
                        curve = FalseMatchCurve.of(getattr(site.contests, side))
                        found = curve.largest(share)
                        own = float(curve.relative[found - 1]) if found else 0.0
                        limit = own if how == "without labels" else true_limit(others, side, share) if others else 0.0
                        rows.append(counts(site, side, limit))
                matches, wrong = sum(row[0] for row in rows), sum(row[1] for row in rows)
                coverage = float(np.mean([row[2] for row in rows]))
                true = f"{100 * wrong / matches:5.1f} %" if matches else "  none"
                echo(f"  {100 * share:3.0f} %   {true} ({wrong} of {matches})   {100 * coverage:.1f} %")


def shipped(known: Sequence[Site], model: str) -> SearchThreshold:
    """Return the threshold fitted to the truth of all sites."""

    def point(side: str) -> OperatingPoint:
        for share in TARGETS:
            limit = true_limit(known, side, share)
            rows = [counts(site, side, limit) for site in known]
            if np.mean([row[2] for row in rows]) >= USEFUL:
                break
        matches, wrong = sum(row[0] for row in rows), sum(row[1] for row in rows)
        low, high = (min(end / matches, 1.0) for end in decoy_interval(wrong))
        return OperatingPoint(limit, true_limit(known, side, DOUBTFUL), wrong / matches, low, high, matches)

    tracklets = sum(site.tracklets for site in known) // len(known)
    return SearchThreshold(point("relative"), point("one_sided"), "simulated cameras", model, tracklets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default="201,202,203,204")
    parser.add_argument("--out", type=Path, default=Path("runs/search_threshold"))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    worlds = [sites(int(seed), arguments.out) for seed in arguments.worlds.split(",")]
    report(worlds)
    found = shipped([site for world in worlds for site in world], load_model("default").made_by)
    echo(f"{found}.")
    if arguments.write:
        write_json(SHIPPED, found.as_dict())


if __name__ == "__main__":
    main()
