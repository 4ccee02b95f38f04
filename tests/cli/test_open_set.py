"""Commands calibrate and rank --threshold, and the open set, thresholds and slices of evaluate, end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from vreid.data.records import Records
from vreid.retrieval import MARKET, FeatureSet
from vreid.retrieval_run import RetrievalRun

KNOWN, UNKNOWN, EACH = 30, 60, 3


def write_features(folder: Path, seed: int, model: str = "gaussian") -> Path:
    """Vehicles as Gaussian clusters: queries of 30 vehicles in the gallery and of 60 others."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(KNOWN + UNKNOWN, 16))
    sides = []
    for side, vehicles, camera in (("query", KNOWN + UNKNOWN, "a"), ("gallery", KNOWN, "b")):
        identity = np.repeat(np.arange(vehicles), EACH)
        records = Records.of(
            path=[f"{side}/{i}.jpg" for i in range(len(identity))],
            identity=identity.astype(str).tolist(),
            camera=[camera] * len(identity),
            color=[("red", "blue", "white")[i % 3] for i in range(len(identity))],
        )
        features = centres[identity] + 0.5 * generator.normal(size=(len(identity), 16))
        sides.append(FeatureSet(features, records, model=model))
        sides[-1].save(folder / f"{side}.safetensors")
    RetrievalRun(*sides, protocol=MARKET).save_facts(folder)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("validation"), seed=1)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("held_out"), seed=2)


def test_open_set_numbers(run: Run, features: Path) -> None:
    reported = json.loads(run(f"evaluate {features} --open-set --post rerank=5:2:0.3 --json").out)
    assert [row["reranked"] for row in reported["rows"]] == [False, True]
    plain = reported["rows"][0]
    assert (plain["num_mated"], plain["num_without_mate"]) == (KNOWN * EACH, UNKNOWN * EACH)
    fnir = [at["fnir"] for at in plain["fnir_at_fpir"]]
    assert [at["fpir"] for at in plain["fnir_at_fpir"]] == [0.01, 0.05, 0.1]
    assert fnir == sorted(fnir, reverse=True)
    shown = run(f"evaluate {features} --open-set").out
    assert "90 queries of known vehicles, 180 of unknown ones; 90 gallery images; protocol market" in shown
    assert f"{100 * fnir[0]:.1f}" in shown
    assert "FPIR: share of the queries without a match" in shown


def test_a_share_of_the_vehicles_is_left_out(run: Run, features: Path) -> None:
    lines = [f"evaluate {features} --leave-out 0.5 --seed {seed} --json" for seed in (0, 0, 1)]
    first, again, other = (json.loads(run(line).out)["rows"][0] for line in lines)
    assert (first["vehicles_left_out"], first["gallery_images"]) == (15, 45)
    assert first["num_without_mate"] == (UNKNOWN + 15) * EACH
    assert first == again
    assert first != other


