"""Raw and L2-normalised features: which of the two is compared, who remembers it, and that every number says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oracles import reranking
from support.command_line import Run
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.reproduce.tables.scales import scale_named
from vreid.reproduce.tables.strdan import table_1, table_2
from vreid.retrieval import (
    CAMERA_LESS,
    MARKET,
    VERI_TRACKS_MEAN,
    Bias,
    CameraMean,
    FeatureSet,
    Norm,
    PostProcessing,
    ReRanking,
    Tracklets,
    ablation,
    evaluate_retrieval,
    rank,
)
from vreid.retrieval.evaluation.tuning import tune
from vreid.retrieval.postprocessing.pipeline import search_all
from vreid.retrieval_run import RetrievalRun


def sets(query, gallery, *, raw=False, **columns):
    """A query set and a gallery set; names tell vehicles, cameras differ between the sides."""
    sides = (("q", query, "c1"), ("g", gallery, "c2"))
    made = []
    for name, values, camera in sides:
        path = [f"{name}{row}.jpg" for row in range(len(values))]
        given = {key: pair[name == "g"] for key, pair in columns.items()}
        records = Records.of(path=path, camera=[camera] * len(path), **given)
        made.append(FeatureSet(np.float32(values), records, raw=raw, model="m"))
    return made[0], made[1]


# the same direction at ten times the length, and another direction at about the same place
QUERY, GALLERY = [[1, 0]], [[10, 0], [0.9, 0.9]]
RAW, UNIT = [[81, 0.82]], [[0, 2 - np.sqrt(2)]]  # squared distances by hand


@pytest.mark.parametrize(
    ("raw", "steps", "expected", "recorded"),
    [
        (False, "", UNIT, ()),
        (False, "norm=unit", UNIT, ("norm=unit",)),
        (False, "norm=raw", RAW, ("norm=raw",)),
        (True, "", RAW, ("norm=raw",)),
        (True, "norm=raw", RAW, ("norm=raw",)),
        (True, "norm=unit", UNIT, ("norm=unit",)),
    ],
)
def test_which_of_the_two_is_compared_by_hand(raw, steps, expected, recorded):
    sides = sets(QUERY, GALLERY, raw=raw, identity=(["v1"], ["v2", "v1"]))
    distances = PostProcessing.parse(steps).apply(*sides)
    assert distances.matrix() == pytest.approx(np.array(expected), abs=1e-6)
    assert distances.steps == recorded
    assert rank(distances, MARKET).indices[0].tolist() == ([1, 0] if expected is RAW else [0, 1])
    metrics = evaluate_retrieval(*sides, PostProcessing.parse(steps), MARKET)
    assert metrics.mAP == (1 if expected is RAW else 0.5)
    assert metrics.as_dict()["steps"] == list(recorded)


def lengths(seed=0, count=30, dimensions=6):
    """Features of very different lengths."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, dimensions)) * generator.uniform(0.3, 3, size=(count, 1))
    return values[:8], values[8:]


@pytest.mark.parametrize("raw", [True, False])
def test_re_ranking_of_raw_features_equals_the_published_algorithm(raw):
    query, gallery = lengths()
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
    expected = reranking.rerank(*((query, gallery) if raw else unit), 5, 2, 0.4)
    other = reranking.rerank(*(unit if raw else (query, gallery)), 5, 2, 0.4)
    distances = PostProcessing(reranking=ReRanking(5, 2, 0.4)).apply(*sets(query, gallery, raw=raw))
    assert distances.matrix() == pytest.approx(np.array(expected), abs=2e-6)
    assert np.abs(distances.matrix() - other).max() > 0.01
    assert distances.steps[:-1] == (("norm=raw",) if raw else ())


