"""Pseudo labels: each step against DMT's dense matrices or hand-computed values, automatic settings, cannot-link."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import pseudo_labels as oracle
from vreid.adaptation.adapt_config import PRESETS, AdaptConfig, PseudoConfig, preset_named
from vreid.adaptation.auto_settings import Candidate, candidates, choose, evidence, image_tracklets, valley
from vreid.adaptation.cannot_link import divide, spans
from vreid.adaptation.clustering_features import prepare, two_views, without_answers
from vreid.adaptation.holdout import earlier
from vreid.adaptation.pseudo import PseudoLabels, cluster_means, consensus, pseudo_labels
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet

AUTO = PRESETS["auto"].pseudo


def world(vehicles=12, cameras=3, each=4, dimensions=32, noise=0.3, gap=0.5, seed=0):
    """Features of vehicles with one tracklet of `each` images in every camera, and one query per tracklet."""
    generator = np.random.default_rng(seed)
    vehicle, camera, image = (a.ravel() for a in np.indices((vehicles, cameras, each + 1)))
    centre = generator.normal(size=(vehicles, dimensions))
    offset = gap * generator.normal(size=(cameras, dimensions))
    features = centre[vehicle] + offset[camera] + noise * generator.normal(size=(len(vehicle), dimensions))
    records = Records.of(
        path=[f"{i:04d}.jpg" for i in range(len(vehicle))],
        identity=[f"v{v}" for v in vehicle],
        camera=[f"c{c}" for c in camera],
        tracklet=[f"t{v}-{c}" for v, c in zip(vehicle, camera, strict=True)],
        time=60.0 * vehicle + 5 * camera + image,
        split=np.where(image == each, "query", "gallery").tolist(),
    )
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return FeatureSet(unit.astype(np.float32), records, normalised=True)


def plain(**columns):
    return Records.of(path=[str(i) for i in range(len(next(iter(columns.values()))))], **columns)


def agree(labels, identity):
    """Pair precision and recall of the clusters."""
    same = (labels[:, None] == labels) & (labels >= 0) & ~np.eye(len(labels), dtype=bool)
    truth = (identity[:, None] == identity) & ~np.eye(len(labels), dtype=bool)
    return (same & truth).sum() / max(same.sum(), 1), (same & truth).sum() / truth.sum()


# ---------------------------------------------------------------- the published settings


def test_presets_match_the_paper_and_its_code():
    v1, v2, paper = PRESETS["v1"], PRESETS["v2"], PRESETS["paper"]
    assert v1.pseudo == PseudoConfig("whitening", 0.0005, False, 1.0, 0.3, False, "image", 30, 6, 0.1, 0.55, 10)
    assert (v2.pseudo.own_share, v2.pseudo.scenes) == (0.1, True)
    assert replace(v2, preset="v1", pseudo=v1.pseudo) == v1
    assert (paper.pseudo.camera, paper.pseudo.alpha, paper.pseudo.own_share) == ("mean", 1.0, 0.0005)
    assert (v1.epochs, v1.iterations, v1.num_identities, v1.num_instances) == (3, 300, 12, 8)
    assert (v1.learning_rate, v1.recluster, v1.replay, v1.ema) == (4e-4, 0, False, 0.0)
    assert preset_named("auto").pseudo.eps is None
    with pytest.raises(InputError, match="no preset 'v3'; did you mean"):
        preset_named("v3")


@pytest.mark.parametrize(
    ("kind", "changes", "reported"),
    [
        (PseudoConfig, {"camera": "median"}, "use one of whitening, mean, none"),
        (PseudoConfig, {"cannot_link": "on"}, "use one of off, time, camera"),
        (PseudoConfig, {"level": "frame"}, "image, tracklet"),
        (PseudoConfig, {"eps": 0.95}, "pseudo.eps is 0.95; give a number from"),
        (PseudoConfig, {"ridge": 0.0}, "pseudo.ridge"),
        (PseudoConfig, {"own_share": float("nan")}, "pseudo.own_share is nan"),
        (PseudoConfig, {"k1": 1}, "pseudo.k1"),
        (AdaptConfig, {"epochs": 0}, "epochs is 0; give a whole number from 1"),
        (AdaptConfig, {"num_instances": 1}, "num_instances is 1"),
        (AdaptConfig, {"classifier": "random"}, "use one of clustered, plain"),
    ],
)
def test_invalid_settings_are_rejected(kind, changes, reported):
    with pytest.raises(InputError, match=reported):
        kind(**changes)


# ---------------------------------------------------------------- features


def test_two_views_are_normalised_averaged_and_not_renormalised():
    records = plain(camera=["c"])
    mean = two_views(FeatureSet([[3.0, 4.0]], records), FeatureSet([[0.0, 2.0]], records))
    assert np.allclose(mean.features, [[0.3, 0.9]]) and not mean.normalised
    with pytest.raises(InputError, match="different images"):
        two_views(FeatureSet([[1.0]], records), FeatureSet([[1.0]], plain(camera=["d"])))


def test_identities_and_query_tracklets_are_removed():
    records = without_answers(world(vehicles=2).records)
    assert not records.identity.known.any()
    assert np.array_equal(records.tracklet.known, records.split.values == "gallery")


@pytest.mark.parametrize("centred", [False, True])
def test_whitening_matches_the_inverse_second_moment_in_float64(centred):
    features = world(dimensions=20).features
    cameras = ["a"] * 40 + ["b"] * (len(features) - 41) + ["alone"]
    config = PseudoConfig(centred=centred, own_share=1.0)
    made = prepare(FeatureSet(features, plain(camera=cameras)), config)
    assert np.abs(made - oracle.whiten(features, cameras, 0.0005, centred)).max() < 2e-5
    assert made.dtype == np.float32


def test_default_ridge_depends_on_the_dimensions():
    features = replace(world(), records=without_answers(world().records))
    by_data = prepare(features, PseudoConfig(ridge=None))
    assert np.array_equal(by_data, prepare(features, PseudoConfig(ridge=2 / 32)))


def test_camera_mean_and_tracklet_mean():
    records = plain(camera=["a", "a", "a", "b", "b"], tracklet=["t", "t", "", "", ""])
    features = FeatureSet([[3.0, 0.0], [1.0, 2.0], [2.0, 4.0], [0.0, 1.0], [0.0, 5.0]], records)
    # of a: mean (2, 2), so (1, -2), (-1, 0), (0, 2); of b: mean (0, 3), so (0, -2), (0, 2)
    first, second = np.array([1, -2]) / 5**0.5, np.array([-1.0, 0])
    mean = (first + second) / 2
    made = prepare(features, PseudoConfig(camera="mean", own_share=0.3))
    assert np.allclose(made, [0.3 * first + 0.7 * mean, 0.3 * second + 0.7 * mean, [0, 1], [0, -1], [0, 1]], atol=1e-6)
    again = prepare(features, PseudoConfig(camera="mean", own_share=0.3, renormalise=True))
    assert np.allclose(again[:2], made[:2] / np.linalg.norm(made[:2], axis=1, keepdims=True), atol=1e-6)
    half = prepare(features, PseudoConfig(camera="mean", alpha=0.5, own_share=1.0))
    assert np.allclose(half[0], np.array([2, -1]) / 5**0.5)
    assert np.array_equal(prepare(features, PseudoConfig(camera="none", own_share=1.0)), features.features)


def test_a_camera_step_needs_a_camera():
    features = FeatureSet([[1.0], [2.0]], plain(scene=["s", "s"]))
    with pytest.raises(InputError, match="No image has a camera; give the column `camera`"):
        prepare(features, PseudoConfig())


# ---------------------------------------------------------------- clusters


@pytest.mark.parametrize("name", ["v1", "v2", "paper"])
def test_preset_labels_match_dense_matrices(name):
    features = world(vehicles=8, each=3, noise=1.5, gap=0.8)
    cameras = features.records.camera.values
    records = features.records.with_(scene=np.where(cameras == "c2", "far", "near").tolist())
    config = replace(PRESETS[name].pseudo, k1=12, k2=3, min_samples=4, ridge=0.05)
    found = pseudo_labels(replace(features, records=records), config)
    tracklets = [
        t if s == "gallery" else "" for t, s in zip(records.tracklet.values, records.split.values, strict=True)
    ]
    if config.camera == "whitening":
        taken = oracle.whiten(features.features, cameras, 0.05)
    else:
        taken = np.concatenate(
            [
                [f - features.features[cameras == c].mean(axis=0, dtype=np.float64)]
                for f, c in zip(features.features, cameras, strict=True)
            ]
        )
        taken /= np.linalg.norm(taken, axis=1, keepdims=True)
    mixed = oracle.mix(taken, tracklets, config.own_share)
    expected = oracle.labels(mixed, 12, 3, 0.55, 4, records.scene.values if name == "v2" else None)
    assert len(np.unique(expected)) > 5 and (expected < 0).any()
    assert np.array_equal(found.labels < 0, expected < 0)
    assert len({*zip(found.labels.tolist(), expected.tolist(), strict=True)}) == len(np.unique(expected))
    for number in range(found.clusters):
        assert np.allclose(found.centres[number], mixed[found.labels == number].mean(axis=0), atol=1e-4)


def test_scenes_are_never_linked_and_are_required():
    features = world(noise=0.05)
    found = pseudo_labels(features, replace(AUTO, scenes=True, scene_groups=(("c0", "c1"), ("c2",))))
    far = features.records.camera.values == "c2"
    assert not set(found.labels[far][found.labels[far] >= 0]) & set(found.labels[~far])
    with pytest.raises(InputError, match="give the column `scene`"):
        pseudo_labels(features, PRESETS["v2"].pseudo)


def test_clusters_are_numbered_by_first_image_and_validated():
    found = pseudo_labels(world(noise=0.05), AUTO)
    first = [int(np.argmax(found.labels == number)) for number in range(found.clusters)]
    assert first == sorted(first) and found.clusters > 1
    assert found.sizes.sum() + found.noise * len(found.labels) == pytest.approx(len(found.labels))
    with pytest.raises(InputError, match="without gaps"):
        replace(found, labels=2 * found.labels)
    with pytest.raises(InputError, match="labels for"):
        replace(found, labels=found.labels[:3])
    assert isinstance(found, PseudoLabels)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_labels_do_not_depend_on_identities_or_the_order_of_images(seed):
    features = world(noise=0.2)
    order = np.random.default_rng(seed).permutation(len(features))
    other = features.records.with_(identity=["x"] * len(features))[order]
    found = pseudo_labels(features, AUTO).labels
    moved = pseudo_labels(FeatureSet(features.features[order], other, normalised=True), AUTO).labels
    assert len({*zip(found[order].tolist(), moved.tolist(), strict=True)}) == len(np.unique(found))


def test_cluster_means_and_consensus():
    assert cluster_means(np.float32([[1, 2], [8, 8], [3, 4]]), np.array([1, 0, 1])).tolist() == [[8, 8], [2, 3]]
    loose, tight = np.array([0, 0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, -1, 2, -1, -1])
    assert consensus(loose, tight).tolist() == [2, 2, 3, -1, 1, 1, -1]
    assert consensus(loose, np.full(7, -1)).tolist() == loose.tolist()
    found = pseudo_labels(world(noise=2.0), replace(AUTO, eps=0.8, k1=12))
    tighter = pseudo_labels(world(noise=2.0), replace(AUTO, eps=0.8, k1=12, tight=0.4))
    assert tighter.clusters > found.clusters


# ---------------------------------------------------------------- cannot-link constraints


def passing(times):
    """Two cameras; tracklets "t0", "t1", ... with (camera, begin, end) each, two images each."""
    return plain(
        camera=[c for c, _, _ in times for _ in "ab"],
        tracklet=[f"t{i}" for i in range(len(times)) for _ in "ab"],
        time=[t for _, *both in times for t in both],
    )


def graph_of(pairs, count):
    from scipy import sparse

    rows, columns, values = zip(
        *[(i, i, 0.0) for i in range(count)], *pairs, *[(j, i, d) for i, j, d in pairs], strict=True
    )
    return sparse.csr_array((np.float32(values), (rows, columns)), shape=(count, count))


def test_a_cluster_with_overlapping_tracklets_of_one_camera_is_split():
    records = passing([("a", 0, 10), ("a", 5, 20), ("b", 30, 40), ("a", 50, 60)])
    points = records[::2]
    # t0 - t2 near, t2 - t1 far, t3 - t1: the longest link between t0 and t1 is dropped
    graph = graph_of([(0, 2, 0.1), (1, 2, 0.4), (1, 3, 0.2)], 4)
    labels = np.zeros(4, dtype=int)
    made, reported = divide(labels, graph, points, "time", 2, records)
    assert made[0] == made[2] != made[1] == made[3] and (made >= 0).all()
    assert reported == ("1 clusters were split: they hold tracklets of one camera that overlap in time.",)
    made, _ = divide(
        labels, graph, points, "camera", 2, records
    )  # t1 and t3 are of the same camera, at different times
    assert made[0] == made[2] >= 0 and made[1] == made[3] == -1
    apart = passing([("a", 0, 10), ("a", 11, 20), ("b", 30, 40), ("a", 50, 60)])
    assert divide(labels, graph, apart[::2], "time", 2, apart)[0].tolist() == [0, 0, 0, 0]


def test_images_of_one_tracklet_do_not_conflict_and_frames_replace_times():
    records = passing([("a", 0, 10), ("a", 5, 20)]).with_(time=[np.nan] * 4, frame=[0, 10, 5, 20])
    assert [side.tolist() for side in spans(records)] == [[0, 0, 5, 5], [10, 10, 20, 20]]
    graph = graph_of([(0, 1, 0.1), (2, 3, 0.1), (1, 2, 0.3)], 4)
    made, _ = divide(np.zeros(4, dtype=int), graph, records, "time", 2, records)
    assert made[0] == made[1] != made[2] == made[3]
    without = records.with_(frame=[-1] * 4)
    made, reported = divide(np.zeros(4, dtype=int), graph, without, "time", 2, without)
    assert made.tolist() == [0, 0, 0, 0] and "has no effect" in reported[0]


@pytest.mark.parametrize("level", ["image", "tracklet"])
def test_final_labels_satisfy_cannot_link(level):
    features = world(noise=2.0, gap=1.0)
    found = pseudo_labels(features, replace(AUTO, level=level, k1=20, eps=0.85, cannot_link="camera"))
    known = found.records.tracklet.known & (found.labels >= 0)
    pairs = {
        (k, c, t)
        for k, c, t in zip(
            found.labels[known], found.records.camera.codes[known], found.records.tracklet.codes[known], strict=True
        )
    }
    assert found.clusters > 1 and len({(k, c) for k, c, _ in pairs}) == len(pairs)
    assert any("were split" in reason for reason in found.reasons)


# ---------------------------------------------------------------- automatic settings


def test_evidence_by_hand():
    # camera 0: tracklets 0 0 1, camera 1: tracklets 2 3; cluster 0 holds tracklets 0, 1 and 2
    labels, camera = np.array([0, 0, 0, 0, -1]), np.array([0, 0, 0, 1, 1])
    counts = evidence(labels, camera, np.array([0, 0, 1, 2, 3]))
    assert counts.linked == 3  # the three images of camera 0 with that of tracklet 2
    # of 3 pairs of two tracklets of one camera, 2 are linked; there are 6 cross-camera pairs
    assert counts.confused == pytest.approx(2 / 3) and counts.wrong == pytest.approx(2 / 3 * 6)
    assert counts.gain == pytest.approx(3 - (1 + 2) * 4)
    assert evidence(labels, np.zeros(5, dtype=int), np.arange(5)) is None
    assert evidence(labels, np.arange(5), np.arange(5)) is None


def test_the_best_candidate_links_right_pairs_and_few_wrong_ones():
    camera, tracklet = np.array([0, 1] * 4), np.arange(8)
    some, none, all_ = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.full(8, -1), np.zeros(8, dtype=int)
    found = [Candidate(5, eps, 2, labels, None) for eps, labels in ((0.3, none), (0.5, some), (0.7, all_))]
    best, why = choose(found, camera, tracklet)
    assert best is found[1] and "links 4 cross-camera pairs" in why and "wrongly, 0.00% of" in why
    best, why = choose([found[0], found[2]], camera, tracklet)
    assert best is found[0] and "no setting links enough" in why


def test_without_tracklets_eps_is_in_the_valley():
    near, far = 0.35, 0.72
    graph = graph_of([(i, i + 1, near) for i in range(0, 8, 2)] + [(8, 9, far), (10, 11, far)], 12)
    assert near <= valley(graph, 2) < far
    found = [Candidate(5, eps, 2, np.zeros(12, dtype=int), graph) for eps in (0.35, 0.5, 0.7)]
    best, why = choose(found, np.zeros(12, dtype=int), None)
    assert best.eps == 0.35 and "valley" in why


def test_image_tracklets():
    features = world(each=1)
    singles = replace(features, records=features.records.with_(tracklet=[""] * len(features)))
    one_each = singles[features.records.split.values == "query"]
    assert image_tracklets(one_each.features, one_each.records).tolist() == list(range(36))
    bursts = world(each=5, gap=2.0, noise=0.1)
    unknown = bursts.records.with_(tracklet=[""] * len(bursts))
    assert image_tracklets(bursts.features, unknown) is None
    assert image_tracklets(bursts.features, unknown.with_(camera=["c"] * len(bursts))) is None
    assert np.array_equal(image_tracklets(bursts.features, bursts.records), bursts.records.tracklet.codes)


def test_candidates_depend_on_the_tracklet_size():
    tracklet = np.repeat(np.arange(10), 6).astype(np.int32)
    by_image, by_tracklet = replace(AUTO, level="image"), replace(AUTO, level="tracklet")
    assert [(k1, m) for k1, _, _, m in candidates(60, tracklet, by_image)] == [(30, 6), (42, 6), (59, 6)]
    assert [(k1, k2, m) for k1, k2, _, m in candidates(60, tracklet, by_tracklet)] == [
        (5, 1, 2),
        (7, 1, 2),
        (10, 2, 2),
        (15, 3, 2),
    ]
    assert [(k1, m) for k1, _, _, m in candidates(500, None, by_image)] == [(30, 4)]
    assert candidates(60, tracklet, PseudoConfig()) == [(30, 6, (0.55,), 10)]
    with pytest.raises(InputError, match="at least 3"):
        candidates(2, None, by_image)


def test_auto_finds_vehicles_with_and_without_tracklets_and_gives_reasons():
    features = world(vehicles=20, noise=0.4, gap=0.5)
    found = pseudo_labels(features, AUTO)
    precision, recall = agree(found.labels, features.records.identity.codes)
    assert precision > 0.9 and recall > 0.8
    assert [reason.split()[0] for reason in found.reasons] == ["level", "ridge", "k1"]
    single = features[features.records.split.values == "query"]  # one image per vehicle and camera, no tracklet known
    found = pseudo_labels(single, AUTO)
    precision, recall = agree(found.labels, single.records.identity.codes)
    assert precision > 0.9 and recall > 0.8 and found.min_samples == 2


def test_uninformative_features_give_few_links():
    """Features without information on the vehicle: no setting is right, and few images are clustered."""
    generator = np.random.default_rng(3)
    features = world(vehicles=20)
    noise = FeatureSet(generator.normal(size=features.features.shape).astype(np.float32), features.records).normalise()
    cut = pseudo_labels(noise, AUTO)
    same = (cut.labels[:, None] == cut.labels) & (cut.labels >= 0)
    across = same & (features.records.camera.codes[:, None] != features.records.camera.codes)
    assert across.mean() < 0.02


def test_one_camera_gives_a_warning_and_two_images_are_rejected():
    features = world()
    one = features[features.records.camera.values == "c0"]
    assert any("one camera" in reason for reason in pseudo_labels(one, AUTO).reasons)
    with pytest.raises(InputError, match="at least 3"):
        pseudo_labels(features[:2], replace(AUTO, camera="none"))


# ---------------------------------------------------------------- time


def test_earlier_keeps_tracklets_whole():
    records = world().records
    early = earlier(records, 0.4)
    assert 0.3 < early.mean() <= 0.4
    assert not set(records.tracklet.values[early]) & set(records.tracklet.values[~early])
    assert records.time[early].mean() < records.time[~early].min()
    for share, reported in ((0.0, "between 0 and 1"), (1e-9, "one part of the time")):
        with pytest.raises(InputError, match=reported):
            earlier(records, share)
    with pytest.raises(InputError, match="has no time"):
        earlier(plain(camera=["a", "b"]), 0.5)


def test_labels_are_made_without_torch():
    code = "import sys, vreid.adaptation.pseudo; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
