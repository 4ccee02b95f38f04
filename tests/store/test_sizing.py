"""The estimate of sizes against figures worked by hand and measured ones."""

from __future__ import annotations

import json

import pytest

from support.command_line import Run
from vreid.errors import InputError
from vreid.store.sizing import INDEXES, SizeInputs, estimate


def test_worked_by_hand() -> None:
    found = estimate(
        SizeInputs(1000, 64, crops=2, crop_bytes=100, images=3, images_per_second=10, price_hour=12, memory_price=0)
    )
    assert found.store_disk == 1000 * (460 + 3 * 256 + 200)
    assert found.store_memory == 256_000
    assert found.features == {"float32": 256_000, "float16": 128_000, "int8": 64_000}
    assert found.extraction_hours == pytest.approx(1 / 12) and found.extraction_cost == pytest.approx(1)
    assert found.store_month == pytest.approx(found.store_disk / 2**30 * 0.1)
    assert found.diskann_disk == 1000 * 4096 / 8  # 484 bytes a node, eight in a sector
    large = estimate(SizeInputs(1000, 1280))
    assert large.diskann_disk == 1000 * 8192  # 5,348 bytes do not fit into one sector


@pytest.mark.parametrize(
    ("index", "points", "measured"),
    [("ivf-flat", 100_000, 264.8), ("ivf-pq", 100_000, 17.5), ("ivf-pq", 1_000_000, 16.3), ("hnsw", 100_000, 400.3)],
)
def test_formulas_are_near_what_faiss_takes(index: str, points: int, measured: float) -> None:
    assert INDEXES[index].bytes_per_vector(points, 64) == pytest.approx(measured, rel=0.02)


def test_the_store_of_the_benchmark() -> None:
    assert estimate(SizeInputs(100_000, 512, crops=1)).store_disk == pytest.approx(792e6, rel=0.01)


def test_the_command_prints_the_estimate(run: Run) -> None:
    outcome = run("store size 1e7")
    assert outcome.code == 0 and "10,000,000 tracklets" in outcome.out and "its memory         51.2 GB" in outcome.out
    found = json.loads(run("store size 1e5 --dimensions 512 --crops 1 --json").out)
    assert found["inputs"]["tracklets"] == 100_000 and round(found["store_disk"] / 1e6) == 796
    for line, sentence in (
        ("many", "is not a number of tracklets"),
        ("0", "tracklets is 0"),
        ("inf", "not a number"),
        ("1.5", "not a number"),
        ("1e308", "tracklets is 1"),
    ):
        outcome = run(f"store size {line}")
        assert outcome.code == 2 and sentence in outcome.err
    with pytest.raises(InputError, match="images_per_second is 0"):
        SizeInputs(images_per_second=0)