def test_tracklets_camera_mean_and_a_protocol_of_mean_tracklets_stay_raw():
    columns = {"identity": (["v1", "v2"], ["v1", "v1", "v2"]), "tracklet": (["a", "b"], ["t1", "t1", "t2"])}
    query, gallery = sets([[1, 0], [0, 4]], [[3, 0], [5, 0], [0, 2]], raw=True, **columns)
    means = np.array([[9, 5], [32, 4]])  # to (4, 0) and (0, 2)
    tracks = PostProcessing(tracklets=Tracklets("mean", "raw")).apply(query, gallery)
    assert tracks.matrix() == pytest.approx(means)
    assert np.concatenate([tile for _, tile in tracks.frames.tiles()])[0] == pytest.approx([4, 16, 5])
    prescribed = RetrievalRun(query, gallery, VERI_TRACKS_MEAN).distances(PostProcessing())
    assert prescribed.matrix() == pytest.approx(means)
    assert prescribed.steps == ("norm=raw", "tracklets=mean:raw")
    # the gallery's mean is (8/3, 2/3); the query's camera holds no gallery image, so it takes the same one
    centred = PostProcessing(camera_mean=CameraMean()).apply(query, gallery)
    assert centred.matrix() == pytest.approx(np.array([[4, 16, 5], [25, 41, 4]]), abs=1e-5)


def test_steps_that_normalise_stop_on_raw_features_and_go_on_with_norm_unit():
    sides = sets(*lengths(), raw=True)
    for steps, what in (("camera-whitening", "camera-whitening"), ("query-expansion=2", "query-expansion")):
        with pytest.raises(InputError, match=f"{what} L2-normalises .*extract --raw.* add norm=unit"):
            PostProcessing.parse(steps).apply(*sides)
        plain = [replace(side, raw=False) for side in sides]
        same = PostProcessing.parse(steps).apply(*plain).matrix()
        assert np.array_equal(PostProcessing.parse(f"{steps}, norm=unit").apply(*sides).matrix(), same)


def test_norm_raw_of_features_that_were_normalised_is_an_error():
    query, gallery = (side.normalise() for side in sets(QUERY, GALLERY))
    with pytest.raises(InputError, match="were L2-normalised in extraction; extract them with --raw"):
        PostProcessing.parse("norm=raw").apply(query, gallery)


def test_files_and_parts_remember_that_they_are_raw(tmp_path):
    query, gallery = sets(QUERY, GALLERY, raw=True)
    query.save(tmp_path / "query.safetensors")
    loaded = FeatureSet.load(tmp_path / "query.safetensors")
    assert loaded.raw and not loaded.normalised and "compared raw" in repr(loaded)
    assert loaded[0].raw and FeatureSet.concat([loaded, loaded]).raw
    assert not loaded.normalise().raw
    with pytest.raises(InputError, match="raw is True in part 1 but False in part 2"):
        FeatureSet.concat([loaded, replace(loaded, raw=False)])
    with pytest.raises(InputError, match="raw is True for the query but False for the gallery"):
        PostProcessing().apply(query, replace(gallery, raw=False))
    with pytest.raises(InputError, match="raw and normalised are both set"):
        replace(query.normalise(), raw=True)


def test_an_ensemble_of_raw_and_normalised_features_is_an_error_unless_a_norm_is_chosen():
    raw, unit = sets(*lengths(), raw=True), sets(*lengths(1), raw=False)
    for members, kinds in (
        ([raw, unit], "model 1 are compared raw, those of model 2 normalised"),
        ([unit, raw], "2 raw"),
    ):
        with pytest.raises(InputError, match=f"{kinds}.*add the step norm=unit"):
            search_all(members, PostProcessing())
        joined = search_all(members, PostProcessing(norm=Norm("unit")))
        each = [PostProcessing(norm=Norm("unit")).apply(*member).matrix() for member in members]
        assert joined.matrix() == pytest.approx((each[0] + each[1]) / 2, abs=1e-6)
    both = search_all([raw, sets(*lengths(1), raw=True)], PostProcessing())
    assert both.steps == ("norm=raw", "ensemble of 2 by mean")


def test_a_bias_is_compared_like_the_features_that_it_corrects():
    sides, bias = sets(*lengths(), raw=True), sets(*lengths(1), raw=True)
    post = PostProcessing(camera_bias=Bias(0.1, "after", bias))
    expected = [PostProcessing().apply(*each).matrix() for each in (sides, bias)]
    assert post.apply(*sides).matrix() == pytest.approx(expected[0] - 0.1 * expected[1], rel=1e-4, abs=1e-4)


