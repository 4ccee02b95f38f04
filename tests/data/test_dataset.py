"""Data sets as values: how several are joined, and the fingerprint of their content."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vreid.data.dataset import Dataset, fingerprint, join
from vreid.data.open import open_dataset
from vreid.data.protocols import MARKET
from vreid.data.records import Records


def dataset_of(name: str, identities: list[str], cameras: list[str], keys: list[str]) -> Dataset:
    records = Records.of(
        path=keys, image_key=keys, identity=identities, camera=cameras, tracklet=identities, split=["train"] * len(keys)
    )
    return Dataset(name, records, records[:0], records[:0], MARKET, notes=(f"from {name}",))


def test_vehicles_of_joined_data_sets_never_collide() -> None:
    real = dataset_of("real", ["1", "2"], ["c1", "c2"], ["a", "b"])
    synthetic = dataset_of("synthetic", ["2", "3", "junk"], ["d1", "d2", "d2"], ["c", "d", "e"])
    both = join(real, synthetic)
    assert both.train.identity.values.tolist() == ["1", "2", "synthetic/2", "synthetic/3", "junk"]
    assert both.train.camera.values.tolist() == ["c1", "c2", "d1", "d2", "d2"]  # free names stay as they are
    assert both.train.image_key.tolist() == ["a", "b", "c", "d", "e"]
    assert both.train.tracklet.values.tolist()[2:] == ["synthetic/2", "synthetic/3", "synthetic/junk"]
    assert both.name == "real + synthetic" and both.protocol == MARKET and both.query is real.query
    assert both.notes[0] == "from real" and both.notes[-1] == "from synthetic"
    assert "each identity of synthetic was named synthetic/..., because some names were taken." in both.notes


def test_the_test_vehicles_are_taken_names_too() -> None:
    real = dataset_of("real", ["1"], ["c1"], ["a"])
    tested = Dataset("real", real.train, real.train[:0], real.train.with_(identity=["9"], image_key=["t"]), MARKET)
    assert join(tested, dataset_of("x", ["9"], ["k"], ["b"])).train.identity.values.tolist() == ["1", "x/9"]


def test_a_data_set_joined_with_itself_has_twice_the_vehicles() -> None:
    one = dataset_of("x", ["1", "2"], ["c1", "c2"], ["a", "b"])
    train = join(one, one, one).train
    assert (train.identity.distinct, train.camera.distinct, len(set(train.image_key))) == (6, 6, 6)
    assert join(one) == Dataset("x", one.train, one.query, one.gallery, MARKET, notes=one.notes)


def test_the_fingerprint_is_of_content_not_of_place_or_time(tmp_path: Path) -> None:
    def made(place: str) -> Dataset:
        (tmp_path / place).mkdir()
        for name in ("0001_c001_1.jpg", "0002_c001_1.jpg"):
            Image.new("RGB", (6, 4)).save(tmp_path / place / name)
        return open_dataset(tmp_path / place)

    one = made("one")
    os.utime(one.gallery.path[0], (time.time() - 1e6,) * 2)
    two = made("two")
    assert one.fingerprint() == two.fingerprint() and len(one.fingerprint()) == 16
    records = one.gallery
    changed = [
        records.with_(identity=["0001", "0003"]),
        records.with_(identity=["0001", None]),
        records.with_(identity=["0001", "junk"]),
        records.with_(camera=["c001", "c002"]),
        records.with_(image_key=["a", "b"]),
        records.with_(time=[0.0, np.nan]),
        records.with_(path=[records.path[0], "/nowhere.jpg"]),
        records[::-1],
        records[:1],
    ]
    assert len({fingerprint(records), *map(fingerprint, changed)}) == 1 + len(changed)
    assert fingerprint(records) == fingerprint(records.with_(identity=["0001", "0002"]))
    with open(one.gallery.path[1], "ab") as file:
        file.write(b"more")
    assert one.fingerprint() != two.fingerprint()


def test_the_fingerprint_does_not_depend_on_names_that_no_longer_occur() -> None:
    records = Records.of(path=["a", "b"], identity=["1", "2"])
    assert fingerprint(records[1:]) == fingerprint(Records.of(path=["b"], identity=["2"]))
