"""Cameras of a site: cameras.csv, names of recordings, and times of boxes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.small_videos import write_video
from vreid.data.cameras import Camera, read_cameras, with_times
from vreid.data.recordings import Recording, recording_of, utc_seconds
from vreid.data.records import Records
from vreid.errors import InputError

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()


def table(folder: Path, *lines: str) -> Path:
    path = folder / "cameras.csv"
    path.write_text("\n".join(lines))
    return path


def test_all_columns(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "camera,start,frame_rate,offset,time_zone,latitude,longitude,heading",
        "north,2026-05-01T14:00:00,25,-1.5,Europe/Berlin,52.5,13.4,180",
        f"south,{NOON},,,,,,",
        "east,2026-05-01T14:00:00+02:00,,,America/Lima,,,",
        "west,,,,,,,",
    )
    cameras = read_cameras(path)
    assert cameras["north"] == Camera("north", NOON, 25.0, -1.5, "Europe/Berlin", 52.5, 13.4, 180.0)
    assert cameras["south"].start == cameras["east"].start == NOON and cameras["west"] == Camera("west")


def test_other_spellings(tmp_path: Path) -> None:
    cameras = read_cameras(table(tmp_path, "Camera ID;lat;lon;fps;remark", "north;52,5;13.4;25;x".replace(",", ".")))
    assert cameras == {"north": Camera("north", frame_rate=25.0, latitude=52.5, longitude=13.4)}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("camera,start", "a,yesterday"), "line 2: start 'yesterday' is neither seconds"),
        (("camera,start", "a,", ",2026-05-01"), "line 3: names no camera"),
        (("camera,lat", "a,91"), "line 2: latitude is '91'; write degrees from -90 to 90"),
        (("camera,lat", "a,nan"), "line 2: latitude is 'nan'"),
        (("camera,fps", "a,0"), "line 2: frame_rate is 0"),
        (("camera,tz", "a,Berlin"), "line 2: time_zone 'Berlin' is unknown; write an IANA name"),
        (("camera,tz", "a,../x"), "line 2: time_zone '../x' is unknown"),
        (("camera,start", "a,", "a,"), "line 3: camera 'a' is already in line 2; write one line for each camera"),
        (("camera,lat,latitude", "a,1,1"), "line 1: columns 'lat' and 'latitude' both mean latitude"),
        (("place,lat", "a,1"), "line 1: has no column camera"),
        (("camera,lat", "a,1,2"), "line 2: the number of cells is 3"),
        (("camera,start",), "lists no cameras"),
        (("camera,start,tz", "a,2026-10-25T02:30:00,Europe/Berlin"), "occurs twice in Europe/Berlin"),
        (("camera,start,tz", "a,2026-03-29T02:30:00,Europe/Berlin"), "does not occur in Europe/Berlin"),
    ],
)
def test_wrong_cells(lines: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_cameras(table(tmp_path, *lines))
    assert said in str(error.value) and "cameras.csv" in str(error.value)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)), st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]))
def test_local_times_come_back(moment: datetime, zone: str) -> None:
    try:
        seconds = utc_seconds(moment.isoformat(), zone)
    except ValueError as error:
        assert "occur" in str(error)
        return
    back = datetime.fromtimestamp(round(seconds), ZoneInfo(zone)).replace(tzinfo=None)
    assert abs((back - moment).total_seconds()) <= 0.5
    # the same through the column of times that a source gives without a zone
    records = Records.of(path=["a.jpg"], camera=["a"], time=[moment.replace(tzinfo=UTC).timestamp()])
    moved = with_times(records, {"a": Camera("a", zone=zone)}, local=["a"])
    assert moved.time[0] == pytest.approx(seconds)


def test_names_of_recordings() -> None:
    assert recording_of("x/A_B_FR20_2020-01-01_00-30-00.mp4") == Recording("A_B", 20.0, "2020-01-01T00:30:00")
    assert recording_of("A-2020-01-01_00-30-00_cut.mkv") == Recording("A", None, "2020-01-01T00:30:00")
    assert recording_of("A_2020-02-31_00-30-00.mp4") == Recording("A_2020-02-31_00-30-00")
    assert recording_of("2020-01-01_00-30-00.mp4") == Recording("2020-01-01_00-30-00")


def test_times_of_frames_of_a_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "north.mp4", rate=10)
    records = Records.of(path=[video] * 3, image_key="abc", camera=["north"] * 3, frame=[0, 3, 6])
    notes: list[str] = []
    times = with_times(records, {"north": Camera("north", NOON, offset=2.0)}, notes.append).time
    assert times[:2] == pytest.approx([NOON + 2, NOON + 2.3], abs=1e-3) and times[2] != times[2]  # frame 6 of 0..5
    assert "camera north: 1 of 3 boxes have no time" in notes[0]


def test_start_in_the_name_of_the_video(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"n_2026-05-01_{hour}-00-00.mp4") for hour in (14, 15)]
    records = Records.of(path=parts, camera=["n"] * 2, frame=[0, 1])
    times = with_times(records, {"n": Camera("n", 5.0, zone="Europe/Berlin")}).time
    assert times == pytest.approx([NOON, NOON + 3600.1], abs=1e-3)


def test_one_start_for_several_videos_is_not_guessed(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{name}.mp4") for name in "ab"]
    records = Records.of(path=parts, camera=["n"] * 2, frame=[0, 0])
    notes: list[str] = []
    times = with_times(records, {"n": Camera("n", NOON, file="b.mp4")}, notes.append).time
    assert times[0] != times[0] and times[1] == NOON
    assert "camera n has 2 videos but one start, so a.mp4 has no times" in notes[0]


def test_images_by_frame_rate(tmp_path: Path) -> None:
    folder = tmp_path / "c" / "img1"
    folder.mkdir(parents=True)
    (tmp_path / "c" / "seqinfo.ini").write_text("[Sequence]\nname=c\nframeRate=5\n")
    records = Records.of(path=[folder / "1.jpg"], camera=["c"], frame=[10])
    assert with_times(records, {"c": Camera("c", NOON)}).time[0] == NOON + 2
    assert with_times(records, {"c": Camera("c", NOON, frame_rate=10)}).time[0] == NOON + 1


def test_own_times_are_kept_and_offsets_added() -> None:
    records = Records.of(path=["a", "b"], camera=["a", "b"], time=[NOON, NOON], frame=[4, 4])
    notes: list[str] = []
    moved = with_times(records, {"a": Camera("a", 7.0, offset=-3), "c": Camera("c")}, notes.append)
    assert moved.time.tolist() == [NOON - 3, NOON]
    assert notes == ["cameras that are listed but not in the source (a, b): c."]
