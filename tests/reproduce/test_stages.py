"""Stages: hashes that results were stored under stay stable across versions of the code."""

from __future__ import annotations

import pytest

from vreid.adaptation.adapt_config import PRESETS
from vreid.reproduce.stages import Adapted, Crops, Features, Folders, Model, Scenes, SimulatedWorld, Stage, Translations
from vreid.training.crop import CropConfig
from vreid.training.train_config import TrainConfig
from vreid.training.translate import TranslateConfig

DATA = SimulatedWorld("tiny", seed=3)
MODEL = Model(DATA, ("real", "synthetic"), TrainConfig("any"))
CROPS = Crops(Model(DATA, ("real",), TrainConfig("any")), CropConfig())
ADAPTED = Adapted(MODEL, PRESETS["v2"])


@pytest.mark.parametrize(
    ("stage", "stored", "needed"),
    [
        (DATA, "875606e738d92f0f", []),
        (Folders(("a",), "0123"), "4b12936e34bca096", []),
        (MODEL, "f864c2bf3540947b", ["world"]),
        (CROPS, "4a427da2853240c1", ["model", "world"]),
        (Translations(DATA, TranslateConfig()), "b8ce0df1a6553a6a", ["world"]),
        (Scenes(DATA), "32dda1b8a9c8ed4b", ["world"]),
        (ADAPTED, "76a4ac2039141d40", ["model", "world", "scenes"]),
        (Features(MODEL), "517c935f9ebb993a", ["model", "world"]),
        (Features(ADAPTED, ("original", "crop"), False, CROPS), "0bbf774b25ed9bd2", ["adapted", "world", "crops"]),
    ],
    ids=lambda value: value.kind if isinstance(value, Stage) else "",
)
def test_hashes_of_stored_results_are_stable(stage: Stage, stored: str, needed: list[str]) -> None:
    # A new field changes hashes, so that stored results are computed again: say so in CHANGELOG.md.
    assert stage.hash == stored
    assert [one.kind for one in stage.inputs] == needed
