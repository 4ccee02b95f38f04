"""`vreid table --scale paper --dry-run` on made-up folders: the papers' settings, networks a few pixels wide.

Small folders by default; of true size (277,208 pictures) where VREID_TRUE_SIZE is set, as `make test-all` does.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from support import true_size_folders
from support.command_line import Run
from vreid.data.dataset import Dataset
from vreid.data.open import open_dataset
from vreid.data.split import hold_out, write_split
from vreid.models.published import FOLDER, PUBLISHED
from vreid.progress import Progress
from vreid.recipes.spgan import translation
from vreid.reproduce.builders import scene_groups
from vreid.reproduce.dry_run import dry_run_stages
from vreid.reproduce.rows import AnyRow
from vreid.reproduce.stages import Folders
from vreid.reproduce.tables import scales
from vreid.reproduce.tables.running import rows_of
from vreid.reproduce.tables.scales import Scale
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.training.train_config import TrainConfig

TRUE_SIZE = bool(os.environ.get("VREID_TRUE_SIZE"))
SIZE = true_size_folders.TRUE if TRUE_SIZE else true_size_folders.SMALL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """CityFlowV2-ReID and VehicleX."""
    place = tmp_path_factory.mktemp("fabricated")
    return Folders.of(true_size_folders.cityflow(place, SIZE), true_size_folders.vehiclex(place, SIZE))


@pytest.fixture(scope="module")
def dataset(folders: Folders) -> Dataset:
    return folders.open()


class Notes(Progress):
    """Remembers the notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def narrow(config: TrainConfig, side: int = 32) -> TrainConfig:
    """The same settings for a network of 0.1 million parameters, and pictures of few pixels."""
    model = replace(config.model, backbone="resnet10_ibn_a_tiny", weights="")
    transform = replace(config.transform, height=side, width=side)
    return replace(config, model=model, transform=transform, precision="float32")


def narrow_paper(folders: Folders) -> Scale:
    """Scale paper, but for the networks."""
    true = scales.paper(folders.sources)
    small = {
        "size": "16",
        "load": "18",
        "filters": "4",
        "blocks": "1",
        "metric_stages": "1",
        "patch_layers": "2",
        "batch_size": "16",
    }
    return replace(
        true,
        data=lambda layout: folders,
        training=lambda name: narrow(true.training(name)),
        cropping=replace(true.cropping, training=narrow(true.cropping.training, 128)),
        translation=translation("spgan", small),
        camera=replace(true.camera, training=narrow(true.camera.training)),
        orientation=replace(true.orientation, training=narrow(true.orientation.training)),
    )


