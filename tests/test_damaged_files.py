"""A file that changed after it was written is never read: each safetensors file holds a hash of itself."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.command_line import Run, reported
from vreid.errors import InputError
from vreid.files import read_tensors, verify_tensors, write_tensors
from vreid.models.weights import load_weights, save_compact, save_half
from vreid.retrieval import Distances, PostProcessing, Ranking
from vreid.retrieval_run import RetrievalRun

ARRAYS = {"a": np.arange(3), "b": np.full((2, 2), 0.5, dtype=np.float32)}
FACTS = {"kind": "features", "views": ["original", 'a "quoted" one'], "nested": {"b": 1, "a": None}, "name": "caf\xe9"}


def flip(path: Path, byte: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def test_no_flipped_bit_of_a_file_is_overlooked(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, ARRAYS, FACTS, "numpy")
    whole = path.read_bytes()
    for byte in range(len(whole)):
        flip(path, byte, byte % 8)
        with pytest.raises(InputError, match=r"a.safetensors: is (damaged|not a complete safetensors file)"):
            read_tensors(path, "numpy")
        path.write_bytes(whole)
    read, facts = read_tensors(path, "numpy")
    assert facts == FACTS and all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "1", ARRAYS, FACTS, "numpy")
    write_tensors(tmp_path / "2", dict(reversed(ARRAYS.items())), dict(reversed(FACTS.items())), "numpy")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("header", [None, {"vreid": '{"kind": "features"}'}, {"format": "pt"}])
def test_files_without_a_hash_are_read(header: dict[str, str] | None, tmp_path: Path) -> None:
    """Those of other programs, and of vreid before it stored hashes."""
    save_file(ARRAYS, tmp_path / "a.safetensors", header)
    read, facts = read_tensors(tmp_path / "a.safetensors", "numpy")
    assert np.array_equal(read["b"], ARRAYS["b"])
    assert facts == ({"kind": "features"} if header and "vreid" in header else {})


def test_memory_of_the_check_is_independent_of_file_size(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": np.zeros(16_000_000, dtype=np.uint8)}, {}, "numpy")
    tracemalloc.start()
    verify_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_every_kind_of_file_is_checked_when_it_is_loaded(made: Path, tmp_path: Path) -> None:
    search = RetrievalRun.load(made / "features")
    distances = search.distances(PostProcessing())
    distances.save(tmp_path / "distances.safetensors")
    search.rank(PostProcessing(), top_k=5).save(tmp_path / "ranking.safetensors")
    state, facts = load_weights(made / "run" / "model.safetensors")
    save_half(tmp_path / "half.safetensors", state, facts)
    save_compact(tmp_path / "compact.safetensors", state, facts)
    loads = {
        "distances": Distances.load,
        "ranking": Ranking.load,
        "half": load_weights,
        "compact": load_weights,
    }
    for name, load in loads.items():
        path = tmp_path / f"{name}.safetensors"
        load(path)  # type: ignore[operator]
        flip(path, -1)
        with pytest.raises(InputError, match="do not match the hash"):
            load(path)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("run/model.safetensors", "extract {copy}/run {world} --out {copy}/new"),
        ("run/model.safetensors", "export {copy}/run --out {copy}/half.safetensors"),
        ("run/model.safetensors", "adapt {copy}/run {world} --out {copy}/adapted"),
        ("features/query.safetensors", "evaluate {copy}/features"),
        ("features/gallery.safetensors", "rank {copy}/features --out {copy}/a.csv"),
        ("features/query.safetensors", "evaluate {copy}/features/query.safetensors --records {world}/absent.csv"),
        ("features/query.safetensors", "extract {copy}/run {world} --out {copy}/features"),
    ],
)
def test_commands_reject_a_file_with_a_flipped_bit(
    file: str, line: str, run: Run, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    flip(copy / file, -9)
    reported(run(line.format(copy=copy, world=tiny_world)), file if "absent" not in line else "absent.csv")
    assert not (copy / "a.csv").exists() and not (copy / "half.safetensors").exists()
