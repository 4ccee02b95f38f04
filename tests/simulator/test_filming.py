"""Which frames of a pass become images, with a renderer that only pretends."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from vreid.simulator.city.plan import plan_world
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.filming import CUT_DEPTH, CUT_EDGES, CUT_SHARE, Studio, overlap
from vreid.simulator.formats.write import simulate
from vreid.simulator.render.scene import Placed

TINY = PRESETS["tiny"]


def test_rejected_frames_are_replaced_so_that_tracklets_stay_full(sketch: SimpleNamespace, tmp_path: Path) -> None:
    sketch.refuse = lambda camera, target, others, rng: rng.random() < 0.4
    made = simulate(tmp_path / "out", preset=TINY, seed=1, workers=1)
    planned = plan_world(TINY, 1).images
    assert sum(made.counts[name] for name in ("train", "query", "gallery", "synthetic")) == planned
    assert sketch.shots > planned - made.counts["synthetic"]


def test_the_last_attempt_drives_alone(sketch: SimpleNamespace) -> None:
    sketch.refuse = lambda camera, target, others, rng: len(others) > 0
    world = plan_world(replace(TINY, train_identities=60), 1)
    for traveller in world.travellers:
        for number, takes in Studio(world).film(traveller):
            assert len(takes) == traveller.passes[number].images


def test_a_tracklet_that_cannot_be_seen_is_dropped_before_numbering(sketch: SimpleNamespace, tmp_path: Path) -> None:
    world = plan_world(TINY, 1)
    blind = world.cameras[[c.name for c in world.cameras].index("c041")].spec
    sketch.refuse = lambda camera, target, others, rng: camera == blind
    out = simulate(tmp_path / "out", preset=TINY, seed=1, workers=1).path
    truth = list(csv.DictReader((out / "ground_truth.csv").open()))
    assert "c041" not in {row["camera"] for row in truth}
    # Seen by one camera only, the identities of the new part make no queries; their images stay in the gallery.
    parts = Counter((row["split"], row["part"]) for row in truth)
    assert parts["query", "new"] == 0 and parts["gallery", "new"] > 0 and parts["query", "seen"] == 8
    folder = out / "AIC21_Track2_ReID"
    listed = (folder / "test_track.txt").read_text().split()
    assert sorted(listed) == sorted(path.name for path in (folder / "image_test").iterdir())


def test_frames_of_a_tracklet_are_distinct_and_in_order_even_when_it_is_long(sketch: SimpleNamespace) -> None:
    world = plan_world(replace(TINY, test_frames=(40, 81)), 1)
    for traveller in world.travellers:
        for number, takes in Studio(world).film(traveller):
            frames = [take.frame for take in takes]
            assert len(frames) == traveller.passes[number].images and (np.diff(frames) > 0).all()
            passed = traveller.passes[number].time - world.cameras[traveller.passes[number].camera].video_start
            assert frames[0] / 10 <= passed + 1 and frames[-1] / 10 >= passed - 1


def test_a_few_boxes_are_cut_mostly_at_the_bottom(sketch: SimpleNamespace) -> None:
    world = plan_world(replace(TINY, train_identities=300), 1)
    for traveller in world.travellers:
        for _ in Studio(world).film(traveller):
            pass
    cuts = [cut for cut in sketch.cuts if cut is not None]
    assert abs(len(cuts) / len(sketch.cuts) - CUT_SHARE) < 0.02
    edges = Counter(cut.edge for cut in cuts)
    assert set(edges) == set(CUT_EDGES) and edges.most_common(1)[0][0] == "bottom"
    assert all(CUT_DEPTH[0] <= cut.share <= CUT_DEPTH[1] for cut in cuts)
    again = list(sketch.cuts)
    sketch.cuts.clear()
    for traveller in world.travellers:
        for _ in Studio(world).film(traveller):
            pass
    assert sketch.cuts == again


def test_vehicles_that_would_overlap_are_reported() -> None:
    vehicle = SimpleNamespace(size=(4.5, 1.8, 1.5))
    here = Placed(vehicle, 0.0, 0.0, 0.0)
    assert overlap(here, Placed(vehicle, 4.5, 0.0, 0.0)) and overlap(here, Placed(vehicle, 0.0, 2.0, np.pi))
    assert not overlap(here, Placed(vehicle, 5.2, 0.0, 0.0)) and not overlap(here, Placed(vehicle, 0.0, 2.5, np.pi))
    assert overlap(here, Placed(vehicle, 3.0, 1.5, np.pi / 2))
