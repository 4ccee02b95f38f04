"""The report: its numbers are the metrics' numbers, its marks are true, and nothing a user names can break the page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from support.pages import HOSTILE, PARTS, Element, Page, evaluate_made_up, made_report, parse, town
from vreid.errors import InputError
from vreid.formatting import clock, duration, percent
from vreid.report import MapRoad, Report, ResultRow, Site, write_report
from vreid.report.page import milestones, render
from vreid.retrieval.evaluation.metrics import Metrics, interval


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    return made_report(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def text(report) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(text) -> Element:
    return Page(text).root


# the page as a whole


def test_the_same_report_gives_the_same_bytes(report, text, tmp_path):
    write_report(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == text.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_page_stands_by_itself(text, page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    images = page.all("img")
    assert images and all(image.attributes["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text), "an address outside of the page"
    assert not re.search(r"url\((?!#)|@import|https?:", text)


def test_the_page_is_accessible(page):
    assert page.one("html").attributes["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image.attributes.get("alt") for image in page.all("img"))
    for table in page.all("table"):
        assert table.one("caption").text
        assert table.all("th") and all(cell.attributes.get("scope") for cell in table.all("th"))
    for figure in page.all("figure"):
        assert figure.one("figcaption").text and figure.one("svg").attributes["aria-label"]


def test_ids_are_unique_and_every_reference_leads_somewhere(text, page):
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    referred = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([\w-]+)', text)
    assert len(referred) > 10 and set(referred) <= set(ids)


def test_figures_follow_the_theme(page):
    for figure in page.all("svg"):
        drawn = " ".join(element.attributes.get("style", "") for element in figure.all())
        assert "var(--" in drawn
        assert not re.search(r"#[0-9a-f]{6}", drawn), "a fixed colour that dark pages cannot change"


def test_nothing_but_a_title_is_a_page_too():
    page = parse(Report("Only a title"))
    assert page.one("h1").text == "Only a title"
    assert not page.all("section") and not page.all("figure") and not page.all("table")


@pytest.mark.parametrize(
    ("without", "gone"),
    [
        ({"rows": (), "baselines": ()}, {"results", "ablation"}),
        ({"ranking": None}, {"lists", "pairs"}),
        ({"ranking": None, "sites": (), "roads": ()}, {"lists", "pairs", "cameras"}),
        ({"training": None}, {"training"}),
        ({"commands": ()}, {"commands"}),
        ({"facts": (), "stages": None}, {"made"}),
    ],
)
def test_a_missing_part_leaves_its_sections_out(report, page, without, gone):
    whole = {section.attributes["id"] for section in page.all("section")}
    assert whole == {"results", "ablation", "cameras", "lists", "pairs", "training", "commands", "made"}
    smaller = parse(replace(report, **without))
    assert {section.attributes["id"] for section in smaller.all("section")} == whole - gone
    links = {link.attributes["href"].removeprefix("#") for link in smaller.one("nav").all("a")}
    assert links == whole - gone


def test_hostile_names_are_shown_as_they_are(report, tmp_path):
    query, gallery = town(tmp_path, identities=2)
    names = {"identity": HOSTILE + "1", "color": HOSTILE + "2", "vehicle_type": HOSTILE + "3"}
    query = query.with_(**{name: [value] * len(query) for name, value in names.items()})
    gallery = gallery.with_(**{name: [value] * len(gallery) for name, value in names.items()})
    camera = [HOSTILE + name for name in gallery.camera.values]
    gallery = gallery.with_(camera=camera, image_key=[f'{i}"{HOSTILE}\udcff' for i in range(len(gallery))])
    _, ranking = evaluate_made_up(query, gallery, 0, 0.5)
    metrics = report.rows[0].metrics["all cameras"]
    rows = [ResultRow(HOSTILE, HOSTILE, {HOSTILE: metrics}), ResultRow(HOSTILE, HOSTILE, {HOSTILE: metrics})]
    hostile = Report(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        [(HOSTILE, HOSTILE)],
        rows,
        rows,
        ranking,
        HOSTILE,
        [{"step": 1, HOSTILE: 1.0}, {"step": 2, HOSTILE: 0.5}],
        [Site(HOSTILE, 0, 0, HOSTILE), Site("c0", 1, 1, "x")],
        [MapRoad(HOSTILE, "c0", 5)],
        {HOSTILE: 1.0},
        [(HOSTILE, [HOSTILE])],
    )
    write_report(hostile, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8")).root
    assert not page.all("script")
    assert page.one("h1").text == page.one("code").text == HOSTILE
    assert page.one("table", class_="facts").one("td").text == HOSTILE
    assert any(element.text == HOSTILE for element in page.one("svg", **{"aria-label": MAP_LABEL}).all("text"))
    assert HOSTILE + "c0" in page.all("article")[0].text
    events = [name for element in page.all() for name in element.attributes if name.startswith("on")]
    assert not events


MAP_LABEL = "Map of the cameras and roads"


def test_unwritable_paths_raise_one_sentence(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: is a folder or a device, not a file"):
        write_report(Report("x"), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"sites": [Site("a", 0, 0), Site("a", 1, 1)]}, "site 'a' occurs twice"),
        ({"sites": [Site("a", 0, 0)], "roads": [MapRoad("a", "b", 3)]}, "a road leads to the unknown site 'b'"),
    ],
)
def test_maps_that_cannot_be_drawn_are_refused(parts, message):
    with pytest.raises(InputError, match=message):
        Report("x", **parts)


# numbers


def numbers(cell: Element) -> list[float]:
    return [float(text.replace(",", "")) for text in re.findall(r"\d[\d.,]*", cell.text)]


def expected(metrics: Metrics) -> list[list[float]]:
    low, high = interval(metrics, "mAP")
    shares = [[metrics.mAP, low, high], [metrics.mAP_at_k], [metrics.rank1], [metrics.mINP]]
    skipped = [float(metrics.num_skipped)] if metrics.num_skipped else []
    return [[round(100 * share, 1) for share in cell] for cell in shares] + [[float(metrics.num_queries), *skipped]]


def test_ablation_numbers_equal_the_metrics(report, page):
    body = page.one("table", class_="ablation").all("tbody")
    rows = [*report.rows, *report.baselines]
    assert len(body) == len(rows) == 4
    for shown, row in zip(body, rows, strict=True):
        method, *parts = shown.all("tr")
        assert method.one("th").text.startswith(row.name)
        assert [part.one("th").text for part in parts] == list(PARTS)
        for line, part in zip(parts, PARTS, strict=True):
            assert [numbers(cell) for cell in line.all("td")] == expected(row.metrics[part])
        tags = {tag.text for tag in shown.all(class_="tag")}
        assert tags == ({"re-ranked", "transductive"} if row.name == "+ re-ranking" else set())


def test_skipped_queries_are_shown(report):
    metrics = replace(report.rows[0].metrics["all cameras"], num_skipped=1234)
    page = parse(replace(report, rows=[ResultRow("plain", "", {"all cameras": metrics})], baselines=()))
    assert "1,234 skipped" in page.one("table", class_="ablation").text


def test_headline_shows_first_last_plain_and_last_reranked_whatever_their_numbers(report, page):
    assert [row.name for row in milestones(report.rows)] == ["plain", "+ mean", "+ re-ranking"]
    assert milestones(report.rows[:1]) == [report.rows[0]]
    for tile, part in zip(page.all("table", class_="tile"), PARTS, strict=True):
        assert tile.one("caption").text == part
        shown = tile.one("tbody").all("tr")
        for row, true in zip(shown, [*report.rows, *report.baselines], strict=True):
            values = expected(true.metrics[part])
            assert [numbers(cell) for cell in row.all("td")] == [values[0], values[2]]


def test_a_part_that_a_row_lacks_is_a_dash(report):
    rows = [report.rows[0], replace(report.rows[1], metrics={PARTS[0]: report.rows[1].metrics[PARTS[0]]})]
    page = parse(replace(report, rows=rows))
    _, _, *without = page.one("table", class_="ablation").all("tbody")[1].all("tr")
    assert [[cell.text for cell in line.all("td")] for line in without] == [["\N{EN DASH}"] * 5] * 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (7.25, "7.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (95, "1 min 35 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (-5, "\N{MINUS SIGN}5.0 s"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_clock_and_percent():
    assert clock(1.7e9) == "22:13:20" and clock(1.7e9, date=True) == "2023-11-14 22:13:20"
    assert clock(3723.4) == "1:02:03", "seconds since a start have no date"
    assert clock(float("nan")) == "" and clock(1e300) == f"{1e300:.0f} s"
    assert percent(0.45678) == "45.7" and percent(None) == percent(float("nan")) == "\N{EN DASH}"
