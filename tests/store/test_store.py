"""`Store`: ingest, search and export, with the bundled model on simulated crops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid import Store
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.store.confidence import THRESHOLD, OperatingPoint, SearchThreshold
from vreid.store.interface import Filter
from vreid.store.search import SearchConfig

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def crops_table(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of crops with camera, tracklet and time, as a tracker's user has them; no identities."""
    images = open_dataset(tiny_world, labels="auto").gallery
    path = tmp_path_factory.mktemp("crops") / "crops.csv"
    rows = [
        f"{Path(image).resolve()},{camera},{camera}/{tracklet},{time:.3f}"
        for image, camera, tracklet, time in zip(
            images.path, images.camera.values, images.tracklet.values, images.time, strict=True
        )
    ]
    path.write_text("\n".join(["path,camera,tracklet,time", *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def site(crops_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the tracklets of `crops_table`; treat it as read-only."""
    folder = tmp_path_factory.mktemp("store") / "site"
    with Store.open(folder, create=True) as store:
        store.ingest(crops_table)
        point = OperatingPoint(match=0.8, no_match=1.1, false_match_share=0.01, matches=20)
        threshold = SearchThreshold(point, point, "this site, without labels", store.vectors.model, len(store))
        store.vectors.put_document(THRESHOLD, threshold.as_dict())
    return folder


@pytest.fixture
def store(site: Path) -> Iterator[Store]:
    with Store.open(site, read_only=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def identity_of(tiny_world: Path) -> dict[str, str]:
    images = open_dataset(tiny_world, labels="auto").gallery
    names = (f"{camera}/{track}" for camera, track in zip(images.camera.values, images.tracklet.values, strict=True))
    return dict(zip(names, images.identity.values, strict=True))


def test_every_tracklet_is_stored_once_with_its_times(store: Store, crops_table: Path) -> None:
    images = open_dataset(crops_table).gallery
    assert len(store) == images.tracklet.distinct
    for batch in store.scan(crops=True):
        assert batch.crops is not None
        for row, name in enumerate(batch.id):
            own = images[images.tracklet.values == name]
            assert batch.start[row] == round(1000 * own.time.min())
            assert batch.end[row] == round(1000 * own.time.max())
            assert len(batch.crops[row]) == min(len(own), 4)
            assert batch.color[row] and batch.facts[row]["boxes"] == len(own)
    assert set(store.cameras()) == set(images.camera.names)


def test_ingesting_again_adds_nothing_and_a_killed_run_continues(crops_table: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", create=True) as store:
        first = store.ingest(crops_table)
        before = {name: vector for batch in store.scan() for name, vector in zip(batch.id, batch.vector, strict=True)}
        store.delete([next(iter(before))])  # as if it had not been stored before a kill
        second = store.ingest(crops_table)
        third = store.ingest(crops_table)
        after = {name: vector for batch in store.scan() for name, vector in zip(batch.id, batch.vector, strict=True)}
    assert (first.added, second.added, third.added) == (len(before), 1, 0)
    assert first.tracklets == second.tracklets == third.tracklets == len(before)
    assert before.keys() == after.keys()
    assert all(np.allclose(before[name], after[name], atol=1e-5) for name in before)


def test_a_track_id_of_another_source_gets_another_name(crops_table: Path, tmp_path: Path) -> None:
    other = tmp_path / "evening.csv"
    lines = crops_table.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(lines[:2]), encoding="utf-8")
    taken = lines[1].split(",")[2]
    with Store.open(tmp_path / "s", create=True) as store:
        store.ingest(crops_table)
        count = len(store)
        report = store.ingest(other)
        assert report.renamed == {taken: f"{taken}@evening"}
        assert store.ingest(other).added == 0
        assert len(store) == count + 1


def test_recordings_under_the_same_names_do_not_replace_each_other(crops_table: Path, tmp_path: Path) -> None:
    header, *lines = crops_table.read_text(encoding="utf-8").splitlines()
    name = lines[0].split(",")[2]
    of_tracklet = [line.rsplit(",", 1) for line in lines if line.split(",")[2] == name]
    taken = {row[0].split(",")[0] for row in of_tracklet}
    others = [path for path in (line.split(",")[0] for line in lines) if path not in taken]

    def source(day: str, shift: float, image: str = "") -> Path:
        rows = [f"{head},{float(time) + shift:.3f}" for head, time in of_tracklet]
        rows = rows if not image else [f"{image},{rows[0].split(',', 1)[1]}"]
        path = tmp_path / day / "cams.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([header, *rows]), encoding="utf-8")
        return path

    with Store.open(tmp_path / "s", create=True) as store:
        first = source("first", 0)
        assert store.ingest(first).added == 1
        again = store.ingest(source("first", 7200))  # the clock was wrong
        assert (again.added, again.replaced, len(store)) == (0, 1, 1)
        for number, day in enumerate(("second", "third")):
            report = store.ingest(source(day, 86400 + 86400 * number, others[number]))
            assert (report.added, report.replaced) == (1, 0)
        assert report.renamed == {name: f"{name}@cams-2"}
        assert store.ingest(source("first", 259200, others[2])).added == 1  # new images in the old folder
        assert len(store) == 4
        assert store.ingest(tmp_path / "second" / "cams.csv").added == 0


def test_hits_of_a_tracklet_are_other_cameras_nearest_first(store: Store, identity_of: dict[str, str]) -> None:
    right = 0
    for batch in store.scan():
        for name, camera in zip(batch.id, batch.camera, strict=True):
            hits = store.search(str(name), top=100, reranking="none").hits
            assert hits and all(hit.camera != camera for hit in hits)
            distances = [hit.distance for hit in hits]
            assert distances == sorted(distances)
            right += identity_of[hits[0].tracklet] == identity_of[str(name)]
    assert right >= len(identity_of) / 2  # chance is about one in seven


def test_an_image_finds_its_own_tracklet_first(store: Store, crops_table: Path) -> None:
    images = open_dataset(crops_table).gallery
    result = store.search(images.path[0], camera_of_query=images.camera.values[0], reranking="none")
    assert result.hits[0].tracklet == images.tracklet.values[0]
    assert result.as_dict()["query"] == {"image": images.path[0], "camera": images.camera.values[0]}


def test_filters_restrict_the_hits(store: Store) -> None:
    everything = store.search("c041/test_00008", top=100, same_camera=True).hits
    for settings, holds in (
        ({"cameras": ["c042"]}, lambda hit: hit.camera == "c042"),
        ({"not_cameras": ["c042"]}, lambda hit: hit.camera != "c042"),
        ({"colors": [everything[0].color]}, lambda hit: hit.color == everything[0].color),
        ({"vehicle_types": [everything[0].vehicle_type]}, lambda hit: hit.vehicle_type == everything[0].vehicle_type),
        ({"start": everything[3].start}, lambda hit: hit.end >= everything[3].start),
        ({"end": everything[3].start}, lambda hit: hit.start < everything[3].start),
    ):
        found = store.search("c041/test_00008", top=100, same_camera=True, **settings).hits
        assert {hit.tracklet for hit in found} == {hit.tracklet for hit in everything if holds(hit)}


def test_decisions_are_those_of_the_threshold(store: Store) -> None:
    result = store.search("c041/test_00008", top=100)
    assert result.threshold is not None
    for hit in result.hits:
        relative = np.inf if hit.relative_distance is None else hit.relative_distance
        right = "MATCH" if relative <= 0.8 else "UNCERTAIN" if relative <= 1.1 else "NO MATCH"
        assert hit.decision == right
    assert {hit.decision for hit in result.hits} >= {"NO MATCH"}
    assert json.loads(json.dumps(result.as_dict()))["threshold"]


def test_crops_are_jpeg_images(store: Store) -> None:
    (hit,) = store.search("c041/test_00008", top=1).hits
    crop = store.crop(hit.crop)
    assert crop.jpeg.startswith(b"\xff\xd8")
    with pytest.raises(InputError, match=r"#99"):
        store.crop(f"{hit.tracklet}#99")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": "c041/none"}, "is neither an image file nor a tracklet"),
        ({"query": "c041/test_00008", "cameras": ["c41"]}, "did you mean 'c041'"),
        ({"query": "c041/test_00008", "cameras": ["c041"]}, "add --same-camera"),
        ({"query": "c041/test_00008", "start": 5.0, "end": 5.0}, "is empty"),
        ({"query": "c041/test_00008", "top": 0}, "top"),
    ],
)
def test_wrong_searches_are_one_sentence(store: Store, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.search(arguments.pop("query"), **arguments)


def test_another_models_features_are_refused(site: Path, tmp_path: Path) -> None:
    from support.tiny_model import write_model

    with pytest.raises(InputError, match="vreid store embed"):
        Store.open(site, model=write_model(tmp_path / "m.safetensors"))


def test_parquet_holds_every_tracklet(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(store.to_parquet(tmp_path / "t.parquet"))
    assert table.num_rows == len(store)
    rows = store.vectors.fetch(table.column("id").to_pylist())
    assert np.array_equal(np.stack(table.column("vector").to_pylist()).astype(np.float32), rows.vector)
    assert [moment.timestamp() * 1000 for moment in table.column("start").to_pylist()] == rows.start.tolist()


def test_reranking_keeps_the_hits_and_may_change_their_order(store: Store) -> None:
    plain = store.search("c041/test_00008", config=SearchConfig(top=12, reranking="none")).hits
    reranked = store.search("c041/test_00008", config=SearchConfig(top=12, k1=3, k2=1, lambda_=0.3)).hits
    assert {hit.tracklet for hit in plain} == {hit.tracklet for hit in reranked}
    assert len(store) == store.vectors.count(Filter())


def test_a_frame_with_a_box_is_a_query(store: Store, crops_table: Path, tmp_path: Path) -> None:
    images = open_dataset(crops_table).gallery
    with Image.open(images.path[0]) as crop:
        frame = Image.new("RGB", (640, 400))
        frame.paste(crop, (100, 50))
        box = [100, 50, 100 + crop.width, 50 + crop.height]
    whole = store.query(images.path[0], camera=images.camera.values[0]).vector
    assert np.allclose(store.query(frame, box=box, camera=images.camera.values[0]).vector, whole, atol=1e-4)
