"""Tracklets with crops from videos, frames and crops."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vreid.data.records import Records
from vreid.store import tracklets
from vreid.store.interface import LARGEST_JPEG, NO_TIME
from vreid.store.tracklets import Skipped, encode_crop, tracklets_of, with_tracklets

WIDTH, HEIGHT = 320, 240
COLORS = {"cam/1": (200, 30, 30), "cam/2": (30, 30, 200)}


def box_of(tracklet: str, frame: int) -> tuple[float, float, float, float]:
    """cam/1 drives to the right in frames 0 to 19, cam/2 to the left in frames 10 to 29."""
    left = 12 * frame if tracklet == "cam/1" else 240 - 12 * (frame - 10)
    top = 40 if tracklet == "cam/1" else 140
    return left, top, left + 60, top + 40


def frame_at(number: int) -> np.ndarray[Any, Any]:
    pixels = np.random.default_rng(0).integers(90, 150, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for tracklet, frames in {"cam/1": range(20), "cam/2": range(10, 30)}.items():
        if number in frames:
            x1, y1, x2, y2 = (int(corner) for corner in box_of(tracklet, number))
            pixels[y1:y2, x1:x2] = COLORS[tracklet]
    return pixels


def boxes(paths: list[str], **columns: Any) -> Records:
    """The boxes of both vehicles; `paths` by frame."""
    rows = [("cam/1", frame) for frame in range(20)] + [("cam/2", frame) for frame in range(10, 30)]
    return Records.of(
        path=[paths[frame] for _, frame in rows],
        image_key=[f"{tracklet}/{frame}" for tracklet, frame in rows],
        camera=["cam"] * len(rows),
        tracklet=[tracklet for tracklet, _ in rows],
        frame=[frame for _, frame in rows],
        box=[box_of(tracklet, frame) for tracklet, frame in rows],
        vehicle_type=["truck" if frame == 3 else "car" for _, frame in rows],
        **columns,
    )


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "cam.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_at(number), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(30):
        Image.fromarray(frame_at(number)).save(folder / f"{number:06d}.png")
    return [str(folder / f"{number:06d}.png") for number in range(30)]


def color_of(jpeg: bytes) -> np.ndarray[Any, Any]:
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))
    height, width, _ = pixels.shape
    return pixels[height // 4 : -height // 4, width // 4 : -width // 4].reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize("source", ["video", "frames"])
def test_crops_show_the_vehicles_of_the_tracklet(video: Path, frames: list[str], source: str) -> None:
    paths = [str(video)] * 30 if source == "video" else frames
    skipped = Skipped()
    seconds = [100 + frame / 10 for frame in (*range(20), *range(10, 30))]
    found = list(tracklets_of(boxes(paths, time=seconds), on_skip=skipped))
    assert not skipped.count
    assert [tracklet.id for tracklet in found] == ["cam/1", "cam/2"]
    for tracklet in found:
        assert (tracklet.camera, tracklet.boxes, tracklet.vehicle_type) == ("cam", 20, "car")
        assert len(tracklet.crops) == 4 and tracklet.source == paths[tracklet.crops[0].frame]
        assert [crop.quality for crop in tracklet.crops] == sorted(crop.quality for crop in tracklet.crops)[::-1]
        assert tracklet.end - tracklet.start == 1900 and tracklet.last_frame - tracklet.first_frame == 19
        for crop in tracklet.crops:
            assert np.abs(color_of(crop.jpeg) - COLORS[tracklet.id]).max() < 25
            assert crop.box == box_of(tracklet.id, crop.frame)
            assert crop.time == 100_000 + 100 * crop.frame
            assert crop.box[0] > 2 and crop.box[2] < WIDTH - 2  # not cut off
        assert len({crop.frame for crop in tracklet.crops}) == 4


def test_a_tracklet_comes_as_soon_as_its_last_frame_is_read(frames: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = tracklets.read_image

    def reading(path: str) -> Image.Image:
        read.append(path)
        return original(path)

    monkeypatch.setattr(tracklets, "read_image", reading)
    stream = tracklets_of(boxes(frames))
    assert next(stream).id == "cam/1" and max(read) <= frames[19]
    assert next(stream).id == "cam/2" and len(read) == len(set(read))
    assert read == sorted(read)


def test_what_cannot_be_used_is_counted_and_does_not_stop_the_rest(
    video: Path, frames: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(frames[5]).read_bytes()[:2000])
    (tmp_path / "text.mp4").write_text("no video")
    rows = [
        (frames[0], 0, "cam/1", box_of("cam/1", 0)),
        (frames[3], 3, "cam/1", box_of("cam/1", 3)),
        (str(broken), 5, "cam/1", box_of("cam/1", 5)),
        (frames[6], 6, "cam/far", (10, 10, 22, 22)),
        (frames[7], 7, "cam/out", (400, 10, 460, 60)),
        (str(tmp_path / "text.mp4"), 7, "cam/text", (40, 10, 80, 60)),
        (str(tmp_path / "absent.mp4"), 7, "cam/absent", (40, 10, 80, 60)),
        (str(video), 99, "cam/late", (40, 10, 80, 60)),
        (str(video), -1, "cam/when", (40, 10, 80, 60)),
        (str(video), 12, "cam/v", box_of("cam/1", 12)),
    ]
    path, frame, tracklet, box = (list(column) for column in zip(*rows, strict=True))
    skipped = Skipped()
    records = Records.of(path=path, image_key=tracklet_keys(tracklet), frame=frame, tracklet=tracklet, box=box)
    found = list(tracklets_of(records, on_skip=skipped))
    assert {tracklet.id: sorted(crop.frame for crop in tracklet.crops) for tracklet in found} == {
        "cam/1": [0, 3],
        "cam/v": [12],
    }
    assert skipped.count == {
        "image that cannot be read": 1,
        "box outside its frame": 1,
        "box of a video without a frame number": 1,
        "file that cannot be read": 2,
        "frame that cannot be decoded": 1,
        "tracklet without a readable box of at least 16 pixels": 5,
        "tracklet without a readable image": 1,
    }
    assert "absent.mp4" in " ".join(skipped.examples["file that cannot be read"])
    assert skipped.examples["frame that cannot be decoded"] == [f"{video}, frame 99"]


def tracklet_keys(names: list[str]) -> list[str]:
    return [f"{name}/{number}" for number, name in enumerate(names)]


def test_crops_without_tracklets_are_tracklets_of_one_image(frames: list[str]) -> None:
    records = Records.of(path=[frames[0], frames[1]], camera=["a", "b"])
    found = list(tracklets_of(records))
    assert [(one.id, one.camera, one.boxes, one.start) for one in found] == [
        ("a/000000", "a", 1, NO_TIME),
        ("b/000001", "b", 1, NO_TIME),
    ]
    assert found[0].crops[0].box is None and Image.open(io.BytesIO(found[0].crops[0].jpeg)).size == (320, 240)


def test_names_of_tracklets_are_unique_and_stable() -> None:
    records = Records.of(
        path=["x/1.jpg", "y/1.jpg", "v.mp4", "v.mp4", "z/1.jpg"],
        image_key=list("abcde"),
        camera=["c", "c", "c", "c", None],
        frame=[1, 2, 7, 7, 1],
        tracklet=[None, "c/1", None, None, None],
    )
    names = ["c/1-2", "c/1", "c/v-7", "c/v-7-2", "1"]
    assert with_tracklets(records).tracklet.values.tolist() == names
    assert with_tracklets(with_tracklets(records)) == with_tracklets(records)


def test_crops_are_blurred_before_they_are_stored(frames: list[str]) -> None:
    sharp, blurred = (
        next(tracklets_of(boxes(frames), crops=1, blur=blur))
        for blur in (None, lambda image: image.filter(ImageFilter.GaussianBlur(5)))
    )
    pixels = [np.asarray(Image.open(io.BytesIO(one.crops[0].jpeg)), dtype=int) for one in (sharp, blurred)]
    edges = [np.abs(np.diff(crop, axis=0)).max() for crop in pixels]
    assert edges[1] < edges[0] / 2


def test_every_crop_fits_the_store() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3)).astype(np.uint8))
    jpeg = encode_crop(noise)
    assert len(jpeg) <= LARGEST_JPEG and max(Image.open(io.BytesIO(jpeg)).size) <= tracklets.LONGEST_SIDE
    small = Image.new("RGB", (20, 30), (200, 0, 0))
    assert Image.open(io.BytesIO(encode_crop(small))).size == (20, 30)


def test_files_without_a_wanted_tracklet_are_not_opened(frames: list[str], tmp_path: Path) -> None:
    known = boxes(frames)
    more = Records.of(
        path=[tmp_path / "absent.mp4"], camera=["cam"], tracklet=["cam/9"], frame=[0], box=[(0, 0, 50, 50)]
    )
    skipped = Skipped()
    both = Records.concat([known, more])
    assert [one.id for one in tracklets_of(both, only={"cam/2"}, on_skip=skipped)] == ["cam/2"]
    assert list(tracklets_of(both, only=set(), on_skip=skipped)) == [] and not skipped.count
