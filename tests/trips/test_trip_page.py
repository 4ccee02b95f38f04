"""The page holds the numbers of the tables, escapes names, and has its empty states."""

from __future__ import annotations

import csv
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.data.records import Labels
from vreid.formatting import percent
from vreid.trips.counts import coverage, route_shares
from vreid.trips.solve import Trips, link_trips
from vreid.trips.tables import TimedTracklets
from vreid.trips.trip_figures import camera_order, places_on_map
from vreid.trips.trip_page import doubtful_links, trip_page, trip_values, write_trip_page
from vreid.trips.trip_tables import write_trips

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

SEP = " \u203a "
VOID = {"meta", "img", "input", "br", "link"}


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "<script" not in page


@pytest.fixture(scope="module")
def trips() -> Trips:
    table, _ = traffic_world(1, ToyTraffic(cameras=4, vehicles=70, hours=2.0))
    return link_trips(table)


def text_of(page: str) -> str:
    """Text outside of the figures, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))).split())


def test_the_page_holds_the_numbers_of_the_tables(trips: Trips, tmp_path: Path) -> None:
    write_trips(trips, tmp_path)
    write_trip_page(trips, tmp_path / "trips.html")
    page = (tmp_path / "trips.html").read_text(encoding="utf-8")
    check_page(page)
    text = text_of(page)
    for name in ("od.csv", "travel_times.csv"):
        with open(tmp_path / name, encoding="utf-8") as file:
            for row in list(csv.reader(file))[1:]:
                if name == "travel_times.csv" and not row[2]:
                    row[2] = "all"
                assert f" {' '.join(row)} " in text
    for route in route_shares(trips):
        assert f"{SEP.join(route.route)} {route.count} {percent(route.share)}" in text
    for one in coverage(trips):
        numbers = [percent(value) for value in (one.linked, one.begin, one.end, one.probability)]
        assert f" {one.camera} {one.tracklets} {' '.join(numbers)} {one.offset:.1f} " in text
    assert all(f'id="trip-{trip}"' in page for trip in set(trips.trip[trips.order > 1].tolist()))


def test_links_in_doubt_have_images_and_the_line_of_the_answer(trips: Trips) -> None:
    found = doubtful_links(trips, most=5)
    doubt = [abs(one.probability - 0.5) for one in found]
    assert found and doubt == sorted(doubt)
    assert len({one.first for one in found}) == len({one.second for one in found}) == len(found)
    image = "data:image/jpeg;base64,AAAA"
    page = trip_page(trip_values(trips), images={found[0].first: image})
    assert page.count(image) == 1
    assert all(f"{one.first},{one.second},yes" in page for one in found)


def test_names_are_escaped(trips: Trips) -> None:
    wild = "<script>&\"'"
    table = trips.table
    names = np.array([wild, *table.camera.names[1:]], dtype=object)
    renamed = replace(trips, table=replace(table, camera=Labels(names, table.camera.codes)))
    page = trip_page(trip_values(renamed), source=wild)
    check_page(page)
    assert html.escape(wild).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_positions_make_a_map(trips: Trips) -> None:
    names = [str(name) for name in trips.table.camera.names]
    assert "cameras stand on a circle" in trip_page(trip_values(trips))
    placed = {name: (50.0, 8.0 + 0.01 * at) for at, name in enumerate(names[:3])}
    page = trip_page(trip_values(replace(trips, table=replace(trips.table, positions=placed))))
    assert "North is up" in page
    assert f"Without position: {names[3]}" in text_of(page)
    places = places_on_map(names, placed)
    assert list(places) == names[:3]
    assert places[names[2]][0] - places[names[0]][0] == pytest.approx(0.02 * 111_195 * np.cos(np.radians(50)), rel=1e-3)


@pytest.mark.parametrize("cameras", [1, 2])
def test_pages_without_trips(cameras: int) -> None:
    rng = np.random.default_rng(0)
    count = 4
    table = TimedTracklets.of(
        id=[f"t{row}" for row in range(count)],
        camera=[f"c{row % cameras}" for row in range(count)],
        start=np.arange(count) * 50_000.0,
        end=np.arange(count) * 50_000.0 + 1,
        vector=rng.normal(size=(count, 8)),
    )
    page = trip_page(trip_values(link_trips(table)))
    check_page(page)
    assert ("There is one camera only" if cameras == 1 else "No two tracklets of different cameras") in page
    assert "<svg" not in page


def test_cameras_are_ordered_along_the_traffic() -> None:
    flow = np.zeros((5, 5))
    for start, end in ((3, 0), (0, 4), (4, 1)):
        flow[start, end], flow[end, start] = 20, 5
    assert camera_order(flow).tolist() == [3, 0, 4, 1, 2]
