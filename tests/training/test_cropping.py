"""Crops on disk: tables, cut-out copies in the data set's layout, and what is made of them: training and four views."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.command_line import SMALLEST, Run, reported
from vreid.data.augment import TestTransform
from vreid.data.crops import all_images, crops_of
from vreid.data.dataset import Dataset, join
from vreid.data.images import read_image
from vreid.data.open import open_dataset
from vreid.data.readers.cityflow import CROPS
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.models import build, save_weights
from vreid.models.reid_model import ModelConfig
from vreid.retrieval.features import FeatureSet
from vreid.training import cropping as module
from vreid.training.crop import CropConfig
from vreid.training.cropping import crop_dataset
from vreid.training.extract import extract, load_trained

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = "AIC21_Track2_ReID"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained, for images of 128 x 128."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="resnet10_ibn_a_tiny")
    facts = {
        "kind": "model",
        "model": asdict(config),
        "num_identities": 5,
        "transform": asdict(TestTransform(128, 128)),
    }
    path = tmp_path_factory.mktemp("crop_model") / "model.safetensors"
    save_weights(path, build(config.backbone, 5).state_dict(), facts)
    return path


@pytest.fixture(scope="module")
def table(model: Path, tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the tiny world as a table; treat it as read-only."""
    out = tmp_path_factory.mktemp("table") / "crops.csv"
    crop_dataset(model, open_dataset(tiny_world / REAL, labels="auto"), out)
    return out


