"""Ensembles of distances, and the ablation that judges each step."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import postprocess as oracle
from support.feature_world import world
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    AI_CITY,
    MARKET,
    VEHICLE_ID,
    VERI_TRACKS_MEAN,
    Distances,
    FeatureSet,
    PostProcessing,
    ablation,
    ensemble,
    evaluate_distances,
    evaluate_retrieval,
    exclude_same_camera,
    interval,
)
from vreid.retrieval.postprocessing.ensemble import Fusion, ranks
from vreid.retrieval.postprocessing.reranking import ReRanked
from vreid.retrieval_run import RetrievalRun

QUERY, GALLERY = Records.of(path=["q", "r"]), Records.of(path=list("abc"))
INF = np.inf


def of(values):
    return Distances.from_matrix(values, QUERY, GALLERY)


# --- ensembles --------------------------------------------------------------------------------------------------------


def test_mean_and_weights_by_hand():
    one, two = of([[1, 2, 3], [0, INF, 4]]), of([[3, 2, 7], [4, 1, 0]])
    assert ensemble([one, two]).matrix().tolist() == [[2, 2, 5], [2, INF, 2]]
    assert ensemble([one, two], weights=[3, 1]).matrix().tolist() == [[1.5, 2, 4], [1, INF, 3]]
    assert ensemble([one]).matrix().tolist() == one.matrix().tolist()


def test_rank_fusion_by_hand():
    one, two = of([[0.1, 0.1, 0.2], [5, 6, 7]]), of([[900, 100, 500], [3, INF, 2]])
    # ranks 1 1 3 and 3 1 2; 1 2 3 and 2 - 1
    assert ensemble([one, two], how="rank").matrix().tolist() == [[2, 1, 2.5], [1.5, INF, 2]]
    assert ensemble([one, two], [1, 3], "rank").matrix().tolist() == [[2.5, 1, 2.25], [1.75, INF, 1.5]]


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5, INF]), min_size=4, max_size=4), min_size=1, max_size=5))
def test_ranks_equal_their_definition(rows):
    block = np.float32(rows)
    expected = [[INF if np.isinf(v) else r for v, r in zip(row, oracle.ranks(row), strict=True)] for row in block]
    assert ranks(block).tolist() == expected


def test_nan_has_no_rank():
    with pytest.raises(InputError, match="NaN"):
        ranks(np.float32([[1, np.nan]]))


def models(count, seed=0, rows=(30, 50), dimensions=8):
    """Several models' features of the same images."""
    generator = np.random.default_rng(seed)
    sides = [Records.of(path=[f"{side}{i}" for i in range(n)]) for side, n in zip("qg", rows, strict=True)]
    return [
        tuple(FeatureSet(generator.normal(size=(len(side), dimensions)), side).normalise() for side in sides)
        for _ in range(count)
    ]


@pytest.mark.parametrize("how", ["mean", "rank"])
@pytest.mark.parametrize("steps", ["", "rerank=5:2:0.3"])
def test_an_ensemble_equals_the_dense_one(how, steps):
    members = [PostProcessing.parse(steps).apply(*sides) for sides in models(3)]
    shares = np.array([0.5, 0.3, 0.2])
    whole = [m.matrix() for m in members]
    values = [np.array([oracle.ranks(row) for row in m]) for m in whole] if how == "rank" else whole
    expected = np.tensordot(shares, np.array(values, dtype=np.float64), axes=1)
    found = ensemble(members, weights=shares * 7, how=how)
    assert found.matrix() == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(np.concatenate([block for _, block in found.blocks(7)]), found.matrix())
    assert found.steps == (*members[0].steps, f"ensemble of 3 by {how}, weights 3.5 : 2.1 : 1.4")
    assert (found.reranked, found.transductive) == (bool(steps), bool(steps))


