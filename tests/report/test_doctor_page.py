"""`vreid check` and its image page: exit codes, table, JSON, and what the page shows."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from support.command_line import Run
from support.pages import HOSTILE, Page
from support.town import Town
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.protocols import MARKET
from vreid.data.records import Records
from vreid.report.doctor_page import FINDINGS, PICTURES, render_findings, write_findings


@pytest.fixture
def damaged(tmp_path: Path) -> Town:
    """An image that is gone, a copy under another vehicle, and a time that is no time."""
    town = Town(tmp_path / "town")
    town.image(0).unlink()
    town.image(38).write_bytes(town.image(3).read_bytes())
    town.rows[23]["time"] = "noon"
    town.examine()
    return town


def test_check_of_clean_data_ends_with_0(run: Run, tmp_path: Path) -> None:
    town = Town(tmp_path / "town")
    assert town.examine() == []
    outcome = run(f"check {town.table}")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0].startswith("Dataset cars: train 63 images")
    assert outcome.out.splitlines()[-1] == "No problems found."
    answer = run(f"check {town.table} --json")
    assert answer.code == 0
    assert json.loads(answer.out)["findings"] == []


def test_check_prints_a_table_and_ends_with_1(run: Run, damaged: Town) -> None:
    outcome = run(f"check {damaged.table}")
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == "3 problems found."
    columns = zip(*(line.split("│")[1:5] for line in outcome.out.splitlines() if line.count("│") == 5), strict=True)
    check, where, wrong, fix = (re.sub(r"\s", "", "".join(cells)) for cells in columns)
    assert check == "labelmissingimageimagewithtwoidentities"
    assert where == "".join(damaged.where(row) for row in (23, 0, 38)).replace(" ", "")
    assert wrong.startswith("time'noon'is") and wrong.endswith("copyofline5")
    assert fix.endswith("removeitsrowfromthelabelsfindoutwhichvehicleitshowsandremovetheotherimage")


def test_check_reports_machines_everything(run: Run, damaged: Town, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = run(f"check {damaged.table} --json --page {page}")
    assert outcome.code == 1
    answer = json.loads(outcome.out)
    assert [(f["check"], f["where"]) for f in answer["findings"]] == [
        ("label", damaged.where(23)),
        ("missing image", damaged.where(0)),
        ("image with two identities", damaged.where(38)),
    ]
    assert answer["findings"][2]["paths"] == [str(damaged.image(38)), str(damaged.image(3))]
    assert answer["findings"][2]["fix"]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_check_of_what_is_no_data_set_ends_with_2(run: Run, tmp_path: Path) -> None:
    outcome = run(f"check {tmp_path / 'nowhere'}")
    assert outcome.code == 2
    assert "nowhere" in outcome.err


def test_a_page_that_cannot_be_written_ends_with_2(run: Run, damaged: Town, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = run(f"check {damaged.table} --page {tmp_path / 'file' / 'page.html'}")
    assert outcome.code == 2
    assert "page.html" in outcome.err


# ------------------------------------------------------------------------------------------------------------ the page


def dataset_of(town: Town) -> Dataset:
    records = Records.of(path=[str(town.image(number)) for number in range(4)])
    return Dataset("cars", records, records[:0], records[:0], MARKET, notes=("columns a, b are not used.",))


def test_the_page_shows_each_finding_with_its_images(damaged: Town) -> None:
    findings = damaged.examine()
    page = Page(render_findings(dataset_of(damaged), findings)).root
    assert page.one("h1").text == "Problems of cars"
    assert [heading.text for heading in page.all("h2")] == [
        "Label",
        "Missing image",
        "Image with two identities",
        "Data set",
    ]
    articles = page.all("article")
    assert [article.one("code").text for article in articles] == [finding.where for finding in findings]
    assert [len(article.all("figure")) for article in articles] == [0, 1, 2]
    assert articles[1].one(class_="blank").text == "no image"
    (pair,) = articles[2].all("li")
    assert pair.attributes["class"] == "two"
    assert [figure.one("figcaption").text for figure in pair.all("figure")] == [
        f"town/{damaged.rows[38]['path']}",
        f"town/{damaged.rows[3]['path']}",
    ]
    assert findings[2].fix.removeprefix("f") in articles[2].text
    assert "columns a, b are not used." in page.text


def test_the_page_shows_the_box_and_not_the_frame(tmp_path: Path) -> None:
    frame = Image.new("RGB", (100, 100), "blue")
    frame.paste("red", (20, 30, 60, 50))
    frame.save(tmp_path / "frame.png")
    boxes: tuple[tuple[float, ...], ...] = ((20, 30, 60, 50), (), (200, 200, 300, 300))
    finding = Finding(
        "tiny crop", "cars.csv, line 2", "is small", "enlarge it", "", (str(tmp_path / "frame.png"),) * 3, boxes
    )
    dataset = Dataset("frames", *(Records.of(path=[]) for _ in range(3)), MARKET)
    shown = [image.attributes["src"] for image in Page(render_findings(dataset, [finding])).root.all("img")]
    images = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in shown]
    assert [image.size for image in images] == [(40, 20), (100, 100), (100, 100)]
    red, _, blue = images[0].getpixel((20, 10))
    assert red > 200 > 60 > blue


def test_the_page_is_bounded_escaped_whole_and_the_same_again(tmp_path: Path) -> None:
    Town(tmp_path / "town")
    image = next((tmp_path / "town").glob("*.png"))
    many = [Finding("label", f"{HOSTILE}, line {n}", HOSTILE, "fix it") for n in range(FINDINGS + 7)]
    long = Finding("tiny crop", "cars.csv, line 3", "is small", "enlarge it", "train", (str(image),) * (PICTURES + 5))
    dataset = Dataset(HOSTILE, *(Records.of(path=[]) for _ in range(3)), MARKET, notes=(HOSTILE,))
    text = render_findings(dataset, [*many, long])
    assert text == render_findings(dataset, [*many, long])
    page = Page(text).root
    assert page.all("script") == []
    assert "://" not in re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert len(page.all("article")) == FINDINGS + 1
    assert "7 more problems of this kind." in page.text
    assert len(page.all("img")) == PICTURES
    assert f"The first {PICTURES} of {PICTURES + 5} images." in page.text


def test_the_page_of_clean_data_says_so(tmp_path: Path) -> None:
    dataset = Dataset("cars", *(Records.of(path=[]) for _ in range(3)), MARKET)
    write_findings(dataset, [], tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8")).root
    assert page.one("h1").text == "No problems found in cars"
    assert page.all("article") == []
