"""Which gallery images a protocol removes, spelled out on six pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import AI_CITY, CAMERA_LESS, CROSS_CAMERA, MARKET, PROTOCOLS, Protocol
from vreid.retrieval.protocols import Exclusion, Groups

QUERY = Records.of(path=["q", "no camera", "no identity"], identity=["7", "7", ""], camera=["c1", "", "c1"])
GALLERY = Records.of(
    path=["q", "same vehicle and camera", "other vehicle", "other camera", "nothing known", "no identity either"],
    identity=["7", "7", "8", "7", "", ""],
    camera=["c1", "c1", "c1", "c2", "", "c1"],
)


@pytest.mark.parametrize(
    ("exclude", "removed"),
    [
        ("nothing", [[], [], []]),
        ("itself", [[0], [], []]),
        ("same_identity_and_camera", [[0, 1], [], []]),
        ("same_camera", [[0, 1, 2, 5], [], [0, 1, 2, 5]]),
    ],
)
def test_what_each_rule_removes(exclude, removed):
    exclusion = Exclusion(QUERY, GALLERY, Protocol("test", exclude))
    assert [exclusion.removed(q).tolist() for q in range(3)] == removed


def test_the_query_picture_is_removed_even_when_nothing_else_is_known_of_it():
    bare = Records.of(path=["a", "b"])
    for exclude in ("itself", "same_identity_and_camera", "same_camera"):
        assert Exclusion(bare, bare, Protocol("test", exclude)).removed(1).tolist() == [1]


def test_the_literal_protocols_say_what_they_do():
    assert (MARKET.metric, AI_CITY.metric) == ("mAP", "mAP@100")
    assert (AI_CITY.exclude, AI_CITY.normaliser, CROSS_CAMERA.exclude) == (MARKET.exclude, "total", "same_camera")
    assert "every gallery image of the query's own camera is removed" in CROSS_CAMERA.description
    assert "the first 100 count" in AI_CITY.description
    assert all(PROTOCOLS[name].name == name for name in PROTOCOLS)
    assert [p.needs_camera for p in (MARKET, AI_CITY, CROSS_CAMERA, CAMERA_LESS)] == [True, True, True, False]


@pytest.mark.parametrize("field", [{"exclude": "camera"}, {"normaliser": "mean"}, {"top_k": 0}])
def test_a_wrong_protocol_is_refused(field):
    with pytest.raises(InputError, match=next(iter(field))):
        replace(MARKET, **field)


def test_groups():
    groups = Groups(np.array([3, -1, 3, 0]))
    assert [groups[c].tolist() for c in (3, 0, -1, 9)] == [[0, 2], [3], [1], []]
