"""Labels and whole numbers as exporters spell them: same numbers from every spelling, or an error that names both."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run, reported
from vreid.data.readers.image_table import read_rows
from vreid.data.records import Records
from vreid.data.spellings import check_spellings, plain_labels, spelling, whole_number
from vreid.errors import InputError
from vreid.retrieval import evaluate


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("007", 7),
        ("-1", -1),
        ("7.0", 7),
        ("7.", 7),
        ("7.000000000000000000e+00", 7),
        ("1.234567000000000000e+06", 1_234_567),
        ("0.000000000000000000e+00", 0),
        ("4873372822379954177", 4873372822379954177),
        ("9007199254740993", 2**53 + 1),
        ("18446744073709551615", -1),
        ("1.8446744073709552e+19", -1),
    ],
)
def test_whole_numbers_are_exact(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        *((text, "not a whole number") for text in ("1.5", "id", "", "nan", "inf", "1_0", "1e-1", "1e999999999", "٣")),
        *((text, "lost digits") for text in ("4.873372822379954e+18", "4873372822379954177.0", "1.23457e+06", "1e3")),
    ],
)
def test_numbers_that_are_not_whole_or_rounded_are_rejected(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        whole_number(text)


@pytest.mark.parametrize(
    ("values", "column", "labels"),
    [
        (["1.0", "2.0", "-1.0"], "identity", ["1", "2", "junk"]),
        (["1.0", "2", "-1"], "camera", ["1", "2", ""]),
        (["5.0", "5", "18446744073709551615"], "tracklet", ["5", "5", ""]),
        (["nan", "NaN", "None", "null", "<NA>", "7.0"], "identity", ["", "", "", "", "", "7"]),
        (["007", "7.0"], "identity", ["007", "7"]),
        (["taxi", "-1", "1.0"], "identity", ["taxi", "junk", "1.0"]),
        (["1.1", "1.2", "2.1"], "camera", ["1.1", "1.2", "2.1"]),
        (["junk", "1.0"], "identity", ["junk", "1"]),
        (["", ""], "camera", ["", ""]),
    ],
)
def test_labels_of_a_column(values: list[str], column: str, labels: list[str]) -> None:
    assert plain_labels(values, column) == (labels, [])


def test_numbers_that_are_wrong_among_whole_ones_are_placed() -> None:
    assert plain_labels(["1", "1.7", "3.0"], "identity") == (["1", "", "3"], [(1, "is not a whole number")])
    labels, wrong = plain_labels(["4.873372822379954e+18", "4.873372822379955e+18"], "tracklet")
    assert labels == ["", ""] and [place for place, _ in wrong] == [0, 1]


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("camera", ["c001", "1", "C1", "cam1", "Cam_01", "Camera 1", "camera-1", "1.0", "01"]),
        ("camera", ["S01_c001", "s1 c1", "S1/cam_1", "S1-C1"]),
        ("camera", ["north gate", "North_Gate", "NORTH-GATE"]),
        ("identity", ["7", "007", "7.0", "id7", "vehicle_7", "V007"]),
        ("identity", ["Taxi 3", "taxi_3", "TAXI-3"]),
    ],
)
def test_spellings_of_one_name(column: str, names: list[str]) -> None:
    assert len({spelling(name, column) for name in names}) == 1


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("camera", ["c1", "c10", "c11", "c1a", "1 23", "12 3", "crane 1"]),
        ("identity", ["AB0123", "AB123", "7", "70", "7a", "van 7", "1.5"]),
    ],
)
def test_names_that_differ(column: str, names: list[str]) -> None:
    assert len({spelling(name, column) for name in names}) == len(names)


def test_both_spellings_are_named_with_their_images() -> None:
    query = Records.of(path=["q.jpg"], identity=["7"], camera=["c001"])
    gallery = Records.of(path=["a.jpg", "b.jpg"], identity=["7", "8"], camera=["2", "1"])
    with pytest.raises(InputError, match=r"b.jpg \(gallery\): camera '1' and 'c001' of q.jpg \(query\)"):
        check_spellings(query, gallery)
    check_spellings(query, gallery.with_(camera=["c002", "c001"]))
    with pytest.raises(InputError, match=r"identity '007' and '7'"):
        check_spellings(query, query.with_(identity=["007"]))


# ------------------------------------------------------------------------------------------------- what is evaluated


def rows(count: int = 36) -> list[dict[str, str]]:
    """A table of 9 vehicles at 4 cameras, a query at each second one."""
    return [
        {
            "path": f"{row:04d}.jpg",
            "identity": str(row % 9 + 1),
            "camera": str(row // 9 + 1),
            "split": "query" if row < 18 else "gallery",
            "tracklet": str(100 * (row // 9) + row % 9),
        }
        for row in range(count)
    ] + [
        {"path": f"own{row}.jpg", "identity": str(row + 1), "camera": "1", "split": "gallery", "tracklet": "-1"}
        for row in range(9)
    ]


def write(path: Path, table: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(9, 8))
    table = rows()
    values = np.array([centres[int(row["identity"]) - 1] for row in table]) + rng.normal(size=(len(table), 8))
    np.save(tmp_path / "f.npy", values.astype(np.float32))
    return tmp_path / "f.npy"


def numbers(run: Run, features: Path, table: list[dict[str, str]], post: str = "") -> object:
    outcome = run(f"evaluate {features} --records {write(features.with_name('t.csv'), table)} --json {post}")
    assert outcome.code == 0, outcome
    return json.loads(outcome.out)


def spelled(table: list[dict[str, str]], column: str, split: str, how: str) -> list[dict[str, str]]:
    return [
        {**row, column: how.format(int(row[column]))} if row["split"] == split or split == "all" else row
        for row in table
    ]


@pytest.mark.parametrize("column", ["identity", "camera", "tracklet"])
@pytest.mark.parametrize("split", ["query", "gallery", "all"])
def test_floats_give_the_numbers_of_whole_numbers(column: str, split: str, run: Run, features: Path) -> None:
    post = "--post tracklets"
    right = numbers(run, features, rows(), post)
    assert numbers(run, features, spelled(rows(), column, split, "{}.0"), post) == right


@pytest.mark.parametrize("how", ["c{:03d}", "C{}", "cam{}", "Camera {}", "{:03d}"])
@pytest.mark.parametrize(("split", "other"), [("query", "{}"), ("gallery", "{}.0"), ("query", "c{}")])
def test_cameras_spelled_in_two_ways_are_rejected(how: str, split: str, other: str, run: Run, features: Path) -> None:
    table = [{**row, "camera": (how if row["split"] == split else other).format(int(row["camera"]))} for row in rows()]
    path = write(features.with_name("mixed.csv"), table)
    for command in (f"evaluate {features} --records {path}", f"rank {features} --records {path} --out {path}.out.csv"):
        reported(run(command), str(path), repr(how.format(1)), "spell cameras the same way")
    assert not Path(f"{path}.out.csv").exists()


def test_identities_spelled_in_two_ways_are_rejected(run: Run, features: Path) -> None:
    path = write(features.with_name("mixed.csv"), spelled(rows(), "identity", "query", "{:03d}"))
    reported(run(f"evaluate {features} --records {path}"), str(path), "'1'", "'001'", "spell identities the same way")


def test_wrong_numbers_in_a_table_are_reported_with_their_line(tmp_path: Path) -> None:
    table = [
        {"path": "a.jpg", "identity": "1", "camera": "1", "frame": "1.5"},
        {"path": "b.jpg", "identity": "1.7", "camera": "2", "frame": "9007199254740993"},
        {"path": "c.jpg", "identity": "2", "camera": "2", "frame": "3.0"},
        {"path": "d.jpg", "identity": "4.873372822379954e+18", "camera": "2", "frame": "18446744073709551615"},
    ]
    path = write(tmp_path / "t.csv", table)
    findings: list[object] = []
    records, _, _ = read_rows(path, findings.append)
    assert [str(finding) for finding in findings] == [
        f"{path}, line 2: frame '1.5' is not a whole number; give a whole number from 0, or leave it empty.",
        f"{path}, line 3: identity '1.7' is not a whole number; write it with all digits and without a decimal point.",
        f"{path}, line 5: identity '4.873372822379954e+18' is rounded and may have lost digits; write it with all "
        "digits and without a decimal point.",
    ]
    assert records.frame.tolist() == [-1, 2**53 + 1, 3, -1]
    assert records.identity.values.tolist() == ["1", "", "2", ""]


def test_large_identities_stay_apart(tmp_path: Path) -> None:
    table = [{"path": f"{last}.jpg", "object_id": f"487337282237995417{last}"} for last in range(7, 10)]
    assert read_rows(write(tmp_path / "t.csv", table))[0].identity.distinct == 3


# ------------------------------------------------------------------------------------------------- arrays and files

DISTANCES = [[0.1, 0.2, 0.3, 0.4]]


def test_arrays_of_two_spellings_are_rejected() -> None:
    labels = {"query_identity": [7], "gallery_identity": [7, 8, 7, 8]}
    right = evaluate(DISTANCES, query_camera=[1], gallery_camera=[1, 2, 2, 3], **labels).mAP
    for camera in (["1"], ["1.0"], np.array([1.0])):
        assert evaluate(DISTANCES, query_camera=camera, gallery_camera=[1, 2, 2, 3], **labels).mAP == right
    with pytest.raises(InputError, match=r"camera: 'c1' and '1' look like two spellings of one name"):
        evaluate(DISTANCES, query_camera=["c1"], gallery_camera=[1, 2, 2, 3], **labels)


def test_large_identities_in_arrays() -> None:
    ids = np.array([2**64 - 2, 2**64 - 3, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    cameras = {"query_camera": [1], "gallery_camera": [1, 2, 2, 3]}
    metrics = evaluate(DISTANCES, query_identity=ids[:1], gallery_identity=ids, **cameras)
    assert metrics.relevant.tolist() == [1] and metrics.mAP == 0.5
    with pytest.raises(InputError, match="cannot represent exactly"):
        evaluate(DISTANCES, query_identity=ids[:1].astype(float), gallery_identity=ids, **cameras)
    with pytest.raises(InputError, match="above 16,777,216, which float32"):
        evaluate(DISTANCES, query_identity=np.float32([2**24 + 2]), gallery_identity=ids, **cameras)


def test_labels_in_a_file_of_features(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(4, 6)), rng.normal(size=(12, 6))
    arrays = {"qf": q, "gf": g, "q_pids": np.arange(4), "g_pids": np.arange(12) % 4, "q_camids": np.ones(4)}
    g_cams = np.arange(12) % 3 + 1
    np.savez(tmp_path / "a.npz", **arrays, g_camids=g_cams)
    np.savez(tmp_path / "b.npz", **arrays, g_camids=g_cams.astype(float))
    np.savez(tmp_path / "c.npz", **arrays, g_camids=np.array([f"{camera}.0" for camera in g_cams]))
    right, *others = (run(f"evaluate {tmp_path}/{name}.npz --json") for name in "abc")
    assert right.code == 0 and all(json.loads(o.out) == json.loads(right.out) for o in others)
    np.savez(tmp_path / "d.npz", **arrays, g_camids=np.array([f"c{camera:03d}" for camera in g_cams]))
    reported(run(f"evaluate {tmp_path}/d.npz"), "d.npz", "'c001'", "'1'", "spell cameras the same way")
    np.savez(tmp_path / "e.npz", **{**arrays, "g_pids": np.full(12, 4.873372822379954e18)}, g_camids=g_cams)
    reported(run(f"evaluate {tmp_path}/e.npz"), "e.npz: g_pids, row 1", "may have lost digits")
    np.savez(tmp_path / "f.npz", **{**arrays, "g_pids": np.full(12, 2**24 + 2, np.float32)}, g_camids=g_cams)
    reported(run(f"evaluate {tmp_path}/f.npz"), "f.npz: g_pids, row 1", "float32", "may have lost digits")
