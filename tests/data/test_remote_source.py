"""Data sets on object storage read as on the disk, and images are read where they are used."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.images import read_image
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.object_storage import below, remove, written

pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def bucket() -> Iterator[str]:
    place = f"memory://{uuid.uuid4().hex}"
    yield place
    remove(place)


def uploaded(folder: Path, place: str) -> str:
    for file in folder.rglob("*"):
        if file.is_file():
            with written(below(place, file.relative_to(folder).as_posix())) as copy:
                copy.write_bytes(file.read_bytes())
    return place


def test_a_data_set_on_storage_is_that_of_the_folder(tiny_world: Path, bucket: str) -> None:
    place = uploaded(tiny_world, below(bucket, tiny_world.name))
    here, there = open_dataset(tiny_world, labels="auto"), open_dataset(place, labels="auto")
    assert (there.name, there.protocol) == (here.name, here.protocol)
    for split in ("train", "query", "gallery"):
        ours, theirs = getattr(there, split), getattr(here, split)
        assert len(ours) and ours.with_(path=theirs.path) == theirs
        assert [path.replace(place, str(tiny_world)) for path in ours.path] == theirs.path.tolist()
    ours, theirs = (read_image(one.query.path[0]) for one in (there, here))
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_table_names_images_below_it_or_by_address(tmp_path: Path, bucket: str) -> None:
    Image.new("RGB", (8, 6), (9, 8, 7)).save(tmp_path / "a.png")
    other = below(bucket, "other/b.png")
    with written(other) as file:
        Image.new("RGB", (8, 6), (1, 2, 3)).save(file)
    (tmp_path / "t.csv").write_text(f"path,identity,camera\na.png,1,c1\n{other},2,c2\n")
    there = open_dataset(below(uploaded(tmp_path, below(bucket, "data")), "t.csv"))
    assert there.gallery.path.tolist() == [below(bucket, "data/a.png"), other]
    assert read_image(there.gallery.path[1]).getpixel((0, 0)) == (1, 2, 3)
    here = open_dataset(tmp_path / "t.csv")
    assert here.gallery.path.tolist() == [str(tmp_path / "a.png"), other]


def test_what_is_wrong_is_named_by_its_address(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(InputError, match="there is nothing at this address"):
        open_dataset(bucket)
    (tmp_path / "t.csv").write_text("path,orientation\na.png,north\n")
    (tmp_path / "a.png").write_bytes(b"cut")
    place = uploaded(tmp_path, below(bucket, "data"))
    with pytest.raises(InputError) as stopped:
        open_dataset(below(place, "t.csv"))
    assert str(stopped.value).startswith(f"{place}/t.csv, line 2")
    found: list[Finding] = []
    open_dataset(below(place, "t.csv"), on_finding=found.append)
    assert found and all(finding.where.startswith(f"{place}/t.csv") for finding in found)
    with pytest.raises(InputError, match=r"data/a.png: is not an image"):
        read_image(below(place, "a.png"))
    with pytest.raises(InputError, match=r"data/b.png: the image is missing"):
        read_image(below(place, "b.png"))


def test_a_file_address_is_a_path(tiny_world: Path) -> None:
    assert open_dataset(f"file://{tiny_world}").query.path[0].startswith(str(tiny_world))