class Tile(np.ndarray):
    """An array that can be referred to weakly and is known by identity."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


@dataclass(frozen=True, eq=False)
class Counting:
    """A source whose living tiles are counted."""

    shape: tuple[int, int]
    rows: int
    living: weakref.WeakSet
    peak: list[int]

    def tiles(self):
        def made(start):
            tile = np.zeros((min(self.rows, self.shape[0] - start), self.shape[1]), dtype=np.float32).view(Tile)
            self.living.add(tile)
            self.peak[0] = max(self.peak[0], len(self.living))
            return start, tile

        return map(made, range(0, self.shape[0], self.rows))


@pytest.mark.parametrize(("tile_rows", "most"), [(512, 1), (50, 28)])
def test_sixteen_members_never_stand_in_memory_together(tile_rows, most):
    rows, living, peak = 2000, weakref.WeakSet(), [0]
    query, gallery = Records.of(path=[f"q{i}" for i in range(rows)]), Records.of(path=["a", "b"])
    one = Distances.from_matrix(np.zeros((rows, 2)), query, gallery)
    members = [replace(one, source=Counting((rows, 2), tile_rows, living, peak)) for _ in range(16)]
    assert sum(len(block) for _, block in ensemble(members).blocks()) == rows
    gc.collect()
    # cut alike: one tile of all members; else what makes up 512 rows of one, and the cut tile of each
    assert 1 <= peak[0] <= most
    assert not living


@pytest.mark.parametrize(("steps", "count"), [("", 16), ("rerank=3:1:0.3", 6), ("other-cameras, camera-mean", 8)])
def test_peak_memory_is_that_of_a_few_tiles(steps, count):
    rows = (2048, 2000)
    cameras = [[f"c{i % 3}" for i in range(n)] for n in rows]
    members = []
    for sides in models(count, rows=rows, dimensions=4):
        labelled = [
            replace(side, records=side.records.with_(camera=camera))
            for side, camera in zip(sides, cameras, strict=True)
        ]
        members.append(PostProcessing.parse(steps).apply(*labelled))
    joined = ensemble(members)
    next(joined.blocks())  # what is made once and kept
    tracemalloc.start()
    try:
        for _ in joined.blocks():
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one_matrix = rows[0] * rows[1] * 4
    assert peak < 3 * one_matrix


def test_what_may_not_be_joined():
    one = of([[1, 2, 3], [4, 5, 6]])
    other = Distances.from_matrix([[1, 2, 3], [4, 5, 6]], QUERY, Records.of(path=["a", "c", "b"]))
    for members, how, message in (
        ([], {}, "there are no members"),
        ([one, other], {}, "gallery of member 2: row 2 is c, not b"),
        (
            [one, Distances.from_matrix([[1, 2, 3]], QUERY[[0]], GALLERY)],
            {},
            "query of member 2: holds 1 images, not 2",
        ),
        ([one, one], {"weights": [1]}, "give 2 numbers above 0"),
        ([one, one], {"weights": [1, 0]}, "above 0"),
        ([one, one], {"weights": [1, np.nan]}, "above 0"),
        ([one, one], {"how": "median"}, "use one of mean, rank"),
    ):
        with pytest.raises(InputError, match=message):
            ensemble(members, **how)
    query, gallery = world(vehicles=4, frames=3)
    with pytest.raises(InputError, match="member 2 ranks other units"):
        ensemble([PostProcessing().apply(query, gallery), PostProcessing.parse("tracklets").apply(query, gallery)])


def test_frames_inside_a_tracklet_follow_the_mean_of_all_models():
    sides = world(vehicles=4, frames=4)
    others = tuple(replace(a, records=b.records) for a, b in zip(world(1, vehicles=4, frames=4), sides, strict=True))
    members = [PostProcessing.parse("tracklets").apply(*s) for s in (sides, others)]
    frames = [np.concatenate([tile for _, tile in d.frames.tiles()]) for d in (ensemble(members), *members)]
    assert frames[0] == pytest.approx((frames[1] + frames[2]) / 2, abs=1e-6)


def test_a_candidate_that_one_member_removed_is_none():
    sides = world(vehicles=4, frames=3)
    plain = PostProcessing().apply(*sides)
    found = ensemble([plain, exclude_same_camera(plain)])
    assert np.array_equal(np.isinf(found.matrix()), np.isinf(exclude_same_camera(plain).matrix()))
    assert found.steps == ("plain search | other-cameras", "ensemble of 2 by mean")


# --- several folders on the command line ------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Two models' features of one world; the second knows the vehicles better."""
    query, gallery = world(vehicles=8, frames=3)
    for name, noise in (("one", 1.0), ("two", 0.1)):
        folder = tmp_path / name
        folder.mkdir()
        sides = []
        for side, records in (("query", query.records), ("gallery", gallery.records)):
            looks = np.random.default_rng(5).normal(size=(8, 12))
            vehicle = [int(v[1:]) for v in records.identity.values]
            values = looks[vehicle] + noise * np.random.default_rng(len(side)).normal(size=(len(records), 12))
            sides.append(FeatureSet(values, records))
            sides[-1].save(folder / f"{side}.safetensors")
        RetrievalRun(*sides, MARKET).save_facts(folder)
    return tmp_path


