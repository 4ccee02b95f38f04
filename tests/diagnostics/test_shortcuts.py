"""Planted shortcuts and leaks are flagged, in images and in models; clean worlds of several seeds are not."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vreid.data.augment import TestTransform
from vreid.data.dataset import Dataset
from vreid.data.open import open_dataset
from vreid.data.protocols import CROSS_CAMERA, MARKET
from vreid.data.records import Records
from vreid.diagnostics.leaks import leaks
from vreid.diagnostics.saliency import activation_maps, error_saliency, occlusion
from vreid.diagnostics.shortcuts import CELLS, PIXELS, cells, nearest_hits, shortcuts
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.features import FeatureSet

SEEDS = (1, 2, 3)
Draw = Callable[[Image.Image, str, str], Image.Image]


@pytest.fixture(scope="module", params=SEEDS)
def world(request, tmp_path_factory) -> Dataset:
    """A clean world with 32 training vehicles, each at two cameras with two images."""
    from vreid.simulator import PRESETS, simulate

    small = replace(
        PRESETS["tiny"],
        name="small",
        train_identities=32,
        test_identities=1,
        synthetic_identities=0,
        bystanders=0,
        longest_side=48,
    )
    made = simulate(tmp_path_factory.mktemp("world") / "w", preset=small, seed=request.param, workers=1)
    return open_dataset(made.path, labels="auto")


def colour(*names: str) -> tuple[int, ...]:
    return tuple(np.random.default_rng(zlib.crc32(" ".join(names).encode())).integers(0, 256, 3).tolist())


def watermark(image: Image.Image, identity: str, camera: str) -> Image.Image:
    image.paste(colour(identity, camera), (0, 0, image.width // 8 + 1, image.height // 8 + 1))
    return image


def camera_logo(image: Image.Image, identity: str, camera: str) -> Image.Image:
    return watermark(image, "", camera)


def background(image: Image.Image, identity: str, camera: str) -> Image.Image:
    x, y = image.width // 8 + 1, image.height // 8 + 1
    whole = Image.new("RGB", image.size, colour(identity))
    whole.paste(image.crop((x, y, image.width - x, image.height - y)), (x, y))
    return whole


def planted(records: Records, folder: Path, draw: Draw) -> Records:
    paths = []
    for row, path in enumerate(records.path):
        image = Image.open(path).convert("RGB")
        paths.append(folder / f"{row}.jpg")
        draw(image, records.identity.values[row], records.camera.values[row]).save(paths[-1], quality=90)
    return records.with_(path=paths, image_key=records.image_key)


def flagged(records: Records) -> dict[str, bool]:
    return {part.name.split(",")[0].removeprefix("shortcut "): part.warning for part in shortcuts(records)}


def test_clean_worlds_are_not_flagged(world: Dataset) -> None:
    assert flagged(world.train) == {"within one camera": False, "across cameras": False}
    assert not leaks(world).warning


@pytest.mark.parametrize(
    ("draw", "found"),
    [(watermark, ["within one camera"]), (background, ["within one camera", "across cameras"]), (camera_logo, [])],
)
def test_planted_shortcuts_are_flagged(world: Dataset, tmp_path: Path, draw: Draw, found: list[str]) -> None:
    parts = shortcuts(planted(world.train, tmp_path, draw), "training images")
    assert [part.name for part in parts if part.warning] == [f"shortcut {name}, training images" for name in found]
    if draw is watermark:
        assert "row 1, column 1 " in parts[0].sentence
        assert parts[0].numbers["best border cell"].value > 0.95


def test_a_leaked_identity_and_a_leaked_picture_are_flagged(world: Dataset) -> None:
    renamed = world.gallery.with_(identity=[world.train.identity.values[0]] * len(world.gallery))
    part = leaks(replace(world, gallery=renamed, origins={}))
    assert part.warning and "is also in train" in part.sentence and "split by vehicle" in part.fix
    copied = Records.concat([world.gallery, world.train[:1].with_(image_key=["copy"], identity=["another"])])
    part = leaks(replace(world, gallery=copied, origins={}))
    assert part.warning and "the image is a byte-for-byte copy of" in part.sentence


def test_one_picture_of_two_test_vehicles_is_no_leak(world: Dataset) -> None:
    twin = world.gallery[:1].with_(image_key=["twin"], identity=["another"])
    part = leaks(replace(world, gallery=Records.concat([world.gallery, twin]), origins={}))
    assert not part.warning  # wrong labels, which the data doctor reports


def test_leaks_need_both_sides(world: Dataset) -> None:
    with pytest.raises(InputError, match="needs both train and test"):
        leaks(replace(world, train=world.train[:0]))


def test_cells_by_hand(tmp_path: Path) -> None:
    side = CELLS * PIXELS
    image = Image.new("RGB", (side, side))
    image.paste((255, 0, 0), (PIXELS, 0, 2 * PIXELS, PIXELS))  # the second cell of the first row
    image.save(tmp_path / "a.png")
    found = cells(Records.of(path=[tmp_path / "a.png"]))
    assert found.shape == (1, CELLS**2, PIXELS**2 * 3)
    assert np.array_equal(np.flatnonzero(found.any(axis=2)[0]), [1])
    assert np.array_equal(found[0, 1].reshape(-1, 3), np.tile([1, 0, 0], (PIXELS**2, 1)))


def test_hits_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.integers(0, 3, (2, 12, 2, 3)).astype(np.float32)  # many ties
    vehicle, allowed = np.repeat(np.arange(4), 3), rng.random((12, 12)) < 0.6
    found = nearest_hits(query, gallery, allowed, vehicle)
    for row in range(12):
        matches = [g for g in range(12) if allowed[row, g] and vehicle[g] == vehicle[row]]
        others = [g for g in range(12) if allowed[row, g] and vehicle[g] != vehicle[row]]
        for cell in range(2):
            if not matches or not others:
                assert np.isnan(found[row, cell])
                continue
            near, far = (
                min(np.square(query[row, cell] - gallery[g, cell]).sum() for g in of) for of in (matches, others)
            )
            assert found[row, cell] == (near < far)


def test_too_few_vehicles_raise(world: Dataset) -> None:
    with pytest.raises(InputError, match="at least 16 are needed"):
        shortcuts(world.query)


# models that see only one part of the image


class PartialModel(nn.Module):
    """A network whose map is the image averaged over 10 x 10 cells, of which only the middle or the border counts."""

    def __init__(self, middle: bool) -> None:
        super().__init__()
        weight = torch.zeros(10, 10)
        weight[2:8, 2:8] = 1
        self.weight = weight if middle else 1 - weight

    def backbone(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images, images.shape[-1] // 10) * self.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images).mean(dim=(2, 3)) + 0.01


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Records:
    """Eighteen vehicles at three cameras, middle and border each of a colour of the vehicle's own."""
    folder, rows = tmp_path_factory.mktemp("painted"), []
    for identity in range(18):
        for camera in range(3):
            image = Image.new("RGB", (40, 40), colour("around", str(identity)))
            image.paste(colour("car", str(identity)), (8, 8, 32, 32))
            path = folder / f"{identity}_{camera}.png"
            image.save(path)
            rows.append((str(path), f"v{identity}", f"c{camera}"))
    path, identity, camera = zip(*rows, strict=True)
    return Records.of(path=path, identity=identity, camera=camera)


