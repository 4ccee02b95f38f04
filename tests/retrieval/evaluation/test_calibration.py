"""Calibrated thresholds: chosen as worked by hand, honest about their errors, refused where they do not belong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv, ndtr
from scipy.stats import binomtest

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import CAMERA_LESS, Distances, FeatureSet, PostProcessing, Ranking, rank
from vreid.retrieval.evaluation.calibration import MATCH, NO_MATCH, UNCERTAIN, Threshold, calibrate, decide
from vreid.retrieval.evaluation.open_set import OpenSet, open_set
from vreid.retrieval.evaluation.proportions import rate_interval


def found(without: list[float], mates: list[float], identity: list[int] | None = None, **facts) -> OpenSet:
    """Queries without a mate whose nearest candidates, and known ones whose nearest mates, lie at these distances."""
    nearest = np.array([*without, *mates], dtype=np.float32)
    known = np.arange(len(nearest)) >= len(without)
    codes = np.arange(len(nearest)) if identity is None else np.array(identity)
    mate = np.where(known, nearest, np.inf).astype(np.float32)
    facts = {"gallery_images": 500, "protocol": "market", "features": "model a", **facts}
    return OpenSet(
        np.arange(len(nearest)), codes.astype(np.int32), nearest, known, mate, known.astype(np.int64), **facts
    )


TENTHS = [round(0.1 * i, 1) for i in range(1, 11)]


def test_thresholds_by_hand() -> None:
    # One in five of ten may be matched wrongly: the two nearest, at 0.5 and 0.6. One mate in five may be missed: two
    # of ten, so all up to the eighth, at 0.8, must not be NO MATCH.
    threshold = calibrate(found([0.4 + d for d in TENTHS], TENTHS), fpir=0.2, miss_rate=0.2)
    assert (threshold.match, threshold.no_match) == pytest.approx((0.6, 0.8))
    assert (threshold.false_match.value, threshold.miss.value) == (0.2, 0.2)
    assert (threshold.false_match.num_queries, threshold.miss.num_identities) == (10, 10)
    expected = binomtest(2, 10).proportion_ci(method="exact")
    assert (threshold.false_match.low, threshold.false_match.high) == pytest.approx((expected.low, expected.high))
    decisions = threshold.classify([0.0, threshold.match, 0.7, threshold.no_match, 0.81, np.inf])
    assert decisions.tolist() == [MATCH, MATCH, UNCERTAIN, UNCERTAIN, NO_MATCH, NO_MATCH]


def test_equal_distances_are_on_the_same_side_of_the_threshold() -> None:
    # the second and third nearest are equal: to match both would be three wrong ones of ten
    threshold = calibrate(found([0.1, 0.2, 0.2, *TENTHS[3:]], TENTHS), fpir=0.2, miss_rate=0.2)
    assert threshold.match == np.float32(0.1)
    assert threshold.false_match.value == 0.1


def test_thresholds_coincide_if_errors_are_small() -> None:
    threshold = calibrate(found([1 + d for d in TENTHS], TENTHS), fpir=0.1, miss_rate=0.1)
    assert threshold.no_match == threshold.match == np.float32(1.1)
    assert (threshold.miss.target, threshold.miss.value) == (0.1, 0)
    assert threshold.miss.high == pytest.approx(1 - 0.025**0.1)  # Clopper and Pearson for none of ten


def test_queries_without_candidates_are_correct_rejections() -> None:
    threshold = calibrate(found([np.inf] * 8 + [0.3, 0.4], TENTHS), fpir=0.5, miss_rate=0.1)
    assert threshold.match == np.float32(0.4)
    assert threshold.false_match.value == 0.2


def test_threshold_as_text() -> None:
    threshold = calibrate(found(np.linspace(1, 2, 200).tolist(), TENTHS * 2, left_out=7), miss_rate=0.1)
    assert str(threshold).startswith(
        "MATCH at a false-match rate of 1.0 % (0.1 to 3.6 %), calibrated on 200 queries of unknown vehicles (vehicles "
        "left out: 7) among 500 images; NO MATCH at a miss rate of 0.0 % (0.0 to 16.8 %), calibrated on 20 queries of "
        "known vehicles"
    )


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 20), min_size=10, max_size=30),
    st.lists(st.integers(0, 20), min_size=10, max_size=30),
    st.sampled_from([0.1, 0.25, 0.6]),
    st.randoms(use_true_random=False),
)
def test_rates_hold_for_any_order(without, mates, rate, random) -> None:
    case = found([d + 5 for d in without], mates)
    try:
        threshold = calibrate(case, fpir=rate, miss_rate=rate)
    except InputError as error:
        assert "at the smallest distance" in str(error)
        return
    at = case.errors(threshold.match)
    assert float(at.fpir) == threshold.false_match.value <= rate
    assert float(case.errors(threshold.no_match).fnir_any_rank) == pytest.approx(threshold.miss.value)
    assert threshold.miss.value <= rate
    larger = [d for d in case.nearest[~case.known] if d > threshold.match]
    assert not larger or float(case.errors(min(larger)).fpir) > rate  # the next larger one would be too large
    order = list(range(len(case)))
    random.shuffle(order)
    assert calibrate(case.of(np.array(order)), fpir=rate, miss_rate=rate) == threshold


def test_the_interval_is_that_of_independent_queries_or_of_vehicles() -> None:
    wrong = np.arange(60) < 6
    exact = binomtest(6, 60).proportion_ci(method="exact")
    assert rate_interval(wrong, np.arange(60)) == pytest.approx((exact.low, exact.high))
    # Each query three times. Variance of the rate from vehicles: 60/59 * sum (3 (y - p))^2 / 180^2 = p (1 - p) / 59;
    # of 180 independent queries p (1 - p) / 179. So the 180 tell as much as 180 * 59 / 179 = 59.3 independent ones.
    effective, p = 180 * 59 / 179, 0.1
    expected = (
        betaincinv(p * effective, (1 - p) * effective + 1, 0.025),
        betaincinv(p * effective + 1, (1 - p) * effective, 0.975),
    )
    assert rate_interval(np.repeat(wrong, 3), np.repeat(np.arange(60), 3)) == pytest.approx(expected)
    # none wrong: only vehicles count
    none = binomtest(0, 20).proportion_ci(method="exact")
    assert rate_interval(np.zeros(60, dtype=bool), np.repeat(np.arange(20), 3)) == pytest.approx((0, none.high))
    every = rate_interval(np.ones(60, dtype=bool), np.repeat(np.arange(20), 3))
    assert every == pytest.approx((1 - none.high, 1))
    low, high = rate_interval(np.array([True, False]), np.array([4, 4]))  # one vehicle tells nearly nothing
    assert low < 0.05
    assert high > 0.95


@pytest.mark.parametrize(("vehicles", "each", "alike", "rate"), [(300, 1, 0.0, 0.01), (100, 5, 0.8, 0.05)])
def test_the_stated_rate_holds_within_its_interval(vehicles: int, each: int, alike: float, rate: float) -> None:
    """On known distributions the true rate of a calibrated threshold is known: no second sample is needed."""
    inside, true = [], []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        common = np.repeat(generator.normal(size=2 * vehicles), each)
        values = np.sqrt(alike) * common + np.sqrt(1 - alike) * generator.normal(size=common.size)
        half = vehicles * each
        case = found((values[:half] + 5).tolist(), values[half:].tolist(), np.repeat(np.arange(2 * vehicles), each))
        threshold = calibrate(case, fpir=rate, miss_rate=rate)
        true.append(float(ndtr(threshold.match - 5)))
        inside.append(threshold.false_match.low <= true[-1] <= threshold.false_match.high)
    assert np.mean(inside) > 0.93  # of 95 % intervals; 300 draws: a standard deviation of 0.013
    assert np.mean(true) < 1.15 * rate


def clusters(seed: int, known: int, unknown: int, each: int) -> tuple[FeatureSet, FeatureSet]:
    """Vehicles as Gaussian clusters: queries of known and unknown ones, gallery of the known."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(known + unknown, 16))

    def images(name: str, vehicles: int, count: int) -> FeatureSet:
        identity = np.repeat(np.arange(vehicles), count)
        blur = generator.uniform(0.3, 0.8, size=(len(identity), 1))
        records = Records.of(path=[f"{name}{i}" for i in range(len(identity))], identity=identity.astype(str).tolist())
        features = centres[identity] + blur * generator.normal(size=(len(identity), 16))
        return FeatureSet(features, records, model="gaussian")

    return images("q", known + unknown, each), images("g", known, 3)


