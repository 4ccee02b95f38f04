"""Damaged, unsuitable and malicious files of vreid's own formats: features, models, checkpoints, run folders, demo."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from support.command_line import SMALLEST, Run, reported, rewrite, state
from vreid.errors import InputError
from vreid.retrieval import FeatureSet, Ranking
from vreid.training.extract import load_trained

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]


def _set(value: float, row: int = 2) -> Callable[[Arrays, Facts], object]:
    def change(arrays: Arrays, facts: Facts) -> None:
        arrays["features"][row] = value
        facts["normalised"] = False

    return change


FEATURES: dict[str, tuple[Callable[[Arrays, Facts], object], str]] = {
    "NaN": (_set(np.nan), "(row 3): the feature contains NaN or infinity"),
    "infinity": (_set(np.inf), "(row 3): the feature contains NaN or infinity"),
    "not normalised": (
        lambda a, f: a["features"].__imul__(2),
        "(row 1): the feature does not have norm 1, but normalised is set",
    ),
    "one row less": (lambda a, f: a.update(features=a["features"][1:]), "features for "),
    "one dimension": (lambda a, f: a.update(features=a["features"].ravel()), "not (images, dimensions)"),
    "no features": (lambda a, f: a.pop("features"), "features is missing"),
    "no records": (lambda a, f: a.pop("records.camera.codes"), "camera.codes is missing"),
    "codes without a name": (lambda a, f: a["records.camera.codes"].__iadd__(99), "column camera is damaged"),
    "codes below junk": (lambda a, f: a["records.identity.codes"].__isub__(99), "column identity is damaged"),
    "a box short": (lambda a, f: a.update({"records.box": a["records.box"][:, :3].copy()}), "box has shape"),
    "a number for a column": (lambda a, f: a.update({"records.time": np.array(3.0)}), "make it again"),
    "no view": (lambda a, f: f.pop("views"), "views is missing"),
    "a number of views": (lambda a, f: f.update(views=3), "make it again"),
    "another kind": (lambda a, f: f.update(kind="ranking"), "holds ranking, not features"),
}


@pytest.mark.parametrize("damage", FEATURES)
@pytest.mark.parametrize("command", ["evaluate {f}", "rank {f} --out {new}/lists.csv", "report {f} --out {new}/a.html"])
def test_damaged_features(damage: str, command: str, run: Run, made: Path, tmp_path: Path) -> None:
    change, sentence = FEATURES[damage]
    shutil.copytree(made / "features", tmp_path / "features")
    file = tmp_path / "features" / "gallery.safetensors"
    rewrite(file, change)
    with pytest.raises(InputError):
        FeatureSet.load(file)
    before = state(tmp_path)
    reported(run(command.format(f=tmp_path / "features", new=tmp_path / "new")), f"{file}: ", sentence)
    assert state(tmp_path) == before


def test_a_row_of_zeros_is_reported_when_normalised(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "features" / "query.safetensors", tmp_path / "q.safetensors")
    rewrite(tmp_path / "q.safetensors", _set(0.0, row=4))
    features = FeatureSet.load(tmp_path / "q.safetensors")
    with pytest.raises(InputError, match=r"\.jpg \(row 5\): the feature has norm 0 and cannot be normalised"):
        features.normalise()


def test_query_and_gallery_of_two_models_are_never_compared(run: Run, made: Path, tmp_path: Path) -> None:
    for change, sentence in (
        (lambda arrays, facts: arrays.update(features=arrays["features"][:, :8].copy()), "dimensions"),
        (lambda arrays, facts: facts.update(model="0" * 64), "model"),
    ):
        folder = tmp_path / sentence
        shutil.copytree(made / "features", folder)
        for side in ("query", "gallery"):
            rewrite(folder / f"{side}.safetensors", lambda arrays, facts: facts.update(normalised=False))
        rewrite(folder / "gallery.safetensors", change)
        reported(run(f"evaluate {folder}"), sentence)


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (0.0, "is not a complete safetensors file"),
        (0.001, "is not a complete safetensors file"),
        (0.3, "is damaged: its contents do not match the hash stored in it"),
        (0.99, "is damaged: its contents do not match the hash stored in it"),
    ],
)
def test_truncated_files(share: float, sentence: str, run: Run, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "features", tmp_path / "features")
    shutil.copytree(made / "run", tmp_path / "run")
    for file, line in (
        (tmp_path / "features" / "query.safetensors", f"evaluate {tmp_path}/features"),
        (tmp_path / "features" / "features.json", f"evaluate {tmp_path}/features"),
        (tmp_path / "run" / "model.safetensors", f"extract {tmp_path}/run {tmp_path} --out {tmp_path}/new"),
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * share)])
        if "extract" in line:
            with pytest.raises(InputError, match=f"model.safetensors: {sentence}"):
                load_trained(tmp_path / "run")
        else:
            reported(run(line), f"{file}: ")
        file.write_bytes(whole)


FACTS = {
    "[]": "make it again",
    "{}": "protocol is missing",
    '{"protocol": 3, "facts": {}, "trained_cameras": []}': "make it again",
    '{"protocol": {"nme": "x"}, "facts": {}, "trained_cameras": []}': "make it again",
    "{" * 100_000: "is not valid JSON",
    "[" * 100_000: "is not valid JSON",
    "NaN": "make it again",
    "\x00": "is not valid JSON",
}


@pytest.mark.parametrize("text", FACTS, ids=lambda text: ascii(text[:30]))
def test_damaged_facts_of_features(text: str, run: Run, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "features", tmp_path / "features")
    (tmp_path / "features" / "features.json").write_text(text)
    reported(run(f"evaluate {tmp_path}/features"), f"{tmp_path}/features/features.json: ", FACTS[text])


def test_a_damaged_ranking(run: Run, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "lists.safetensors"
    assert run(f"rank {made}/features --out {file} --top-k 5").code == 0
    whole = file.read_bytes()
    for change, sentence in (
        (lambda arrays, facts: arrays["indices"].__iadd__(999), "indices must be from 0 to "),
        (lambda arrays, facts: facts.pop("protocol"), "protocol is missing"),
        (lambda arrays, facts: arrays.pop("query.path"), "path is missing"),
    ):
        file.write_bytes(whole)
        rewrite(file, change)
        with pytest.raises(InputError, match=rf"lists.safetensors: .*{sentence}"):
            Ranking.load(file)


MODELS: dict[str, tuple[Callable[[Arrays, Facts], object], str]] = {
    "another version": (lambda a, f: f["transform"].update(sharpen=3), "make it again"),
    "no transform": (lambda a, f: f.pop("transform"), "transform is missing"),
    "no height": (lambda a, f: f["transform"].update(height=0), "transform.height is 0; give a whole number from 1 to"),
    "no backbone": (lambda a, f: f["model"].pop("backbone"), "backbone is missing"),
    "another backbone": (lambda a, f: f["model"].update(backbone="resnet999"), "There is no backbone"),
    "text for a number": (lambda a, f: f.update(num_identities="many"), "make it again"),
    "a weight less": (lambda a, f: a.pop("classifier.weight"), "1 missing (classifier.weight); choose the right model"),
    "foreign": (lambda a, f: f.clear(), "is not a trained model of vreid"),
}


@pytest.mark.parametrize("damage", MODELS)
def test_damaged_models(damage: str, run: Run, made: Path, tiny_world: Path, tmp_path: Path) -> None:
    change, sentence = MODELS[damage]
    shutil.copytree(made / "run", tmp_path / "run")
    rewrite(tmp_path / "run" / "model.safetensors", change)
    before = state(tmp_path)
    reported(run(f"extract {tmp_path}/run {tiny_world} --out {tmp_path}/f"), "model.safetensors: ", sentence)
    assert state(tmp_path) == before


RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "of another version": (lambda r: _json(r / "config.json", new_field=3), "config.json: the run has new_field = 3"),
    "of other data": (lambda r: _json(r / "data.json", images=7), "data.json: the run has images = 7"),
    "config is a list": (lambda r: (r / "config.json").write_text("[]"), "config.json"),
    "config is cut": (lambda r: (r / "config.json").write_text("{"), "config.json: is not valid JSON"),
    "data are missing": (lambda r: (r / "data.json").unlink(), "data.json: cannot be read"),
    "environment is a list": (lambda r: (r / "environment.json").write_text("[]"), "environment.json"),
    "environment without number type": (lambda r: (r / "environment.json").write_text("{}"), "precision"),
    "no run": (lambda r: (r / "config.json").unlink(), "holds no run (no config.json)"),
}


def _json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("damage", RUNS)
def test_damaged_runs_are_not_resumed(damage: str, run: Run, made: Path, tiny_world: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()  # else it is complete
    RUNS[damage][0](tmp_path / "run")
    before = state(tmp_path)
    line = f"train small --data {tiny_world} --out {tmp_path}/run {SMALLEST} --resume"
    reported(run(line), f"{tmp_path}/run", RUNS[damage][1])
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, facts: facts.pop("loop"),
        lambda arrays, facts: facts.update(loop={"epochs": 3}),
        lambda arrays, facts: arrays.pop("random.cpu"),
        lambda arrays, facts: arrays.update({"optimiser.x.y": np.zeros(1)}),
        lambda arrays, facts: facts.clear(),
    ],
)
def test_damaged_checkpoints_are_passed_over(
    change: Callable[[Arrays, Facts], object], run: Run, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        rewrite(checkpoint, change)
    outcome = run(f"train small --data {tiny_world} --out {tmp_path}/run {SMALLEST} --resume")
    assert outcome.code == 0
    assert "No checkpoint can be read; training starts from the beginning." in outcome.err
    assert "checkpoint before it" not in outcome.err
    same = load_file(tmp_path / "run" / "model.safetensors"), load_file(made / "run" / "model.safetensors")
    assert all(np.array_equal(same[0][name], same[1][name]) for name in same[1])  # trained from the start again


def test_damaged_lines_of_metrics(run: Run, made: Path, tmp_path: Path) -> None:
    for text in ('{"event": "step"\n', "\n\n[1]\n", "3\n", "\x00\n"):
        (tmp_path / "metrics.jsonl").write_text('{"event": "step", "step": 1, "loss": 2.0}\n' + text)
        reported(run(f"report {made}/features --run {tmp_path} --out {tmp_path}/a.html"), "metrics.jsonl, line ")
    assert not (tmp_path / "a.html").exists()


class _Bomb:
    """What a pickle does to whoever opens it: here it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors", "a.npy", "a.npz", "a.bin"])
@pytest.mark.parametrize("write", ["pickle", "torch", "numpy"])
@pytest.mark.parametrize(
    "line",
    [
        "train small --data {world} --out {new} --set model.weights={file}",
        "extract {file} {world} --out {new}",
        "evaluate {file}",
    ],
)
def test_no_pickle_is_ever_run(line: str, write: str, name: str, run: Run, tiny_world: Path, tmp_path: Path) -> None:
    file, struck = tmp_path / name, tmp_path / "struck"
    bomb = {"features": _Bomb(struck)}
    if write == "pickle":
        file.write_bytes(pickle.dumps(bomb))
    elif write == "torch":
        torch.save(bomb, file)
    else:
        with open(file, "wb") as out:
            np.save(out, np.array([bomb], dtype=object), allow_pickle=True)
    reported(run(line.format(file=file, world=tiny_world, new=tmp_path / "new")), f"{file}: ")
    assert not struck.exists()
    pickle.loads(pickle.dumps(bomb))
    assert struck.exists()  # it would have worked