def test_several_folders_are_an_ensemble(run, folders, tmp_path):
    line = f"{folders}/one {folders}/two --post camera-mean,rerank=5:2:0.3"
    reported = json.loads(run(f"evaluate {line} --json").out)[-1]["parts"]["all cameras"]
    searches = [RetrievalRun.load(folders / name) for name in ("one", "two")]
    post = PostProcessing.parse("camera-mean,rerank=5:2:0.3")
    mean = sum(post.apply(s.query, s.gallery).matrix() for s in searches) / 2
    joined = Distances.from_matrix(mean, searches[0].query.records, searches[0].gallery.records)
    assert reported["mAP"] == pytest.approx(evaluate_distances(joined, MARKET).mAP, abs=1e-6)
    assert reported["steps"] == ["camera-mean", "rerank=5:2:0.3", "ensemble of 2 by mean"]
    assert run(f"rank {line} --out {tmp_path}/lists.csv").code == 0
    assert "ensemble of 2 by mean" in run(f"rank {line} --out {tmp_path}/again.csv").out
    assert (tmp_path / "lists.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    for options in ("--by camera-pair", "--open-set --leave-out 0.4", "--protocol vehicle-id"):
        answer = run(f"evaluate {line} {options} --json")
        assert answer.code == 0 or "give all images as both" in answer.err


def test_folders_of_other_images_are_rejected(run, folders):
    search = RetrievalRun.load(folders / "two")
    search.gallery[np.arange(3, len(search.gallery))].save(folders / "two" / "gallery.safetensors")
    reported = run(f"evaluate {folders}/one {folders}/two")
    assert reported.code == 2
    assert "two, gallery: holds 45 images, not 48" in reported.err


def test_ablation_on_the_command_line(run, folders):
    line = f"ablate {folders}/one --post camera-mean,tracklets,rerank=5:2:0.3"
    shown = run(line)
    for text in ("plain search", "+ rerank=5:2:0.3", "+ tracklets=mean", "all but camera-mean", "change"):
        assert text in shown.out
    rows = json.loads(run(f"{line} --json").out)
    assert [row["kind"] for row in rows] == ["cumulative"] * 4 + ["leave-one-out"] * 3
    assert rows[0]["change"] is None
    assert rows[3]["steps"] == "camera-mean, tracklets=mean, rerank=5:2:0.3"
    both = json.loads(run(f"ablate {folders}/one {folders}/two --post camera-mean --json").out)
    assert [row["name"] for row in both] == ["plain search", "+ camera-mean"]
    assert both[0]["metrics"]["mAP"] != rows[0]["metrics"]["mAP"]
    assert "no step is enabled" in run(f"ablate {folders}/one").err


@pytest.mark.parametrize("fusion", [Fusion(), Fusion((3, 1)), Fusion(how="rank")])
@pytest.mark.parametrize("draws", [False, True])
def test_rows_of_an_ablation_are_ensembles_as_asked(run, folders, fusion, draws):
    one, two = (RetrievalRun.load(folders / name) for name in ("one", "two"))
    post, members = PostProcessing.parse("camera-mean,rerank=5:2:0.3"), [(s.query, s.gallery) for s in (one, two)]
    protocol = replace(VEHICLE_ID, repeats=2) if draws else MARKET
    if draws:
        members = [(images, images) for images in map(FeatureSet.concat, members)]
    rows = ablation(post, *members[0], protocol, others=members[1:], fusion=fusion)
    assert len(rows) == 5
    for row in rows:
        assert (
            row.metrics.as_dict() == evaluate_retrieval(*members[0], row.post, protocol, members[1:], fusion).as_dict()
        )
    if not draws and fusion != Fusion():
        options = "--weights 3,1" if fusion.weights else "--fusion rank"
        line = f"ablate {folders}/one {folders}/two --post {post.describe().replace(' ', '')} --json"
        reported = [row["metrics"]["mAP"] for row in json.loads(run(f"{line} {options}").out)]
        assert reported == [row.metrics.mAP for row in rows]
        assert reported != [row["metrics"]["mAP"] for row in json.loads(run(line).out)]


# --- ablation ---------------------------------------------------------------------------------------------------------

STEPS = "camera-mean, tracklets, rerank=7:2:0.6, other-cameras"


@pytest.fixture(scope="module")
def sides():
    return world()


def test_ablation_rows_follow_table_4_and_match_direct_evaluation(sides):
    post = PostProcessing.parse(STEPS)
    rows = ablation(post, *sides, MARKET)
    assert [row.name for row in rows] == [
        "plain search",
        "+ rerank=7:2:0.6",
        "+ tracklets=mean",
        "+ other-cameras",
        "+ camera-mean",
        "all but rerank=7:2:0.6",
        "all but tracklets=mean",
        "all but other-cameras",
        "all but camera-mean",
    ]
    for row in rows:
        expected = evaluate_retrieval(*sides, row.post, MARKET)
        assert row.metrics.mAP == expected.mAP
        assert np.array_equal(row.metrics.average_precision, expected.average_precision)
        assert row.metrics.steps == row.post.steps
        low, high = row.interval
        assert low <= row.metrics.mAP <= high
        assert row.interval == interval(row.metrics, "mAP")
    assert rows[4].post == post
    for above, row in pairwise(rows[:5]):
        assert row.change == pytest.approx(row.metrics.mAP - above.metrics.mAP)
        assert row.change_interval[0] <= row.change <= row.change_interval[1]
    for row in rows[5:]:
        assert row.change == pytest.approx(rows[4].metrics.mAP - row.metrics.mAP)
    assert rows[0].change is None
    assert rows[4].metrics.mAP > rows[0].metrics.mAP + 0.2  # camera shifts and noisy frames: the steps are worth much


def test_the_order_may_be_chosen(sides):
    order = ("other-cameras", "camera-mean", "rerank", "tracklets")
    rows = ablation(PostProcessing.parse(STEPS), *sides, MARKET, order=order)
    assert [row.name.split("=")[0] for row in rows[1:5]] == [f"+ {name}" for name in order]
    with pytest.raises(InputError, match="lacks a step"):
        ablation(PostProcessing.parse(STEPS), *sides, MARKET, order=("rerank",))
    with pytest.raises(InputError, match="no step is enabled"):
        ablation(PostProcessing(), *sides, MARKET)


def test_what_rows_share_is_made_once(sides, monkeypatch):
    made = []
    original = ReRanked.of.__func__
    monkeypatch.setattr(ReRanked, "of", classmethod(lambda cls, *args: made.append(1) or original(cls, *args)))
    ablation(PostProcessing.parse(STEPS), *sides, MARKET)
    # images, tracklets, tracklets of centred, images of centred: other cameras need no encoding of their own
    assert len(made) == 4


def test_protocols_that_draw_or_prescribe(sides):
    images = FeatureSet.concat(sides)
    rows = ablation(PostProcessing.parse("rerank=5:2:0.4"), images, images, replace(VEHICLE_ID, repeats=2))
    assert len(rows) == 2 and rows[1].metrics.draws
    assert rows[1].change == pytest.approx(rows[1].metrics.mAP - rows[0].metrics.mAP)
    rows = ablation(PostProcessing.parse("rerank=5:2:0.4"), *sides, VERI_TRACKS_MEAN)
    assert rows[0].metrics.steps == ("tracklets=mean",)
    cut = ablation(PostProcessing.parse("other-cameras"), *sides, replace(AI_CITY, top_k=3))
    assert [row.value for row in cut] == [row.metrics.mAP_at_k for row in cut]
    assert cut[0].value < cut[0].metrics.mAP
    assert cut[1].change == pytest.approx(cut[1].value - cut[0].value)
    assert cut[1].interval == interval(cut[1].metrics, "mAP@3")
    assert [row.kind for row in cut] == ["cumulative", "cumulative"]
