"""Every protocol on a case worked by hand, against its definition in plain loops, and through the command line."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oracles import metrics as oracle
from oracles.metrics import Image
from vreid.cli import main
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    AI_CITY,
    AI_CITY_MIN,
    CAMERA_LESS,
    CROSS_CAMERA,
    MARKET,
    PROTOCOLS,
    VEHICLE_ID,
    VERI,
    VERI_TRACKS,
    VERI_TRACKS_MEAN,
    VERI_TRAPEZOID,
    VERI_WILD,
    VERI_WILD_ALL,
    VRIC,
    Distances,
    FeatureSet,
    PostProcessing,
    Protocol,
    ReRanking,
    Tracklets,
    evaluate_distances,
    evaluate_repeated,
    evaluate_retrieval,
    rank,
)
from vreid.retrieval_run import RetrievalRun


def records(images):
    """Records of `Image`s."""
    columns = {name: [getattr(image, name) for image in images] for name in ("identity", "camera", "tracklet")}
    return Records.of(path=[image.key for image in images], **columns)


def evaluated(distances, queries, gallery, protocol):
    return evaluate_distances(Distances.from_matrix(distances, records(queries), records(gallery)), protocol)


# Two queries; the gallery stands in the order of its distances to the first, and holds that query's own picture.
QUERIES = [Image("q", "A", "1"), Image("p", "C", "2")]
GALLERY = [
    Image("q", "A", "1", "own"),
    Image("g1", "A", "1", "own"),
    Image("g2", "B", "1", "t2"),
    Image("g3", "A", "2", "t3"),
    Image("g4", "B", "2", "t4"),
    Image("g5", "C", "2", "t5"),
    Image("g6", "A", "3", "t6"),
    Image("g7", "A", "2", "t3"),
]
TO_P = [9, 9, 9, 9, 9, 0, 9, 9]  # g5, the second query's only mate, comes first; it is of the same camera
DISTANCES = np.array([range(8), TO_P], dtype=np.float32)
HAND = [
    # q's own pass goes; left: g2 miss, g3 hit 2nd, g4, g5, g6 hit 5th, g7 hit 6th. p's only mate goes: skipped
    (MARKET, (1 / 2 + 2 / 5 + 3 / 6) / 3, None, 1),
    (VERI, (1 / 2 + 2 / 5 + 3 / 6) / 3, None, 1),
    # with g6 on the junk list: hits at 2 and 5 of 2
    (replace(VERI, junk={"q": ("g6",)}), (1 / 2 + 2 / 5) / 2, None, 1),
    # precision before and at each hit: 0 and 1/2, 1/4 and 2/5, 2/5 and 3/6
    (VERI_TRAPEZOID, ((0 + 1 / 2) / 2 + (1 / 4 + 2 / 5) / 2 + (2 / 5 + 3 / 6) / 2) / 3, None, 1),
    # tracklets left: t2 miss, t3 hit 2nd (by g3), t4, t5, t6 hit 5th; g7 is no unit of its own
    (VERI_TRACKS, (1 / 2 + 2 / 5) / 2, None, 1),
    (VERI_WILD, (1 / 2 + 2 / 5 + 3 / 6) / 3, None, 1),
    # only q's own picture goes: g1 hit 1st, g3 3rd, g6 6th, g7 7th of 4; p: g5 first of 1
    (VERI_WILD_ALL, ((1 + 2 / 3 + 3 / 6 + 4 / 7) / 4 + 1) / 2, None, 0),
    # nothing goes: hits 1, 2, 4, 7, 8 of 5
    (VRIC, ((1 + 1 + 3 / 4 + 4 / 7 + 5 / 8) / 5 + 1) / 2, None, 0),
    # as market; all of it lies within the first 100
    (AI_CITY, (1 / 2 + 2 / 5 + 3 / 6) / 3, (1 / 2 + 2 / 5 + 3 / 6) / 3, 1),
    # the first two hold one of three mates: 1/2 over 3, or over min(3, 2)
    (replace(AI_CITY, top_k=2), (1 / 2 + 2 / 5 + 3 / 6) / 3, 1 / 2 / 3, 1),
    (replace(AI_CITY_MIN, top_k=2), (1 / 2 + 2 / 5 + 3 / 6) / 3, 1 / 2 / 2, 1),
    # as veri-wild-all
    (CAMERA_LESS, ((1 + 2 / 3 + 3 / 6 + 4 / 7) / 4 + 1) / 2, ((1 + 2 / 3 + 3 / 6 + 4 / 7) / 4 + 1) / 2, 0),
    # camera 1 goes: g3 hit 1st, g6 4th, g7 5th of 3; of p's list camera 2, and with it the mate
    (CROSS_CAMERA, (1 + 2 / 4 + 3 / 5) / 3, None, 1),
]


@pytest.mark.parametrize(("protocol", "expected", "cut", "skipped"), HAND)
def test_by_hand(protocol, expected, cut, skipped):
    metrics = evaluated(DISTANCES, QUERIES, GALLERY, protocol)
    assert metrics.mAP == pytest.approx(expected)
    assert (metrics.mAP_at_k is None) if cut is None else metrics.mAP_at_k == pytest.approx(cut)
    assert (metrics.num_queries, metrics.num_skipped) == (2 - skipped, skipped)
    assert metrics.protocol is protocol and f"protocol {protocol.name}" in str(metrics)
    reported = json.loads(json.dumps(metrics.as_dict()))
    assert reported[protocol.full_metric] == metrics.mAP
    assert {
        "protocol": protocol.name,
        "exclude": protocol.exclude,
        "normaliser": protocol.normaliser,
        "unit": protocol.unit,
        "average_precision": protocol.average_precision,
    }.items() <= reported.items()
    assert str(metrics).startswith(protocol.full_metric)


def test_every_protocol_without_draws_has_an_example_above():
    by_features = {VERI_TRACKS_MEAN.name, VEHICLE_ID.name}
    assert {protocol.name for protocol, *_ in HAND} | by_features | {"ai-city-min"} == set(PROTOCOLS)


def test_both_ai_city_normalisers_part_beyond_a_hundred_mates():
    # all of 120 mates are found: 100 precisions of 1 over 120, or over min(120, 100)
    gallery = [Image(f"g{i}", "A", "2") for i in range(120)]
    distances = np.arange(120, dtype=np.float32)[None]
    total, least = (evaluated(distances, QUERIES[:1], gallery, protocol) for protocol in (AI_CITY, AI_CITY_MIN))
    assert (total.mAP_at_k, least.mAP_at_k) == (pytest.approx(100 / 120), 1.0)
    assert (total.mAP, "mAP@100 83.3" in str(total), "normaliser total" in str(total)) == (1.0, True, True)


@st.composite
def worlds(draw):
    """Few images, few distances, every label kind; a tracklet is of one identity and camera; some pictures are both."""
    tracklets = {
        name: (draw(st.sampled_from(["A", "B", "junk", ""])), draw(st.sampled_from(["1", "2", ""]))) for name in "tuv"
    }
    gallery = []
    for number in range(draw(st.integers(1, 12))):
        tracklet = draw(st.sampled_from([*tracklets, ""]))
        identity, camera = tracklets.get(tracklet) or (draw(st.sampled_from("ABC")), draw(st.sampled_from(["1", ""])))
        gallery.append(Image(f"g{number}", identity, camera, tracklet))
    queries = [
        Image(draw(st.sampled_from([f"q{number}", f"g{number}"])), draw(st.sampled_from(["A", "B", "junk"])), camera)
        for number, camera in enumerate(draw(st.lists(st.sampled_from("12"), min_size=1, max_size=4)))
    ]
    cells = st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")])
    distances = [[draw(cells) for _ in gallery] for _ in queries]
    names = st.sampled_from([*(image.key for image in gallery), "elsewhere"])
    junk = draw(st.dictionaries(st.sampled_from([image.key for image in queries]), st.lists(names, max_size=3)))
    return np.array(distances, dtype=np.float32), queries, gallery, junk


CUTS = [(None, "total"), *product([1, 3, 100], ["total", "min"])]


@settings(max_examples=300)
@given(
    worlds(),
    st.sampled_from(["nothing", "itself", "same_identity_and_camera", "same_camera"]),
    st.sampled_from(CUTS),
    st.sampled_from(["image", "tracklet"]),
    st.sampled_from(["rectangular", "trapezoid"]),
)
def test_all_fields_equal_the_definition(world, exclude, cut, unit, average_precision):
    distances, queries, gallery, junk = world
    assume(unit == "image" or any(image.tracklet for image in gallery))
    protocol = Protocol("any", exclude, *cut, unit=unit, average_precision=average_precision, junk=junk)
    try:
        expected = oracle.by_protocol(distances, queries, gallery, protocol)
    except ZeroDivisionError:  # no query has a mate
        with pytest.raises(InputError, match="none of the"):
            evaluated(distances, queries, gallery, protocol)
        return
    metrics = evaluated(distances, queries, gallery, protocol)
    assert (metrics.mAP if protocol.top_k is None else metrics.mAP_at_k) == pytest.approx(expected["mAP"])
    assert metrics.cmc == pytest.approx(expected["cmc"])
    assert metrics.mINP == pytest.approx(expected["mINP"])
    assert metrics.num_skipped == expected["skipped"]
    # a ranking obeys the same removal
    ranking = rank(Distances.from_matrix(distances, records(queries), records(gallery)), protocol, len(gallery))
    for query, listed in zip(queries, ranking.indices, strict=True):
        assert not any(oracle.removed(query, gallery[g], protocol) for g in listed[listed >= 0])


@dataclass(frozen=True)
class RowByRow:
    """A source of distances that gives one row at a time."""

    values: np.ndarray

    @property
    def shape(self):
        return self.values.shape

    def tiles(self):
        yield from ((row, self.values[row : row + 1]) for row in range(len(self.values)))


@pytest.mark.parametrize("protocol", [MARKET, VERI_TRACKS, CROSS_CAMERA, AI_CITY], ids=lambda protocol: protocol.name)
def test_neither_order_nor_blocks_matter(protocol):
    generator = np.random.default_rng(5)
    tracklet = np.repeat(np.arange(20), 4)
    gallery = [Image(f"g{i}", f"{t % 6}", f"{t % 4}", f"t{t}") for i, t in enumerate(tracklet)]
    queries = [Image(f"q{i}", f"{i % 7}", f"{i % 3}") for i in range(300)]  # more than one block; identity 6 is absent
    distances = generator.random((300, 80), dtype=np.float32)
    metrics = evaluated(distances, queries, gallery, protocol)
    rows, columns = generator.permutation(300), generator.permutation(80)
    shuffled = evaluated(
        distances[np.ix_(rows, columns)], [queries[r] for r in rows], [gallery[c] for c in columns], protocol
    )
    assert shuffled.mAP == pytest.approx(metrics.mAP) and shuffled.num_skipped == metrics.num_skipped >= 42
    assert np.array_equal(shuffled.average_precision, metrics.average_precision[rows], equal_nan=True)
    whole = Distances.from_matrix(distances, records(queries), records(gallery))
    in_rows = evaluate_distances(replace(whole, source=RowByRow(distances)), protocol)
    assert in_rows.as_dict() == metrics.as_dict()


def on_circle(images, degrees):
    """Features at these angles: distances order as angles do."""
    angle = np.deg2rad(degrees)
    return FeatureSet(np.stack([np.cos(angle), np.sin(angle)], axis=1), records(images))


# A query at 0 degrees; its mate's tracklet at 10 and 70 (mean 40), another vehicle's at 30.
ROUND_QUERY = on_circle([Image("q", "A", "1")], [0])
ROUND_GALLERY = on_circle(
    [Image("g1", "A", "2", "t"), Image("g2", "B", "2", "u"), Image("g3", "A", "2", "t")], [10, 30, 70]
)
PLAIN = PostProcessing()


def test_the_mean_of_a_tracklet_is_not_its_nearest_image():
    nearest, mean = (evaluate_retrieval(ROUND_QUERY, ROUND_GALLERY, PLAIN, p) for p in (VERI_TRACKS, VERI_TRACKS_MEAN))
    assert (nearest.mAP, mean.mAP) == (1.0, 1 / 2)
    assert (nearest.steps, mean.steps) == ((), ("tracklets=mean",))
    assert mean.as_dict()["tracklet_distance"] == "mean" and "tracklets by mean" in str(mean)
    # the step itself gives the same, and is judged as it is by the other protocol
    stepped = PostProcessing(tracklets=Tracklets())
    assert evaluate_retrieval(ROUND_QUERY, ROUND_GALLERY, stepped, VERI_TRACKS_MEAN).as_dict() == mean.as_dict()
    assert evaluate_retrieval(ROUND_QUERY, ROUND_GALLERY, stepped, VERI_TRACKS).mAP == 1 / 2
    assert RetrievalRun(ROUND_QUERY, ROUND_GALLERY, VERI_TRACKS_MEAN).rank(PLAIN).indices.tolist() == [[1, 0, 2]]
    assert RetrievalRun(ROUND_QUERY, ROUND_GALLERY, VERI_TRACKS).rank(PLAIN).indices.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("post", "protocol", "change", "message"),
    [
        (
            PostProcessing(tracklets=Tracklets("weighted")),
            VERI_TRACKS_MEAN,
            {},
            "veri-tracks-mean compares mean features",
        ),
        (PLAIN, VERI_TRACKS, {"tracklet": ["", "", ""]}, "veri-tracks ranks tracklets, but no gallery image has one"),
        (PLAIN, VERI_TRACKS, {"identity": ["A", "B", "B"]}, r"g3 \(gallery image 3\): its tracklet has .* identity"),
        (PLAIN, VERI_TRACKS, {"camera": ["2", "2", "3"]}, r"g3 \(image 3\): tracklet t has images of more than one"),
        (PLAIN, VEHICLE_ID, {}, "vehicle-id draws its galleries from the query images"),
    ],
)
def test_unsuitable_protocols_are_rejected(post, protocol, change, message):
    gallery = replace(ROUND_GALLERY, records=ROUND_GALLERY.records.with_(**change))
    with pytest.raises(InputError, match=message) as error:
        evaluate_retrieval(ROUND_QUERY, gallery, post, protocol)
    assert "\n" not in str(error.value)


def test_limits_of_evaluating_distances_alone():
    distances = Distances.of(ROUND_QUERY.normalise(), ROUND_GALLERY.normalise())
    with pytest.raises(InputError, match="give the features to evaluate_retrieval"):
        evaluate_distances(distances, VERI_TRACKS_MEAN)
    with pytest.raises(InputError, match="vehicle-id draws galleries: give the features to evaluate_retrieval"):
        evaluate_distances(distances, VEHICLE_ID)


def pool(count=40):
    """Features of many images of few vehicles, as query and gallery in one."""
    generator = np.random.default_rng(8)
    images = [Image(f"i{i}", f"v{i % 7}") for i in range(count)]
    return FeatureSet(generator.normal(size=(count, 6)), records(images)).normalise()


def test_drawn_galleries_are_post_processed_one_by_one():
    features, protocol = pool(), replace(VEHICLE_ID, repeats=3, seed=2)
    plain = evaluate_retrieval(features, features, PLAIN, protocol)
    identity = features.records.identity.values.tolist()
    squared = Distances.of(features, features).matrix()
    assert [draw.mAP for draw in plain.draws] == pytest.approx(
        [mean for mean, _ in oracle.repeated(squared, identity, 3, 2)]
    )
    assert plain.mAP == pytest.approx(evaluate_repeated(squared, identity=identity, repeats=3, seed=2).mAP)
    post = PostProcessing(reranking=ReRanking(4, 2, 0.5))
    reranked = evaluate_retrieval(features, features, post, protocol)
    assert reranked.reranked and reranked.transductive and reranked.protocol is protocol
    for drawn, metrics in zip(oracle.draws(identity, 3, 2), reranked.draws, strict=True):
        rest = np.setdiff1d(np.arange(len(features)), drawn)
        alone = evaluate_distances(post.apply(features[rest], features[drawn]), VERI_WILD_ALL)
        assert metrics.mAP == alone.mAP
        assert np.array_equal(metrics.first_hit[rest], alone.first_hit)
        assert (metrics.relevant[drawn] == -1).all()


def search_folder(folder, query, gallery, protocol):
    folder.mkdir(exist_ok=True)
    query.save(folder / "query.safetensors")
    gallery.save(folder / "gallery.safetensors")
    RetrievalRun(query, gallery, protocol, ("9",), {"data set": "by hand"}).save_facts(folder)
    return folder


def test_a_search_on_disk_keeps_its_protocol(tmp_path):
    for protocol in (*PROTOCOLS.values(), replace(VERI, junk={"q": ("g3", "g1")})):
        loaded = RetrievalRun.load(search_folder(tmp_path, ROUND_QUERY, ROUND_GALLERY, protocol))
        assert loaded.protocol == protocol
        assert (loaded.trained_cameras, loaded.facts) == (("9",), {"data set": "by hand"})
    facts = json.loads((tmp_path / "features.json").read_text())
    for damage in ({"unit": "track"}, {"top_k": "many"}, {"junk": [1]}, {"colour": "red"}):
        (tmp_path / "features.json").write_text(json.dumps({**facts, "protocol": {**facts["protocol"], **damage}}))
        with pytest.raises(InputError, match=r"features\.json: "):
            RetrievalRun.load(tmp_path)


@pytest.fixture
def run(monkeypatch, capsys):
    """Type a `vreid` line: (exit code, output, errors)."""

    def typed(line):
        monkeypatch.setattr(sys, "argv", ["vreid", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return typed


def test_commands_take_every_protocol_by_name(run, tmp_path):
    listed = replace(VERI, junk={"q": ("g2",)})
    folder = search_folder(tmp_path / "features", ROUND_QUERY, ROUND_GALLERY, listed)
    drawn = search_folder(tmp_path / "pool", pool(), pool(), CAMERA_LESS)
    for name in PROTOCOLS:
        at = drawn if name == "vehicle-id" else folder
        code, out, _ = run(f"evaluate {at} --protocol {name} --json")
        (row,) = json.loads(out)
        numbers = row["parts"]["all cameras"]
        assert (code, numbers["protocol"]) == (0, name)
        assert PROTOCOLS[name].metric in numbers and PROTOCOLS[name].full_metric in numbers
        code, out, _ = run(f"evaluate {at} --protocol {name}")
        assert code == 0 and row["protocol"] in out and PROTOCOLS[name].metric in out
        assert ("\N{PLUS-MINUS SIGN}: standard deviation over 10 draws." in out) == (name == "vehicle-id")
        code, out, _ = run(f"rank {at} --protocol {name} --out {tmp_path}/{name}.csv")
        assert code == 0 and out.startswith(f"{name}: ") and (tmp_path / f"{name}.csv").is_file()
        assert "draws" not in out and " removed" in out
    # the data set's junk lists go with every protocol of the same removal, and with no other
    assert "junk lists" in run(f"evaluate {folder} --protocol veri-trapezoid")[1]
    assert "junk lists" not in run(f"evaluate {folder} --protocol veri-wild-all")[1]


def test_the_page_names_a_metric_as_it_was_made(run, tmp_path):
    folder = search_folder(tmp_path / "features", ROUND_QUERY, ROUND_GALLERY, VERI_TRAPEZOID)
    assert run(f"report {folder} --out {tmp_path}/page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count(">mAP (trapezoid)<") == 2 and ">mAP<" not in page.replace("<b>mAP</b>", "")
    assert "summed by trapezoids" in page
    assert run(f"report {folder} --post rerank=2:1:0.5 --out {tmp_path}/page.html")[0] == 0  # two rows: a chart
    assert "mAP (trapezoid) in percent" in (tmp_path / "page.html").read_text()
    drawn = search_folder(tmp_path / "pool", pool(), pool(), VEHICLE_ID)
    assert run(f"report {drawn} --out {tmp_path}/page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "in each of 10 draws (seed 0)" in page and "&plusmn;&#8202;" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--protocol vehicle-id", "different; give all images as both"),
        ("--protocol veri-tracks-mean --post tracklets=weighted", "not weighted ones"),
        ("--protocol veri-track", "There is no protocol 'veri-track'; did you mean 'veri-tracks'?"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_commands_report_invalid_input_in_one_sentence(run, tmp_path, command, options, message):
    folder = search_folder(tmp_path / "features", ROUND_QUERY, ROUND_GALLERY, MARKET)
    out = f"--out {tmp_path}/page.html" if command == "report" else ""
    code, _, errors = run(f"{command} {folder} {options} {out}")
    assert (code, errors.count("\n")) == (2, 1) and errors.startswith("vreid: ") and message in errors
    assert not (tmp_path / "page.html").exists()
