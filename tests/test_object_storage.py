"""Paths and addresses are told apart; files of a storage are read and written whole."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from vreid.errors import InputError
from vreid.object_storage import below, exists, is_address, local_copy, normalised, remove, sizes, written
from vreid.retrieval.feature_shards import shards_beside


def test_addresses_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_address("s3://b/x") and is_address(Path("gs://b/x")) and is_address("memory://x")
    assert not is_address("file:///x") and not is_address("/x") and not is_address("a:b") and not is_address("x")
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:/b").mkdir()
    assert not is_address("s3:/b")  # a path that exists as it is written is a path
    assert normalised(Path("S3://b/x/")) == "s3://b/x" and normalised("file:///d/x") == "/d/x"
    assert below("gs://b/x", "y") == "gs://b/x/y" and below("x", "y") == "x/y"
    assert shards_beside("gs://b/query.safetensors") == "gs://b/query.shards"


def test_files_of_a_storage_are_copied_and_written_whole(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    place = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(InputError, match=r"memory://.*: there is nothing at this address"):
        sizes(place)
    with pytest.raises(ZeroDivisionError), written(below(place, "a/b.txt")) as file:
        file.write_text("half")
        raise ZeroDivisionError
    assert not exists(place)
    with written(below(place, "a/b.txt")) as file:
        file.write_text("whole")
    assert sizes(place) == {"a/b.txt": 5}
    with local_copy(below(place, "a/b.txt")) as file:
        assert file.read_text() == "whole" and file.name == "b.txt"
    with (
        pytest.raises(InputError, match=r"a/c.txt: does not exist; check the address"),
        local_copy(below(place, "a/c.txt")),
    ):
        pass
    with pytest.raises(InputError, match=r"nosuch://x: .*(package that is not installed|cannot be read)"):
        exists("nosuch://x")
    remove(place)
