"""Weakly supervised crops: each step from a map to a box by hand, models that are too coarse, boxes in frames."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vreid.data.augment import TestTransform
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.models.backbones import build_backbone
from vreid.models.reid_model import ReidModel
from vreid.progress import Progress
from vreid.recipes import recipe
from vreid.training import crop as module
from vreid.training.crop import (
    CROP_CONFIGS,
    CropConfig,
    activation,
    box_of,
    crop_config,
    enlarged,
    extent,
    find_boxes,
    foreground,
    largest_component,
    resized,
    without_border,
)
from vreid.training.extract import TrainedModel

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = CropConfig(border=0.0, enlargement=(1, 1), min_area=0.0)


# ---------------------------------------------------------------- the steps


def test_activation_sums_powers_over_channels() -> None:
    maps = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.5]]]])
    assert activation(maps).tolist() == [[[10.0, 4.25]]]
    assert activation(maps, exponent=1).tolist() == [[[4.0, 2.5]]]
    assert activation(maps.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("cells", "border", "first", "behind"),
    [(16, 0.25, 4, 12), (8, 0.25, 2, 6), (9, 0.25, 2, 7), (8, 0.125, 1, 7), (8, 0, 0, 8)],
)
def test_the_border_of_a_map_is_set_to_zero(cells: int, border: float, first: int, behind: int) -> None:
    kept = without_border(torch.ones(1, cells, cells), border)[0]
    inside = torch.zeros(cells, cells)
    inside[first:behind, first:behind] = 1
    assert torch.equal(kept, inside)  # 4 and 12 of 16 are VOC's literals


def slowly_resized(cells: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear between the middles of cells, which lie at k + 1/2; beyond the outermost ones nothing changes."""
    out = np.empty((height, width))
    for row, column in product(range(height), range(width)):
        y = np.clip((row + 0.5) * cells.shape[0] / height - 0.5, 0, cells.shape[0] - 1)
        x = np.clip((column + 0.5) * cells.shape[1] / width - 0.5, 0, cells.shape[1] - 1)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, cells.shape[0] - 1), min(x0 + 1, cells.shape[1] - 1)
        above = cells[y0, x0] * (1 - x + x0) + cells[y0, x1] * (x - x0)
        below = cells[y1, x0] * (1 - x + x0) + cells[y1, x1] * (x - x0)
        out[row, column] = above * (1 - y + y0) + below * (y - y0)
    return out


def test_resizing_is_bilinear() -> None:
    assert resized(torch.tensor([[[0.0, 4.0]]]), 1, 4)[0].tolist() == [[0, 1, 3, 4]]
    cells = np.random.default_rng(0).random((3, 5))
    np.testing.assert_allclose(resized(torch.tensor(cells)[None], 10, 12)[0], slowly_resized(cells, 10, 12), atol=1e-12)


def test_foreground_reaches_a_multiple_of_the_mean() -> None:
    heat = np.array([[5.0, 5, 5], [5, 9, 8]], dtype=np.float32)  # above 5: a sum of 7, a mean of 7/6
    assert foreground(heat, 1.0).tolist() == [[False] * 3, [False, True, True]]
    assert foreground(heat, 3.0).tolist() == [[False] * 3, [False, True, False]]  # 3.5 is asked for
    assert foreground(heat, 0.0).all()
    assert not foreground(np.full((2, 2), 7, dtype=np.float32), 0.5).any()  # nothing stands out


def test_the_largest_component_is_4_connected_and_ties_go_to_the_first() -> None:
    mask = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]], dtype=bool)
    assert largest_component(mask).tolist() == [[False] * 4, [False, True, False, False], [True, True, False, False]]
    two = np.array([[1, 0, 1]], dtype=bool)
    assert largest_component(two).tolist() == [[True, False, False]]
    assert not largest_component(np.zeros((2, 2), dtype=bool)).any()


