"""Models in half precision: what is kept of their weights, their features, and what a row leaves to be carried."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.command_line import Run
from support.tiny_scale import TRAINING
from vreid.models.weights import load_weights, save_half
from vreid.reproduce import runner
from vreid.reproduce.rows import TYPE_1, Ensemble, Folders, Row
from vreid.reproduce.runner import run_rows
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval_run import RetrievalRun
from vreid.training.extract import export_half, load_trained


def test_weights_are_rounded_to_half_precision_within_its_range(tmp_path: Path) -> None:
    state = {
        "small": torch.tensor([1.0, 1 / 3, 2**-25, -65_519.0]),
        "large": torch.tensor([70_000.0, 1 / 3]),
        "counter": torch.tensor(12_345),
    }
    save_half(tmp_path / "w.safetensors", state, {"kind": "model"})
    found, facts = load_weights(tmp_path / "w.safetensors")
    assert facts == {"kind": "model"}
    assert {name: value.dtype for name, value in found.items()} == {
        "small": torch.float16,
        "large": torch.float32,
        "counter": torch.int64,
    }
    assert found["small"].tolist() == [1.0, 0.333251953125, 0.0, -65_504.0]
    assert torch.equal(found["large"], state["large"]) and found["counter"] == 12_345


def test_an_exported_model_extracts_almost_the_same_features(
    run: Run, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    exported = run(f"export {made}/run --out {tmp_path}/half.safetensors --json")
    assert exported.code == 0, exported.err
    size, before = json.loads(exported.out)["bytes"], (made / "run/model.safetensors").stat().st_size
    assert size == (tmp_path / "half.safetensors").stat().st_size < 0.6 * before
    extracted = run(f"extract {tmp_path}/half.safetensors {tiny_world} --out {tmp_path}/features")
    assert extracted.code == 0, extracted.err
    true, half = (RetrievalRun.load(folder / "features").gallery for folder in (made, tmp_path))
    cosines = np.einsum("nd,nd->n", true.features, half.features)
    assert cosines.min() > 0.9998 and not np.array_equal(true.features, half.features)
    assert true.model != half.model  # near is not the same: they are not mixed
    mixed = run(f"evaluate {made}/features {tmp_path}/features --json")
    assert mixed.code == 0  # but may be joined, as those of any two models


def test_an_export_keeps_its_metadata_and_can_be_exported_again(made: Path, tmp_path: Path) -> None:
    export_half(made / "run", tmp_path / "one.safetensors")
    export_half(tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    one, two = (load_trained(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.hash == two.hash and one.transform == load_trained(made / "run").transform
    assert load_weights(tmp_path / "one.safetensors")[1] == load_weights(made / "run/model.safetensors")[1]


@pytest.fixture
def unlabelled(tiny_world: Path, tmp_path: Path) -> Folders:
    """A test without vehicles, as it is distributed."""
    (tmp_path / "world").symlink_to(tiny_world / "AIC21_Track2_ReID")
    return Folders.of(tmp_path / "world", labels="none")


def test_a_row_exports_its_model_or_reports_why_not(
    unlabelled: Folders, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = Folders.of(tiny_world / "AIC21_Track2_ReID")
    row = Row("plain", labelled, TRAINING, parts=TYPE_1)
    (line,) = run_rows([row], tmp_path / "cache")
    ((stage, name),) = line.facts["weights"].items()
    assert stage == row.features.model.name
    carried, full = load_trained(tmp_path / "cache" / name), load_trained(tmp_path / "cache" / stage)
    for key, value in full.model.state_dict().items():
        torch.testing.assert_close(carried.model.state_dict()[key], value, rtol=2**-11, atol=3e-8)

    monkeypatch.setattr(runner, "MAX_WEIGHTS", 100_000)
    (tmp_path / "cache" / name).unlink()
    (line,) = run_rows([replace(row, views=("original",))], tmp_path / "cache")
    (reported,) = line.facts["weights"].values()
    assert reported.startswith("none: ") and "MB in half precision, more than 0" in reported
    assert not (tmp_path / "cache" / name).exists()


def test_an_ensemble_ends_in_a_submission_where_the_test_names_no_vehicles(unlabelled: Folders, tmp_path: Path) -> None:
    row = Row("plain", unlabelled, TRAINING, parts=TYPE_1)
    both = Ensemble("both", (row, replace(row, post=PostProcessing.parse("rerank=4:2:0.5"))))
    (line,) = run_rows([both], tmp_path / "cache")
    assert not line.error and "no labels" in line.facts["labels"]
    assert (tmp_path / "cache" / line.facts["submission"]).read_text().count("\n") > 1
