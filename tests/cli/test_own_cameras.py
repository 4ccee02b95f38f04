"""Commands ingest and search on own cameras, end to end and with wrong input."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from support.command_line import Run
from vreid import Store

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve crops, three tracklets in each of two cameras, beside cameras.csv."""
    folder = tmp_path_factory.mktemp("crops")
    rows = ["path,camera,tracklet,frame"]
    for number in range(12):
        color = ((200, 40, 40), (40, 60, 200), (230, 230, 230))[number % 3]
        Image.new("RGB", (64, 48), color).save(folder / f"{number:02d}.jpg")
        camera = "north" if number < 6 else "south"
        rows.append(f"{number:02d}.jpg,{camera},{camera}/{number % 3},{10 * number}")
    (folder / "crops.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "cameras.csv").write_text(
        "camera,start,frame_rate,time_zone\n"
        "north,2026-05-01T07:00:00,10,Europe/Berlin\nsouth,2026-05-01T07:01:00,10,Europe/Berlin\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def site(crops: Path, tmp_path: Path, run: Run) -> Path:
    made = run(f"ingest {crops}/crops.csv --store {tmp_path}/site --json")
    assert made.code == 0, made.err
    return tmp_path / "site"


def test_ingest_says_what_it_understood_and_counts(crops: Path, tmp_path: Path, run: Run) -> None:
    line = f"ingest {crops}/crops.csv --store {tmp_path}/site"
    dry = run(f"{line} --dry-run --json")
    facts = json.loads(dry.out)
    assert (facts["cameras"], facts["tracklets"], (tmp_path / "site").exists()) == (2, 6, False)
    made = run(line)
    assert made.code == 0
    assert "camera north: crops, 3 tracklets, 6 boxes, 10 frames a second, 2026-05-01 05:00:00" in made.err
    assert "cameras are described by" in made.err
    again = json.loads(run(f"{line} --json").out)
    counts = {name: again[name] for name in ("cameras", "tracklets", "added", "crops", "skipped")}
    assert counts == {"cameras": 2, "tracklets": 6, "added": 0, "crops": 12, "skipped": 0}


def test_bad_images_and_lines_are_counted_and_stop_nothing(crops: Path, tmp_path: Path, run: Run) -> None:
    for name in ("crops.csv", *(f"{number:02d}.jpg" for number in range(12))):
        (tmp_path / name).write_bytes((crops / name).read_bytes())
    (tmp_path / "03.jpg").write_bytes(b"no image")
    with (tmp_path / "crops.csv").open("a", encoding="utf-8") as file:
        file.write("\n00.jpg,north,north/0,x")
    made = run(f"ingest {tmp_path}/crops.csv --store {tmp_path}/site --json")
    facts = json.loads(made.out)
    assert (made.code, facts["tracklets"], facts["crops"]) == (0, 6, 11)
    assert facts["skipped"] == sum(facts["reasons"].values()) >= 2
    assert any("03.jpg" in example for example in facts["examples"])
    assert any("line 14" in example for example in facts["examples"])


def test_search_answers_in_text_json_csv_and_html(crops: Path, site: Path, tmp_path: Path, run: Run) -> None:
    facts = json.loads(run(f"search {site} {crops}/00.jpg --crops {tmp_path}/found --json").out)
    assert {"tracklet", "camera", "start", "end", "distance", "decision", "crop"} <= facts["hits"][0].keys()
    assert facts["query"] == {"image": f"{crops}/00.jpg"}
    assert facts["hits"][0]["tracklet"] in ("north/0", "south/0")
    assert {hit["start"] for hit in facts["hits"]} >= {"2026-05-01T05:00:00.000Z", "2026-05-01T05:01:06.000Z"}
    assert all(Path(hit["crop"]).read_bytes().startswith(b"\xff\xd8") for hit in facts["hits"])
    rows = list(csv.DictReader(io.StringIO(run(f"search {site} north/1 --csv").out)))
    assert [row["camera"] for row in rows] == ["south"] * 3
    text = run(f"search {site} north/1 --html {tmp_path}/page.html")
    assert "07:01" in text.out and "Europe/Berlin" in text.out and "3 tracklets searched" in text.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4 and "http:" not in page and "https:" not in page


def test_times_without_a_zone_are_those_of_the_cameras(site: Path, run: Run) -> None:
    def found(options: str) -> set[str]:
        return {hit["tracklet"] for hit in json.loads(run(f"search {site} north/0 {options} --json").out)["hits"]}

    assert found("--from 2026-05-01T07:01:00") == {"south/0", "south/1", "south/2"}
    assert found("--to 2026-05-01T05:01:00Z") == set()
    assert found("--to 2026-05-01T07:01:06.5") == {"south/0"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ingest {c}/none --store {t}/s", "none: does not exist"),
        ("ingest {c}/crops.csv --store {t}/s --camera x", "has several cameras (north, south)"),
        ("ingest {c}/crops.csv --store {t}/s --cameras {c}/none.csv", "none.csv"),
        ("ingest {c}/crops.csv --store {t}/s --cameras {t}/other.csv", "describes east, but the cameras"),
        ("ingest {c}/crops.csv --store {t}/s --time-zone Mars/North", "is unknown; write an IANA name"),
        ("ingest {t}/video.mp4 --store {t}/s", "is a video, but there are no boxes beside it"),
        ("ingest {c}/crops.csv --store {s} --model {t}/none", "none"),
        ("search {t}/nowhere north/0", "vreid ingest"),
        ("search {s} north/9", "did you mean 'north/"),
        ("search {s} north/0 --camera nort", "did you mean 'north'"),
        ("search {s} north/0 --from yesterday", "is neither seconds since 1970 nor ISO 8601"),
        ("search {s} north/0 --from nan", "--from nan: is no time"),
        ("search {s} north/0 --to 1777636800000", "divide milliseconds by 1000"),
        ("search {s} north/0 --color pinkish", "colour 'pinkish': no tracklet of"),
        ("search {s} north/0 --type boat", "type 'boat': no tracklet of"),
        ("search {s} north/0 --from 2026-05-02 --to 2026-05-01", "is empty"),
        ("search {s} north/0 --json --csv", "choose one"),
        ("search {s} {c}/00.jpg --box 1,2,3", "is not a box"),
        ("search {s} {c}/00.jpg --box 900,900,950,950", "lies outside"),
        ("search {s} {c}/cameras.csv", "is not an image"),
        ("search {s} north/0 --rerank best", "choose one of relative"),
    ],
)
def test_wrong_input_is_one_sentence(
    line: str, message: str, crops: Path, site: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "other.csv").write_text("camera\neast\n", encoding="utf-8")
    (tmp_path / "video.mp4").write_bytes(b"\0" * 100)
    outcome = run(line.format(c=crops, t=tmp_path, s=site))
    assert outcome.code == 2
    assert message in outcome.err.splitlines()[-1] and outcome.err.count("vreid: ") == 1
    assert not (tmp_path / "s").exists()


def test_plates_are_blurred_before_crops_are_stored(crops: Path, tmp_path: Path, run: Run) -> None:
    line = f"ingest {crops}/crops.csv --store {tmp_path}/site --blur-plates band --json"
    assert run(line).code == 0
    assert json.loads(run(line).out)["added"] == 0
    assert json.loads(run(line.replace("band", "likely")).out)["replaced"] == 6  # stored anew
    assert "did you mean 'band'" in run(line.replace("band", "bands")).err


def test_an_empty_store_says_so(crops: Path, tmp_path: Path, run: Run) -> None:
    Store.open(tmp_path / "site", create=True).close()
    assert "the store is empty" in run(f"search {tmp_path}/site {crops}/00.jpg").out
    assert json.loads(run(f"search {tmp_path}/site {crops}/00.jpg --json").out)["hits"] == []


def test_export_writes_parquet(site: Path, tmp_path: Path, run: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    made = run(f"store export {site} --out {tmp_path}/t.parquet --no-vectors --json")
    assert json.loads(made.out) == {"file": f"{tmp_path}/t.parquet", "tracklets": 6}
    assert parquet.read_table(tmp_path / "t.parquet").num_rows == 6
