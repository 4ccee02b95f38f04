"""Videos of a small city: frames, tracker output and truth agree; the same bytes from any number of processes."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run, reported, state
from vreid.data.cameras import read_cameras, with_times
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.city.video_plan import START, VIDEO_PRESETS
from vreid.simulator.formats.video_files import VIDEOS
from vreid.simulator.formats.write import simulate

av = pytest.importorskip("av")
TINY = VIDEO_PRESETS["tiny"]
MICRO = replace(TINY, name="micro", cameras=2, seconds=5.0, frame_rate=2, vehicles=2, width=320)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tracks(path: Path) -> dict[int, list[list[float]]]:
    """Lines of tracker output by track id: frame, left, top, width, height, confidence."""
    found = defaultdict(list)
    for line in path.read_text().splitlines():
        frame, track, *numbers = (float(word) for word in line.split(","))
        found[int(track)].append([frame, *numbers[:5]])
    return found


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_videos_have_the_planned_frames(videos_world: Path) -> None:
    cameras = rows(videos_world / "cameras.csv")
    assert [camera["camera"] for camera in cameras] == ["c001", "c002", "c003"]
    for camera in cameras:
        with av.open(str(videos_world / camera["file"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width) == ("h264", TINY.width)
            assert float(stream.average_rate) == TINY.frame_rate == int(camera["frame_rate"])
            times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        np.testing.assert_allclose(times, np.arange(TINY.seconds * TINY.frame_rate) / TINY.frame_rate)


def test_tracks_and_truth_agree(videos_world: Path) -> None:
    truth = rows(videos_world / "truth.csv")
    offsets = {row["camera"]: float(row["offset"]) for row in rows(videos_world / "clocks.csv")}
    assert sum(offset != 0 for offset in offsets.values()) == TINY.wrong_clocks
    written = set()
    for camera in rows(videos_world / "cameras.csv"):
        name = camera["camera"]
        start = datetime.fromisoformat(camera["start"]).timestamp() + offsets[name]
        assert 0 <= start - START < 1
        with av.open(str(videos_world / camera["file"])) as container:
            width, height = container.streams.video[0].width, container.streams.video[0].height
        for track, lines in tracks(videos_world / f"{name}.txt").items():
            written.add(f"{name}/{track}")
            (row,) = (row for row in truth if row["tracklet"] == f"{name}/{track}")
            frames = [line[0] for line in lines]
            assert frames == sorted(set(frames)) and frames[0] >= 1 and frames[-1] <= TINY.seconds * TINY.frame_rate
            assert float(row["start"]) == pytest.approx(start + (frames[0] - 1) / TINY.frame_rate, abs=0.002)
            assert float(row["end"]) == pytest.approx(start + (frames[-1] - 1) / TINY.frame_rate, abs=0.002)
            for _, left, top, wide, high, confidence in lines:
                assert min(left, top) >= 0 and left + wide <= width + 0.1 and top + high <= height + 0.1
                assert min(wide, high) > 8 and 0 < confidence < 1
    assert written == {row["tracklet"] for row in truth}


def test_the_readers_give_the_times_of_the_truth(videos_world: Path) -> None:
    records = with_times(open_dataset(videos_world).gallery, read_cameras(videos_world / "cameras.csv"), print)
    offsets = {row["camera"]: float(row["offset"]) for row in rows(videos_world / "clocks.csv")}
    truth = rows(videos_world / "truth.csv")
    names = records.tracklet.names[records.tracklet.codes]
    assert set(names) == {row["tracklet"] for row in truth}
    for row in truth:
        times = records.time[names == row["tracklet"]] + offsets[row["camera"]]
        assert times.min() == pytest.approx(float(row["start"]), abs=0.002)
        assert times.max() == pytest.approx(float(row["end"]), abs=0.002)


def test_most_vehicles_are_seen_by_several_cameras_one_after_the_other(videos_world: Path) -> None:
    passes = defaultdict(list)
    for row in rows(videos_world / "truth.csv"):
        passes[row["vehicle"]].append((float(row["start"]), float(row["end"]), row["camera"]))
    several = [vehicle for vehicle, some in passes.items() if len({camera for *_, camera in some}) > 1]
    assert len(several) >= 0.5 * len(passes)
    middles = [[(start + end) / 2 for start, end, _ in sorted(passes[vehicle])] for vehicle in several]
    assert all((np.diff(times) > 0.3).all() for times in middles)


def test_vehicles_are_in_their_boxes(videos_world: Path) -> None:
    """Where a tracker's box is, the frame differs from the empty road, and hardly elsewhere."""
    frames = np.stack(decoded(videos_world / "c001.mp4")).astype(np.float32)
    empty = np.median(frames, axis=0)
    boxed = np.zeros(frames.shape[:3], bool)
    inner = []
    for lines in tracks(videos_world / "c001.txt").values():
        for frame, left, top, wide, high, _ in lines:
            x0, y0, x1, y1 = round(left), round(top), round(left + wide), round(top + high)
            boxed[int(frame) - 1, max(y0 - 8, 0) : y1 + 8, max(x0 - 8, 0) : x1 + 8] = True
            middle = slice(y0 + (y1 - y0) // 4, y1 - (y1 - y0) // 4), slice(x0 + (x1 - x0) // 4, x1 - (x1 - x0) // 4)
            inner.append(float(np.abs(frames[int(frame) - 1] - empty)[middle].mean()))
    assert np.median(inner) > 15
    tracked = boxed.any(axis=(1, 2))
    changed = (np.abs(frames - empty).mean(axis=3) > 40) & ~boxed
    assert changed[tracked].mean() < 0.02


def test_the_same_bytes_from_one_process_and_from_two(tmp_path: Path) -> None:
    one = simulate(tmp_path / "one", preset=MICRO, layout=VIDEOS, seed=3, workers=1)
    two = simulate(tmp_path / "two", preset=MICRO, layout=VIDEOS, seed=3, workers=2)
    assert one.content_hash == two.content_hash
    assert state(one.path) == state(two.path)
    assert one.counts["frames"] == 2 * 10
    assert simulate(tmp_path / "one", preset=MICRO, layout=VIDEOS, seed=3).reused
    (tmp_path / "two" / "c002.mp4").unlink()
    with pytest.raises(InputError, match=r"c002\.mp4: is absent; choose another folder or remove this one"):
        simulate(tmp_path / "two", preset=MICRO, layout=VIDEOS, seed=3)
    with pytest.raises(InputError, match="holds another simulation"):
        simulate(tmp_path / "one", preset=MICRO, layout=VIDEOS, seed=4)


def test_presets_of_images_and_of_videos_are_not_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="preset 'tiny' is not one of layout 'videos'"):
        simulate(tmp_path / "x", preset=PRESETS["tiny"], layout=VIDEOS, seed=0)
    with pytest.raises(InputError, match="preset 'tiny' is not one of layout 'veri'"):
        simulate(tmp_path / "x", preset=TINY, layout="veri", seed=0)
    with pytest.raises(InputError, match="There is no preset 'smoke'"):
        simulate(tmp_path / "x", preset="smoke", layout=VIDEOS, seed=0)
    assert not (tmp_path / "x").exists()


def test_a_build_of_pyav_without_the_encoder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(InputError, match="this build of PyAV lacks libx264; run `pip install"):
        simulate(tmp_path / "x", preset=TINY, layout=VIDEOS, seed=0)
    assert not (tmp_path / "x").exists()


def test_the_command_writes_videos(run: Run, videos_world: Path, tmp_path: Path) -> None:
    done = run(f"simulate {videos_world} --layout videos --preset tiny --seed 1 --json")
    assert done.code == 0 and json.loads(done.out)["reused"] is True
    reported(run(f"simulate {tmp_path}/x --layout videos --preset smoke"), "There is no preset 'smoke'")
