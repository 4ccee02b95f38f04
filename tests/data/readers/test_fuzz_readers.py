"""Whatever is in a text or XML file, a data set comes out, or one sentence that names the file; at a fixed budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soak.seeds import ODD_BYTES, ODD_NUMBERS, WORLDS, write_world
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.readers.veri import read_views
from vreid.errors import InputError

ODD = st.sampled_from(ODD_BYTES)
NUMBER = st.sampled_from(ODD_NUMBERS)


DAMAGE = ("bytes", "lines", "words", "numbers", "splice", "splice", "encoding", "cut")


@st.composite
def damage(draw: st.DrawFn, text: bytes) -> bytes:
    """`text` damaged in one to three ways: lines, columns, numbers, splices, encodings; or other bytes altogether."""
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(DAMAGE))
        lines = text.split(b"\n")
        if kind == "bytes":
            text = draw(st.binary(max_size=60))
        elif kind == "lines":
            line = draw(st.integers(0, len(lines) - 1))
            lines[line : line + 1] = [lines[line]] * draw(st.sampled_from((0, 2, 2, 40)))
            text = b"\n".join(lines)
        elif kind in ("words", "numbers"):
            line = draw(st.integers(0, len(lines) - 1))
            words = lines[line].replace(b'"', b' " ').replace(b",", b" , ").replace(b";", b" ; ").split(b" ")
            place = draw(st.integers(0, len(words) - 1))
            words[place : place + 1] = (
                [draw(NUMBER)] if kind == "numbers" else words[place:][:1] * draw(st.sampled_from((0, 2)))
            )
            joined = b" ".join(words).replace(b' " ', b'"').replace(b" , ", b",").replace(b" ; ", b";")
            text = b"\n".join([*lines[:line], joined, *lines[line + 1 :]])
        elif kind == "splice":
            place = draw(st.integers(0, len(text)))
            text = text[:place] + draw(ODD) + text[place + draw(st.integers(0, 6)) :]
        elif kind == "encoding":
            name = draw(st.sampled_from(("utf-16", "utf-16-be", "utf-8-sig", "utf-32", "cp500")))
            text = text.decode("latin-1").encode(name, "replace")
        else:
            text = text[: draw(st.integers(0, len(text)))]
    return text


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fuzz")
    return {name: write_world(name, root / name) for name in WORLDS}


def assert_sound(folder: Path, dataset: Dataset) -> None:
    for split in ("train", "query", "gallery"):
        records = getattr(dataset, split)
        for image in range(len(records)):
            assert str(folder) in dataset.where(split, image)
        assert not any("\0" in path for path in records.path)
    assert all(note.isprintable() for note in dataset.notes), dataset.notes


def assert_one_sentence(folder: Path, text: str) -> None:
    assert text.startswith(str(folder)) and text.endswith(".") and text.isprintable() and len(text) < 1000, text


@pytest.mark.parametrize("name", WORLDS)
def test_what_is_not_damaged_is_read_without_a_word(worlds: dict[str, Path], name: str) -> None:
    findings: list[Finding] = []
    dataset = open_dataset(worlds[name], labels="auto", on_finding=findings.append)
    assert findings == [] and dataset.name == (
        name if name in ("tracker", "kitti", "ai_city", "yolo", "table") else dataset.name
    )
    assert len(dataset.train) + len(dataset.query) >= 2
    assert_sound(worlds[name], dataset)


@pytest.mark.parametrize("name", WORLDS)
@settings(max_examples=250, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_give_a_data_set_or_a_sentence(worlds: dict[str, Path], name: str, data: st.DataObject) -> None:
    folder, files = worlds[name], WORLDS[name][0]
    chosen = data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True))
    try:
        for file in chosen:
            (folder / file).write_bytes(data.draw(damage(files[file])))
        refused = ""
        try:
            assert_sound(folder, open_dataset(folder, labels="auto"))
        except InputError as error:
            refused = str(error)
            assert_one_sentence(folder, refused)
        findings: list[Finding] = []
        try:
            assert_sound(folder, open_dataset(folder, labels="auto", on_finding=findings.append))
        except InputError as error:
            assert_one_sentence(folder, str(error))
        for finding in findings:
            assert_one_sentence(folder, str(finding))
        if findings:
            assert refused == str(findings[0])  # who refuses, refuses the first that who collects is told
        if name == "veri":
            try:
                read_views(folder, on_finding=findings.append)
            except InputError as error:
                assert_one_sentence(folder, str(error))
    finally:
        for file in chosen:
            (folder / file).write_bytes(files[file])