def test_the_stated_rate_holds_on_other_vehicles_and_another_gallery() -> None:
    inside, rates = [], []
    for seed in range(40):
        threshold = calibrate(open_set(PostProcessing().apply(*clusters(seed, 30, 80, 3)), CAMERA_LESS), fpir=0.05)
        held_out = open_set(PostProcessing().apply(*clusters(1000 + seed, 30, 300, 2)), CAMERA_LESS)
        rates.append(float(held_out.errors(threshold.match).fpir))
        inside.append(threshold.false_match.low <= rates[-1] <= threshold.false_match.high)
    assert np.mean(inside) >= 0.85  # 95 % intervals, tried on samples that err themselves
    assert 0.03 < np.mean(rates) < 0.065


def ranking(distances: list[list[float]], **facts):
    query = Records.of(path=[f"q{i}" for i in range(len(distances))])
    gallery = Records.of(path=[f"g{i}" for i in range(len(distances[0]))])
    made = replace(Distances.from_matrix(distances, query, gallery), features="model a")
    return replace(rank(replace(made, **facts), CAMERA_LESS), protocol="market")


THRESHOLD = calibrate(found([0.4 + d for d in TENTHS], TENTHS), fpir=0.2, miss_rate=0.2)  # MATCH to 0.6, NO MATCH > 0.8


