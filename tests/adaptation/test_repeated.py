"""Repeated adaptation: the number of steps, when they end, which model is kept, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from vreid.adaptation import adapt as step_module
from vreid.adaptation.adapt import read_pseudo_labels, target_images
from vreid.adaptation.adapt_config import PRESETS
from vreid.adaptation.gate import ACCEPT, REJECT, UNKNOWN, GateDecision
from vreid.adaptation.repeated import adapt, steps_within
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.training.extract import load_trained

pytestmark = pytest.mark.usefixtures("one_thread")

AUTO = PRESETS["auto"]
FAST = replace(
    AUTO,
    pseudo=replace(AUTO.pseudo, eps=0.7, k1=5, level="tracklet"),
    epochs=1,
    iterations=1,
    num_identities=2,
    num_instances=2,
    learning_rate=1e-3,
    repeats=3,
)


class Notes(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def target(tiny_world: Path) -> Records:
    return target_images(open_dataset(tiny_world / "AIC21_Track2_ReID", labels="auto"))


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch):
    """Let the gate answer with the given decisions in turn; collects the hashes of the models that it compared."""

    def answer(*wanted: str):
        compared, left = [], list(wanted)

        def gate(before, after, pseudo, *, flipped):
            compared.append((before.model, after.model))
            return GateDecision(left.pop(0), "Because.", {}, {"clusters": pseudo.clusters})

        monkeypatch.setattr(step_module, "gate_adaptation", gate)
        return compared

    return answer


def equal(one: Path, other: Path) -> bool:
    first, second = (load_trained(path).model.state_dict() for path in (one, other))
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def facts(run: Path) -> dict:
    return json.loads((run / "pseudo.json").read_text())


def test_the_number_of_steps_follows_from_the_images():
    config = replace(AUTO, repeats=8, visits=10, most_images=10_000)
    assert [steps_within(config, images) for images in (0, 100, 125, 334, 1_000, 50_000)] == [8, 8, 8, 2, 1, 1]


def test_each_step_starts_from_the_last_and_the_whole_is_compared_with_the_old(made, target, tmp_path, decisions):
    compared = decisions(ACCEPT, ACCEPT, ACCEPT, ACCEPT)
    adapt(made / "run", target, FAST, out=tmp_path / "run")
    hashes = [load_trained(path).hash for path in (made / "run", *(tmp_path / "run" / f"step-{n}" for n in (1, 2, 3)))]
    assert len(set(hashes)) == 4
    assert compared == [*pairwise(hashes), (hashes[0], hashes[3])]
    assert equal(tmp_path / "run", tmp_path / "run" / "step-3")
    assert [step["decision"] for step in facts(tmp_path / "run")["steps"]] == [ACCEPT] * 3
    for name in ("pseudo_labels.csv", "pseudo_labels.html"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "run" / "step-3" / name).read_bytes()


def test_a_step_that_is_not_accepted_ends_the_adaptation_and_is_dropped(made, target, tmp_path, decisions):
    decisions(ACCEPT, UNKNOWN)
    adapt(made / "run", target, FAST, out=tmp_path / "run")
    assert equal(tmp_path / "run", tmp_path / "run" / "step-1")
    assert facts(tmp_path / "run")["verdict"]["decision"] == ACCEPT
    assert [step["decision"] for step in facts(tmp_path / "run")["steps"]] == [ACCEPT, UNKNOWN]
    assert not (tmp_path / "run" / "step-3").exists() and not (tmp_path / "run" / "rejected.safetensors").exists()


def test_a_first_step_that_is_rejected_keeps_the_old_model(made, target, tmp_path, decisions):
    decisions(REJECT)
    adapt(made / "run", target, FAST, out=tmp_path / "run")
    assert equal(tmp_path / "run", made / "run")
    assert facts(tmp_path / "run")["verdict"]["decision"] == REJECT
    rejected = [(tmp_path / "run" / part / "rejected.safetensors").read_bytes() for part in ("", "step-1")]
    assert rejected[0] == rejected[1]


def test_the_last_step_that_is_better_than_the_old_model_is_kept(made, target, tmp_path, decisions):
    compared = decisions(ACCEPT, ACCEPT, ACCEPT, REJECT, UNKNOWN)
    adapt(made / "run", target, FAST, out=tmp_path / "run")
    assert len(compared) == 5  # three steps, then the third and the second against the old model
    assert equal(tmp_path / "run", tmp_path / "run" / "step-1")
    assert facts(tmp_path / "run")["verdict"]["decision"] == ACCEPT


def test_without_the_gate_all_steps_are_taken(made, target, tmp_path):
    adapt(made / "run", target, replace(FAST, gate=False, repeats=2), out=tmp_path / "run")
    assert equal(tmp_path / "run", tmp_path / "run" / "step-2")
    assert "verdict" not in facts(tmp_path / "run")


def test_a_stopped_adaptation_is_resumed_to_equal_weights(made, target, tmp_path, decisions, monkeypatch):
    decisions(*[ACCEPT] * 3)
    config = replace(FAST, repeats=2)
    adapt(made / "run", target, config, out=tmp_path / "whole")
    decisions(ACCEPT)
    with pytest.raises(IndexError):  # the gate of the second step has no answer left: stopped after its training
        adapt(made / "run", target, config, out=tmp_path / "cut")
    decisions(ACCEPT, ACCEPT)
    notes = Notes()
    adapt(made / "run", target, config, out=tmp_path / "cut", resume=True, progress=notes)
    assert equal(tmp_path / "whole", tmp_path / "cut")
    assert facts(tmp_path / "whole") == facts(tmp_path / "cut")
    adapt(made / "run", target, config, out=tmp_path / "cut", resume=True, progress=notes)
    assert notes.said[-1].endswith("nothing is left to adapt.")
    with pytest.raises(InputError, match=r"config\.json: the run has"):
        adapt(made / "run", target, replace(config, repeats=3), out=tmp_path / "cut", resume=True)


def test_wrong_input_leaves_nothing_behind(made, target, tmp_path):
    with pytest.raises(InputError):
        adapt(made / "run", target[:1], FAST, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stored_pseudo_labels_are_read_back_for_the_same_images_only(made, target, tmp_path, decisions):
    decisions(REJECT)
    adapt(made / "run", target, FAST, out=tmp_path / "run")
    found = read_pseudo_labels(tmp_path / "run", target)
    assert (found.clusters, found.eps, found.k1) == (facts(tmp_path / "run")["clusters"], 0.7, 5)
    with pytest.raises(InputError, match="other images"):
        read_pseudo_labels(tmp_path / "run", target[1:])
