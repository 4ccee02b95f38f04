"""Jobs that several processes and one process run alike: extraction, adaptation, style transfer; on tiny data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from torch import nn

from support.tiny_translation import TINY_TRANSLATION
from vreid.adaptation.adapt_config import PRESETS
from vreid.adaptation.repeated import adapt
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.embedder import load_model
from vreid.inference.extraction import EmbedderExtractor
from vreid.training.extract import extract, load_trained
from vreid.training.feature_job import ExtractionSettings, FeatureJob
from vreid.training.translate import train_translation
from vreid.training.translate_images import translate

AUTO = PRESETS["auto"]
ADAPTATION = replace(
    AUTO,
    pseudo=replace(AUTO.pseudo, eps=0.7, k1=5),
    iterations=2,
    num_identities=3,  # shares of 2 and of 1
    num_instances=2,
    learning_rate=1e-3,
)


def write_vehicles(folder: Path) -> Records:
    """Write 8 vehicles of two colours each x 4 images by 2 cameras; 15 are synthetic, so that the last batch is odd."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (8, 2, 3))
    paths = [folder / f"{number:02d}.png" for number in range(32)]
    for number, path in enumerate(paths):
        halves = np.repeat(colours[number // 4], 16, axis=0)[:, None] + rng.normal(0, 12, (32, 32, 3))
        Image.fromarray(halves.clip(0, 255).astype(np.uint8)).save(path)
    return Records.of(
        path=paths,
        identity=[f"v{number // 4}" for number in range(32)],
        camera=[f"c{number // 2 % 2}" for number in range(32)],
        domain=["synthetic" if number < 15 else "real" for number in range(32)],
    )


def extractions(records: Records, model: Path, out: Path) -> None:
    """Write features in one go, from a half-finished extraction, and by an `Embedder`; each twice."""
    trained = load_trained(model)
    for _ in range(2):  # the second time the file is there
        found = extract(
            trained.model, records, transform=trained.transform, batch_size=5, out=out / "features.safetensors"
        )
        assert found.records == records and found.features.any(axis=1).all()
    by_embedder = FeatureJob(records, EmbedderExtractor(load_model(model)), ExtractionSettings(batch_size=5)).run()
    np.testing.assert_allclose(by_embedder.features, found.features, atol=1e-5)
    broken = records.with_(path=[*records.path[:7], str(out / "absent.png"), *records.path[8:]])
    with pytest.raises(InputError, match=r"absent\.png"):  # an image of the second process, raised in both
        extract(trained.model, broken, transform=trained.transform, batch_size=5, out=out / "broken.safetensors")


def adaptations(records: Records, model: Path, out: Path) -> None:
    """Adapt twice without a gate; adapt with it and with two clusterings."""
    adapt(model, records, replace(ADAPTATION, epochs=1, repeats=2, gate=False), out=out / "repeated")
    for resume in (False, True):
        once = replace(ADAPTATION, epochs=2, recluster=1, repeats=1)
        assert adapt(model, records, once, out=out / "gated", resume=resume).exists()


def translations(records: Records, out: Path) -> None:
    """Train a translation, with pools that exchange images and batches that cannot be shared, and apply it.

    Without dropout, whose draws depend on the number of processes.
    """
    sides = sides_of(records)
    with mock.patch.object(nn.Dropout, "forward", lambda self, values: values):
        model = train_translation(TINY_TRANSLATION, *sides, out=out / "translation", log_steps=1)
    for _ in range(2):
        translate(model, sides[0], out / "translated", batch_size=2)


def sides_of(records: Records) -> tuple[Records, Records]:
    """The synthetic images and the real ones."""
    synthetic = records.domain.values == "synthetic"
    return records[synthetic], records[~synthetic]
