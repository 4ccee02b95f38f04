"""Paths and addresses are told apart; files of a storage are read and written whole."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.named_features import NamedFeatures, named_records
from vreid.data.open import open_dataset
from vreid.data.record_images import RecordImages
from vreid.errors import InputError
from vreid.object_storage import below, exists, is_address, local_copy, normalised, remove, sizes, written
from vreid.retrieval.feature_shards import shards_beside
from vreid.training.feature_job import FeatureJob


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


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket of a local S3 server."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: make test-ray runs this test")
    server = pytest.importorskip("moto.server", reason="moto is not installed: make test-ray runs this test")
    import s3fs

    running = server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    running.stop()


def test_images_and_features_on_s3_are_those_of_the_disk(s3: str, tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
        with written(f"{s3}/images/{number}.png") as file:
            file.write_bytes((tmp_path / f"{number}.png").read_bytes())
    here, there = open_dataset(tmp_path).gallery, open_dataset(f"{s3}/images").gallery
    assert there.with_(path=here.path) == here and there.path[0] == f"{s3}/images/0.png"
    assert [image.getpixel((0, 0))[0] for image in RecordImages(there)] == list(range(5))
    shards = FeatureJob(named_records(9), NamedFeatures(), out=f"{s3}/features/query.safetensors").run_sharded()
    alone = FeatureJob(named_records(9), NamedFeatures()).run()
    assert shards.whole().features.tobytes() == alone.features.tobytes()
    with pytest.raises(InputError, match=r"s3://absent/x: .*check the address"):
        sizes("s3://absent/x")
    remove(f"{s3}/features")
    assert not exists(f"{s3}/features") and exists(f"{s3}/images")
