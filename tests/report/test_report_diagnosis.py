"""The diagnosis on the page: every part with its sentence, numbers and figure; and the command that makes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.pages import HOSTILE, Element, Page
from vreid.diagnostics.diagnosis import (
    BarChart,
    Curve,
    Curves,
    Diagnosis,
    Grids,
    Part,
    SaliencyMap,
    SaliencyMaps,
    ScatterChart,
)
from vreid.diagnostics.estimates import Estimate
from vreid.report import Report
from vreid.report.charts import chart
from vreid.report.page import render
from vreid.report.thumbnails import thumbnail

HALF = Estimate(0.5, 0.4, 0.6, 1234)
CHARTS = (
    BarChart({"group": {HOSTILE: HALF, "lower": Estimate(-0.1, -0.2, 0.0)}}, "percent", line=0.3),
    Curves(
        [Curve("line", [1.0, 10.0, 100.0], [HALF, HALF, HALF])], "x", "y", log_x=True, marks={HOSTILE: (10.0, 50.0)}
    ),
    ScatterChart(
        np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32), ["a", HOSTILE] * 20, ["c1", "c2"] * 20
    ),
    Grids({"within": np.linspace(0, 1, 64).reshape(8, 8)}, "percent"),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.new("RGB", (40, 20), (120, 120, 120)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def page(image: str) -> Element:
    parts = [
        Part(
            f"part {number}",
            f"It is {HALF} {HOSTILE}.",
            {"a number": HALF},
            needs="labels",
            limits="Little.",
            chart=chart,
        )
        for number, chart in enumerate(CHARTS)
    ]
    heat = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    saliency = SaliencyMaps(
        [[SaliencyMap("query, c1", image, None, heat), SaliencyMap("gone", "gone.jpg", None, heat)]]
    )
    parts += [Part("maps", "Check.", warning=True, fix="move the camera", chart=saliency), Part("bare", "Nothing.")]
    return Page(render(Report("Title", diagnosis=Diagnosis(parts, [("leaks", "no data.")])))).root


def test_every_part_is_shown_with_its_sentence_numbers_and_figure(page: Element) -> None:
    shown = page.all("article", class_="part")
    assert [part.one("h3").text for part in shown] == [*(f"Part {n}" for n in range(4)), "Maps warning", "Bare"]
    for part in shown[:4]:
        assert part.one("p", class_="sentence").text == f"It is 50.0 (40.0 to 60.0) {HOSTILE}."
        assert [cell.text for cell in part.one("tbody").all("td")] == ["50.0", "40.0 \u2013 60.0", "1,234"]
        assert part.one("svg").attributes["aria-label"].endswith(f"{HOSTILE}.")
    assert not shown[5].all("svg") + shown[5].all("table")


def test_warnings_come_first_with_their_fix(page: Element) -> None:
    notice = page.one("p", class_="notice")
    assert notice.text == "Warning: maps." and notice.one("a").attributes["href"] == "#part-4"
    assert page.one(id="part-4").one("span", class_="fix").text == "Move the camera."
    assert "Leaks: no data." in page.one(id="diagnosis").text
    assert [link.text for link in page.one("nav").all("a")] == ["Diagnosis"]


def test_ids_stay_unique_and_colours_follow_the_theme(page: Element) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    assert "var(--series-1)" in str([path.attributes for path in page.all("path")])
    assert "#0103" not in str([element.attributes for element in page.all()])


def test_activation_maps_darken_what_is_cold(page: Element, image: str) -> None:
    row = page.one("ul", class_="saliency")
    assert [caption.text for caption in row.all("figcaption")] == ["query, c1", "gone"]
    assert row.one("img").attributes["src"].startswith("data:image/jpeg;base64,")
    assert row.one("span", class_="blank").attributes["aria-label"] == "image missing: gone"
    hot = np.zeros((2, 4), dtype=np.float32)
    hot[:, 2:] = 1
    levels = decode(thumbnail(image, heat=hot))
    cold, warm = levels[:, :10].mean(axis=(0, 1)), levels[:, 30:].mean(axis=(0, 1))
    assert np.ptp(cold) < 10 and cold.max() < 70 < 150 < warm[0] - warm[2], "grey and dark; orange"


def decode(uri: str | None) -> np.ndarray:
    import base64
    import io

    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(float)


def test_a_mark_at_zero_stands_at_the_edge_of_a_logarithmic_axis() -> None:
    curves = CHARTS[1]
    assert isinstance(curves, Curves) and curves.log_x
    drawn = [chart(Part("part", "Said.", chart=replace(curves, marks={"threshold": (x, 50.0)})), 0) for x in (0.0, 1.0)]
    assert drawn[0] == drawn[1] and "threshold" in drawn[0]


def test_an_empty_diagnosis_has_no_warnings() -> None:
    page = Page(render(Report("Title", diagnosis=Diagnosis([])))).root
    assert "No warnings." in page.one(id="diagnosis").text


def test_the_command(run, made: Path, tiny_world: Path, tmp_path: Path) -> None:
    """End to end on the tiny world, where most parts have too few vehicles and say so."""
    line = f"report {made}/features --diagnose --model {made}/run --data {tiny_world} --out {tmp_path}/page.html"
    outcome = run(f"{line} --without-plates {made}/features --json")
    assert outcome.code == 0, outcome.err
    reported = json.loads(outcome.out)["diagnosis"]
    parts = {part["name"]: part for part in reported["parts"]}
    assert {"leaks", "baselines", "camera gap", "renderings", "occlusion"} <= parts.keys()
    assert not parts["leaks"]["warning"]
    assert parts["renderings"]["numbers"]["change without plates"]["value"] == 0
    assert "shortcuts, test images" in dict(reported["left_out"])
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8")).root
    assert len(page.all("article", class_="part")) == len(parts)
    plain = run(line)
    assert plain.code == 0 and f"camera gap: {parts['camera gap']['sentence']}" in plain.out