@settings(max_examples=50)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_extent_is_tight(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    box = extent(mask)
    if box is None:
        assert not mask.any()
        return
    x1, y1, x2, y2 = map(int, box)
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    assert all(edge.any() for edge in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1]))


def test_a_box_is_enlarged_about_its_centre_or_the_origin() -> None:
    assert enlarged((10, 20, 30, 60), 0.5, (1, 1)) == (5, 10, 35, 70)
    assert enlarged((10, 20, 30, 60), 0, (0.5, 2)) == (5, 10, 60, 120)
    assert enlarged((10, 20, 30, 60), 0.5, (0.5, 2)) == (2.5, 5, 70, 140)


def test_the_defaults_are_vocs() -> None:
    """Pixels 64 to 192 of 256 are hot: a quarter to three quarters of 128 x 64, x1, y1 times 0.7, x2, y2 times 1.2."""
    heat = np.zeros((256, 256), dtype=np.float32)
    heat[64:192, 64:192] = 1
    assert CROP_CONFIGS["voc"] == CropConfig(2.0, 0.25, 1.0, False, 0.0, (0.7, 1.2), 0.1)
    assert box_of(heat, 128, 64, CROP_CONFIGS["voc"]) == (22, 11, 116, 58)  # of 22.4, 11.2, 115.2 and 57.6
    assert box_of(heat, 128, 64, replace(CROP_CONFIGS["voc"], enlargement=(0, 2))) == (0, 0, 128, 64)  # cut off


def test_boxes_that_are_too_small_are_dropped() -> None:
    heat = np.zeros((10, 10), dtype=np.float32)
    assert box_of(heat, 50, 50, PLAIN) is None
    heat[2:4, 3:8] = 1
    assert box_of(heat, 50, 100, PLAIN) == (15, 20, 40, 40)
    assert box_of(heat, 50, 100, replace(PLAIN, min_area=0.1)) == (15, 20, 40, 40)  # a tenth, exactly
    assert box_of(heat, 50, 100, replace(PLAIN, min_area=0.11)) is None
    heat[9, 9] = 1
    assert box_of(heat, 50, 100, PLAIN) == (15, 20, 50, 100)
    assert box_of(heat, 50, 100, replace(PLAIN, largest_component=True)) == (15, 20, 40, 40)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0, 2),
    st.floats(-0.5, 2),
    st.floats(0, 1),
    st.floats(0, 0.9),
)
def test_every_box_lies_in_its_image_and_is_large_enough(
    seed: int, width: int, height: int, ratio: float, margin: float, shrink: float, least: float
) -> None:
    heat = np.random.default_rng(seed).random((16, 16), dtype=np.float32)
    config = CropConfig(ratio=ratio, margin=margin, enlargement=(shrink, 1.2), min_area=least)
    box = box_of(heat, width, height, config)
    if box is not None:
        x1, y1, x2, y2 = box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert (x2 - x1) * (y2 - y1) >= least * width * height


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"border": 0.5}, "border is 0.5"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"margin": -1}, "margin is -1"),
        ({"min_area": 2}, "min_area is 2; give a number from 0 to 1"),
        ({"exponent": 0}, "exponent is 0"),
        ({"enlargement": (1.2, 0.7)}, "smaller number first"),
    ],
)
def test_wrong_settings(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CropConfig(**change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no crop config 'vox'; choose among voc"):
        crop_config("vox")


# ---------------------------------------------------------------- a model and images


class Brightness(nn.Module):
    """A backbone whose map is how bright each cell of `stride` x `stride` pixels is."""

    num_features = 1

    def __init__(self, stride: int = 16, *, pools: bool = False) -> None:
        super().__init__()
        self.stride, self.pools = stride, pools

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), self.stride)
        return maps.mean(dim=(2, 3)) if self.pools else maps


def trained(side: int = 128, stride: int = 16, *, pools: bool = False) -> TrainedModel:
    transform = TestTransform(side, side, "bilinear", (0.0,) * 3, (1.0,) * 3)
    return TrainedModel(ReidModel(Brightness(stride, pools=pools)).eval(), transform, "", Path("net"))


