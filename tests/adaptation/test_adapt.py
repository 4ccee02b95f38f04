"""Adaptation of a tiny model: training data, outputs, resuming, rejected inputs, and the command."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.command_line import Run
from vreid.adaptation import adapt as module
from vreid.adaptation.adapt import adapt_once, clustered, initial_weights, target_images, tuning
from vreid.adaptation.adapt_config import PRESETS
from vreid.adaptation.clustering_features import without_answers
from vreid.adaptation.gate import ACCEPT, REJECT, GateDecision
from vreid.adaptation.holdout import hold_out
from vreid.adaptation.pseudo import PseudoLabels
from vreid.data.augment import TestTransform
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.data.sampling import Counted, ImageSampler, PKSampler
from vreid.errors import InputError
from vreid.models.reid_model import build
from vreid.retrieval.postprocessing.tracklet_features import units_of_codes
from vreid.training.extract import extract, load_trained
from vreid.training.schedules import StepSchedule

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = PRESETS["auto"]
FAST = replace(
    BASE,
    pseudo=replace(BASE.pseudo, eps=0.7, k1=5, level="tracklet"),
    epochs=2,
    iterations=2,
    num_identities=2,
    num_instances=2,
    learning_rate=1e-3,
    gate=False,
    repeats=1,
)
"""Two epochs of two batches of four images."""


@pytest.fixture(scope="module")
def target(tiny_world: Path) -> Records:
    return target_images(open_dataset(tiny_world / "AIC21_Track2_ReID", labels="auto"))


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, title: str, total: int, done: int = 0) -> None: ...

    def advance(self, steps: int, text: str = "") -> None: ...

    def log(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)

    def finish(self) -> None: ...


def labels_of(values, records=None, dimensions=4) -> PseudoLabels:
    values = np.array(values, dtype=np.int32)
    records = records or Records.of(path=[str(i) for i in range(len(values))])
    centres = np.arange((values.max(initial=-1) + 1) * dimensions, dtype=np.float32).reshape(-1, dimensions)
    return PseudoLabels(values, 0.5, 2, 5, (), records, centres)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_trained(path).model.state_dict())


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------- functions


def test_epochs_of_a_given_number_of_batches():
    several = Counted(ImageSampler(6, 2, seed=1), 7)  # three batches a pass
    batches = list(several)
    assert len(batches) == len(several) == 7
    assert sorted(np.ravel(batches[:3])) == sorted(np.ravel(batches[3:6])) == list(range(6))
    assert batches == list(several)
    several.set_epoch(1)
    assert batches != list(several)
    assert len(list(Counted(PKSampler([0, 0, 1, 1] * 9, 2, 2), 2))) == 2


def test_clusters_become_identities_in_the_order_of_their_numbers():
    learned = clustered(labels_of([2, -1, 0, 1, 0]))
    assert learned.path.tolist() == ["0", "2", "3", "4"] and learned.identity.codes.tolist() == [2, 0, 1, 0]


def test_classifier_is_initialised_with_cluster_means_and_heads_are_dropped():
    model = build("resnet10_ibn_a_tiny", 5, heads={"color": 3})
    centres = np.random.default_rng(0).normal(size=(3, model.num_features)).astype(np.float32)
    made = initial_weights(model, centres)
    adapted = build("resnet10_ibn_a_tiny", 3)
    adapted.load_state_dict(dict(made))
    features = torch.ones(1, model.num_features)
    assert torch.allclose(adapted.classifier(features)[0], torch.from_numpy(centres.sum(axis=1)), atol=1e-5)
    assert torch.equal(adapted.neck.weight, model.neck.weight)
    without = build("resnet10_ibn_a_tiny", 5, neck=False)
    assert not initial_weights(without, centres)["classifier.bias"].any()


def test_fine_tuning_settings_match_dmt(made):
    trained = load_trained(made / "run")
    config = tuning(PRESETS["v1"], trained, labels_of(np.repeat(np.arange(20), 9)), 3)
    assert (config.num_identities, config.num_instances, config.epochs, config.iterations) == (12, 8, 3, 300)
    assert (config.optimiser.kind, config.optimiser.learning_rate, config.optimiser.momentum) == ("sgd", 4e-4, 0.9)
    assert (config.optimiser.bias_factor, config.optimiser.classifier_factor) == (2, 2)
    assert (config.optimiser.weight_decay, config.optimiser.vector_decay) == (5e-4, 5e-4)
    assert [config.schedule.rate(1.0, time, 3) for time in (0, 1.5, 2.9)] == [1, 1, 1]
    assert isinstance(config.schedule, StepSchedule) and config.fresh_optimiser
    assert (config.losses.identity, config.losses.triplet, config.losses.triplet_form) == (1, 1, "soft")
    assert (config.transform.flip, config.transform.erase, config.transform.resized_crop) == (0.5, 0.5, False)
    assert config.transform.test() == trained.transform and config.transform.pad == 1
    large = replace(trained, transform=TestTransform(384, 384))
    assert tuning(PRESETS["v1"], large, labels_of([0, 0, 1, 1]), 3).transform.pad == 10


def test_batch_shape_depends_on_the_clusters(made):
    trained = load_trained(made / "run")

    def shape(sizes, config=BASE, **further):
        config = tuning(config, trained, labels_of(np.repeat(np.arange(len(sizes)), sizes)), 3, **further)
        return config.num_identities, config.num_instances, config.iterations

    assert shape([2] * 100) == (48, 2, round(8 * 200 / (96 * 3)))
    assert shape([30] * 100) == (12, 8, round(8 * 3000 / (96 * 3)))
    assert shape([5, 5, 5]) == (3, 5, round(8 * 15 / (15 * 3)))
    assert shape([5, 5, 5], PRESETS["v1"])[0] == 3  # fewer clusters than P
    assert shape([5, 5], halves=True)[0] == 4


def test_optimiser_state_is_reset_each_epoch(made, target, tmp_path, monkeypatch):
    held, step = [], torch.optim.SGD.step

    def watched(self, *arguments):
        held.append(len(self.state) > 0)
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    adapt_once(made / "run", target, FAST, out=tmp_path / "run")
    assert held == [False, True, False, True]


# ---------------------------------------------------------------- adapt_once()


def test_a_run_writes_a_loadable_model_and_its_pseudo_labels(made, target, tmp_path):
    notes = Notes()
    path = adapt_once(made / "run", target, FAST, out=tmp_path / "run", progress=notes)
    assert path == tmp_path / "run" / "model.safetensors"
    old, new = load_trained(made / "run"), load_trained(tmp_path / "run")
    assert new.hash != old.hash and new.transform == old.transform
    assert len(extract(new.model, target[:3], transform=new.transform)) == 3
    rows = list(csv.DictReader((tmp_path / "run" / "pseudo_labels.csv").read_text().splitlines()))
    assert "data:image/jpeg" in (tmp_path / "run" / "pseudo_labels.html").read_text()
    facts = json.loads((tmp_path / "run" / "pseudo.json").read_text())
    assert [row["image"] for row in rows] == target.image_key.tolist()
    assert len({row["cluster"] for row in rows} - {"-1"}) == facts["clusters"] == new.model.num_identities
    assert (facts["eps"], facts["k1"], facts["iterations"], facts["epochs"]) == (0.7, 5, 2, 2)
    assert any("clusters of" in note for note in notes.said)
    assert set(facts["reasons"]) <= set(notes.said)
    adapt_once(made / "run", target, FAST, out=tmp_path / "run", resume=True, progress=notes)
    assert notes.said[-1].endswith("nothing is left to adapt.")


def test_identities_and_query_tracklets_are_not_used(made, target, tmp_path):
    adapt_once(made / "run", target, FAST, out=tmp_path / "a")
    query = target.split.values == "query"
    other = target.with_(identity=["x"] * len(target), tracklet=np.where(query, "", target.tracklet.values).tolist())
    adapt_once(made / "run", other, FAST, out=tmp_path / "b")
    assert equal(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("recluster", [0, 1])
def test_a_resumed_run_gives_identical_weights(made, target, tmp_path, recluster):
    from vreid.training import loop

    config = replace(FAST, recluster=recluster, ema=0.5)
    adapt_once(made / "run", target, config, out=tmp_path / "whole")
    save, written = loop.save_checkpoint, []

    def killed(path, *content):
        save(path, *content)
        written.append(path)
        if len(written) == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            adapt_once(made / "run", target, config, out=tmp_path / "cut")
    with pytest.raises(InputError, match=r"is not finished; resume it"):
        load_trained(tmp_path / "cut")
    adapt_once(made / "run", target, config, out=tmp_path / "cut", resume=True)
    assert equal(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "cut" / "round-1").exists() == bool(recluster)
    with pytest.raises(InputError, match=r"config\.json: the run has"):
        adapt_once(made / "run", target, replace(config, seed=2), out=tmp_path / "cut", resume=True)
    with pytest.raises(InputError, match="is not empty"):
        adapt_once(made / "run", target, config, out=tmp_path / "cut")


def test_fewer_than_two_clusters_leave_the_model_unchanged(made, target, tmp_path):
    notes = Notes()
    config = replace(FAST, pseudo=replace(FAST.pseudo, eps=1e-5, min_samples=50))
    adapt_once(made / "run", target, config, out=tmp_path / "run", progress=notes)
    assert equal(made / "run", tmp_path / "run")
    assert "Training needs at least 2 clusters, found 0; the model is unchanged." in notes.said
    assert json.loads((tmp_path / "run" / "pseudo.json").read_text())["noise"] == 1


def test_held_out_tracklets_are_in_no_batch(made, target, tmp_path):
    seen = without_answers(target)
    held_out = hold_out(seen, 0.4, BASE.seed)
    unit, _ = units_of_codes(seen.tracklet.codes)
    drawn, others = set(unit[held_out]), set(unit[~held_out])
    assert not drawn & others and len(drawn) == round(0.4 * len(drawn | others))
    assert (hold_out(seen, 0.4, BASE.seed + 1) != held_out).any() and not hold_out(seen, 0, 0).any()
    adapt_once(made / "run", target, replace(FAST, held_out=0.4), out=tmp_path / "run")
    rows = csv.DictReader((tmp_path / "run" / "pseudo_labels.csv").read_text().splitlines())
    learned = np.array([row["cluster"] != "-1" for row in rows])
    assert learned[~held_out].any() and not learned[held_out].any()


@pytest.mark.parametrize("decision", [ACCEPT, REJECT])
def test_the_gate_decides_which_model_is_kept(made, target, tmp_path, monkeypatch, decision):
    evaluated = []

    def gate(before, after, pseudo, *, flipped):
        evaluated.append((before, after, flipped))
        return GateDecision(decision, "Because.", {}, {"clusters": pseudo.clusters})

    monkeypatch.setattr(module, "gate_adaptation", gate)
    notes = Notes()
    adapt_once(made / "run", target, replace(FAST, gate=True), out=tmp_path / "run", progress=notes)
    (before, after, flipped), adapted = evaluated[0], tmp_path / "run" / "round-0"
    assert f"{decision}: Because." in notes.said
    assert not before.records.identity.known.any() and not before.normalised
    assert before.model == flipped[0].model == load_trained(made / "run").hash
    assert after.model == flipped[1].model == load_trained(adapted).hash
    assert equal(tmp_path / "run", adapted if decision == ACCEPT else made / "run")
    assert (tmp_path / "run" / "rejected.safetensors").exists() == (decision == REJECT)
    facts = json.loads((tmp_path / "run" / "pseudo.json").read_text())["verdict"]
    assert facts["decision"] == decision and facts["reason"] == "Because."


def test_source_images_are_half_of_each_batch(made, target, tiny_world, tmp_path):
    source = open_dataset(tiny_world / "AIC21_Track2_ReID").train
    config = replace(FAST, replay=True, classifier="plain")
    adapt_once(made / "run", target, config, out=tmp_path / "run", source=source)
    facts = json.loads((tmp_path / "run" / "pseudo.json").read_text())
    assert load_trained(tmp_path / "run").model.num_identities == facts["clusters"] + source.identity.distinct
    asked = json.loads((tmp_path / "run" / "round-0" / "config.json").read_text())
    assert asked["batches"] == "domains" and asked["num_identities"] == 2
    with pytest.raises(InputError, match="replay needs labelled source images"):
        adapt_once(made / "run", target, config, out=tmp_path / "other")


def test_scene_groups_are_inferred_from_labelled_source_images(made, target, tmp_path):
    bare = target.with_(scene=[""] * len(target))
    config = replace(FAST, pseudo=replace(FAST.pseudo, scenes=True))
    with pytest.raises(InputError, match="give the column `scene`"):
        adapt_once(made / "run", bare, config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    cameras = sorted(set(target.camera.values))
    source = Records.of(
        path=["a", "b", "c", "d"], camera=[cameras[0], *cameras[1:3], cameras[-1]], identity=["1", "1", "2", "2"]
    )
    adapt_once(made / "run", bare, config, out=tmp_path / "run", source=source)
    groups = json.loads((tmp_path / "run" / "config.json").read_text())["pseudo"]["scene_groups"]
    assert groups == [sorted(cameras[:2]), sorted({cameras[2], cameras[-1]}), ["*"]]
    reasons = json.loads((tmp_path / "run" / "pseudo.json").read_text())["reasons"]
    assert [reason for reason in reasons if reason.startswith("scene-groups: ")]


def test_targets_with_one_camera_or_without_cameras(made, target, tmp_path):
    notes = Notes()
    one = target[target.camera.values == target.camera.values[0]]
    adapt_once(made / "run", one, FAST, out=tmp_path / "one", progress=notes)
    assert any("one camera" in note for note in notes.said)
    unknown = target.with_(camera=[""] * len(target), tracklet=[""] * len(target))
    with pytest.raises(InputError, match="No image has a camera"):
        adapt_once(made / "run", unknown, FAST, out=tmp_path / "none")
    config = replace(BASE, pseudo=replace(BASE.pseudo, camera="none"), epochs=1, iterations=1, gate=False)
    adapt_once(made / "run", unknown, config, out=tmp_path / "none", progress=notes)
    assert any("valley" in note for note in notes.said)


def test_a_model_with_local_features_has_a_classifier_for_each(tmp_path):
    from types import SimpleNamespace

    model = SimpleNamespace(
        state_dict=lambda: {"neck.weight": torch.ones(2), "local_classifiers.0.weight": 0, "classifier.weight": 0},
        num_local=1,
    )
    made = initial_weights(model, np.float32([[1, 2, 3, 4]]))
    assert made["classifier.weight"].tolist() == [[1, 2]] and made["local_classifiers.0.weight"].tolist() == [[3, 4]]


# ---------------------------------------------------------------- the command


def test_the_command_adapts_to_the_earlier_images_and_lists_the_later(run: Run, made, target, tiny_world, tmp_path):
    shutil.copytree(made / "run", tmp_path / "model")
    smallest = ["epochs=1", "iterations=1", "num_identities=2", "num_instances=2", "pseudo.eps=0.8"]
    line = f"adapt {tmp_path}/model {tiny_world}/AIC21_Track2_ReID --out {tmp_path}/run --before 0.5 --no-gate --json "
    line += " ".join(f"--set {setting}" for setting in smallest)
    shown = run(line)
    facts = json.loads(shown.out)
    assert shown.code == 0 and facts["model"] == f"{tmp_path}/run/model.safetensors" and facts["clusters"] >= 2
    later = open_dataset(tmp_path / "run" / "later.csv")
    assert len(target_images(later)) + facts["images"] == len(target) and len(later.query) and len(later.gallery)
    assert run(line + " --resume").code == 0
    assert "later" in run("adapt --help").out