@pytest.fixture
def real(tiny_world: Path) -> Dataset:
    return open_dataset(tiny_world / REAL, labels="auto")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for boxes now fails."""
    monkeypatch.setattr(module, "find_boxes", None)


def test_a_table_is_read_as_the_same_images_with_boxes(table: Path, real: Dataset) -> None:
    crops = open_dataset(table)
    for split in ("train", "query", "gallery"):
        before, after = getattr(real, split), getattr(crops, split)
        assert after.image_key.tolist() == before.image_key.tolist()
        assert after.identity == before.identity and after.camera == before.camera
        assert set(after.variant.values) == {"crop"}
        for path, original, box in zip(after.path, before.path, after.box, strict=True):
            assert Path(path).samefile(original)
            width, height = Image.open(path).size
            assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
    widths = crops.train.box[:, 2] - crops.train.box[:, 0]
    assert (widths < [Image.open(path).width for path in crops.train.path]).any()


def test_the_same_job_reuses_the_table_and_another_job_raises(
    model: Path, table: Path, real: Dataset, no_network: None, tmp_path: Path
) -> None:
    again = crop_dataset(model, real, table)
    assert np.array_equal(again.gallery.box, open_dataset(table).gallery.box) and again.protocol == real.protocol
    with pytest.raises(InputError, match=r"crops\.json: holds crops of other border \(0\.25, now 0\.1\)"):
        crop_dataset(model, real, table, CropConfig(border=0.1))
    with pytest.raises(InputError, match="other images"):
        crop_dataset(model, replace(real, train=real.train[:3]), table)
    shutil.copy(table, tmp_path / "mine.csv")
    with pytest.raises(InputError, match=r"mine\.csv: exists without a mine\.json"):
        crop_dataset(model, real, tmp_path / "mine.csv")
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(InputError, match=r"mine\.json: holds crops of other model \(None, now "):
        crop_dataset(model, real, tmp_path / "mine.csv")


def test_crops_are_written_where_the_reader_expects_them(
    model: Path, table: Path, tiny_world: Path, no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REAL).symlink_to(tiny_world / REAL)
    source = tmp_path / REAL
    dataset = open_dataset(source, labels=tiny_world / "ground_truth.csv")
    monkeypatch.setattr(
        module,
        "find_boxes",
        lambda model, records, *args, **how: crops_of(records, all_images(open_dataset(table))).with_(
            split=records.split
        ),
    )
    (tmp_path / CROPS["query"]).mkdir(parents=True)
    with pytest.raises(InputError, match=r"image_query: holds crops of another job"):
        crop_dataset(model, dataset, tmp_path, folders=CROPS)
    shutil.rmtree(tmp_path / "cropped_aic_test")
    broken = Path(dataset.gallery.path[7])

    def unreadable(path: str, box: list[float] | None) -> Image.Image:
        if Path(path).name == broken.name and "image_test" in path:
            raise InputError("killed")
        return read_image(path, box=box)

    monkeypatch.setattr("vreid.data.crops.read_image", unreadable)
    with pytest.raises(InputError, match="killed"):
        crop_dataset(model, dataset, tmp_path, folders=CROPS)
    assert (tmp_path / CROPS["train"]).is_dir() and (tmp_path / CROPS["query"]).is_dir()
    assert not list((tmp_path / CROPS["gallery"]).parent.glob("*image_test*"))
    monkeypatch.setattr("vreid.data.crops.read_image", read_image)
    monkeypatch.setattr(module, "find_boxes", None)  # the boxes are there
    made = crop_dataset(model, dataset, tmp_path, folders=CROPS)

    both = open_dataset(f"{source}@original,crop")
    assert Counter(both.train.variant.values) == {"original": 48, "crop": 48}
    assert both.train.identity.distinct == dataset.train.identity.distinct
    crops = open_dataset(f"{source}@crop")
    for split in ("train", "query", "gallery"):
        cut, boxes = getattr(crops, split), getattr(made, split)
        sizes = [Image.open(path).size for path in cut.path]
        assert sizes == [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes.box.astype(int).tolist()]
        assert cut.image_key.tolist() == boxes.image_key.tolist()
    one = np.asarray(Image.open(crops.query.path[0]), dtype=float)
    same = np.asarray(read_image(made.query.path[0], box=made.query.box[0].tolist()), dtype=float)
    assert abs(one - same).mean() < 5  # but for one more compression


def test_formats_without_folders_for_crops_and_cropped_data_raise(model: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"its format has no folder for cropped images; write a table \(--out out\.csv\)"
    ):
        crop_dataset(model, open_dataset(table), tmp_path / "out")
    with pytest.raises(InputError, match="holds other variants than originals"):
        crop_dataset(model, open_dataset(table), tmp_path / "out.csv")


def test_images_in_query_and_gallery_are_processed_once(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.effect_noise((40, 30), 60).convert("RGB").save(tmp_path / f"{number}.png")
    (tmp_path / "own.csv").write_text("path,identity,camera\n0.png,a,1\n1.png,a,2\n2.png,b,1\n")
    mine = open_dataset(tmp_path / "own.csv")
    made = crop_dataset(model, mine, tmp_path / "sub" / "crops.csv")
    assert made.query == made.gallery and len(made.query) == 3
    again = open_dataset(tmp_path / "sub" / "crops.csv")
    assert again.protocol == mine.protocol and again.query == again.gallery


def test_originals_and_their_table_of_crops_are_one_set_of_vehicles(
    table: Path, real: Dataset, tiny_world: Path
) -> None:
    crops = open_dataset(table)
    both = join(real, crops)
    assert len(both.train) == 2 * len(real.train) and both.train.identity.distinct == real.train.identity.distinct
    assert both.train.camera.distinct == real.train.camera.distinct
    assert join(crops, real).train.identity.distinct == real.train.identity.distinct
    synthetic = open_dataset(tiny_world / "AIC21_Track2_ReID_Simulation")
    three = join(real, synthetic, crops).train
    assert three.identity.distinct == real.train.identity.distinct + synthetic.train.identity.distinct
    # The same keys with other labels are other images: two data sets count from train/000001.
    others = crops.train.with_(identity=[f"x{name}" for name in crops.train.identity.values])
    assert set(join(real, replace(crops, train=others)).train.image_key) != set(real.train.image_key)
    assert join(real, real).train.identity.distinct == 2 * real.train.identity.distinct


def test_crops_are_matched_by_key(table: Path, real: Dataset) -> None:
    crops = all_images(open_dataset(table))
    order = np.random.default_rng(0).permutation(len(real.gallery))
    assert crops_of(real.gallery[order], crops).image_key.tolist() == real.gallery.image_key[order].tolist()
    assert set(crops_of(real.query, Records.concat([real.query, crops])).variant.values) == {"crop"}
    with pytest.raises(InputError, match=r"has no crop \(5 of 36 images have none\); .*vreid data crop"):
        crops_of(real.gallery, crops_of(real.gallery[:-5], crops))
    with pytest.raises(InputError, match=r"has no crop \(36 of 36"):
        crops_of(real.gallery, real.gallery)


def test_four_views_are_the_sum_of_two_images_and_their_mirror_images(model: Path, table: Path, real: Dataset) -> None:
    loaded, query, crops = load_trained(model), real.query[:5], all_images(open_dataset(table))
    how = {"transform": loaded.transform, "precision": "float32"}
    four = ("original", "flip", "crop", "crop-flip")

    def inputs(records: Records) -> torch.Tensor:
        pictures = [
            read_image(path, box=None if np.isnan(box[0]) else box.tolist())
            for path, box in zip(records.path, records.box, strict=True)
        ]
        return loaded.transform.finish(torch.stack([loaded.transform.prepare(picture) for picture in pictures]))

    whole, cut = inputs(query), inputs(crops_of(query, crops))
    with torch.inference_mode():
        raw = [loaded.model(images) for images in (whole, whole.flip(-1), cut, cut.flip(-1))]
    found = extract(loaded.model, query, views=four, crops=crops, normalise=False, **how)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.features, sum(raw).numpy(), rtol=1e-3, atol=1e-4)  # type: ignore[union-attr]
    assert found.views == four and found.records == query
    unit = extract(loaded.model, query, views=four, crops=crops, unit_views=True, **how)  # type: ignore[arg-type]
    expected = sum(torch.nn.functional.normalize(part) for part in raw)
    np.testing.assert_allclose(
        unit.features,
        torch.nn.functional.normalize(expected).numpy(),  # type: ignore[arg-type]
        atol=1e-5,
    )
    assert unit.views == tuple(f"unit {view}" for view in four)
    alone = extract(loaded.model, query, views=("crop",), crops=crops, normalise=False, **how)  # type: ignore[arg-type]
    np.testing.assert_allclose(alone.features, raw[2].numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"views original, crop show crops; say where these are \(--crops"):
        extract(loaded.model, query, views=("original", "crop"), **how)  # type: ignore[arg-type]


def test_the_command_line_from_boxes_to_training_and_four_views(
    run: Run, model: Path, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    world, crops, out = tiny_world / REAL, tmp_path / "crops.csv", tmp_path / "four"
    line = f"data crop {model} {world} --out {crops} --set border=0.125 --set enlargement=0.9,1.1"
    outcome = run(line)
    assert outcome.code == 0 and outcome.out == f"{crops}: crops of 48 train, 16 query, 36 gallery images\n"
    assert json.loads((tmp_path / "crops.json").read_text())["enlargement"] == [0.9, 1.1]
    assert json.loads(run(f"{line} --json").out)["counts"] == {"train": 48, "query": 16, "gallery": 36}
    views = f"extract {made}/run {world} --out {out} --views original,flip,crop,crop-flip --crops {crops}"
    assert run(views).code == 0
    assert FeatureSet.load(out / "gallery.safetensors").views == ("original", "flip", "crop", "crop-flip")
    assert run(views).code == 0
    assert run(f"data crop {model} {world} --out {tmp_path}/other.csv").code == 0
    reported(run(views.replace("crops.csv", "other.csv")), "four: holds features of other crops, or of none")
    reported(run(f"extract {made}/run {world} --out {tmp_path}/f --views crop --crops {world}"), "has no crop")
    assert run(f"train small --data {world} --data {crops} --out {tmp_path}/r {SMALLEST}").code == 0
    trained = json.loads((tmp_path / "r" / "data.json").read_text())
    assert (trained["images"], trained["identities"]) == (96, 12)
    reported(
        run(f"data crop {model} {world} --out {tmp_path}/x.csv --config tight"),
        "no crop config 'tight'; choose among voc, even",
    )
    reported(run(f"data crop {model} {world} --out {tmp_path}/x.csv --set borders=1"), "did you mean 'border'")
    reported(run(f"data crop {made}/run {world} --out {tmp_path}/x.csv"), "32 x 32; boxes need images of 128 x 128")
    assert not (tmp_path / "x.csv").exists()


def test_a_table_can_be_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Records.of(path=["a.png"], box=[[0, 0, 4, 4]], variant=["crop"]).write_table("deep/er/crops.csv")
    assert Path(open_dataset("deep/er/crops.csv").gallery.path[0]).samefile("a.png")
