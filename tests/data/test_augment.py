from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from vreid.data.augment import IMAGENET_MEAN, IMAGENET_STD, NOTHING, TestTransform, TrainTransform
from vreid.data.seeds import generator
from vreid.errors import InputError

PLAIN = TrainTransform(32, 48, flip=0, pad=0, erase=0)


def noise(width: int = 61, height: int = 37, seed: int = 0) -> Image.Image:
    return Image.fromarray(generator(seed, "noise").integers(256, size=(height, width, 3), dtype=np.uint8))


def marked(height: int = 32, width: int = 48) -> torch.Tensor:
    """An image in which every pixel tells where it is: red = row, green = column, blue = 255."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, 255)]).to(torch.uint8)


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_the_test_transform_is_torchvisions(name: str) -> None:
    mode = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}[name]
    reference = v2.Compose(
        [
            v2.Resize((32, 48), mode),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    ours = TestTransform(32, 48, interpolation=name)
    images = [noise(seed=seed) for seed in range(3)]
    batch = ours.finish(torch.stack([ours.augment(ours.prepare(i), generator(0)).image for i in images]))
    torch.testing.assert_close(batch, torch.stack([reference(i) for i in images]), rtol=0, atol=1e-6)


def test_normalisation_by_hand() -> None:
    transform = TestTransform(1, 1, mean=(0.5, 0.2, 0.0), std=(0.5, 0.4, 2.0))
    pixel = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert transform.finish(pixel).flatten().tolist() == pytest.approx([1.0, -0.5, 0.1])


def test_erased_regions_are_zero_after_normalisation_and_nothing_else_is() -> None:
    transform = TestTransform(6, 8)
    images = torch.randint(0, 256, (2, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = transform.finish(images)
    out = transform.finish(images, torch.tensor([[1, 2, 3, 4], NOTHING]))
    erased = torch.zeros(2, 3, 6, 8, dtype=torch.bool)
    erased[0, :, 1:4, 2:6] = True
    assert (out[erased] == 0).all()
    assert torch.equal(out[~erased], plain[~erased])


def test_erased_regions_take_the_training_transforms_colour() -> None:
    transform = TrainTransform(6, 8, pad=0, erase_fill=(0.4914, 0.4822, 0.4465))
    images = torch.zeros((1, 3, 6, 8), dtype=torch.uint8)
    out = transform.finish(images, torch.tensor([[1, 2, 3, 4]]))
    expected = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1).expand(3, 3, 4)
    assert torch.equal(out[0, :, 1:4, 2:6], expected)  # written after normalisation
    assert out[0, 0, 0, 0] == pytest.approx(-0.485 / 0.229)


def test_enlarging_crops_some_place_of_the_larger_image_half_of_the_time() -> None:
    transform = TrainTransform(32, 64, interpolation="bilinear", flip=0, pad=0, erase=0, enlarge=0.5)
    original = marked(32, 64)
    large = v2.functional.resize(original, [36, 72], InterpolationMode.BILINEAR)
    places = [large[:, top : top + 32, left : left + 64] for top in range(5) for left in range(9)]
    found, untouched = set(), 0
    for index in range(800):
        image = transform.augment(original, generator(2, index)).image
        assert image.shape == (3, 32, 64) and image.dtype == torch.uint8
        untouched += torch.equal(image, original)
        found |= {number for number, place in enumerate(places) if torch.equal(image, place)}
    assert 340 < untouched < 460 and len(found) == len(places)


def test_with_everything_off_nothing_changes() -> None:
    original = marked()
    image, flipped, erased = PLAIN.augment(original, generator(0))
    assert torch.equal(image, original) and not flipped and erased == NOTHING


def test_flip_is_reported_and_mirrors() -> None:
    always = replace(PLAIN, flip=1.0)
    image, flipped, _ = always.augment(marked(), generator(0))
    assert flipped
    assert torch.equal(image, marked().flip(-1))
    flips = [replace(PLAIN, flip=0.5).augment(marked(), generator(0, i)).flipped for i in range(400)]
    assert 160 < sum(flips) < 240


def test_pad_and_crop_is_torchvisions_at_some_place_and_every_place_comes_up() -> None:
    transform = replace(PLAIN, pad=3)
    original = marked()
    padded = v2.functional.pad(original, [3])
    places = {(t, left): padded[:, t : t + 32, left : left + 48] for t in range(7) for left in range(7)}
    found = set()
    for index in range(600):
        image = transform.augment(original, generator(1, index)).image
        found |= {place for place, expected in places.items() if torch.equal(image, expected)}
    assert found == set(places)


def test_erasing_has_the_papers_areas_ratios_and_frequency() -> None:
    transform = TrainTransform(64, 96, flip=0, pad=0, erase=0.5)
    regions = [transform.augment(marked(64, 96), generator(2, i)).erased for i in range(2000)]
    drawn = [region for region in regions if region != NOTHING]
    assert 900 < len(drawn) < 1100
    areas = [h * w / (64 * 96) for _, _, h, w in drawn]
    ratios = [h / w for _, _, h, w in drawn]
    assert 0.017 < min(areas) < 0.03 and 0.3 < max(areas) < 0.34
    assert 0.27 < min(ratios) < 0.35 and 2.5 < max(ratios) < 3.5
    # log-uniform: as many high as wide rectangles; the highest do not fit so often into 64 rows
    assert abs(np.mean([math.log(ratio) for ratio in ratios])) < 0.1
    for top, left, height, width in drawn:
        assert 0 <= top <= 64 - height and 0 <= left <= 96 - width and height < 64 and width < 96
    assert {top for top, *_ in drawn} >= set(range(30))


def test_erasing_draws_as_torchvision_does() -> None:
    torch.manual_seed(0)
    theirs = v2.RandomErasing(p=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3))
    original = torch.ones(3, 64, 96)
    reference = [float((theirs(original) == 0).float().mean()) for _ in range(1500)]
    ours = replace(TrainTransform(64, 96, flip=0, pad=0), erase=1.0)
    areas = []
    for index in range(1500):
        _, _, height, width = ours.augment(marked(64, 96), generator(3, index)).erased
        areas.append(height * width / (64 * 96))
    assert np.quantile(areas, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(reference, [0.1, 0.5, 0.9]), abs=0.02)


def test_a_rectangle_that_never_fits_erases_nothing() -> None:
    transform = TrainTransform(4, 400, flip=0, pad=0, erase=1.0, erase_scale=(0.9, 0.95), erase_ratio=(1.0, 1.0))
    assert transform.augment(marked(4, 400), generator(0)).erased == NOTHING


def test_resized_crop_shows_a_part_of_the_padded_image_at_full_size() -> None:
    transform = replace(TrainTransform(64, 64, flip=0, erase=0, pad=4), resized_crop=True)
    original = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    images = [transform.augment(original, generator(4, i)).image for i in range(60)]
    assert {tuple(image.shape) for image in images} == {(3, 64, 64)}
    black = [float((image == 0).float().mean()) for image in images]
    assert max(black) > 0.03  # the border is seen ...
    assert min(black) < max(black) and max(black) < 0.25  # ... but never much of it
    whole = replace(transform, pad=0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    assert torch.equal(whole.augment(marked(64, 64), generator(0)).image, marked(64, 64))


def test_resized_crop_falls_back_to_the_centre() -> None:
    transform = TrainTransform(
        8,
        80,
        flip=0,
        pad=0,
        erase=0,
        resized_crop=True,
        crop_scale=(1.0, 1.0),
        crop_ratio=(0.9, 1.1),
        interpolation="bilinear",
    )
    columns = transform.augment(marked(8, 80), generator(0)).image[1].float()
    assert columns.min() >= 35 and columns.max() <= 44  # a square of 8 or 9 in the middle of 80


def test_jitter_is_off_by_default_and_bounded() -> None:
    assert TrainTransform().jitter == 0
    grey = torch.full((3, 32, 48), 100, dtype=torch.uint8)
    values = [int(replace(PLAIN, jitter=1.0).augment(grey, generator(5, i)).image[0, 0, 0]) for i in range(200)]
    assert min(values) >= 79 and max(values) <= 121 and len(set(values)) > 20


def test_the_same_generator_gives_the_same_image() -> None:
    transform = TrainTransform(32, 48, jitter=1.0, pad=5)
    one, two, other = (transform.augment(marked(), generator(6, key)) for key in (1, 1, 2))
    assert torch.equal(one.image, two.image) and one[1:] == two[1:]
    assert not torch.equal(one.image, other.image)


def test_the_defaults_are_the_papers() -> None:
    transform = TrainTransform()
    assert (transform.pad, transform.flip, transform.erase, transform.interpolation) == (10, 0.5, 0.5, "bicubic")
    assert (transform.erase_scale, transform.erase_ratio) == ((0.02, 0.33), (0.3, 3.3))
    assert transform.test() == TestTransform()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"height": 0}, "is 0; give a whole number from 1"),
        ({"interpolation": "nearest"}, "use bicubic or bilinear"),
        ({"std": (0.2, 0.0, 0.2)}, "give a number from 1e-06"),
        ({"flip": 1.5}, "flip is 1.5; give a number from 0 to 1"),
        ({"pad": -1}, "pad is -1"),
        ({"height": 8, "pad": 10}, "transform.pad is .*; give a whole number of at least 0 and below"),
    ],
)
def test_impossible_transforms_are_rejected(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainTransform(**wrong)  # type: ignore[arg-type]


def test_test_images_are_larger_by_the_test_scale() -> None:
    transform = TrainTransform(height=96, width=48, test_scale=4 / 3).test()
    assert (transform.height, transform.width) == (128, 64)
    with pytest.raises(InputError, match=r"transform\.test_scale"):
        TrainTransform(test_scale=0.1)