def test_calibrate_then_try_then_decide(run: Run, features: Path, held_out: Path, tmp_path: Path) -> None:
    threshold = tmp_path / "threshold.json"
    calibrated = run(f"calibrate {features} --out {threshold} --fpir 0.05 --miss-rate 0.02")
    assert calibrated.code == 0
    stored = json.loads(threshold.read_text(encoding="utf-8"))
    assert stored["false_match"]["num_queries"] == 180
    assert "MATCH at a false-match rate of 5.0 % (" in calibrated.out
    assert "calibrated on 180 queries of unknown vehicles among 90 images" in calibrated.out

    tried = json.loads(run(f"evaluate {held_out} --threshold {threshold} --json").out)["threshold"]
    rate, (low, high) = tried["errors"]["fpir"], tried["errors"]["fpir_interval"]
    assert low <= rate <= high
    assert max(low, stored["false_match"]["low"]) <= min(high, stored["false_match"]["high"])  # the two agree
    assert tried["errors"]["tnr"] == pytest.approx(1 - rate)
    shown = run(f"evaluate {held_out} --threshold {threshold}").out
    assert f"On this data: false-match rate {100 * rate:.1f} % (" in shown

    ranked = run(f"rank {held_out} --out {tmp_path}/lists.csv --top-k 3 --threshold {threshold}")
    with open(tmp_path / "lists.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        distance = float(row["distance"])
        expected = "MATCH" if distance <= stored["match"] else "UNCERTAIN"
        assert row["decision"] == (expected if distance <= stored["no_match"] else "NO MATCH")
    matches = [row["query_path"] for row in rows if row["rank"] == "1" and row["decision"] == "MATCH"]
    assert f"{len(matches)} MATCH, " in ranked.out
    unknown = {f"query/{i}.jpg" for i in range(KNOWN * EACH, (KNOWN + UNKNOWN) * EACH)}
    assert len(unknown & set(matches)) == round(rate * UNKNOWN * EACH)
    facts = json.loads(run(f"rank {held_out} --out {tmp_path}/again.csv --threshold {threshold} --json").out)
    assert facts["decisions"]["counts"]["MATCH"] == len(matches)


def test_slices(run: Run, features: Path) -> None:
    parts = json.loads(run(f"evaluate {features} --by color --json").out)[0]["parts"]
    assert list(parts) == ["blue", "red", "white"]
    assert sum(part["num_queries"] for part in parts.values()) == KNOWN * EACH
    pair = json.loads(run(f"evaluate {features} --by camera-pair --json").out)[0]["parts"]
    assert list(pair) == ["a -> b"]
    everything = json.loads(run(f"evaluate {features} --json").out)[0]["parts"]["all cameras"]
    assert pair["a -> b"]["mAP"] == pytest.approx(everything["mAP"])
    assert "*" not in run(f"evaluate {features} --by camera-pair").out


def test_slices_of_few_queries_are_marked(run: Run, tmp_path: Path) -> None:
    folder = write_features(tmp_path, seed=3)
    query = FeatureSet.load(folder / "query.safetensors")
    query[:50].save(folder / "query.safetensors")
    shown = run(f"evaluate {folder} --by color").out
    assert "red *" in shown
    assert "* fewer than 30 queries" in shown


WRONG = {
    "calibrate {features} --out {new}/t.json --fpir 0.001": "at least 1,000 queries of unknown vehicles; there are 180",
    "evaluate {features} --threshold {new}/none.json": "none.json",
    "evaluate {features} --threshold {features}/features.json": "is not a threshold file",
    "evaluate {other} --threshold {threshold}": "calibrated on other distances (features: model gaussian",
    "evaluate {features} --threshold {threshold} --post rerank=5:2:0.3": "post-processing: none",
    "evaluate {features} --leave-out 1.5": "share is 1.5",
    "evaluate {features} --by colour": "slices by 'colour' are unknown",
    "evaluate {features} --by gap": "slices by gap: unknown for all queries and matches",
    "evaluate {features} --by color --open-set": "omit one of the two",
    "rank {features} --out {new}/lists.csv --threshold {new}/none.json": "none.json",
    "rank {other} --out {new}/lists.csv --threshold {threshold}": "calibrate one for these",
    "rank {features} --out {new}/lists.safetensors --threshold {threshold}": "ends in .csv",
}


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line[:9] + line[-20:])
def test_wrong_input_gets_one_sentence(line: str, run: Run, features: Path, tmp_path: Path) -> None:
    other = write_features(tmp_path / "other", seed=1, model="another") if "{other}" in line else ""
    threshold = tmp_path / "threshold.json"
    assert run(f"calibrate {features} --out {threshold} --fpir 0.05").code == 0
    outcome = run(line.format(features=features, other=other, threshold=threshold, new=tmp_path / "new"))
    assert outcome.code == 2, outcome
    assert WRONG[line] in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "new").exists()
