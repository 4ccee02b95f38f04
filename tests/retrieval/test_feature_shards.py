"""Folders of shards: what is written is read, what is damaged or of another job is named, any process adds to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import read_json, write_json
from vreid.object_storage import exists, remove
from vreid.retrieval import feature_shards
from vreid.retrieval.feature_shards import FeatureShards, load_sides, shards_beside
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet

JOB = {"count": 10, "model": "m", "views": ["original"], "norm": "raw", "images": "i"}


@pytest.fixture(params=["path", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "path":
        yield str(tmp_path / "query.shards")
        return
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    place = f"memory://{uuid.uuid4().hex}/query.shards"
    yield place
    remove(place)


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> FeatureSet:
    monkeypatch.setattr(feature_shards, "SHARD", 4)
    values = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    names = [f"{row}.jpg" for row in range(10)]
    return FeatureSet(values, Records.of(path=names, camera=list("aabbccddaa")), model="m", raw=True)


def filled(folder: str, features: FeatureSet, only: slice = slice(None)) -> FeatureShards:
    store = FeatureShards(folder, JOB)
    store.begin("float32", 3)
    for start in store.starts[only]:
        store.write(start, features[store.rows(start)])
    return store


def test_a_complete_folder_is_the_whole(folder: str, features: FeatureSet) -> None:
    store = filled(folder, features)
    with pytest.raises(InputError, match=r"query.shards: holds no shards.json; run the same `vreid extract` again"):
        FeatureShards.open(folder)
    store.finish({start: store.hash_of(start) or "" for start in store.starts})
    opened = FeatureShards.open(folder)
    assert [len(part) for part in opened] == [4, 4, 2] and len(opened) == 10
    for whole in (opened.whole(), opened.whole(features.records), store.whole()):
        assert whole.features.tobytes() == features.features.tobytes()
        assert whole.records == features.records and whole.model == "m" and whole.raw
    assert repr(opened).startswith("FeatureShards: 10 x 3 in 3 shards")
    opened.remove()
    assert not exists(folder)


def test_shards_of_two_processes_make_one_folder_and_equal_bytes(folder: str, features: FeatureSet) -> None:
    filled(folder, features, slice(0, None, 2))
    filled(folder, features, slice(1, None, 2))
    store = FeatureShards(folder, JOB)
    assert store.precision == "float32" and store.dimensions == 3
    before = {start: store.hash_of(start) for start in store.starts}
    again = FeatureSet(features.features[4:8], features.records[4:8], model="m", raw=True)
    assert store.write(4, again) == before[4]
    assert None not in before.values() and store.whole().features.tobytes() == features.features.tobytes()


def test_another_job_or_number_type_is_not_mixed_in(folder: str, features: FeatureSet) -> None:
    store = filled(folder, features)
    for what, value in (("model", "n"), ("images", "j"), ("views", ["flip"]), ("norm", "unit"), ("count", 11)):
        with pytest.raises(InputError, match=f"started with other {what} .*remove it or name another output"):
            FeatureShards(folder, {**JOB, what: value})
    with pytest.raises(InputError, match="started with other precision"):
        store.begin("bfloat16", 3)


def test_a_damaged_or_exchanged_shard_is_named(tmp_path: Path, features: FeatureSet) -> None:
    store = filled(str(tmp_path / "q.shards"), features)
    store.finish({start: store.hash_of(start) or "" for start in store.starts})
    place = Path(store.place(4))
    whole = place.read_bytes()
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"rows-000000000004.safetensors: is damaged"):
        store.whole()
    other = FeatureSet(-features.features[4:8], features.records[4:8], model="m", raw=True)
    store.write(4, other)
    with pytest.raises(InputError, match="is the shard of another extraction"):  # whole, but not the one that was made
        FeatureShards.open(store.folder).whole()
    for wrong in (features[4:7], FeatureSet(features.features[4:8], features.records[4:8], model="n", raw=True)):
        store.write(4, wrong)
        with pytest.raises(InputError, match="is the shard of another extraction"):
            store.hash_of(4)
    place.unlink()
    assert store.hash_of(4) is None and not store.complete
    with pytest.raises(InputError, match=r"rows-000000000004.safetensors: is missing; run the same `vreid extract`"):
        store.whole()


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("job.json", {"count": -1}, "-1 images of 3 dimensions"),
        ("job.json", {"dimensions": 0}, "10 images of 0 dimensions"),
        ("job.json", {"count": 100_000}, "shards.json: does not list the shards of 100,000 images; remove it and run"),
        ("job.json", {"norm": "half"}, "norm"),
        ("job.json", {"norm": "unit"}, "another extraction; remove it and run the same"),
        ("job.json", {"views": ["flip"]}, "another extraction; remove it and run the same"),
        ("shards.json", {"rows-000000000012.safetensors": "0"}, "does not list the shards of 10 images"),
        ("shards.json", {"rows-000000000000.safetensors": "0"}, "another extraction"),
    ],
)
def test_lists_that_were_edited_are_named(
    tmp_path: Path, features: FeatureSet, file: str, edit: dict[str, object], message: str
) -> None:
    store = filled(str(tmp_path / "q.shards"), features)
    store.finish({start: store.hash_of(start) or "" for start in store.starts})
    place = tmp_path / "q.shards" / file
    write_json(place, {**read_json(place), **edit})
    with pytest.raises(InputError, match=message):
        FeatureShards.open(store.folder).whole()


def test_a_folder_without_shards_is_abandoned(folder: str, features: FeatureSet) -> None:
    store = FeatureShards(folder, JOB)
    store.begin("float32", 3)
    assert exists(folder)
    store.abandon()
    assert not exists(folder)
    filled(folder, features, slice(2, 3)).abandon()
    assert exists(folder)


def test_sides_are_read_from_files_and_from_shards(tmp_path: Path, features: FeatureSet) -> None:
    store = filled(shards_beside(tmp_path / "query.safetensors"), features)
    store.finish({start: store.hash_of(start) or "" for start in store.starts})
    features[:3].save(tmp_path / "gallery.safetensors")
    query, gallery = load_sides(tmp_path)
    assert query.features.tobytes() == features.features.tobytes() and len(gallery) == 3
    write_json(tmp_path / FACTS, {GALLERY_OF_QUERY: True})
    query, gallery = load_sides(tmp_path)
    assert query is gallery
