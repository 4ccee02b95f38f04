"""Detectors from functions, packages, commands; boxes of videos and folders of frames."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vreid.data.records import Records
from vreid.detection.detect import detect
from vreid.detection.detected_boxes import DetectedBoxes
from vreid.detection.detectors import CommandDetector, load_detector
from vreid.errors import InputError

WIDTH, HEIGHT, FRAMES = 160, 120, 12


def place(number: int) -> tuple[int, int, int, int]:
    return 10 * number, 40, 10 * number + 30, 64


def picture(number: int) -> np.ndarray[Any, Any]:
    pixels = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    x1, y1, x2, y2 = place(number)
    pixels[y1:y2, x1:x2] = (230, 20, 20)
    return pixels


def find_red(frame: np.ndarray[Any, Any]) -> DetectedBoxes:
    """The box of the red pixels, and a person."""
    rows, columns = np.nonzero((frame[..., 0].astype(int) - frame[..., 1]) > 100)
    red = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    boxes = np.array([red, [1, 1, 9, 9]], dtype=float)
    return DetectedBoxes(boxes, np.array([0.9, 0.8]), None, None, {"class_name": np.array(["Car", "person"])})


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "cam.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c7" / "img1").mkdir(parents=True)
    for number in range(FRAMES):
        Image.fromarray(picture(number)).save(tmp_path / "c7" / "img1" / f"{number + 1:06d}.png")
    return tmp_path / "c7"


def check(records: Records, frames: list[int], first: int = 0) -> None:
    assert records.frame.tolist() == [frame + first for frame in frames]
    assert set(records.vehicle_type.values) <= {"car", ""}
    for frame, box in zip(frames, records.box, strict=True):
        assert np.abs(box - place(frame)).max() <= 2


def test_vehicles_of_a_video_and_a_folder(video: Path, folder: Path) -> None:
    of_video = detect(video, find_red)
    check(of_video, list(range(FRAMES)))
    assert set(of_video.path) == {str(video)} and set(of_video.camera.values) == {"cam"}
    assert not of_video.tracklet.known.any()
    check(detect(video, find_red, every=5, camera="north"), [0, 5, 10])
    of_folder = detect(folder, find_red)
    check(of_folder, list(range(FRAMES)), first=1)
    assert of_folder.path[0] == f"{folder}/img1/000001.png" and of_folder.camera.values[0] == "c7"


def test_a_frame_that_cannot_be_read_does_not_stop_the_rest(folder: Path) -> None:
    (folder / "img1" / "000003.png").write_text("no image")
    missing: list[str] = []
    check(detect(folder, find_red, on_missing=missing.append), [0, 1, *range(3, FRAMES)], first=1)
    assert len(missing) == 1 and "000003.png" in missing[0]


def test_track_ids_of_a_detector_are_tracklets(video: Path) -> None:
    def tracked(frame: np.ndarray[Any, Any]) -> DetectedBoxes:
        return DetectedBoxes(find_red(frame).xyxy[:1], tracker_id=np.array([4]))

    assert set(detect(video, tracked).tracklet.values) == {"cam/4"}


def test_a_function_of_a_module_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def find(frame):\n    return None\nnumber = 3\n")
    assert callable(load_detector(f"{tmp_path}/mine.py:find"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert callable(load_detector("mine:find"))
    for name, reason in {
        "mine:absent": "cannot be loaded",
        "mine:number": "is int, not a function",
        "no.such:find": "cannot be loaded",
        "absent.py:find": "cannot be loaded",
        "yolo": "there is no such detector",
        "command:": "names no program",
        "command: 'x": "quote the command",
        "rfdetr": "needs the package rfdetr",
        "absent.onnx": "absent.onnx: cannot be read",
    }.items():
        monkeypatch.setitem(sys.modules, "rfdetr", None)
        with pytest.raises(InputError, match=reason):
            load_detector(name)


def test_rfdetr_is_loaded_by_size(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with the interface of rfdetr 1.x, which returns COCO class numbers and no names."""

    class RFDETRSmall:
        def predict(self, image: np.ndarray[Any, Any], threshold: float) -> Any:
            boxes = find_red(image).xyxy
            return SimpleNamespace(xyxy=boxes, class_id=np.array([3, 1]), tracker_id=None, data={}, threshold=threshold)

    package = ModuleType("rfdetr")
    package.RFDETRSmall = RFDETRSmall  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rfdetr", package)
    check(detect(video, load_detector("rfdetr:small"), every=4), [0, 4, 8])
    with pytest.raises(InputError, match="no such size"):
        load_detector("rfdetr:tiny")


def script(tmp_path: Path, body: str) -> CommandDetector:
    (tmp_path / "tracker.py").write_text(body)
    detector = load_detector(f"command: {sys.executable} {tmp_path}/tracker.py")
    assert isinstance(detector, CommandDetector)
    return detector


def test_a_command_prints_mot_lines(video: Path, tmp_path: Path) -> None:
    body = f"""import sys
assert sys.argv[1] == {str(video)!r}
for n in range(1, 13):
    print(n, 5, 10 * n - 10, 40, 30, 24, 1, -1, -1, -1, sep=",")
"""
    records = detect(video, script(tmp_path, body))
    check(records, list(range(FRAMES)))
    assert set(records.tracklet.values) == {"cam/5"}


def test_what_a_command_does_wrong_is_said(video: Path, tmp_path: Path) -> None:
    found: list[Any] = []
    lines = "print('1,1,0,40,30,24,1')\nprint('hello')\n"
    assert len(detect(video, script(tmp_path, lines), on_finding=found.append)) == 1 and len(found) == 1
    with pytest.raises(InputError, match=r"ended with 3 on .*it failed"):
        detect(video, script(tmp_path, "import sys\nprint('it failed', file=sys.stderr)\nsys.exit(3)\n"))
    with pytest.raises(InputError, match="cannot be run"):
        detect(video, CommandDetector(("/no/such/program",)))


@pytest.mark.parametrize("fault", [lambda frame: 1 / 0, lambda frame: None, lambda frame: np.zeros((2, 4))])
def test_a_detector_that_fails_is_named_with_the_frame(video: Path, fault: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"cam\.mp4, frame 0: the detector failed"):
        detect(video, fault)


def test_sources_that_are_none(tmp_path: Path) -> None:
    for name, reason in {"absent.mp4": "neither a video nor a folder", ".": "holds no frames"}.items():
        with pytest.raises(InputError, match=reason):
            detect(tmp_path / name, find_red)
