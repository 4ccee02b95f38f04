from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vreid.data.images
from vreid.data import record_images
from vreid.data.augment import TestTransform, TrainTransform
from vreid.data.images import read_image
from vreid.data.loading import Draw, ImageCache, ImageDataset, Loader, test_loader, train_loader
from vreid.data.records import Records
from vreid.data.sampling import InOrder, PKSampler
from vreid.data.seeds import generator, seed_everything
from vreid.errors import InputError

SIZE = (16, 24)  # height, width of the network's input here
TRAIN = TrainTransform(*SIZE, pad=2, jitter=0.5)


def colours(height: int, width: int, seed: int = 0) -> np.ndarray:
    return generator(seed, "colours").integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """30 images of 7 identities (one of them with a single image) and two of nobody."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number in range(30):
        paths.append(folder / f"{number:02d}.png")
        Image.fromarray(colours(20 + number % 3, 30, seed=number)).save(paths[-1])
    identities = [str(number % 6) for number in range(27)] + ["alone", None, "junk"]
    return Records.of(path=paths, identity=identities)


Epoch = list[tuple[torch.Tensor, list[int], list[bool]]]


def three_by_four(records: Records) -> PKSampler:
    return PKSampler(records.identity.codes, 3, 4, seed=5)


def epochs(records: Records, count: int = 2, **options: object) -> list[Epoch]:
    loader = train_loader(records, TRAIN, three_by_four(records), seed=5, **options)  # type: ignore[arg-type]
    out = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        out.append([(b.images, b.rows.tolist(), b.flipped.tolist()) for b in loader])
        assert len(out[-1]) == len(loader)
    return out


def same(left: Epoch, right: Epoch) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(left, right, strict=True)
    )


# ---------------------------------------------------------------- the same batches, whatever loads them


def test_workers_and_cache_change_nothing(records: Records) -> None:
    plain = epochs(records, workers=0, cache_bytes=0)
    half = 15 * (3 * 16 * 24)
    for options in ({"workers": 0}, {"workers": 2}, {"workers": 1, "cache_bytes": half}):
        other = epochs(records, **options)
        assert all(same(a, b) for a, b in zip(plain, other, strict=True)), options
    assert not same(plain[0], plain[1])


def test_a_batch_holds_what_it_says(records: Records) -> None:
    for images, rows, flipped in epochs(records)[1]:
        assert images.shape == (12, 3, 16, 24) and images.dtype == torch.float32
        names = records.identity.values[rows]
        assert len(set(names)) == 3 and "" not in names and "junk" not in names
        assert len(flipped) == 12


def test_copies_of_one_image_in_a_batch_differ(records: Records) -> None:
    alone = int(np.flatnonzero(records.identity.values == "alone")[0])
    for epoch in epochs(records, count=6):
        for images, rows, _ in epoch:
            if alone in rows:
                copies = images[[place for place, row in enumerate(rows) if row == alone]]
                assert len(copies) == 4 and not torch.equal(copies[0], copies[1])
                return
    pytest.fail("the identity with one image was never drawn")


def test_a_resumed_epoch_continues_in_its_middle(records: Records) -> None:
    whole = epochs(records)[1]
    for workers in (0, 1):
        loader = train_loader(records, TRAIN, three_by_four(records), seed=5, workers=workers)
        loader.set_epoch(1, first_batch=1)
        assert len(loader) == len(whole) - 1
        assert same([(b.images, b.rows.tolist(), b.flipped.tolist()) for b in loader], whole[1:])


def test_skipped_batches_are_not_read(records: Records) -> None:
    gone = records.with_(path=["/nowhere.jpg"] * len(records), image_key=list(map(str, range(len(records)))))
    loader = train_loader(gone, TRAIN, three_by_four(gone), seed=5, workers=0)
    loader.set_epoch(0, first_batch=len(loader))
    assert list(loader) == []


def test_an_epoch_left_early_does_not_disturb_the_next(records: Records) -> None:
    expected = epochs(records)[1]
    loader = train_loader(records, TRAIN, three_by_four(records), seed=5, workers=2)
    for _ in loader:
        break
    loader.set_epoch(1)
    assert same([(b.images, b.rows.tolist(), b.flipped.tolist()) for b in loader], expected)


def test_loading_leaves_the_global_generators_alone(records: Records) -> None:
    seed_everything(1, deterministic=False)
    expected = random.random(), float(np.random.rand()), float(torch.rand(1))
    seed_everything(1, deterministic=False)
    epochs(records, workers=0)
    assert (random.random(), float(np.random.rand()), float(torch.rand(1))) == expected


# ---------------------------------------------------------------- test images


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 1), (64, 0)])
def test_test_images_are_in_order_for_every_batch_size(records: Records, batch_size: int, workers: int) -> None:
    transform = TestTransform(*SIZE)
    batches = list(test_loader(records, transform, batch_size=batch_size, workers=workers))
    assert [row for batch in batches for row in batch.rows.tolist()] == list(range(30))
    expected = torch.stack([transform.prepare(Image.open(path)) for path in records.path])
    assert torch.equal(torch.cat([batch.images for batch in batches]), transform.finish(expected))
    assert not any(batch.flipped.any() for batch in batches)


def test_no_images_give_no_batches(records: Records) -> None:
    loader = test_loader(records[:0], TestTransform(*SIZE))
    assert len(loader) == 0 and list(loader) == []


def test_a_box_is_cut_out_of_its_frame(tmp_path: Path) -> None:
    frame = np.zeros((40, 60, 3), dtype=np.uint8)
    frame[10:20, 30:50] = (255, 0, 0)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    boxed = Records.of(path=[tmp_path / "frame.png"] * 2, image_key=["a", "b"], box=[[30, 10, 50, 20], [np.nan] * 4])
    transform = TestTransform(4, 4, mean=(0, 0, 0), std=(1, 1, 1))
    cut = next(iter(test_loader(boxed, transform))).images
    assert torch.equal(cut[0], torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 4, 4))
    whole = next(iter(test_loader(boxed.with_(box=np.full((2, 4), np.nan)), transform))).images
    assert torch.equal(whole[0], whole[1]) and torch.equal(cut[1], whole[1]) and whole[0, 0].mean() < 0.3


def test_a_frame_is_decoded_once_for_its_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(record_images, "read_image", lambda path: opened.append(path) or read_image(path))
    for name in "ab":
        Image.fromarray(np.full((40, 60, 3), ord(name), dtype=np.uint8)).save(tmp_path / name, "png")
    paths = [
        str(tmp_path / name) for name in "aaababbb"
    ]  # 3 of a, then changing: a batch is read by frame all the same
    boxed = Records.of(path=paths, image_key=list("12345678"), box=[[k, 0, k + 9, 9] for k in range(8)])
    batches = list(test_loader(boxed, TestTransform(4, 4, mean=(0, 0, 0), std=(1, 1, 1)), batch_size=6, workers=0))
    assert opened == [paths[0], paths[3]]  # the last batch goes on with the frame of the one before
    shown = torch.cat([batch.images for batch in batches])[:, 0, 0, 0] * 255
    assert shown.round().int().tolist() == [ord(path[-1]) for path in paths]


# ---------------------------------------------------------------- wrong input comes out as one sentence


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_an_input_error_in_the_parent(records: Records, workers: int) -> None:
    paths = [*records.path[:-1], "/nowhere/car.jpg"]
    loader = test_loader(records.with_(path=paths), TestTransform(*SIZE), batch_size=8, workers=workers)
    with pytest.raises(InputError) as caught:
        list(loader)
    assert str(caught.value) == (
        "/nowhere/car.jpg: the image is missing; put it there or remove its row from the labels."
    )


def test_the_loader_rejects_nonsense(records: Records) -> None:
    with pytest.raises(InputError, match="batch size 0"):
        test_loader(records, TestTransform(*SIZE), batch_size=0)
    with pytest.raises(InputError, match="-1 worker processes"):
        test_loader(records, TestTransform(*SIZE), workers=-1)


# ---------------------------------------------------------------- cache


def test_the_cache_keeps_what_fits() -> None:
    cache = ImageCache(10, (3, 2, 2), limit=36)
    prepared = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    for index in range(10):
        cache.put(index, prepared + index)
    kept = [index for index in range(10) if cache.get(index) is not None]
    assert kept == [0, 1, 2]
    assert torch.equal(cache.get(2), prepared + 2)  # type: ignore[arg-type]
    assert ImageCache(10, (3, 2, 2), limit=0).get(0) is None


def test_each_image_is_decoded_once(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(path: str) -> Image.Image:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr("vreid.data.record_images.read_image", counted)
    epochs(records, count=4, workers=0)
    assert len(read) == len(set(read)) > 20


def test_augmenting_does_not_write_into_the_cache(records: Records) -> None:
    dataset = ImageDataset(records, TRAIN, cache_bytes=1 << 20)
    fresh = [dataset.transform.prepare(read_image(path)) for path in records.path]
    for epoch in range(3):
        dataset[Draw(epoch, 0, 4)]
        dataset.__getitems__([Draw(epoch, row, row) for row in range(30)])
    assert all(torch.equal(dataset.prepared(row), fresh[row]) for row in range(30))


def test_a_data_set_can_be_sent_to_a_spawned_worker(records: Records) -> None:
    dataset = ImageDataset(records, TRAIN, seed=3, cache_bytes=1 << 20)
    copy = pickle.loads(pickle.dumps(dataset))
    draws = [Draw(2, place, row) for place, row in enumerate((4, 4, 9))]
    assert torch.equal(copy.__getitems__(draws).images, dataset.__getitems__(draws).images)


def test_the_loader_takes_any_batch_sampler(records: Records) -> None:
    loader = Loader(ImageDataset(records, TestTransform(*SIZE)), InOrder(5, 2), workers=0)
    assert [batch.rows.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


# ---------------------------------------------------------------- reading images


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((8, 16, 3), dtype=np.uint8)
    upright[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to show"
    stored = Image.fromarray(np.rot90(upright).copy())
    path = save(tmp_path / "turned.png", stored, exif=exif)
    assert np.array_equal(np.asarray(read_image(path)), upright)


def test_other_kinds_of_images_are_converted(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((4, 5), 200, dtype=np.uint8))
    assert np.asarray(read_image(save(tmp_path / "grey.png", grey))).tolist() == [[[200] * 3] * 5] * 4
    deep = Image.fromarray(np.full((4, 5), 200 * 257, dtype=np.uint16))
    assert np.asarray(read_image(save(tmp_path / "deep.png", deep))).tolist() == [[[200] * 3] * 5] * 4
    palette = Image.new("RGB", (5, 4), (10, 200, 30)).quantize(4)
    assert read_image(save(tmp_path / "palette.png", palette)).getpixel((2, 2)) == (10, 200, 30)
    alpha = Image.new("RGBA", (5, 4), (10, 200, 30, 0))
    assert read_image(save(tmp_path / "alpha.png", alpha)).getpixel((2, 2)) == (10, 200, 30)
    bits = Image.new("1", (5, 4), 1)
    assert read_image(save(tmp_path / "bits.png", bits)).getpixel((2, 2)) == (255, 255, 255)
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = read_image(save(tmp_path / "cmyk.jpg", cmyk)).getpixel((8, 8))  # type: ignore[misc]
    assert red > 220 and green < 40 and blue < 40
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    film = save(tmp_path / "film.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_image(film).getpixel((2, 2)) == (255, 0, 0)


def test_the_file_is_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = save(tmp_path / "a.jpg", Image.new("RGB", (8, 8)))
    read_image(path)
    path.rename(tmp_path / "b.jpg")
    assert not [w for w in recwarn if w.category is ResourceWarning]


def test_boxes_are_widened_to_whole_pixels_and_cut_at_the_border(tmp_path: Path) -> None:
    pixels = colours(10, 20)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert np.array_equal(np.asarray(read_image(path, box=(2.4, 3, 7.1, 9))), pixels[3:9, 2:8])
    assert np.array_equal(np.asarray(read_image(path, box=(-5, -5, 4, 4))), pixels[:4, :4])
    assert np.array_equal(np.asarray(read_image(path, box=(15, 5, 99, 99))), pixels[5:, 15:])
    with pytest.raises(InputError, match=r"a.png: box \(20, 0, 30, 5\) lies outside the image of 20 x 10 pixels"):
        read_image(path, box=(20, 0, 30, 5))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_damaged_images_are_reported_in_a_sentence(tmp_path: Path, kind: str) -> None:
    whole = save(tmp_path / "whole", Image.fromarray(colours(40, 40)), format=kind).read_bytes()
    damaged = tmp_path / "damaged.jpg"
    for length in (0, 1, 3, 10, len(whole) // 4, len(whole) // 2):
        damaged.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_image(damaged)
        assert str(damaged) in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    rng = generator(0, "damage")
    for kind in ("JPEG", "PNG", "TIFF"):
        whole = np.frombuffer(
            save(tmp_path / "whole", Image.fromarray(colours(24, 24)), format=kind).read_bytes(), np.uint8
        )
        for _ in range(60):
            bytes_ = whole.copy()
            bytes_[rng.integers(len(bytes_), size=6)] = rng.integers(256, size=6)
            (tmp_path / "damaged").write_bytes(bytes_.tobytes())
            try:
                assert read_image(tmp_path / "damaged").mode == "RGB"
            except InputError as error:
                assert "damaged" in str(error)


def test_what_is_no_image_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    with pytest.raises(InputError, match=r"notes.jpg: is not an image that can be read; use JPEG or PNG"):
        read_image(tmp_path / "notes.jpg")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_image(tmp_path)
    floats = save(tmp_path / "floats.tif", Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)))
    with pytest.raises(InputError, match=r"floats.tif: holds floating-point values"):
        read_image(floats)


def test_huge_images_are_rejected_before_they_are_decoded(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for side in (10_001, 20_000):  # beyond our limit, and beyond Pillow's own
        path = tmp_path / f"{side}.png"
        small = save(tmp_path / "small.png", Image.new("1", (1, 1))).read_bytes()
        header = side.to_bytes(4, "big") * 2
        path.write_bytes(_with_size(small, header))
        with pytest.raises(InputError, match=rf"{side}.png: the image has .* more than 100 megapixels; crop the"):
            read_image(path)
    assert not list(recwarn)
    assert vreid.data.images.MAX_PIXELS == 100_000_000


def _with_size(png: bytes, size: bytes) -> bytes:
    import zlib

    chunk = b"IHDR" + size + png[24:29]
    return png[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png[33:]


def test_reading_images_needs_no_torch() -> None:
    code = "import sys, vreid.data.images, vreid.data.sampling, vreid.data.dataset; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    place = {"cwd": root, "env": {"PYTHONPATH": "src"}}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **place)  # type: ignore[call-overload]
    assert result.stdout.strip() == "False", result.stderr
