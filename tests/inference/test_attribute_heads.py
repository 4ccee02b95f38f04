"""Confidence of attributes: temperatures are found again, and what is called likely happens as often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from support.tiny_model import write_model
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.attribute_calibration import attribute_temperatures
from vreid.inference.attribute_heads import (
    NEAR,
    fit_angle_temperature,
    fit_class_temperature,
    read_angles,
    read_classes,
)
from vreid.inference.embedder import load_model
from vreid.inference.model_facts import ADVERSARIAL_HEADS
from vreid.models.heads import ADVERSARIAL


def test_the_temperature_of_classes_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = (shares.cumsum(1) > rng.random((4000, 1))).argmax(1)
    outputs = (3 * logits).astype(np.float32)
    assert fit_class_temperature(outputs, classes) == pytest.approx(3, rel=0.1)
    found = read_classes(outputs, list("abcd"), 3.0)
    right = np.mean([one.value == "abcd"[k] for one, k in zip(found, classes, strict=True)])
    assert np.mean([one.confidence for one in found]) == pytest.approx(right, abs=0.02)
    with pytest.raises(InputError, match="needs labelled images"):
        fit_class_temperature(outputs[:0], classes[:0])


@pytest.mark.usefixtures("one_thread")
def test_export_stores_temperatures_found_on_labelled_images(run: Run, tiny_world: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_world, labels="auto")
    colors = sorted({*dataset.gallery.color.values, *dataset.train.color.values} - {""})[:3]
    labels = {"color": [*colors, "x", "y", "z"][:3], "domain": ["real", "synthetic"]}
    file = write_model(tmp_path / "m.safetensors", labels=labels)
    done = run(f"export {file} --calibrate {tiny_world} --out {tmp_path}/c.safetensors")
    assert done.code == 0, done.err
    found = load_model(tmp_path / "c.safetensors").backend.facts.temperatures
    assert found and all(0.005 < value < 200 for value in found.values())
    with pytest.raises(InputError, match="no image has a label of the heads"):
        attribute_temperatures(load_model(file), Records.of(path=["a.jpg"]))


def test_the_temperature_of_angles_is_found_again() -> None:
    rng = np.random.default_rng(0)
    degrees, length = rng.uniform(0, 360, 4000), rng.uniform(0.3, 1, 4000)
    seen = np.radians(degrees) + rng.vonmises(0, 8 * length)
    outputs = (np.stack([np.sin(seen), np.cos(seen)], axis=1) * length[:, None]).astype(np.float32)
    temperature = fit_angle_temperature(outputs, degrees)
    assert temperature == pytest.approx(1 / 8, rel=0.1)
    found = read_angles(outputs, temperature)
    error = np.abs((np.array([one.value for one in found], dtype=float) - degrees + 180) % 360 - 180)
    assert np.mean([one.confidence for one in found]) == pytest.approx((error <= NEAR).mean(), abs=0.02)
    assert str(read_angles(np.array([[1.0, 0.0]], np.float32), 0.01)[0]) == "90 degrees (100 %)"


def test_adversarial_heads_are_those_of_the_networks() -> None:
    assert ADVERSARIAL_HEADS == ADVERSARIAL