def test_decisions_by_hand() -> None:
    decisions = decide(ranking([[0.9, 0.5], [0.7, 0.85], [0.9, 1.5], [np.inf, np.inf]]), THRESHOLD)
    assert decisions.decision.tolist() == [[MATCH, NO_MATCH], [UNCERTAIN, NO_MATCH], [NO_MATCH] * 2, [NO_MATCH] * 2]
    assert decisions.of_query.tolist() == [MATCH, UNCERTAIN, NO_MATCH, NO_MATCH]
    assert decisions.counts == {"MATCH": 1, "UNCERTAIN": 1, "NO MATCH": 2}
    assert decisions.notes == ()
    assert str(decisions).startswith("1 MATCH, 1 UNCERTAIN, 2 NO MATCH of 4 queries. MATCH at a false-match rate of 20")
    assert json.loads(json.dumps(decisions.as_dict()))["counts"]["UNCERTAIN"] == 1


def test_notes_explain_when_the_stated_errors_may_not_hold() -> None:
    small = replace(THRESHOLD, gallery_images=1, protocol="veri")
    notes = decide(ranking([[0.1, 0.2, 0.3]]), small).notes
    assert "3.0 times as large" in notes[0]
    assert "up to 3 times the stated one" in notes[0]
    assert notes[1] == "The threshold was calibrated under protocol veri; here it is market."
    unknown = replace(THRESHOLD, features="")
    assert "The model of the calibration is not recorded" in decide(ranking([[0.1]], features=""), unknown).notes[0]
    reranked = calibrate(found(TENTHS, TENTHS, steps=("re-ranking",), transductive=True), fpir=0.1, miss_rate=0.1)
    assert "(re-ranking) depend on all queries" in decide(ranking([[0.1]], steps=("re-ranking",)), reranked).notes[0]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"features": "model b"}, r"features: model a\) than these \(features: model b"),
        ({"features": ""}, r"than these \(features: unknown"),
        ({"steps": ("re-ranking k1=20",)}, r"post-processing: none\) than these \(post-processing: re-ranking k1=20"),
    ],
)
def test_a_threshold_for_other_distances_is_rejected(facts: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decide(ranking([[0.1]], **facts), THRESHOLD)


def test_the_kind_of_distances_travels_from_features_to_threshold() -> None:
    query, gallery = clusters(0, 30, 80, 3)
    threshold = calibrate(open_set(PostProcessing().apply(query, gallery), CAMERA_LESS), fpir=0.05)
    assert threshold.features == "model gaussian, views original"
    decide(rank(PostProcessing().apply(query, gallery), CAMERA_LESS, top_k=1), threshold)
    flipped = [replace(side, views=("original", "flip")) for side in (query, gallery)]
    for other in (PostProcessing().apply(*flipped), PostProcessing(exclude_same_camera=False).apply(*flipped)):
        with pytest.raises(InputError, match="views original"):
            decide(rank(other, CAMERA_LESS, top_k=1), threshold)


def test_the_kind_of_distances_survives_a_file(tmp_path: Path) -> None:
    distances = PostProcessing().apply(*clusters(0, 3, 1, 2))
    distances.save(tmp_path / "distances.safetensors")
    ranked = rank(Distances.load(tmp_path / "distances.safetensors"), CAMERA_LESS)
    ranked.save(tmp_path / "ranking.safetensors")
    assert Ranking.load(tmp_path / "ranking.safetensors").features == "model gaussian, views original"


def test_round_trip(tmp_path: Path) -> None:
    kept = replace(THRESHOLD, steps=("camera mean", "re-ranking k1=20"), left_out=3)
    kept.save(tmp_path / "threshold.json")
    assert Threshold.load(tmp_path / "threshold.json") == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("kind"), "is not a threshold file"),
        (lambda stored: stored.pop("miss"), "damaged"),
        (lambda stored: stored.pop("match"), "damaged"),
        (lambda stored: stored.update(match="near"), "damaged"),
        (lambda stored: stored.update(match=9.0), "match at most no_match"),
        (lambda stored: stored.update(match=float("nan")), "give finite distances|must be a finite number"),
        (lambda stored: stored.update(gallery_images=0), "gallery_images is 0"),
        (lambda stored: stored.update(colour="red"), "damaged"),
        (lambda stored: stored["miss"].update(low=2), "not a valid rate with its interval"),
        (lambda stored: stored["miss"].update(target=0), "not a valid rate with its interval"),
    ],
)
def test_a_damaged_file_is_reported(change, message: str, tmp_path: Path) -> None:
    THRESHOLD.save(tmp_path / "t.json")
    stored = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    change(stored)
    (tmp_path / "t.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        Threshold.load(tmp_path / "t.json")
    assert str(error.value).startswith(str(tmp_path / "t.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (found(TENTHS, TENTHS), {}, "rate of 1.0 % needs at least 100 queries of unknown vehicles; there are 10"),
        (
            found(TENTHS, TENTHS),
            {"fpir": 0.1},
            "rate of 5.0 % needs at least 20 queries of known vehicles; there are 10",
        ),
        (found([0.0] * 10, TENTHS), {"fpir": 0.5, "miss_rate": 0.5}, "copies of images"),
        (
            found([np.inf] * 10, TENTHS),
            {"fpir": 0.1, "miss_rate": 0.1},
            "no query of an unknown vehicle has a candidate",
        ),
        (found(TENTHS, [0.1] + [np.inf] * 9), {"fpir": 0.1, "miss_rate": 0.5}, "no positive among the candidates"),
        (found(TENTHS, TENTHS), {"fpir": 0}, "fpir is 0"),
        (found(TENTHS, TENTHS), {"miss_rate": 1.0}, "miss_rate is 1.0"),
        (found(TENTHS, TENTHS), {"confidence": 95}, "confidence is 95"),
    ],
)
def test_impossible_calibrations_give_one_sentence(case: OpenSet, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        calibrate(case, **options)
    assert "\n" not in str(error.value)


def test_nan_is_rejected() -> None:
    with pytest.raises(InputError, match="NaN"):
        THRESHOLD.classify([0.1, np.nan])
