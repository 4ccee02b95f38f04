"""The command `vreid trips` on stores and features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from support.command_line import Run, reported
from support.traffic_world import ToyTraffic, traffic_world
from vreid.data.records import Records
from vreid.files import write_json
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet
from vreid.store.engines import open_vectors
from vreid.store.interface import StoredCrop, TrackletBatch


def make_store(folder: Path) -> TrackletBatch:
    """A store with the tracklets of a small world and positions of its cameras."""
    table = traffic_world(0, ToyTraffic(vehicles=60))[0]
    batch = TrackletBatch(
        id=table.id,
        vector=table.vector,
        camera=table.camera.values,
        start=(table.start * 1000).astype(np.int64),
        end=(table.end * 1000).astype(np.int64),
        color=np.full(len(table), "", dtype=object),
        vehicle_type=np.full(len(table), "", dtype=object),
        facts=[{} for _ in range(len(table))],
        crops=[[StoredCrop(b"jpeg", vector)] for vector in table.vector],
    )
    engine = open_vectors(folder, dimensions=32, model="m", create=True)
    engine.upsert(batch)
    for n, name in enumerate(table.camera.names):
        engine.put_document(f"camera/{name}", {"name": str(name), "latitude": 50.0, "longitude": 8 + n / 100})
    engine.close()
    return batch


def test_a_store_is_linked(tmp_path: Path, run: Run) -> None:
    batch = make_store(tmp_path / "store")
    (tmp_path / "pairs.csv").write_text(f"first,second,same\n{batch.id[0]},{batch.id[-1]},no\n")
    line = f"trips {tmp_path / 'store'} --out {tmp_path / 'out'}"
    outcome = run(f"{line} --confirmed {tmp_path / 'pairs.csv'} --json")
    assert outcome.code == 0, outcome
    counts = json.loads(outcome.out)
    assert counts["tracklets"] == len(batch)
    assert sum(one["count"] for one in counts["od"]) <= counts["trips"]
    assert set(counts["files"]) >= {"trips.csv", "od.csv", "trips.geojson"}
    assert "trips of" in run(line).out
    reported(run(f"{line} --set longest_gap=-1"), "longest_gap")
    reported(run(f"trips {tmp_path / 'absent'} --out {tmp_path / 'out'}"), "absent")
    reported(run(f"trips {tmp_path / 'pairs.csv'} --out {tmp_path / 'out'}"), "is a file")


def test_trips_are_evaluated_against_the_truth(tmp_path: Path, run: Run) -> None:
    batch = make_store(tmp_path / "store")
    vehicles = traffic_world(0, ToyTraffic(vehicles=60))[1]
    rows = zip(batch.id, batch.camera, vehicles, batch.start / 1000, batch.end / 1000, strict=True)
    lines = ["tracklet,camera,vehicle,start,end", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n")
    line = f"trips {tmp_path / 'store'} --out {tmp_path / 'out'} --truth {tmp_path / 'truth.csv'}"
    found = json.loads(run(f"{line} --json").out)["evaluation"]
    assert found["identity"] == "vehicle" and found["counts"] is None and found["by_hour"] is None
    assert 0.5 < found["idf1"]["low"] <= found["idf1"]["value"] <= 1
    (tmp_path / "truth_od.csv").write_text("from,to,count\nc0,c1,30\n")
    (tmp_path / "truth_travel_times.csv").write_text("from,to,hour,count,median\nc0,c1,0,30,100\n")
    printed = run(line).out
    assert "one trip for each vehicle" in printed and "IDF1 0." in printed and "of 1 cell of more" in printed
    reported(run(f"{line} --identity trip"), "has no column trip")
    reported(run(f"{line} --identity car"), "car", "vehicle")
    reported(run(line.replace("truth.csv", "absent.csv")), "absent.csv")


def test_features_need_times_and_cameras_give_them(tmp_path: Path, run: Run) -> None:
    count = 12
    records = Records.of(
        path=[f"{n}.jpg" for n in range(count)],
        camera=[f"c{n // 6}" for n in range(count)],
        tracklet=[f"t{n // 2}" for n in range(count)],
        frame=list(range(count)),
    )
    folder = tmp_path / "features"
    FeatureSet(np.random.default_rng(0).normal(size=(count, 4)), records).save(folder / "query.safetensors")
    write_json(folder / FACTS, {GALLERY_OF_QUERY: True})
    line = f"trips {folder} --out {tmp_path / 'out'}"
    reported(run(line), "has no time", "cameras.csv")
    cameras = tmp_path / "cameras.csv"
    cameras.write_text("camera,start,frame_rate\nc0,2026-05-01T07:00:00Z,10\nc1,2026-05-01T07:01:00Z,10\n")
    assert run(f"{line} --cameras {cameras}").code == 0
