"""`vreid store ...`."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from support.tracklets import names, tracklets
from vreid.store.sqlite_engine import SqliteEngine
from vreid.store.sqlite_file import FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(SqliteEngine(tmp_path / "cams", dimensions=8, model="abcdef0123456789", create=True)) as engine:
        batch = tracklets(names("a", 20), 1)
        now = int(time.time() * 1000)
        times = np.full(20, now)
        times[:5] = now - 40 * 86_400_000
        engine.upsert(replace(batch, start=times, end=times))
        engine.put_document("camera/a", {})
    return tmp_path / "cams"


def test_info(run: Run, folder: Path) -> None:
    shown = json.loads(run(f"store info {folder} --json").out)
    assert (shown["tracklets"], shown["model"], shown["engine"]) == (20, "abcdef0123456789", "sqlite")
    assert (shown["crops"], shown["cameras"], shown["dimensions"]) == (40, 1, 8)
    text = run(f"store info {folder}").out
    assert "20 tracklets with 40 crops" in text and "abcdef012345" in text
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_copy_snapshot_restore(run: Run, folder: Path, tmp_path: Path) -> None:
    shown = json.loads(run(f"store copy {folder} sqlite://{tmp_path}/copy --json").out)
    assert shown == {"copied": 20, "tracklets": 20}
    assert run(f"store copy {folder} {tmp_path}/copy").code == 2
    size = json.loads(run(f"store snapshot {folder} --out {tmp_path}/a.snapshot --json").out)["size"]
    assert size == (tmp_path / "a.snapshot").stat().st_size
    assert "with 20 tracklets" in run(f"store restore {tmp_path}/a.snapshot {tmp_path}/new").out
    refused = run(f"store restore {tmp_path}/a.snapshot {tmp_path}/new")
    assert refused.code == 2 and "--force" in refused.err
    assert json.loads(run(f"store restore {tmp_path}/a.snapshot {tmp_path}/new --force --json").out)["tracklets"] == 20


def test_prune_and_compact(run: Run, folder: Path) -> None:
    shown = json.loads(run(f"store prune {folder} --older-than 30d --dry-run --json").out)
    assert (shown["tracklets"], shown["crops"], shown["dry_run"]) == (5, 10, True)
    unknown = run(f"store prune {folder} --older-than 30d --camera b")
    assert unknown.code == 2 and "camera 'b': is not in" in unknown.err
    assert "Deleted 5 tracklets with 10 crops" in run(f"store prune {folder} --older-than 30d").out
    assert json.loads(run(f"store compact {folder} --json").out)["bytes"] >= 0
    assert json.loads(run(f"store info {folder} --json").out)["tracklets"] == 15


def test_verify(run: Run, folder: Path) -> None:
    assert "20 tracklets verified, 0 problems" in run(f"store verify {folder}").out
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("UPDATE tracklets SET color = 'x' WHERE id = 'a/3'")
        connection.commit()
    ended = run(f"store verify {folder} --json")
    assert ended.code == 1
    assert json.loads(ended.out) == {"tracklets": 20, "problems": ["a/3: its row does not match its checksum"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("store info {0}/absent", "holds no store; make one with `vreid ingest SOURCE --store {0}/absent`"),
        ("store info {0}/empty", "holds no store"),
        ("store info {0}/text", "store.sqlite is damaged"),
        ("store info {0}/text/store.sqlite", "holds no store"),
        ("store info ftp://x", "ftp://x: is no store"),
        ("store prune {0}/cams --older-than 5", "for example 30d"),
        ("store snapshot {0}/cams --out {0}/text/store.sqlite/x", "cannot be written"),
        ("store restore {0}/absent {0}/new", "absent: cannot be read"),
        ("store restore {0}/cams/store.sqlite {0}/new", "is not a snapshot"),
        ("store copy {0}/cams {0}/cams", "holds tracklets already"),
        ("store verify {0}/newer", "newer version of vreid"),
        ("store verify {0}/foreign", "not a store of vreid"),
    ],
)
def test_wrong_input_is_one_sentence(run: Run, folder: Path, line: str, message: str) -> None:
    root = folder.parent
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text" / FILE).write_text("no database" * 100)
    for name, statement in (("newer", "PRAGMA user_version=99"), ("foreign", "PRAGMA application_id=1")):
        (root / name).mkdir()
        (root / name / FILE).write_bytes((folder / FILE).read_bytes())
        with closing(sqlite3.connect(root / name / FILE)) as connection:
            connection.execute(statement)
    ended = run(line.format(root))
    assert ended.code == 2
    assert message.format(root) in ended.err
    assert len(ended.err.splitlines()) == 1
