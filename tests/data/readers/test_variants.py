"""Variants of images and the data of the DMT paper, chosen behind @ wherever a source is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from vreid.data.dataset import Dataset, join
from vreid.data.open import open_dataset
from vreid.errors import InputError

ITEM = '<Item imageName="{name}" vehicleID="{vehicle}" cameraID="{camera}" {more}/>'
REAL = [("000001.jpg", "0001", "c001"), ("000002.jpg", "0001", "c002"), ("000003.jpg", "0007", "c001")]
SYNTHETIC = [("00001_c001_1.jpg", "0001", "c001"), ("00002_c001_1.jpg", "0002", "c001")]


def labels(rows: list[tuple[str, str, str]], more: str = "") -> str:
    items = [ITEM.format(name=name, vehicle=vehicle, camera=camera, more=more) for name, vehicle, camera in rows]
    return f"<TrainingImages><Items number='-'>{''.join(items)}</Items></TrainingImages>"


def draw(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    folder.mkdir(parents=True)
    for name, _, _ in rows:
        Image.new("RGB", (6, 4)).save(folder / name)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Folders `real` with crops of its training images beside it, and `synthetic` with translations."""
    real, synthetic = tmp_path / "real", tmp_path / "synthetic"
    draw(real / "image_train", REAL)
    draw(real / "image_test", REAL[:1])
    (real / "train_label.xml").write_text(labels(REAL))
    (real / "test_label.xml").write_text(labels(REAL[:1]))
    (real / "train_track.txt").write_text("000001.jpg\n000002.jpg\n000003.jpg\n")
    (real / "test_track.txt").write_text("000001.jpg\n")
    draw(tmp_path / "training_part_seg/cropped_patch/image_train", REAL)
    draw(synthetic / "sys_image_train", SYNTHETIC)
    draw(synthetic / "sys_image_train_tr", SYNTHETIC)
    (synthetic / "train_label.xml").write_text(labels(SYNTHETIC, 'colorID="0" typeID="1" orientation="90"'))
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "images", "classes", "domains"),
    [
        (("real",), 3, 2, {("real", "original"): 3}),  # Type1 = CFV2
        (("real", "synthetic"), 5, 4, {("real", "original"): 3, ("synthetic", "original"): 2}),  # Type2 = + VeX
        (
            ("real@original,crop", "synthetic"),
            8,
            4,  # Type3 = + CFV2-C
            {("real", "original"): 3, ("real", "crop"): 3, ("synthetic", "original"): 2},
        ),
        (
            ("real@original,crop", "synthetic@translated"),
            8,
            4,  # Type4: VeX-S instead of VeX
            {("real", "original"): 3, ("real", "crop"): 3, ("synthetic", "translated"): 2},
        ),
    ],
)
def test_the_data_of_the_dmt_paper(
    world: Path, sources: tuple[str, ...], images: int, classes: int, domains: dict[tuple[str, str], int]
) -> None:
    dataset = join(*(open_dataset(f"{world}/{source}") for source in sources))
    train = dataset.train
    # Crop and original share the vehicle; synthetic vehicles come behind the real ones.
    assert (len(train), train.identity.distinct) == (images, classes)
    assert Counter(zip(train.domain.values, train.variant.values, strict=True)) == domains
    assert train.identity.compact().codes[train.domain.values == "synthetic"].min(initial=2) == 2
    assert all(Path(path).is_file() for path in train.path)
    assert dataset.gallery.path.tolist() == [str(world / "real/image_test/000001.jpg")]


def test_variants_share_all_but_path_and_variant(world: Path) -> None:
    dataset = open_dataset(world / "real", variants=("original", "crop"))
    original, crop = dataset.train[:3], dataset.train[3:]
    assert crop.with_(path=original.path, variant=original.variant) == original
    assert crop.path[1] == str(world / "training_part_seg/cropped_patch/image_train/000002.jpg")
    assert dataset.where("train", 1) == dataset.where("train", 4) == f"{world / 'real/train_label.xml'}, Item 2"
    assert open_dataset(f"{world / 'real'}@original, crop,original").train == dataset.train


