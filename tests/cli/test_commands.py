"""Every command end to end on simulated data. What wrong input gets: test_bad_input*.py."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.command_line import SMALLEST, Outcome, Run
from vreid.retrieval import FeatureSet, Ranking


def answer(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_simulate(run: Run, tmp_path: Path) -> None:
    first = answer(run(f"simulate {tmp_path}/world --preset tiny --seed 3 --workers 1 --json"))
    assert (first["preset"], first["seed"], first["reused"]) == ("tiny", 3, False)
    again = run(f"simulate {tmp_path}/world --preset tiny --seed 3")
    assert again.code == 0
    assert "already exists" in again.out
    other = run(f"simulate {tmp_path}/world --preset tiny --seed 4")
    assert other.code == 2
    assert str(tmp_path / "world") in other.err


def test_sheet(run: Run, tmp_path: Path) -> None:
    assert run(f"sheet {tmp_path}/sheet.png --kind closeup").code == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert min(picture.size) > 600


def test_check_clean_and_with_a_finding(run: Run, tiny_world: Path, tmp_path: Path) -> None:
    assert run(f"check {tiny_world}").out.endswith("No problems found.\n")
    table = tmp_path / "vehicles.csv"
    there = next((tiny_world / "AIC21_Track2_ReID" / "image_test").iterdir())
    table.write_text(f"path,identity,camera\n{there},1,a\nmissing.jpg,1,b\n")
    found = run(f"check {table} --json")
    assert found.code == 1
    assert json.loads(found.out)["findings"][0]["check"] == "missing image"


def test_extract_writes_unit_features_of_every_image(made: Path, tiny_world: Path) -> None:
    gallery = FeatureSet.load(made / "features" / "gallery.safetensors")
    pictures = list((tiny_world / "AIC21_Track2_ReID" / "image_test").iterdir())
    assert len(gallery) == len(pictures)
    assert np.allclose(np.linalg.norm(gallery.features, axis=1), 1, atol=1e-5)


def test_evaluate_shows_numbers_with_and_without_reranking(run: Run, made: Path) -> None:
    rows = answer(run(f"evaluate {made}/features --post tracklets,rerank=7:2:0.6 --json"))
    assert [row["parts"]["all cameras"]["reranked"] for row in rows] == [False, True]
    assert set(rows[0]["parts"]) == {"all cameras", "seen cameras", "new cameras"}
    numbers = rows[0]["parts"]["all cameras"]
    assert 0 < numbers["mAP"] <= 1
    assert numbers["cmc"][0] == numbers["rank1"]
    assert numbers["cmc"] == sorted(numbers["cmc"])
    assert numbers["mAP@100"] == numbers["mAP"]  # the gallery holds fewer than 100 images
    shown = run(f"evaluate {made}/features --protocol market")
    assert "market: gallery images of the query's own vehicle" in shown.out
    assert "mAP@100" not in shown.out


def test_rank_writes_a_table_and_a_file_that_agree(run: Run, made: Path, tmp_path: Path) -> None:
    assert run(f"rank {made}/features --out {tmp_path}/lists.csv --top-k 5 --post other-cameras").code == 0
    answer(run(f"rank {made}/features --out {tmp_path}/lists.safetensors --top-k 5 --post other-cameras --json"))
    ranking = Ranking.load(tmp_path / "lists.safetensors")
    with open(tmp_path / "lists.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ranking.lengths.sum()
    expected = [ranking.gallery.path[i] for i in ranking.indices[0, : ranking.lengths[0]]]
    assert [row["path"] for row in rows if row["query"] == ranking.query.image_key[0]] == expected
    cameras = dict(zip(ranking.query.image_key, ranking.query.camera.values, strict=True))
    assert all(row["camera"] != cameras[row["query"]] == row["query_camera"] for row in rows)
    assert all(float(row["time"]) > 0 for row in rows)


def test_ensembles_with_weights_and_rank_fusion(run: Run, made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made / "features", other)
    for side in ("query", "gallery"):
        features = FeatureSet.load(other / f"{side}.safetensors")
        noise = np.random.default_rng(0).normal(scale=0.1, size=features.features.shape)
        replace(features, features=(features.features + noise).astype(np.float32), normalised=False).normalise().save(
            other / f"{side}.safetensors"
        )
    both = f"evaluate {made}/features {other} --json"

    def mean_ap(options: str) -> tuple[float, str]:
        row = answer(run(f"{both} {options}"))[0]["parts"]["all cameras"]
        return row["mAP"], row["steps"][-1]

    alone = answer(run(f"evaluate {made}/features --json"))[0]["parts"]["all cameras"]["mAP"]
    assert mean_ap("--weights 1,1e-9")[0] == pytest.approx(alone, abs=1e-6)
    assert mean_ap("--weights 3,1") == (mean_ap("--weights 6,2")[0], "ensemble of 2 by mean, weights 3 : 1")
    assert mean_ap("--fusion rank")[1] == "ensemble of 2 by rank"
    assert mean_ap("--fusion rank")[0] != mean_ap("")[0]


def test_scene_groups_are_looked_up_in_labels(run: Run, made: Path, tmp_path: Path) -> None:
    cameras = sorted(set(FeatureSet.load(made / "features" / "gallery.safetensors").records.camera.values))
    table = tmp_path / "labels.csv"
    rows = [f"{i}.jpg,v{i % 2},{camera},train" for i, camera in enumerate(cameras)]
    for row in rows:
        (tmp_path / row.partition(",")[0]).touch()
    table.write_text("\n".join(["path,identity,camera,split", *rows]))
    shown = answer(run(f"evaluate {made}/features --post scene-groups=labels:{table} --json"))
    groups = "/".join("+".join(cameras[first::2]) for first in (0, 1))
    assert shown[0]["name"] == f"scene-groups={groups}/*"
    (note,) = shown[0]["parts"]["all cameras"]["notes"]
    assert " pairs of images are excluded, between the groups " in note
    printed = run(f"ablate {made}/features --post 'rerank=4:2:0.5, scene-groups=labels:{table}'").out
    assert printed.count(note) == 1 and "+ scene-groups=" in printed and "all but scene-groups=" in printed
    assert note in run(f"rank {made}/features --post scene-groups=labels:{table} --out {tmp_path}/r.csv").out
    twice = run(f"evaluate {made}/features --post 'dmt, scene-groups=labels:{table}'")
    assert twice.code == 2 and "scene-groups: occurs twice" in twice.err


def test_report(run: Run, made: Path, tmp_path: Path) -> None:
    assert run(f"report {made}/features --run {made}/run --out {tmp_path}/page.html --post rerank=7:2:0.6").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "rerank=7:2:0.6" in page
    assert "data:image/jpeg;base64," in page
    assert "the numbers do not transfer to real roads" in page


def test_info(run: Run) -> None:
    facts = answer(run("info --json"))
    assert facts["numpy"] == np.__version__ and "device" not in facts
    facts = answer(run("info --full --json"))
    assert facts["device"] in ("cpu", "cuda")


def test_resume_of_a_complete_run_keeps_it(run: Run, made: Path, tiny_world: Path) -> None:
    before = (made / "run" / "model.safetensors").read_bytes()
    assert run(f"train small --data {tiny_world} --out {made}/run {SMALLEST} --resume").code == 0
    assert (made / "run" / "model.safetensors").read_bytes() == before


def test_demo_end_to_end(run: Run, tmp_path: Path) -> None:
    line = f"demo --out {tmp_path}/demo --preset tiny {SMALLEST} --json"
    summary = answer(run(line))
    assert [row["name"] for row in summary["ablation"]] == [
        "plain",
        "+ adaptation",
        "+ camera mean",
        "+ tracklet mean",
        "+ re-ranking",
        "+ camera verification",
    ]
    for entry in (*summary["ablation"], *summary["baselines"].values()):
        assert 0 <= entry["rank1"] <= 1
        assert 0 < entry["mAP"] <= 1
        assert set(entry["parts"]) == {"all cameras", "seen cameras", "new cameras"}
    assert summary["initialisation"].startswith("simulated start v")
    assert {"chance", "hsv_histogram"} <= set(summary["baselines"])
    assert {"simulate", "check", "train", "extract", "adapt", "rank", "report"} <= set(summary["seconds"])
    assert summary == json.loads((tmp_path / "demo" / "summary.json").read_text(encoding="utf-8"))
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "the numbers do not transfer to real roads" in page and summary["initialisation"] in page
    assert f"{100 * summary['ablation'][0]['mAP']:.1f}" in page
    again = answer(run(line))  # everything is there: the same numbers, nothing trained again
    assert again["ablation"] == summary["ablation"]


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help").out
    assert all(
        name in shown for name in ("demo", "simulate", "check", "train", "extract", "rank", "evaluate", "report")
    )


def test_ctrl_c_reports_how_to_continue(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vreid.retrieval_run.RetrievalRun.evaluate", interrupted)
    outcome = run(f"evaluate {made}/features")
    assert outcome.code == 130
    assert outcome.err == "vreid: interrupted; run the same command again to continue (train, adapt: with --resume).\n"


def test_an_error_of_the_system_is_one_sentence(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "features")

    monkeypatch.setattr("vreid.retrieval_run.RetrievalRun.evaluate", full)
    outcome = run(f"evaluate {made}/features")
    assert (outcome.code, outcome.err) == (
        2,
        "vreid: features: cannot be used (No space left on device); free some space and run it again.\n",
    )