def picture(path: Path, width: int, height: int, *lights: tuple[int, int, int, int]) -> Path:
    image = Image.new("RGB", (width, height))
    for light in lights:
        image.paste((255, 255, 255), light)
    image.save(path)
    return path


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """A image with a light in it, a dark one, and two parts of a full frame, one of them with the same light."""
    monkeypatch.setattr(module, "load_trained", lambda source: trained())
    alone = picture(tmp_path / "alone.png", 128, 64, (32, 16, 96, 48))
    dark = picture(tmp_path / "dark.png", 128, 64)
    frame = picture(tmp_path / "frame.png", 400, 200, (132, 66, 196, 98), (390, 190, 400, 200))
    boxes = [[np.nan] * 4, [np.nan] * 4, [99.4, 49.6, 228.2, 114.0], [300, -5, 420, 60]]
    return Records.of(path=[alone, dark, frame, frame], image_key=list("abcd"), box=boxes, identity=["1"] * 4)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_box_is_found_in_an_image_and_in_a_part_of_a_frame(frame: Records) -> None:
    listener = Notes()
    found = find_boxes("net", frame, PLAIN, progress=listener, precision="float32")
    assert found.variant.values.tolist() == ["crop"] * 4
    assert found.image_key.tolist() == list("abcd") and found.identity == frame.identity
    assert found.path.tolist() == frame.path.tolist()
    left, top, right, bottom = found.box[0]
    # Bilinear ramps between cells of 16 pixels (of 128 x 128) cross the mean, a quarter, outside of the light.
    assert 24 <= left <= 32 and 96 <= right <= 104 and 12 <= top <= 16 and 48 <= bottom <= 52
    assert found.box[1].tolist() == [0, 0, 128, 64]  # nothing stands out: the whole image
    # The third record shows 129 x 65 pixels from (99, 49) on, and its light begins one pixel later than the first's.
    np.testing.assert_allclose(found.box[2] - [99, 49, 99, 49], found.box[0], atol=2)
    assert found.box[3].tolist() == [300, 0, 400, 60]  # all of its part that lies on the frame
    assert listener.notes == ["2 of 4 images are not cropped: no box of sufficient size was found."]


def test_order_and_batches_do_not_matter(frame: Records) -> None:
    whole = find_boxes("net", frame, precision="float32")
    for order in ([3, 2, 1, 0], [2]):
        some = find_boxes("net", frame[order], batch_size=3, precision="float32")
        assert np.array_equal(some.box, whole.box[order])
    assert len(find_boxes("net", frame[:0])) == 0


def test_a_missing_image_is_reported(frame: Records) -> None:
    with pytest.raises(InputError, match=r"gone\.png: the image is missing"):
        find_boxes("net", frame.with_(path=["gone.png"] * 4))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            trained(side=96),
            "is for images of 96 x 96; boxes need images of 128 x 128 or more and a map of stride",
        ),
        (trained(side=256, stride=32), "map of an image of 256 x 256 has 8 x 8 cells; .* recipe crop_model"),
        (trained(side=128, stride=32), "has 4 x 4 cells"),
        (trained(pools=True), "its backbone returns no feature map"),
    ],
)
def test_coarse_models_are_reported(model: TrainedModel, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_trained", lambda source: model)
    with pytest.raises(InputError, match=words):
        find_boxes("net", Records.of(path=[]))


@pytest.mark.parametrize(("name", "cells"), [("crop_model", 16), ("crop_model_small", 8)])
def test_maps_of_the_recipes_are_fine_enough_for_boxes(name: str, cells: int) -> None:
    config = recipe(name)
    assert config.model.pooling == "gem"
    with torch.device("meta"):
        backbone = build_backbone(config.model.backbone).eval()
        maps = backbone(torch.zeros(1, 3, config.transform.height, config.transform.width))
    assert maps.shape[2:] == (cells, cells)
