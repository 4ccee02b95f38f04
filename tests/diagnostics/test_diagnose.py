"""The numbers of a diagnosis: by hand, against slow readable versions, and cases without a warning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from vreid.data.protocols import MARKET
from vreid.data.records import Records
from vreid.diagnostics.camera_gap import camera_gap, overtaken_shares, variance_shares
from vreid.diagnostics.diagnose import diagnose
from vreid.diagnostics.embedding import POINTS, embedding
from vreid.diagnostics.estimates import Estimate, means
from vreid.diagnostics.gallery_size import compare_baselines, gallery_growth
from vreid.diagnostics.open_set_identification import reliability, unknown_vehicles
from vreid.diagnostics.renderings import compare_renderings
from vreid.diagnostics.worst_slices import worst_slices
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances, evaluate_retrieval
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.pipeline import PostProcessing

VEHICLES, CAMERAS, FRAMES, DIMENSIONS = 24, 4, 3, 16


def town(
    *, vehicle: float = 1.0, camera: float = 0.0, noise: float = 0.3, seed: int = 0, count: int = VEHICLES
) -> tuple[FeatureSet, FeatureSet]:
    """Query (one a vehicle and camera) and gallery features: vehicle, camera and noise parts of those lengths."""
    rng = np.random.default_rng(seed)
    parts = {"vehicle": rng.normal(size=(count, DIMENSIONS)), "camera": rng.normal(size=(CAMERAS, DIMENSIONS))}
    rows = list(product(range(count), range(CAMERAS), range(FRAMES)))
    features = np.array([vehicle * parts["vehicle"][v] + camera * parts["camera"][c] for v, c, _ in rows])
    features += noise * rng.normal(size=features.shape)
    records = Records.of(
        path=[f"{v}_{c}_{f}.jpg" for v, c, f in rows],
        identity=[f"v{v}" for v, _, _ in rows],
        camera=[f"c{c}" for _, c, _ in rows],
        tracklet=[f"t{v}-{c}" for v, c, _ in rows],
        color=["red" if v % 2 else "blue" for v, _, _ in rows],
    )
    first = np.array([f == 0 for _, _, f in rows])
    both = FeatureSet(features.astype(np.float32), records, model="m").normalise()
    return both[first], both[~first]


def evaluated(sides: tuple[FeatureSet, FeatureSet]) -> tuple[Distances, object]:
    distances = PostProcessing().apply(*sides)
    return distances, evaluate_distances(distances, MARKET)


# intervals


def test_means_by_hand() -> None:
    first, second = means([[0, 4], [np.nan, 8], [6, np.nan]], np.array([1, 1, 9]), seed=3)
    assert (first.value, first.count, second.value, second.count) == (3, 2, 6, 2)
    assert (first.low, first.high) == (0, 6)  # each vehicle alone occurs in a quarter of the draws
    assert (second.low, second.high) == (6, 6)


def test_vehicles_are_drawn_not_rows() -> None:
    one_vehicle_each = means(np.arange(100) % 2, np.arange(100))[0]
    ten_vehicles = means(np.repeat(np.arange(10) % 2, 10), np.repeat(np.arange(10), 10))[0]
    assert ten_vehicles.high - ten_vehicles.low > 2 * (one_vehicle_each.high - one_vehicle_each.low)


@pytest.mark.parametrize("values", [[], [[np.nan, 1.0]]])
def test_nothing_has_no_mean(values: list[list[float]]) -> None:
    with pytest.raises(InputError, match="no values to average"):
        means(np.reshape(values, (len(values), 2)), np.arange(len(values)))


# camera gap


def test_variance_shares_are_those_of_a_slow_analysis_of_variance() -> None:
    query, gallery = town(camera=0.7)
    features, records = (
        np.concatenate([query.features, gallery.features]),
        Records.concat([query.records, gallery.records]),
    )
    found = variance_shares(features, records, True, 0)
    passes = {
        (v, c): features[(records.identity.values == v) & (records.camera.values == c)].mean(axis=0)
        for v, c in product(records.identity.names, records.camera.names)
    }
    table = np.array(list(passes.values()))
    grand = table.mean(axis=0)
    total = sum(np.square(row - grand).sum() for row in table)
    for place, name, groups in ((1, "cameras", records.camera.names), (0, "vehicles", records.identity.names)):
        members = [np.array([row for key, row in passes.items() if key[place] == group]) for group in groups]
        between = sum(len(rows) * np.square(rows.mean(axis=0) - grand).sum() for rows in members)
        spread = (total - between) / (len(table) - len(groups))
        share = (between - (len(groups) - 1) * spread) / total
        assert found[f"variance between {name}"].value == pytest.approx(share)


def test_pure_cameras_pure_vehicles_and_pure_noise() -> None:
    for settings, expected in (
        ({"vehicle": 0, "camera": 1, "noise": 0}, (1, 0)),
        ({"vehicle": 1, "camera": 0, "noise": 0}, (0, 1)),
        ({"vehicle": 0, "camera": 0, "noise": 1}, (0, 0)),
    ):
        query, gallery = town(**settings)
        features = np.concatenate([query.features, gallery.features])
        shares = variance_shares(features, Records.concat([query.records, gallery.records]), True, 0)
        assert [number.value for number in shares.values()] == pytest.approx(expected, abs=0.05)


def test_negatives_before_the_match_equal_a_slow_count() -> None:
    query, gallery = town(camera=1.0, noise=1.0, count=6)
    found = overtaken_shares(query, gallery, 0)
    own, other = [], []
    for row in range(len(query)):
        distance = np.square(gallery.features.astype(float) - query.features[row]).sum(axis=1)
        same = gallery.records.camera.values == query.records.camera.values[row]
        mate = gallery.records.identity.values == query.records.identity.values[row]
        for kind, out in ((same, own), (~same, other)):
            pairs = list(product(distance[~mate & kind], distance[mate & ~same]))
            out.append(np.mean([(s < m) + (s == m) / 2 for s, m in pairs]))
    assert found["own camera"].value == pytest.approx(np.mean(own), abs=1e-3)
    assert found["other cameras"].value == pytest.approx(np.mean(other), abs=1e-3)


def test_a_camera_gap_is_reported_and_its_absence_is_not() -> None:
    gap = camera_gap(*town(camera=1.5), MARKET)
    assert gap.warning and gap.numbers["gain of subtracting"].low > 0
    for seed in range(5):
        assert not camera_gap(*town(seed=seed), MARKET).warning


def test_without_labels_the_gap_is_the_share_of_cameras_only() -> None:
    query, gallery = (
        replace(side, records=side.records.with_(identity=[""] * len(side))) for side in town(camera=1.0, noise=0.1)
    )
    part = camera_gap(query, gallery, MARKET)
    assert list(part.numbers) == ["variance between cameras"] and not part.warning
    assert part.numbers["variance between cameras"].low > 0.3


@pytest.mark.parametrize(("camera", "message"), [("c1", "one camera"), ("", "have no camera|one camera")])
def test_no_gap_without_cameras(camera: str, message: str) -> None:
    query, gallery = (replace(s, records=s.records.with_(camera=[camera] * len(s))) for s in town())
    with pytest.raises(InputError, match=message):
        camera_gap(query, gallery, MARKET)


# baselines and gallery size


def test_a_model_at_chance_level_is_reported() -> None:
    for vehicle, warning in ((1.0, False), (0.0, True)):
        sides = town(vehicle=vehicle)
        part = compare_baselines(*sides, MARKET, evaluated(sides)[1])
        assert part.warning is warning
        assert "0_0_0.jpg" in part.sentence  # no pictures here, so the histogram is missing
        assert set(part.numbers) == {"the model", "random vectors", "above random vectors"}


def test_a_larger_gallery_is_harder_and_the_whole_one_is_plain_search() -> None:
    sides = town(noise=1.0)
    part = gallery_growth(*sides, MARKET)
    cost, *levels = part.numbers.values()
    values = [level.value for level in levels]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(evaluate_retrieval(*sides, PostProcessing(), MARKET).mAP)
    assert cost.low > 0 and cost.value == pytest.approx((values[0] - values[-1]) / (len(values) - 1), rel=0.5)
    assert gallery_growth(*town(noise=0.0), MARKET).numbers["loss per doubling"].value == 0


def test_two_vehicles_are_too_few_for_gallery_growth() -> None:
    with pytest.raises(InputError, match="at least 4 are needed"):
        gallery_growth(*town(count=2), MARKET)


# slices


def test_a_planted_bad_slice_is_reported_and_chance_is_not() -> None:
    query, gallery = town(noise=0.8)
    worse = query.features.copy()
    bad = query.records.camera.values == "c2"
    worse[bad] = np.random.default_rng(1).normal(size=(bad.sum(), DIMENSIONS))
    sides = (replace(query, features=worse, normalised=False).normalise(), gallery)
    part = worst_slices(*evaluated(sides), MARKET)
    assert part.sentence.split("Significantly worse: ")[1].startswith("camera c2 ")
    assert part.numbers["camera c2"].high < part.numbers["all queries"].value
    reported = [worst_slices(*evaluated(town(noise=1.0, seed=s)), MARKET).sentence for s in range(5)]
    assert all("None of" in sentence for sentence in reported)


def test_slices_need_properties_and_enough_queries() -> None:
    with pytest.raises(InputError, match="neither colours"):
        worst_slices(*evaluated(town(count=2)), MARKET)  # at most four queries a slice


# open set and reliability


def test_a_calibrated_threshold_keeps_its_error_rates() -> None:
    sides = town(count=60)
    part = unknown_vehicles(sides, MARKET)
    assert not part.warning and "one half of the vehicles" in part.sentence
    assert part.numbers["FPIR of the calibrated threshold"].low <= 0.05
    rates = [n.value for name, n in part.numbers.items() if name.startswith("FNIR at")]
    assert rates == sorted(rates, reverse=True)
    missed = part.numbers["FNIR of the calibrated threshold"]
    assert missed.low <= missed.value < missed.high and f"an FNIR of {missed} %" in part.sentence
    ((_, fnir),) = part.chart.marks.values()
    assert fnir == 100 * missed.value


def test_a_threshold_of_other_cameras_raises_a_warning() -> None:
    easy, hard = town(count=60, seed=1), town(count=60, vehicle=0.3, camera=1.0, noise=0.1, seed=2)
    part = unknown_vehicles(hard, MARKET, validation=easy)
    assert part.warning and "the validation features" in part.sentence
    with pytest.raises(InputError, match="other distances"):
        unknown_vehicles(hard, MARKET, validation=tuple(replace(side, model="another") for side in easy))


def test_reliability_by_hand_and_where_it_fails() -> None:
    part = reliability(town(count=40), MARKET)
    assert not part.warning and part.numbers["right is nearer than wrong"].value > 0.9
    shares = [number.value for number in part.chart.curves[0].y]
    assert shares[0] > shares[-1]
    with pytest.raises(InputError, match="all wrong"):
        query, gallery = town(noise=0.1)
        reliability((replace(query, features=-query.features), gallery), MARKET)  # matches are farthest


# neighbours


def test_neighbours_and_the_map() -> None:
    query, gallery = town(camera=3.0)
    part = embedding(query, gallery)
    again = embedding(query, gallery)
    assert np.array_equal(part.chart.place, again.chart.place)
    assert len(part.chart.place) == len(part.chart.identity) <= POINTS and len(set(part.chart.identity)) == 10
    assert part.numbers["same camera"].value > 0.9 > 0.3 > part.numbers["same camera by chance"].value
    features = np.concatenate([query.features, gallery.features])
    records = Records.concat([query.records, gallery.records])
    hits = []
    for row in range(len(features)):
        vehicle = records.identity.values == records.identity.values[row]
        other = ~(vehicle & (records.camera.values == records.camera.values[row]))
        distance = np.where(other, np.square(features - features[row]).sum(axis=1), np.inf)
        hits.append(vehicle[distance.argmin()])
    assert part.numbers["same vehicle"].value == pytest.approx(np.mean(hits), abs=0.01)


def test_one_camera_has_no_neighbours() -> None:
    query, gallery = (replace(s, records=s.records.with_(camera=["c1"] * len(s))) for s in town())
    with pytest.raises(InputError, match="two cameras"):
        embedding(query, gallery)


# renderings


def test_renderings_are_compared_query_by_query() -> None:
    original, other = town(noise=0.5), town(noise=1.5)
    part = compare_renderings(original, {"without background": other}, MARKET)
    maps = [evaluate_retrieval(*sides, PostProcessing(), MARKET).mAP for sides in (original, other)]
    change = part.numbers["change without background"]
    assert change.value == pytest.approx(maps[1] - maps[0]) and change.high < 0
    assert f"changes by {change} points" in part.sentence
    same = compare_renderings(original, {"without plates": original}, MARKET).numbers["change without plates"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(lambda side: replace(side, model="n"), "extract both with one model"), (lambda side: side[::-1], "other images")],
)
def test_renderings_of_other_images_or_models_raise(spoil: Callable[[FeatureSet], FeatureSet], message: str) -> None:
    sides = town()
    with pytest.raises(InputError, match=message):
        compare_renderings(sides, {"without plates": (spoil(sides[0]), sides[1])}, MARKET)


# the whole


def test_a_diagnosis_lists_unavailable_parts() -> None:
    found = diagnose(town(), MARKET)
    assert [part.name for part in found.parts] == [
        "baselines",
        "camera gap",
        "neighbours",
        "slices",
        "gallery size",
        "unknown vehicles",
        "reliability of distances",
    ]
    assert dict(found.left_out).keys() == {"leaks", "occlusion", "shortcuts, test images"}
    assert found.as_dict() == diagnose(town(), MARKET).as_dict()
    assert found.warnings == []


def test_diagnosis_without_labels() -> None:
    query, gallery = town()
    query = replace(query, records=query.records.with_(identity=[""] * len(query)))
    found = diagnose((query, gallery), MARKET)
    assert [part.name for part in found.parts] == ["camera gap"]
    assert ("everything else", "some queries have no identity.") in found.left_out


def test_an_estimate_is_written_in_percent() -> None:
    assert str(Estimate(0.1234, 0.1, 0.2)) == "12.3 (10.0 to 20.0)"