def test_ablation_and_tuning_start_from_raw_features():
    identity = [f"v{row % 4}" for row in range(30)]
    query, gallery = sets(*lengths(), raw=True, identity=(identity[:8], identity[8:]))
    rows = ablation(PostProcessing(reranking=ReRanking(5, 2, 0.4)), query, gallery, CAMERA_LESS)
    assert [row.name for row in rows] == ["norm=raw", "+ rerank=5:2:0.4"]
    assert rows[0].value == evaluate_retrieval(query, gallery, PostProcessing(), CAMERA_LESS).mAP
    chosen = ablation(PostProcessing.parse("norm=unit, rerank=5:2:0.4"), query, gallery, CAMERA_LESS)
    assert [row.name for row in chosen if row.kind == "cumulative"] == ["norm=raw", "+ norm=unit", "+ rerank=5:2:0.4"]
    grids = {"reranking": {"lambda_": (0.1, 0.9)}}
    tuned = tune(PostProcessing(reranking=ReRanking(5, 2, 0.4)), [((query, gallery), CAMERA_LESS)], grids=grids)
    assert tuned.best.post.describe().startswith("norm=raw, rerank=5:2:")


def test_strdan_tables_compare_raw_features():
    for table in (table_1, table_2):
        rows = list(table(scale_named("smoke")))
        assert rows and all(row.features.normalise is False for row in rows)


def test_raw_and_normalised_features_from_the_command_line(
    run: Run, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    answers = {}
    for name, option in (("unit", ""), ("raw", "--raw")):
        folder = tmp_path / name
        assert run(f"extract {made}/run {tiny_world} --out {folder} --views original {option}").code == 0
        evaluated = run(f"evaluate {folder} --json")
        assert evaluated.code == 0, evaluated.err
        ranked = run(f"rank {folder} --out {folder}.csv --json")
        assert ranked.code == 0 and ("norm=raw" in json.loads(ranked.out)["ranking"]) == (name == "raw")
        assert run(f"submission write {folder} --out {folder}.txt").code == 0
        answers[name] = json.loads(evaluated.out)[0], (tmp_path / f"{name}.txt").read_text()
    assert [answer[0]["name"] for answer in answers.values()] == ["plain search", "norm=raw"]
    assert answers["raw"][1] != answers["unit"][1]
    # the file's own numbers, compared outside
    query, gallery = (FeatureSet.load(tmp_path / f"raw/{side}.safetensors") for side in ("query", "gallery"))
    squared = ((query.features[:, None].astype(float) - gallery.features) ** 2).sum(axis=2)
    search = RetrievalRun.load(tmp_path / "raw")
    assert search.distances(PostProcessing()).matrix() == pytest.approx(squared, rel=1e-4, abs=1e-4 * squared.max())
    again = run(f"evaluate {tmp_path}/raw --post norm=unit --json")
    parts = [row["parts"]["all cameras"] for row in (json.loads(again.out)[0], answers["unit"][0])]
    assert parts[0]["mAP"] == pytest.approx(parts[1]["mAP"])
    wrong = run(f"evaluate {tmp_path}/unit --post norm=raw")
    assert wrong.code == 2 and "extract them with --raw" in wrong.err
    mixed = run(f"evaluate {tmp_path}/unit {tmp_path}/raw")
    assert mixed.code == 2 and "add the step norm=unit" in mixed.err
    kept = run(f"extract {made}/run {tiny_world} --out {tmp_path}/unit --views original --raw")
    assert kept.code == 2 and "holds features of norm unit, not raw" in kept.err


def test_features_of_other_programs_are_normalised_unless_raw_is_asked_for(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.float32(QUERY + GALLERY))
    table = "path,identity,camera,split\nq.jpg,v1,c1,query\na.jpg,v2,c2,gallery\nb.jpg,v1,c2,gallery\n"
    (tmp_path / "images.csv").write_text(table)
    for steps, value in (("", 0.5), ("--post norm=raw", 1.0), ("--post norm=unit", 0.5)):
        found = run(f"evaluate {tmp_path}/features.npy --records {tmp_path}/images.csv {steps} --json")
        row = json.loads(found.out)[0]
        assert row["parts"]["all cameras"]["mAP"] == value
        assert row["name"] == (steps.removeprefix("--post ") or "plain search")
