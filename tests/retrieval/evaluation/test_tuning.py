"""Tuning: the best of the tried on validation alone; what shares anything with the test is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from support.listeners import Steps
from vreid.data.protocols import AI_CITY, MARKET
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.evaluation.tuning import check_apart, gain, tune
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing

GRID = {"reranking": {"k1": (3, 6), "lambda_": (0.0, 0.5, 1.0)}}


def sides(seed: int, name: str = "v", folder: str = "") -> Sides:
    """Query and gallery of ten vehicles at three cameras, with a gap between cameras."""
    rng = np.random.default_rng(seed)
    rows = list(product(range(10), range(3), range(2)))
    vehicles, cameras = rng.normal(size=(10, 8)), rng.normal(size=(3, 8))
    features = np.array([vehicles[v] + cameras[c] for v, c, _ in rows]) + 0.5 * rng.normal(size=(60, 8))
    records = Records.of(
        path=[f"{folder}{seed}/{v}_{c}_{f}.jpg" for v, c, f in rows],
        identity=[f"{name}{v}" for v, _, _ in rows],
        camera=[f"c{c}" for _, c, _ in rows],
    )
    both = FeatureSet(features.astype(np.float32), records, model="m").normalise()
    return both[0::2], both[1::2]


def test_the_best_setting_is_the_best_of_all() -> None:
    validation = [(sides(1), MARKET), (sides(2), MARKET)]
    found = tune(PostProcessing.parse("rerank=3:2:0"), validation, grids=GRID)
    values = {}
    for k1, lambda_ in product(*GRID["reranking"].values()):
        post = PostProcessing.parse(f"rerank={k1}:2:{lambda_}")
        values[post] = np.mean([evaluate_retrieval(*sides_, post, MARKET).mAP for sides_, _ in validation])
    assert {trial.post: trial.value for trial in found.trials}.items() <= values.items()
    assert found.given.value == values[found.given.post] and found.trials[0] == found.given
    # no single parameter, changed alone, does better
    for post, value in values.items():
        mine, theirs = found.best.post.reranking, post.reranking
        if (mine.k1 == theirs.k1) or (mine.lambda_ == theirs.lambda_):
            assert value <= found.best.value
    assert found.best.value > found.given.value
    assert found.best.post.describe() in str(found)


def test_a_cut_protocol_is_tuned_by_its_cut_metric() -> None:
    protocol = replace(AI_CITY, top_k=3)
    found = tune(PostProcessing.parse("camera-mean"), [(sides(1), protocol)])
    assert found.given.value == evaluate_retrieval(*sides(1), PostProcessing.parse("camera-mean"), protocol).mAP_at_k


def test_ties_keep_what_was_given() -> None:
    perfect = tuple(replace(side, features=np.repeat(np.eye(10, dtype=np.float32), 3, axis=0)) for side in sides(1))
    post = PostProcessing.parse("rerank=4:2:0.5")
    assert tune(post, [(perfect, MARKET)], grids=GRID).best.post == post


def test_gain_is_the_paired_difference() -> None:
    test = sides(3)
    plain, better = (evaluate_retrieval(*test, PostProcessing.parse(text), MARKET) for text in ("", "camera-mean"))
    value, low, high = gain(plain, better)
    assert value == pytest.approx(better.mAP - plain.mAP)
    assert low <= value <= high
    assert gain(plain, plain) == (0, 0, 0)


def test_progress_never_passes_its_total() -> None:
    steps = Steps()
    found = tune(PostProcessing.parse("rerank"), [(sides(1), MARKET)], grids=GRID, progress=steps)
    assert [done for done, _ in steps.seen] == list(range(len(found.trials) + 1))
    assert all(done <= total for done, total in steps.seen)


@pytest.mark.parametrize(
    ("steps", "count", "message"), [("", 1, "no parameter to choose"), ("rerank", 0, "no validation features")]
)
def test_tuning_without_parameters_or_data_is_rejected(steps: str, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tune(PostProcessing.parse(steps), [(sides(1), MARKET)] * count)


def copied(side: FeatureSet) -> FeatureSet:
    features = side.features.copy()
    features[4] = sides(1)[1].features[7]
    return replace(side, features=features)


@pytest.mark.parametrize(
    ("spoil", "same_source", "message"),
    [
        (lambda test: sides(1, "other"), False, r"1/0_0_0\.jpg: is in validation and test"),
        (lambda test: (copied(test[0]), test[1]), False, "so it is the same image"),
        (lambda test: sides(2, "v"), True, "vehicle v0: is in validation and test"),
        (lambda test: tuple(replace(s, features=s.features[:, :5], normalised=False) for s in test), False, "5 dimens"),
    ],
)
def test_validation_overlapping_with_the_test_is_rejected(
    spoil: Callable[[Sides], Sides], same_source: bool, message: str
) -> None:
    test = sides(2, "w")
    check_apart(test, sides(1), same_source=True)
    check_apart(sides(2, "v"), sides(1), same_source=False)  # another data set counts its vehicles from 1 too
    with pytest.raises(InputError, match=message):
        check_apart(spoil(test), sides(1), same_source=same_source)


@pytest.fixture
def other_world(made: Path, tmp_path: Path) -> Path:
    """The made features as if of another world: other paths, vectors and seed."""
    from vreid.retrieval_run import RetrievalRun

    search = RetrievalRun.load(made / "features")
    rng = np.random.default_rng(0)

    def moved(side: FeatureSet) -> FeatureSet:
        paths = [f"elsewhere/{name}" for name in side.records.path]
        records = side.records.with_(path=paths, image_key=side.records.image_key)
        features = side.features + 0.01 * rng.normal(size=side.features.shape).astype(np.float32)
        return replace(side, features=features, records=records, normalised=False).normalise()

    other = replace(search, query=moved(search.query), gallery=moved(search.gallery))
    other = replace(other, facts={**other.facts, "seed": 99})
    other.query.save(tmp_path / "other" / "query.safetensors")
    other.gallery.save(tmp_path / "other" / "gallery.safetensors")
    other.save_facts(tmp_path / "other")
    return tmp_path / "other"


def test_the_command(run, made: Path, other_world: Path) -> None:
    outcome = run(f"tune {made}/features --on {other_world} --post camera-mean")
    assert outcome.code == 0, outcome.err
    assert "chosen on validation: camera-mean" in outcome.out and "Tuning changes" in outcome.out
    assert "mINP" in outcome.out
    (row,) = json.loads(run(f"tune {made}/features --on {other_world} --post camera-mean --json").out)
    assert row["name"].startswith("camera-mean") and row["parts"]["all cameras"]["mAP"] > 0
