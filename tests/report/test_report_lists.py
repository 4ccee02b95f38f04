"""The report: rank lists with their marks, camera pairs, candidates by camera, maps and loss curves are true."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from support.pages import CUT, Element, Page, evaluate_made_up, made_report, parse, town
from vreid.data.protocols import AI_CITY, CAMERA_LESS, MARKET
from vreid.data.records import Records
from vreid.formatting import clock, duration
from vreid.report import MapRoad, Report, Site, write_report
from vreid.report.camera_candidates import candidates_of, clearest_candidates
from vreid.report.maps import camera_maps
from vreid.report.page import loss_curves, render
from vreid.report.rank_lists import EvaluatedRanking
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.ranking import Ranking, rank


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    return made_report(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def text(report) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(text) -> Element:
    return Page(text).root


# rank lists


def test_marks_and_captions_are_true(report, page):
    lists = page.all("article", class_="ranklist")
    assert len(lists) > 8
    seen = set()
    for shown in lists:
        query, *candidates = shown.all("li", class_="card")
        own = re.search(r"ID (\w+)", query.text)[1]
        for card in candidates:
            identity, color = re.search(r"ID (\w+)", card.text)[1], re.search(r"red|blue", card.text)[0]
            right = "right" in card.attributes["class"]
            assert right == (identity == own)
            assert card.one("i", class_="mark").attributes["aria-label"] == ("correct" if right else "wrong")
            alike = not right and color in query.text
            assert bool(card.all("em")) == alike
            seen.add((right, alike))
    assert seen == {(True, False), (False, True), (False, False)}


def test_lists_show_first_images_of_tracklets_with_their_ranks_and_distances(report):
    evaluated = EvaluatedRanking(report.ranking, CUT)
    for query in range(3):
        listed = report.ranking.indices[query][: report.ranking.lengths[query]]
        tracklets = report.ranking.gallery.tracklet.values[listed].tolist()
        oracle = [
            (place, tracklets.count(name) - 1) for place, name in enumerate(tracklets) if tracklets.index(name) == place
        ]
        assert evaluated.folded(query) == oracle


def test_images_without_tracklet_are_not_folded(report):
    gallery = report.ranking.gallery.with_(tracklet=[""] * len(report.ranking.gallery))
    evaluated = EvaluatedRanking(replace(report.ranking, gallery=gallery))
    assert evaluated.folded(0) == [(place, 0) for place in range(report.ranking.lengths[0])]


def hand_ranking(indices, identities, query_identities, **columns) -> EvaluatedRanking:
    """Rankings typed by hand: gallery images g0, g1, ... in camera "far", queries in camera "near"."""
    query = Records.of(
        path=[f"q{i}" for i in range(len(query_identities))],
        identity=query_identities,
        camera=["near"] * len(query_identities),
    )
    columns = {"camera": ["far"] * len(identities)} | columns
    gallery = Records.of(path=[f"g{i}" for i in range(len(identities))], identity=identities, **columns)
    table = np.array(indices, dtype=np.int32)
    distances = np.where(table < 0, np.inf, np.arange(table.shape[1])).astype(np.float32)
    return EvaluatedRanking(Ranking(query, gallery, table, distances, protocol="market"))


def test_worst_errors_are_those_whose_first_hit_comes_last():
    evaluated = hand_ranking(
        [[0, 1, 2], [1, 0, 2], [1, 2, 0], [1, 2, -1], [0, 1, 2], [1, 2, 0]],
        ["a", "b", "c"],
        ["a", "a", "a", "a", "nobody", "a"],
    )
    assert evaluated.first_hit.tolist() == [1, 2, 3, 0, 0, 3]
    assert evaluated.worst(9) == [3, 2, 5, 1], "not listed first; ties by index; no match and rank one are no errors"
    assert evaluated.worst(2) == [3, 2]


def test_junk_takes_no_rank():
    evaluated = hand_ranking([[1, 0, 2]], ["a", "junk", "b"], ["a"])
    assert evaluated.ranks.tolist() == [[0, 1, 2]] and evaluated.first_hit.tolist() == [1]


def test_good_lists_are_of_different_vehicles_and_cameras_in_turn():
    query = Records.of(path=list("pqrst"), identity=["a", "a", "b", "c", "d"], camera=["1", "2", "1", "1", "2"])
    gallery = Records.of(path=list("uvwxyz"), identity=["a", "a", "b", "c", "d", "d"], camera=["3"] * 6)
    table = np.array([[0, 1], [0, 1], [2, 3], [0, 3], [4, 5]], dtype=np.int32)
    evaluated = EvaluatedRanking(Ranking(query, gallery, table, np.zeros(table.shape, np.float32), protocol="market"))
    assert evaluated.good(9) == [0, 4, 2], "query 1 is vehicle a again, query 3 is wrong; camera 2 comes before 1 again"


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([MARKET, AI_CITY]))
def test_first_hits_and_matches_are_those_of_the_metrics(seed, protocol):
    rng = np.random.default_rng(seed)
    query, gallery = (
        Records.of(
            path=[f"{side}{i}" for i in range(n)],
            identity=rng.choice(["a", "b", "junk"] if side == "g" else ["a", "b", "c"], n).tolist(),
            camera=rng.choice(["1", "2"], n).tolist(),
        )
        for side, n in (("q", 6), ("g", 12))
    )
    matrix = rng.integers(0, 4, (6, 12)).astype(np.float32)
    distances = Distances.from_matrix(matrix, query, gallery)
    evaluated = EvaluatedRanking(rank(distances, protocol, 12), protocol)
    matches = np.array([len(found) for found in evaluated.matches])
    if matches.any():
        metrics = evaluate_distances(distances, protocol)
        assert np.array_equal(evaluated.first_hit, metrics.first_hit)
        assert np.array_equal(matches, metrics.relevant)


def test_a_mate_that_no_list_holds_is_still_shown(tmp_path):
    query, gallery = town(tmp_path, identities=2)
    _, ranking = evaluate_made_up(query, gallery, 0, -5.0)  # the wrong vehicle always first
    cut = replace(ranking, indices=ranking.indices[:, :3], distances=ranking.distances[:, :3])
    lists = parse(Report("x", ranking=cut)).all("article", class_="ranklist")
    assert len(lists) == 8
    for shown in lists:
        assert "None of the 6 matches in the gallery is among the 3 listed images." in shown.text
        match = shown.one("li", class_="nearest-match")
        assert "right" in match.attributes["class"]


def test_without_labels_there_are_lists_but_no_marks(report):
    unlabelled = report.ranking.query.with_(identity=[""] * len(report.ranking.query))
    page = parse(replace(report, ranking=replace(report.ranking, query=unlabelled), rows=(), baselines=()))
    section = page.one("section", id="lists")
    assert len(section.all("article")) == 12 and not section.all("i")
    assert {card.attributes["class"] for card in section.all("li")} == {"card query", "card unknown"}
    assert not page.all("section", id="pairs")


def test_missing_and_broken_images_are_grey_boxes(report, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    gallery = report.ranking.gallery
    paths = [str(broken) if i % 2 else str(tmp_path / "absent.jpg") for i in range(len(gallery))]
    page = parse(replace(report, ranking=replace(report.ranking, gallery=gallery.with_(path=paths))))
    for shown in page.all("article", class_="ranklist"):
        query, *candidates = shown.all("li", class_="card")
        assert query.all("img") and not any(card.all("img") for card in candidates)
        assert all(
            "image missing: gallery/" in card.one(class_="blank").attributes["aria-label"] for card in candidates
        )


def test_boxes_on_full_frames_are_shown_not_the_frames(report, tmp_path):
    frame = tmp_path / "frame.png"
    Image.new("RGB", (100, 80)).save(frame)
    gallery = report.ranking.gallery
    box = [[10 + i % 3, 10, 30 + i % 3, 20] for i in range(len(gallery))]
    gallery = gallery.with_(path=[str(frame)] * len(gallery), box=box)
    page = parse(replace(report, ranking=replace(report.ranking, gallery=gallery)))
    _, *candidates = page.all("article", class_="ranklist")[0].all("li", class_="card")
    for card in candidates:
        _, _, data = card.one("img").attributes["src"].partition(",")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (20, 10)


def test_large_noisy_images_make_a_small_page(report, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for index in range(4):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(rng.integers(0, 256, (400, 600, 3), dtype=np.uint8)).save(paths[-1], compress_level=0)
    gallery = report.ranking.gallery
    heavy = gallery.with_(path=[paths[i % 4] for i in range(len(gallery))], tracklet=[""] * len(gallery))
    write_report(replace(report, ranking=replace(report.ranking, gallery=heavy)), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 4e6


def test_an_empty_ranking_is_left_out():
    indices, distances = np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32)
    empty = Ranking(Records.of(path=[]), Records.of(path=["a"]), indices, distances, protocol="market")
    assert not parse(Report("x", ranking=empty)).all("section")


# camera pairs, candidates by camera, losses


def test_camera_pairs_look_at_the_nearest_candidate_of_each_camera():
    evaluated = hand_ranking(
        [[0, 1, 2, 3], [3, 2, 1, 0]],
        ["a", "b", "b", "a"],
        ["a", "b"],
        camera=["x", "x", "y", "y"],
    )
    pairs = evaluated.camera_pairs()
    assert (pairs.query_cameras, pairs.gallery_cameras) == (["near"], ["x", "y"])
    # query a: nearest in x is g0 (a, right), in y g2 (b, wrong); query b: in x g1 (b, right), in y g3 (a, wrong)
    assert pairs.evaluated.tolist() == [[2, 2]] and pairs.found.tolist() == [[2, 0]]


def test_heat_map_shows_the_pairs(report, page):
    pairs = EvaluatedRanking(report.ranking, CUT).camera_pairs()
    table = page.one("table", class_="heat")
    for r, row in enumerate(table.one("tbody").all("tr")):
        for c, cell in enumerate(row.all("td")):
            share = 100 * pairs.found[r, c] / max(pairs.evaluated[r, c], 1)
            assert cell.text == (str(round(share)) if pairs.evaluated[r, c] else "")
            assert cell.attributes.get("title", "") in ("", f"{pairs.found[r, c]} of {pairs.evaluated[r, c]}")


def camera_ranking() -> EvaluatedRanking:
    query = Records.of(path=["q"], identity=["a"], camera=["c0"], time=[100.0])
    gallery = Records.of(
        path=list("uvwxyz"),
        identity=["a", "b", "a", "a", "a", "a"],
        camera=["c0", "c1", "c2", "c2", "", "c3"],
        time=[90.0, 130.0, 40.0, 41.0, 10.0, np.nan],
    )
    table, distances = np.arange(6, dtype=np.int32)[None], np.linspace(0.1, 0.6, 6, dtype=np.float32)[None]
    return EvaluatedRanking(Ranking(query, gallery, table, distances, protocol="ai-city"), CAMERA_LESS)


def test_candidates_are_one_a_camera_in_order_of_time():
    found = candidates_of(
        camera_ranking(), 0, [MapRoad("c0", "j", 20), MapRoad("j", "c2", 25), MapRoad("c0", "c2", 90)]
    )
    seen = [(s.image, s.camera, s.time, s.correct) for s in found.candidates]
    assert seen == [(2, "c2", 40.0, True), (None, "c0", 100.0, None), (1, "c1", 130.0, False)]
    assert [s.since for s in found.candidates] == [None, 60.0, None]
    assert [s.by_road for s in found.candidates] == [None, 45.0, None]
    assert found.legs == (("c2", "j", "c0"),), "by the fastest roads, and not to the wrong candidate"
    assert clearest_candidates(camera_ranking()).legs == (("c2", "c0"),), "straight where there are no roads"


@pytest.mark.parametrize("missing", [{"time": [np.nan]}, {"camera": [""]}])
def test_no_candidates_by_camera_without_times_or_cameras(report, missing):
    evaluated = camera_ranking()
    query = evaluated.ranking.query.with_(**missing)
    ranking = replace(evaluated.ranking, query=query)
    assert clearest_candidates(EvaluatedRanking(ranking, CAMERA_LESS)) is None
    section = parse(replace(report, ranking=ranking)).one("section", id="cameras")
    assert "No candidates by camera" in section.text and not section.all("table") and section.all("svg")


def test_the_table_shows_the_candidates(report, page):
    found = clearest_candidates(EvaluatedRanking(report.ranking, CUT), report.roads)
    rows = page.one("table", class_="candidates").one("tbody").all("tr")
    assert len(rows) == len(found.candidates) > 2
    for row, candidate in zip(rows, found.candidates, strict=True):
        cells = [cell.text for cell in row.all("td")]
        assert cells[2:4] == [candidate.camera, clock(candidate.time)]
        assert cells[4] == ("query" if candidate.distance is None else f"{candidate.distance:.3f}")
        assert cells[5].endswith({True: "yes", False: "no", None: ""}[candidate.correct])
        assert cells[6] == ("" if candidate.since is None else duration(candidate.since))


def texts(svg: str) -> list[str]:
    return [element.text for element in Page(svg).root.all("text")]


def test_nearest_neighbours_are_no_trip(report):
    """Without labels nothing joins candidates: no way on the map, no seconds between them, and no word of a trip."""
    evaluated = camera_ranking()
    gallery, roads = evaluated.ranking.gallery.with_(identity=[""] * 6), [MapRoad("c0", "c2", 20)]
    unknown = EvaluatedRanking(replace(evaluated.ranking, gallery=gallery), CAMERA_LESS)
    found = clearest_candidates(unknown, roads)
    assert [(c.camera, c.correct, c.since, c.by_road) for c in found.candidates] == [
        ("c2", None, None, None),
        ("c0", None, None, None),
        ("c1", None, None, None),
    ]
    assert found.legs == ()
    shown = replace(report, ranking=unknown.ranking, rows=[], roads=roads)
    section = parse(shown).one("section", id="cameras")
    assert "Without labels it is unknown whether they show the same vehicle" in section.text
    heads = [cell.text for cell in section.one("table", class_="candidates").one("thead").all("th")]
    assert heads[-1] == "distance"
    for page in (parse(shown), parse(report)):
        assert "trip" not in re.sub("round trip|triplet", "", page.text.lower())


def test_a_map_shows_every_camera_road_and_sighting_with_its_verdict():
    sites = [Site("c0", 0, 0, "seen"), Site("c1", 400, 0, "new"), Site("c2", 0, 400, "new")]
    sites += [Site("j", 200, 300, has_camera=False)]
    roads = [MapRoad("c0", "j", 20), MapRoad("j", "c2", 25), MapRoad("c0", "c1", 90)]
    found = candidates_of(camera_ranking(), 0, roads)
    (drawn,) = camera_maps(sites, roads, ["seen", "new"], found)
    marks = ["1 \N{CHECK MARK}", "2", "3 \N{MULTIPLICATION X}"]
    assert sorted(texts(drawn)) == sorted(["c0", "c1", "c2", "20 s", "25 s", "90 s", *marks, "seen", "new"])
    assert not set(marks) & set(texts(camera_maps(sites, roads, ["seen", "new"], None)[0]))


def test_candidates_in_a_corner_of_the_map_is_enlarged():
    sites = [Site("c0", 0, 0), Site("c2", 100, 0), Site("c1", 5000, 3000), Site("c9", 4000, 0)]
    whole, enlarged = camera_maps(sites, [], [], candidates_of(camera_ranking(), 0))
    assert sorted(texts(whole)) == ["3 \N{MULTIPLICATION X}", "c1", "c9"], "what the other map shows is framed only"
    assert sorted(texts(enlarged)) == ["1 \N{CHECK MARK}", "2", "c0", "c2"]


@pytest.mark.parametrize("places", [[(5, 5)], [(0, 0), (0, 300)], [(7, 1), (7, 1)]])
def test_maps_without_extent_can_be_drawn(places):
    (drawn,) = camera_maps([Site(f"c{i}", *place) for i, place in enumerate(places)], [], [], None)
    assert texts(drawn) == [f"c{i}" for i in range(len(places))]


def test_loss_curves_take_steps_before_epochs_and_leave_bookkeeping_out():
    lines = [
        {"event": "step", "epoch": 1, "step": 5, "loss": 3.0, "triplet": 1.0, "seconds": 2.0, "learning_rate": 0.1},
        {"event": "step", "epoch": 1, "step": 10, "loss": float("nan"), "triplet": 0.5},
        {"event": "epoch", "epoch": 1, "step": 10, "loss": 2.5},
        {"event": "epoch", "epoch": 2, "step": 20, "loss": 2.0},
    ]
    assert loss_curves(lines) == ({"triplet": ([5.0, 10.0], [1.0, 0.5])}, "step")  # a curve has two points
    assert loss_curves(lines[2:]) == ({"loss": ([1.0, 2.0], [2.5, 2.0])}, "epoch")
    assert loss_curves([]) == ({}, "epoch")


def test_long_loss_curves_are_thinned():
    curves, _ = loss_curves([{"step": step, "loss": 1.0} for step in range(5000)])
    x, _ = curves["loss"]
    assert len(x) <= 400 and x[0] == 0