def trained(middle: bool) -> SimpleNamespace:
    return SimpleNamespace(
        model=PartialModel(middle), transform=TestTransform(height=40, width=40), hash="h", source="m"
    )


def features(records: Records, seed: int = 0) -> FeatureSet:
    noise = np.random.default_rng(seed).normal(size=(len(records), 8)).astype(np.float32)
    return FeatureSet(noise, records, model="h").normalise()


@pytest.mark.parametrize("middle", [True, False])
def test_a_model_that_reads_the_background_is_flagged(painted: Records, middle: bool) -> None:
    found = features(painted)
    part = occlusion((found, found), trained(middle), CROSS_CAMERA)
    assert part.warning is not middle
    hidden, open_ = ("middle occluded", "border occluded") if middle else ("border occluded", "middle occluded")
    assert part.numbers["nothing occluded"].value == pytest.approx(part.numbers[open_].value)
    assert part.numbers[hidden].value < 0.3 < 0.9 < part.numbers["nothing occluded"].value


def test_another_model_raises(painted: Records) -> None:
    other = replace(features(painted), model="another")
    with pytest.raises(InputError, match="extracted with another model"):
        occlusion((other, other), trained(True), CROSS_CAMERA)


def test_activation_maps_are_hot_where_the_model_responds(painted: Records) -> None:
    for middle in (True, False):
        heat = activation_maps(trained(middle), painted[:3])
        assert heat.shape == (3, 40, 40) and heat.min() == 0 and heat.max() == 1
        assert (heat[:, 20, 20] > heat[:, 1, 1]).all() == middle
    blind = SimpleNamespace(model=SimpleNamespace(backbone=SimpleNamespace(pools=True)))
    with pytest.raises(InputError, match="has no feature map"):
        activation_maps(blind, painted[:3])


def test_error_saliency_shows_query_first_candidate_and_nearest_match(painted: Records) -> None:
    query, gallery = painted[:1], painted[1:5]  # vehicle 0 at c0; 0 at c1 and c2, 1 at c0 and c1
    distances = Distances.from_matrix(np.array([[0.4, 0.3, 0.1, 0.2]], dtype=np.float32), query, gallery)
    metrics = evaluate_distances(distances, MARKET)
    part = error_saliency(distances, metrics, MARKET, trained(False))
    assert [(one.caption, one.path) for one in part.chart.rows[0]] == [
        ("query, c0", query.path[0]),
        ("first candidate, wrong, c0", gallery.path[2]),
        ("nearest match, c2", gallery.path[1]),
    ]
    assert part.warning  # all activation lies in the border
    perfect = Distances.from_matrix(np.array([[0.1, 0.2, 0.3, 0.4]], dtype=np.float32), query, gallery)
    with pytest.raises(InputError, match="no errors to show"):
        error_saliency(perfect, evaluate_distances(perfect, MARKET), MARKET, trained(True))