def batches(counts: list[int], identities: int, instances: int) -> int:
    """Most batches of P x K that vehicles with so many images give: whole chunks of K, dealt out by P."""
    return sum(max(count // instances, 1) for count in counts) // identities


def test_counts_are_those_that_were_made(dataset: Dataset) -> None:
    if TRUE_SIZE:  # typed a second time, from the papers
        assert [len(dataset.train), len(dataset.query), len(dataset.gallery)] == [52_717 + 192_150, 1_103, 31_238]
        assert dataset.train.identity.distinct == 440 + 1_362
        assert dataset.gallery.tracklet.distinct == 991
        assert dataset.gallery.camera.distinct == dataset.query.camera.distinct == 18
    scenes = [*SIZE.train, SIZE.synthetic]
    assert len(dataset.train) == sum(scene.images for scene in scenes)
    assert dataset.train.identity.distinct == sum(scene.vehicles for scene in scenes)
    assert len(dataset.gallery) == sum(scene.images for scene in SIZE.test)
    assert not dataset.gallery.identity.known.any()


def test_the_dry_run_counts_the_whole_and_steps_through_every_stage(folders: Folders, dataset: Dataset) -> None:
    scale = narrow_paper(folders)
    rows = [
        *rows_of(["dmt.5"], scale),
        *rows_of(["dmt.1"], scale, only="Type 4"),
        *rows_of(["dmt.3"], scale, only="v2"),
    ]
    reported = list(dry_run_stages(rows))
    assert reported[0] == repr(dataset)
    assert not [sentence for sentence in reported if "FAILED" in sentence or "not tried" in sentence]
    assert any(
        "names no vehicles: rows end in their track2.txt and are not evaluated" in sentence for sentence in reported
    )

    def sentence(begins: str) -> str:
        (found,) = (one for one in reported if one.startswith(begins))
        return found

    def images(begins: str) -> int:
        return int(sentence(f"{begins}: ").partition(": ")[2].partition(" ")[0].replace(",", ""))

    real = [scene.images // scene.vehicles for scene in SIZE.train for _ in range(scene.vehicles)]
    count = sum(scene.images for scene in SIZE.train)
    found = images("model, resnet50_ibn_a on real") / (80 * 12 * 8)
    assert 0.9 * batches(real, 12, 8) <= found <= batches(real, 12, 8) + len(real)  # some have one image more
    everything = 2 * count + SIZE.synthetic.images
    assert 0.7 * everything < images("model, resnet50_ibn_a on real + crop + synthetic") / 80 <= everything
    assert images("model, camera_model on real") == 80 * 64 * (count // 64)
    assert images("model, orientation_model on synthetic") == 80 * 64 * (SIZE.synthetic.images // 64)
    target = len(dataset.query) + len(dataset.gallery)
    assert images("adapted (v1), resnet50_ibn_a on real + synthetic") == 3 * 300 * 12 * 8 + 2 * target
    translated = 20 * -(-min(count, SIZE.synthetic.images) // 16) * 2 * 16 + SIZE.synthetic.images
    assert images("translations, spgan") == translated
    assert images("crops, crop_model on real") == target + count
    assert images("features (v1), resnet50_ibn_a on real + synthetic, views original") == target
    assert " trained images a second." in sentence("model, camera_model on real: ")
    assert sentence("All of it on this machine").endswith(".")


def narrow_rows(folders: Folders, only: str = "") -> list[AnyRow]:
    """Table 3, and Table 6 (small folders: one of its models)."""
    scale = narrow_paper(folders)
    return [*rows_of(["dmt.3"], scale, only=only), *rows_of(["dmt.6"], scale, only="" if TRUE_SIZE else "DenseNet169")]


def test_old_and_new_cameras_are_kept_apart_by_their_numbers(folders: Folders, dataset: Dataset) -> None:
    """Nothing but training labels tells the scenes of the real folders; in the whole, and in every row on a cut."""
    assert not dataset.query.scene.known.any()
    (old, new) = SIZE.test
    apart = old.queries * new.images + new.queries * old.images
    pairs = (old.queries + new.queries) * (old.images + new.images)
    preset = PostProcessing.parse("dmt").scene_groups
    assert preset and f" {apart:,} of {pairs:,} pairs" in preset.describe(dataset.query, dataset.gallery)

    notes = Notes()
    reported = list(dry_run_stages(narrow_rows(folders, "" if TRUE_SIZE else "stage 2 (v2)"), progress=notes))
    assert not [sentence for sentence in reported if "FAILED" in sentence or "not tried" in sentence]
    (sentence,) = (one for one in reported if one.startswith("scene-groups: "))
    assert f" {apart:,} of {pairs:,} pairs of images are excluded" in sentence and "not named: c041" in sentence
    searched = [note for note in notes.said if re.match(r"Row \d+ of .*, post: ", note)]
    adapted = [note for note in notes.said if "stage 2 (v2): " in note]
    assert searched and adapted
    for note in (*searched, *adapted):
        assert re.search(r"scene-groups: [1-9][\d,]* of [\d,]+ pairs", note)


SPLITS = {"identities of one scene": (1, 0), "one of two": (2, 1), "one of three": (3, 1), "two of three": (3, 2)}


@pytest.mark.parametrize("held", SPLITS)
def test_a_split_test_of_few_scenes_is_one_group(held: str, tmp_path: Path) -> None:
    """Vehicles connect the training cameras that are left, or training does not know those that are held out."""
    count, out = SPLITS[held]
    scenes = [true_size_folders.Scene([f"c{10 * n + m:03d}" for m in range(1, 5)], 20, 240) for n in range(count)]
    real = open_dataset(true_size_folders.cityflow(tmp_path, true_size_folders.SMALL._replace(train=scenes)))
    names = [scene.cameras[0] for scene in scenes[:out]]
    write_split(hold_out(real, "scene", names) if out else hold_out(real, "identities", count=5), tmp_path / "split")
    dataset = open_dataset(tmp_path / "split")
    reported = scene_groups(dataset).describe(dataset.query, dataset.gallery)
    assert reported.startswith("scene-groups: all images are of one group (") and ("not named" in reported) == bool(out)
    if held == "one of two":
        folders = Folders.of(tmp_path / "split", true_size_folders.vehiclex(tmp_path, true_size_folders.SMALL))
        notes = Notes()
        lines = list(dry_run_stages(rows_of(["dmt.3"], narrow_paper(folders), only="stage 2 (v2)"), progress=notes))
        assert reported in lines and not [line for line in lines if "FAILED" in line]
        assert [note for note in notes.said if "stage 2 (v2): " in note and "of one group" in note]


def test_a_split_test_of_identities_of_three_scenes_is_kept_apart(tmp_path: Path) -> None:
    scenes = [true_size_folders.Scene([f"c{10 * n + m:03d}" for m in range(1, 5)], 20, 240) for n in range(3)]
    real = open_dataset(true_size_folders.cityflow(tmp_path, true_size_folders.SMALL._replace(train=scenes)))
    dataset = hold_out(real, "identities", count=12)
    reported = scene_groups(dataset).describe(dataset.query, dataset.gallery)
    assert (
        " pairs of images are excluded, between the groups c0" in reported and "show the same vehicle" not in reported
    )


def test_absent_weights_are_told_all_at_once(
    run: Run, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    data = " ".join(f"--data {source}" for source in folders.sources)
    refused = run(f"table dmt.4 --scale paper {data} --dry-run --out {tmp_path}/runs")
    assert refused.code == 2 and refused.err.count("\n") == 1
    for name in ("resnet50_ibn_a", "resnet101_ibn_a"):
        assert PUBLISHED[name].file in refused.err and f"`vreid weights get {name}`" in refused.err
    (tmp_path / PUBLISHED["resnet50_ibn_a"].file).touch()
    assert PUBLISHED["resnet50_ibn_a"].file not in run(f"table dmt.4 --scale paper {data} --out {tmp_path}/runs").err
