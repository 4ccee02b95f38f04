"""Protocols as values: what each removes, spelled out on six images; what they say of themselves; what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from vreid.data.protocols import Exclusion, Groups
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
    Protocol,
)

QUERY = Records.of(path=["q", "no camera", "no identity"], identity=["7", "7", ""], camera=["c1", "", "c1"])
GALLERY = Records.of(
    path=["q", "same vehicle and camera", "other vehicle", "other camera", "nothing known", "no identity either"],
    identity=["7", "7", "8", "7", "", ""],
    camera=["c1", "c1", "c1", "c2", "", "c1"],
    tracklet=["t1", "t1", "t2", "t3", "", ""],
)


def removed(protocol, query=QUERY, gallery=GALLERY):
    exclusion = Exclusion(query, gallery, protocol)
    return [exclusion.removed(q).tolist() for q in range(len(query))]


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        ("nothing", [[], [], []]),
        ("itself", [[0], [], []]),
        ("same_identity_and_camera", [[0, 1], [], []]),
        ("same_camera", [[0, 1, 2, 5], [], [0, 1, 2, 5]]),
    ],
)
def test_what_each_rule_removes(exclude, gone):
    assert removed(Protocol("test", exclude)) == gone


def test_a_tracklet_goes_whole():
    assert removed(Protocol("test", "itself", unit="tracklet")) == [[0, 1], [], []]
    listed = Protocol("test", "nothing", unit="tracklet", junk={"no camera": ("other vehicle", "nothing known")})
    same_track = GALLERY.with_(tracklet=["t1", "t1", "t2", "t2", "", ""])
    assert removed(listed, gallery=same_track) == [[], [2, 3, 4], []]


def test_junk_lists_remove_by_name_beside_the_rule():
    junk = {"q": ("other camera", "q", "not in this gallery"), "no camera": ("q",), "no query": ("other vehicle",)}
    assert removed(replace(MARKET, junk=junk)) == [[0, 1, 3], [0], []]
    assert removed(Protocol("test", "nothing", junk=junk)) == [[0, 3], [0], []]


def test_the_query_image_is_removed_even_when_nothing_else_is_known_of_it():
    bare = Records.of(path=["a", "b"])
    for exclude in ("itself", "same_identity_and_camera", "same_camera"):
        assert Exclusion(bare, bare, Protocol("test", exclude)).removed(1).tolist() == [1]


def test_the_protocols_by_name_are_what_the_literature_does():
    pass_removed, all_left = "same_identity_and_camera", "itself"
    values = {
        # name: removed, cut, normaliser, unit, tracklet distance, AP, draws
        MARKET: (pass_removed, None, "total", "image", "min", "rectangular", 0),
        VERI: (pass_removed, None, "total", "image", "min", "rectangular", 0),
        VERI_TRAPEZOID: (pass_removed, None, "total", "image", "min", "trapezoid", 0),
        VERI_TRACKS: (pass_removed, None, "total", "tracklet", "min", "rectangular", 0),
        VERI_TRACKS_MEAN: (pass_removed, None, "total", "tracklet", "mean", "rectangular", 0),
        VEHICLE_ID: (all_left, None, "total", "image", "min", "rectangular", 10),
        VERI_WILD: (pass_removed, None, "total", "image", "min", "rectangular", 0),
        VERI_WILD_ALL: (all_left, None, "total", "image", "min", "rectangular", 0),
        VRIC: ("nothing", None, "total", "image", "min", "rectangular", 0),
        AI_CITY: (pass_removed, 100, "total", "image", "min", "rectangular", 0),
        AI_CITY_MIN: (pass_removed, 100, "min", "image", "min", "rectangular", 0),
        CAMERA_LESS: (all_left, 100, "total", "image", "min", "rectangular", 0),
        CROSS_CAMERA: ("same_camera", None, "total", "image", "min", "rectangular", 0),
    }
    assert list(PROTOCOLS.values()) == list(values)
    for protocol, fields in values.items():
        assert PROTOCOLS[protocol.name] is protocol
        assert fields == (
            protocol.exclude,
            protocol.top_k,
            protocol.normaliser,
            protocol.unit,
            protocol.tracklet_distance,
            protocol.average_precision,
            protocol.repeats,
        )
        assert protocol.needs_camera == (protocol.exclude in (pass_removed, "same_camera"))


def test_a_metric_records_cut_and_normalisation():
    assert (MARKET.metric, AI_CITY.metric, VERI_TRAPEZOID.metric) == ("mAP", "mAP@100", "mAP (trapezoid)")
    cut = replace(VERI_TRAPEZOID, top_k=5)
    assert (cut.metric, cut.full_metric, AI_CITY.full_metric) == ("mAP@5 (trapezoid)", "mAP (trapezoid)", "mAP")


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        (
            AI_CITY,
            "ai-city: gallery images of the query's own vehicle in the query's own camera are removed; the first "
            "100 count; AP is divided by all relevant images.",
        ),
        (AI_CITY_MIN, "AP is divided by min(relevant images, K)."),
        (CROSS_CAMERA, "every gallery image of the query's own camera is removed; the full list counts;"),
        (VRIC, "vric: no gallery image is removed;"),
        (VERI_WILD_ALL, "veri-wild-all: only the query image itself is removed from the gallery;"),
        (VERI_TRAPEZOID, "AP is summed by trapezoids and is divided by all relevant images."),
        (replace(VERI, junk={"q": ("g",)}), "are removed; images on the data set's junk lists are removed too;"),
        (
            VERI_TRACKS,
            "gallery tracklets of the query's own vehicle in the query's own camera are removed; a "
            "tracklet's distance is that of its nearest image; the full list counts; AP is divided by all "
            "relevant tracklets.",
        ),
        (VERI_TRACKS_MEAN, "a tracklet's distance is that of its mean feature;"),
        (
            replace(VEHICLE_ID, seed=4),
            "vehicle-id: in each of 10 draws (seed 4) one random image of each vehicle is "
            "the gallery and all other images are queries, nothing is removed;",
        ),
        (VEHICLE_ID, "numbers are means over the draws."),
    ],
)
def test_a_protocol_describes_itself_in_one_sentence(protocol, says):
    assert says in protocol.description
    assert protocol.description.startswith(f"{protocol.name}: ") and "\n" not in protocol.description


@pytest.mark.parametrize(
    ("base", "fields", "message"),
    [
        (MARKET, {"exclude": "camera"}, "exclude is 'camera'; use one of nothing, itself"),
        (AI_CITY, {"normaliser": "mean"}, "normaliser is 'mean'; use one of"),
        (MARKET, {"unit": "track"}, "unit is 'track'; use one of"),
        (MARKET, {"average_precision": "area"}, "average_precision is 'area'; use one of"),
        (MARKET, {"top_k": 0}, "top_k is 0"),
        (MARKET, {"normaliser": "min"}, "give top_k"),
        (MARKET, {"tracklet_distance": "mean"}, "give unit='tracklet'"),
        (MARKET, {"repeats": 10}, "none may be removed"),
        (CROSS_CAMERA, {"repeats": 10}, "none may be removed"),
        (VEHICLE_ID, {"unit": "tracklet"}, "take unit 'image'"),
        (VEHICLE_ID, {"junk": {"q": ("g",)}}, "no junk lists"),
        (VEHICLE_ID, {"repeats": -1}, "repeats is -1"),
        (VEHICLE_ID, {"seed": -1}, "seed is -1"),
        (VERI, {"junk": {"q": "g"}}, "to a list of keys"),
        (VERI, {"junk": ["q"]}, "junk must map"),
    ],
)
def test_wrong_and_contradictory_fields_are_rejected(base, fields, message):
    with pytest.raises(InputError, match=message) as error:
        replace(base, **fields)
    assert str(error.value).startswith(f"Protocol {base.name!r}: ") and "\n" not in str(error.value)


def test_protocols_go_through_json_and_keep_long_lists_to_themselves():
    for protocol in (*PROTOCOLS.values(), replace(VERI, junk={"q": ["g1", "g2"], "r": ()})):
        assert Protocol(**json.loads(json.dumps(asdict(protocol)))) == protocol
    listed = replace(VERI, junk={"q": ["g1", "g2"]})
    assert listed.junk == {"q": ("g1", "g2")} and listed != VERI
    assert "g1" not in repr(listed)
    assert hash(listed) == hash(VERI)


def test_groups():
    groups = Groups(np.array([3, -1, 3, 0]))
    assert [groups[c].tolist() for c in (3, 0, -1, 9)] == [[0, 2], [3], [1], []]
    assert Groups(np.array([], dtype=np.int64))[3].tolist() == []