def test_copies_in_the_folder_and_of_test_images(world: Path) -> None:
    real = world / "real"
    (world / "training_part_seg").rename(real / "training_part_seg")
    assert open_dataset(f"{real}@original,crop").train.variant.distinct == 2
    with pytest.raises(InputError, match=r"real: has no crop images of gallery; it has those of train\."):
        open_dataset(f"{real}@crop")
    draw(real / "cropped_aic_test/image_test", REAL[:1])
    dataset = open_dataset(f"{real}@crop,original")
    assert set(dataset.gallery.variant.values) == {"crop"}  # query and gallery are the first variant
    assert dataset.gallery.path[0] == str(real / "cropped_aic_test/image_test/000001.jpg")
    assert set(dataset.train.variant.values) == {"original", "crop"}


def test_images_that_a_variant_lacks_are_noted(world: Path) -> None:
    crops = world / "training_part_seg/cropped_patch/image_train"
    (crops / "000002.jpg").unlink()
    (note,) = open_dataset(f"{world / 'real'}@original,crop").notes
    assert note == "missing in image_train: 1 of 3 images in train_label.xml, first 000002.jpg."
    for path in crops.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"image_train: has none of the 3 images in train_label.xml; unpack"):
        open_dataset(f"{world / 'real'}@original,crop")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("real@croped", "real: has no 'croped'; available: original, crop."),
        ("real@translated", "real: has no 'translated'; available: original, crop."),
        ("synthetic@crop", "synthetic: has no 'crop'; available: original, translated."),
        ("synthetic/sys_image_train@800", "synthetic: has no '800'; available: original, translated."),
        ("real@", "real@: nothing follows @; write for example FOLDER@original,crop."),
        ("real@original,", "real@original,: nothing follows @; write for example FOLDER@original,crop."),
        ("reel@crop", "reel@crop: does not exist; give a folder of images or a CSV table."),
    ],
)
def test_unknown_selectors_are_rejected_with_what_there_is(world: Path, source: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset(f"{world}/{source}")
    assert str(caught.value) == f"{world}/{sentence}"


def test_tables_have_originals_only(world: Path) -> None:
    (world / "t.csv").write_text("path\nreal/image_train/000001.jpg\n")
    assert len(open_dataset(f"{world / 't.csv'}@original").gallery) == 1
    with pytest.raises(InputError, match=r"t.csv: has no 'crop'; available: original\."):
        open_dataset(f"{world / 't.csv'}@crop")


def test_a_path_that_exists_is_taken_as_it_is(world: Path) -> None:
    (world / "real").rename(world / "cars@crop")
    assert set(open_dataset(world / "cars@crop").train.variant.values) == {"original"}
    assert set(open_dataset(f"{world}/cars@crop@original,crop").train.variant.values) == {"original", "crop"}


def test_translations_alone_must_be_asked_for(world: Path) -> None:
    for path in (world / "synthetic/sys_image_train").iterdir():
        path.unlink()
    (world / "synthetic/sys_image_train").rmdir()
    with pytest.raises(InputError, match=r"synthetic: has no 'original'; available: translated\."):
        open_dataset(world / "synthetic")
    dataset: Dataset = open_dataset(f"{world}/synthetic@translated")
    assert set(dataset.train.variant.values) == {"translated"} and len(dataset.train) == 2


def test_a_variant_must_be_chosen_and_system_errors_are_reported(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="chooses 0 variants and 0 test lists; choose one variant or more"):
        open_dataset(world / "real", variants=())

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(InputError, match=r"real/.*: cannot be read \(Permission denied\); change its permissions"):
        open_dataset(world / "real")


def test_where_query_and_gallery_are_listed_is_known_of_joined_data_sets(world: Path) -> None:
    both = join(open_dataset(world / "real"), open_dataset(world / "synthetic"))
    assert both.where("gallery", 0) == f"{world / 'real/test_label.xml'}, Item 1"
    assert both.where("train", 4) == str(world / "synthetic/sys_image_train/00002_c001_1.jpg")
