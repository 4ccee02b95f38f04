"""Directions: holds, reversed, not resolved; and how tables and figures show them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vreid.errors import InputError
from vreid.reproduce.effects import Effect, effect
from vreid.reproduce.result_lines import Line
from vreid.reproduce.rows import Row, SimulatedWorld, with_seeds
from vreid.reproduce.table import published, tabulate, write_csv
from vreid.reproduce.table_figure import draw_table
from vreid.training.train_config import TrainConfig

BASE = Row("base", SimulatedWorld("tiny", seed=1), TrainConfig(recipe="tiny"), paper={"mAP": 46.2})
BETTER = replace(BASE, name="better", views=("original",), paper={"mAP": 47.0}, against="base")
IDENTITIES = [f"{number:04d}" for number in range(20) for _ in range(3)]


def line_of(row: Row, values: list[float | None], identities: list[str] = IDENTITIES) -> Line:
    mean = float(np.mean([value for value in values if value is not None]))
    queries = {"identity": identities, "mAP": values}
    return Line(row.hash, row.name, row.evaluated.links, {"mAP": mean}, queries, {"seeds": row.seeds})


def drawn(shift: float, noise: float, seed: int = 0) -> list[float | None]:
    rng = np.random.default_rng(seed)
    return (0.4 + shift + noise * rng.standard_normal(len(IDENTITIES))).clip(0, 1).tolist()


def direction(better: list[float | None], base: list[float | None], *, swap: bool = False) -> str | None:
    """What the table says of the row `BETTER`; swapped, the rows have each other's results."""
    values = {BETTER: base, BASE: better} if swap else {BETTER: better, BASE: base}
    entries = tabulate([BASE, BETTER], [line_of(row, of) for row, of in values.items()])
    assert entries[0].effect is None and entries[1].effect is not None
    return entries[1].effect.direction


def test_holds_reversed_and_not_resolved() -> None:
    better, base = drawn(0.05, 0.02, 1), drawn(0.0, 0.02, 2)
    assert direction(better, base) == "holds"
    assert direction(better, base, swap=True) == "reversed"
    assert direction(drawn(0.002, 0.1, 1), drawn(0.0, 0.1, 2)) == "not resolved"
    assert direction(base, base) == "not resolved"


def test_a_decrease_in_the_paper_can_hold() -> None:
    worse = replace(BETTER, paper={"mAP": 45.5})
    (_, entry) = tabulate([BASE, worse], [line_of(BASE, drawn(0.05, 0.01)), line_of(worse, drawn(0, 0.01))])
    assert entry.effect is not None and entry.effect.direction == "holds" and entry.effect.change < 0


def test_change_and_interval_by_hand() -> None:
    base = [0.2, 0.4, None, 0.6]
    pairs = [(line_of(BETTER, [0.3, 0.5, 0.9, 0.7], list("aabb")), line_of(BASE, base, list("aabb")))]
    found = effect("base", "mAP", pairs, 0.8)
    assert found is not None and found.pairs == 1 and found.paper == 0.8
    assert (found.change, *found.interval) == pytest.approx((10, 10, 10))  # the same for each vehicle
    # Vehicle a gains 1 in each of two queries, b nothing in one: means of the draws aa, ab, bb are 1, 2/3, 0.
    pairs = [(line_of(BETTER, [1.0, 1.0, None, 0.5], list("aabb")), line_of(BASE, [0.0, 0.0, 0.1, 0.5], list("aabb")))]
    found = effect("base", "mAP", pairs, None)
    assert found is not None and found.direction is None
    assert (found.change, *found.interval) == pytest.approx((200 / 3, 0, 100))


def test_seeds_are_stacked_and_vehicles_of_different_worlds_differ() -> None:
    one = (line_of(BETTER, [0.6], ["a"]), line_of(BASE, [0.5], ["a"]))
    two = (line_of(BETTER, [0.3], ["a"]), line_of(BASE, [0.5], ["a"]))
    found = effect("base", "mAP", [one, two], 1.0)
    assert found is not None and found.change == pytest.approx(-5)
    assert found.interval == pytest.approx((-20, 10)) and found.direction == "not resolved"


def test_only_seeds_that_both_rows_have_are_compared() -> None:
    rows = list(with_seeds([BASE, BETTER], (1, 2, 3)))
    lines = [line_of(row, drawn(0.1 * (row.name == "better"), 0.01)) for row in rows[:2] + rows[3:5]]
    lines[1] = replace(lines[1], metrics={}, queries={}, error="no memory")
    base, better = tabulate(rows, lines)
    assert better.effect is not None and better.effect.pairs == 1 and better.effect.change == pytest.approx(10, abs=1)
    assert base.facts["drawn by"] == "world 1 training 1"
    (_, alone) = tabulate(rows, lines[2:])
    assert alone.effect is None and len(alone.lines) == 2


def test_rows_that_cannot_be_compared_raise() -> None:
    other = line_of(BASE, [0.5], ["z"])
    with pytest.raises(InputError, match="have different queries"):
        effect("base", "mAP", [(line_of(BETTER, [0.5], ["a"]), other)], 1.0)
    with pytest.raises(InputError, match="'gone', which is not in the table"):
        tabulate([replace(BETTER, against="gone")], [])


def test_csv_and_figure_say_the_direction(tmp_path: Path) -> None:
    lines = [line_of(BETTER, drawn(0.05, 0.02, 1)), line_of(BASE, drawn(0.0, 0.02, 2))]
    entries = [published("theirs", {"mAP": 74.45}), *tabulate([BASE, BETTER], lines)]
    write_csv(entries, tmp_path / "t.csv")
    theirs, base, better = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (theirs["mAP"], theirs["mAP paper"], theirs["seeds"]) == ("", "74.45", "0") and base["direction"] == ""
    assert (better["against"], better["direction"], better["change paper"]) == ("base", "holds", "0.80")
    assert float(better["low"]) <= float(better["change"]) <= float(better["high"])
    draw_table(entries, tmp_path / "t.svg", title="A table", metric="mAP", note="simulated")
    shape = (tmp_path / "t.svg").read_text()
    assert "<svg" in shape and "theirs" in shape
    draw_table(entries, tmp_path / "t.png", title="A table", metric="mAP")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cannot be written"):
        draw_table(entries, tmp_path / "t.png" / "a.png", title="", metric="mAP")


def test_effects_without_a_direction_in_the_paper() -> None:
    assert Effect("base", "mAP", 3.0, (1.0, 5.0), None, 1).direction is None
    assert Effect("base", "mAP", 3.0, (1.0, 5.0), 0.0, 1).direction is None
