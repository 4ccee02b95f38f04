"""Videos: single frames equal to those of decoding everything, time stamps, rotation, damage, errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vreid.data.video import frame_times, read_frames, video_facts
from vreid.errors import InputError

av = pytest.importorskip("av")
WIDTH, HEIGHT = 96, 64


def picture(number: int) -> np.ndarray[Any, Any]:
    """A frame that shows its number as 8 bright or dark columns, and red in its upper left corner."""
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for bit in range(8):
        frame[20:, bit * 12 : bit * 12 + 12] = 220 if number >> bit & 1 else 20
    frame[:16, :32] = (220, 20, 20)
    return frame


def number_of(frame: np.ndarray[Any, Any]) -> int:
    return sum(int(frame[40, bit * 12 + 6].mean() > 120) << bit for bit in range(8))


def write_video(
    path: Path,
    count: int = 60,
    *,
    codec: str = "libx264",
    milliseconds: Sequence[int] | None = None,
    turned: float = 0,
    metadata: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Ten frames a second, or at the given times."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=10, options={"threads": "1", **options})
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if codec != "mpeg4" else 10)
        if turned:
            stream.set_display_rotation(turned)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.time_base = stream.codec_context.time_base
            step = 100 if codec != "mpeg4" else 1
            frame.pts = number * step if milliseconds is None else milliseconds[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def everything(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


CASES: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {"bf": "3", "g": "12"},
    "open_groups.ts": {"bf": "3", "g": "12", "x264-params": "open-gop=1:b-pyramid=normal"},
    "gradual.ts": {"g": "12", "x264-params": "intra-refresh=1"},
    "one_key.mp4": {"bf": "2", "g": "999"},
    "jpeg.avi": {"codec": "mjpeg"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2"},
    "vp9.webm": {"codec": "libvpx-vp9", "g": "12", "cpu-used": "8", "deadline": "realtime"},
    "hevc.mkv": {"codec": "libx265", "x265-params": "keyint=12:bframes=3:log-level=none"},
    "bare.h264": {"bf": "2", "g": "12"},
}
WANTED = {"few": [3, 4, 30, 59], "first": [0], "open end": [11, 23, 24, 25, 35, 36], "all": list(range(60)), "none": []}


@pytest.mark.parametrize("name", CASES)
def test_chosen_frames_are_those_of_decoding_everything(tmp_path: Path, name: str) -> None:
    video = write_video(tmp_path / name, **CASES[name])
    truth = everything(video)
    assert [number_of(frame) for frame in truth] == list(range(60))
    for wanted in WANTED.values():
        missing: list[int] = []
        found = list(read_frames(video, wanted, on_missing=missing.append))
        assert [number for number, _ in found] == wanted and not missing
        for number, frame in found:
            assert np.array_equal(frame, truth[number]), (name, number)
    assert np.allclose(frame_times(video), np.arange(60) / 10, atol=2e-3) or name == "bare.h264"


def test_facts_and_times_of_a_constant_frame_rate(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 30, metadata={"creation_time": "2024-05-01T12:00:00Z"})
    facts = video_facts(video)
    assert (facts.frames, facts.width, facts.height, facts.variable) == (30, WIDTH, HEIGHT, False)
    assert facts.frame_rate == pytest.approx(10)
    assert facts.start == datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_a_variable_frame_rate_are_those_of_the_container(tmp_path: Path, suffix: str) -> None:
    times = [7000 + 100 * number + 300 * (number > 10) + 15 * (number % 3) for number in range(40)]
    video = write_video(tmp_path / f"a{suffix}", 40, milliseconds=times)
    assert np.allclose(frame_times(video), (np.array(times) - times[0]) / 1000, atol=1e-3)
    assert video_facts(video).variable and video_facts(video).start is None
    assert [number_of(frame) for _, frame in read_frames(video, [11, 39])] == [11, 39]


def test_frames_stand_upright(tmp_path: Path) -> None:
    corners = {90: (slice(-20, None), slice(0, 10)), -90: (slice(0, 20), slice(-10, None)), 180: (slice(-10, None), -9)}
    for angle, corner in corners.items():
        video = write_video(tmp_path / f"{angle}.mp4", 5, turned=angle)
        ((_, frame),) = read_frames(video, [2])
        upright = (WIDTH, HEIGHT) if angle == 180 else (HEIGHT, WIDTH)
        assert frame.shape == (upright[1], upright[0], 3)
        assert (video_facts(video).width, video_facts(video).height) == upright
        red = frame[corner].reshape(-1, 3).mean(axis=0)
        assert red[0] > 150 and red[1] < 90, angle


def test_a_broken_tail_ends_early_and_the_missing_are_reported(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 60, g="12")
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) * 6 // 10])
    missing: list[int] = []
    found = [(number, number_of(frame)) for number, frame in read_frames(video, range(60), on_missing=missing.append)]
    assert 20 < len(found) < 50 and all(number == shown for number, shown in found[:-4])
    assert [number for number, _ in found] + missing == list(range(60))
    assert video_facts(video).frames < 60


def test_a_broken_middle_does_not_stop_the_rest(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", 60, codec="mjpeg")
    with av.open(str(video)) as container:
        place = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][30]
    content = bytearray(video.read_bytes())
    content[place[0] + 8 : place[0] + 8 + place[1]] = bytes(place[1])
    video.write_bytes(content)
    missing: list[int] = []
    found = [number for number, _ in read_frames(video, [10, 29, 30, 31, 59], on_missing=missing.append)]
    assert (found, missing) == ([10, 29, 31, 59], [30])


def test_frames_after_the_end_are_missing(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 10)
    missing: list[int] = []
    assert [number for number, _ in read_frames(video, [9, 10, 500], on_missing=missing.append)] == [9]
    assert missing == [10, 500]
    with pytest.raises(ValueError, match="ascend"):
        list(read_frames(video, [3, 3]))


def test_what_is_no_video_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("frame,id,left\n" * 99)
    (tmp_path / "text.txt").write_text("frame,id,left\n" * 99)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    coded = write_video(tmp_path / "codec.mp4", 5).read_bytes()
    (tmp_path / "codec.mp4").write_bytes(coded.replace(b"avc1", b"zzz1"))
    cut = write_video(tmp_path / "cut.mp4", 60).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    for name, reason in {
        "empty.mp4": "is empty (0 bytes); copy it again",
        "text.mp4": "is not a video that can be read",
        "text.txt": "is not a video that can be read",
        "list.mp4": "is not a video that can be read",
        "folder.mp4": "Is a directory",
        "absent.mp4": "No such file",
        "sound.mp4": "has no video stream",
        "codec.mp4": "has no decoder for its codec",
        "cut.mp4": "is not a video that can be read",
    }.items():
        for action in (video_facts, frame_times, lambda path: list(read_frames(path, [0]))):
            with pytest.raises(InputError) as caught:
                action(tmp_path / name)
            assert str(caught.value).startswith(str(tmp_path / name)) and reason in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_groups.ts", "jpeg.avi", "vp9.webm"])
def test_random_damage_ends_in_frames_or_one_sentence(tmp_path: Path, name: str) -> None:
    whole = write_video(tmp_path / name, 20, **CASES[name]).read_bytes()
    draw = np.random.default_rng(0)
    for number in range(25):
        content = bytearray(whole)
        for place in draw.integers(len(content), size=int(draw.choice([1, 10, 100]))):
            content[place] = draw.integers(256)
        video = tmp_path / f"{number}{name}"
        video.write_bytes(content[: draw.integers(len(content) // 2, len(content))] if number % 5 == 0 else content)
        missing: list[int] = []
        try:
            facts = video_facts(video)
            found = [frame for frame, _ in read_frames(video, [0, 5, 19, 25], on_missing=missing.append)]
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert sorted(found + missing) == [0, 5, 19, 25] and len(frame_times(video)) == facts.frames
