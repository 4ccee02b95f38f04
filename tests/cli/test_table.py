"""`vreid table`: planned, rehearsed, run, merged, written."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.command_line import Run
from support.tiny_scale import TINY
from vreid.data.readers.image_table import read_table
from vreid.errors import InputError
from vreid.reproduce import dry_run
from vreid.reproduce.dry_run import dry_run_stages
from vreid.reproduce.result_lines import read_lines, write_lines
from vreid.reproduce.rows import with_seeds
from vreid.reproduce.stages import Folders
from vreid.reproduce.tables import TABLES, scales
from vreid.reproduce.tables.running import rows_of
from vreid.simulator.city.presets import PRESETS


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale smoke is `TINY`."""
    monkeypatch.setattr(scales, "smoke", lambda: replace(TINY, name="smoke"))


def test_a_table_is_made_in_parts_merged_and_written(
    run: Run, tiny: None, sketch: SimpleNamespace, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    made = run(f"table dmt.3 --only 'stage 2 (v1)' --seeds 1 --out {here} --device cpu")
    assert made.code == 0, made.err
    assert "2 rows, 0 of them done; to build: 1 x world" in made.err and "stage 2 (v1)" in made.out
    rows = list(csv.DictReader((here / "dmt_3_smoke.csv").read_text().splitlines()))
    assert [row["seeds done"] for row in rows] == ["1", "1", "0", "0"]
    assert rows[1]["direction"] in ("holds", "reversed", "not resolved") and rows[1]["mAP paper"] == "66.00"
    assert (rows[0]["transductive"], rows[1]["transductive"]) == ("no", "yes")

    first, second = read_lines(here / "results.jsonl")
    write_lines(tmp_path / "one.jsonl", [first])
    write_lines(tmp_path / "two.jsonl", [second])
    merged = run(
        f"table dmt.3 --only 'stage 2 (v1)' --seeds 1 --out {there} --device cpu --json "
        f"--merge {tmp_path}/one.jsonl --merge {tmp_path}/two.jsonl"
    )
    assert merged.code == 0, merged.err
    assert not (there / "world").exists()
    (reported,) = json.loads(merged.out)
    assert [row["mean"].get("mAP") for row in reported["rows"]][:2] == pytest.approx(
        [100 * line.numbers["mAP"] for line in (first, second)]
    )
    assert (there / "dmt_3_smoke.csv").read_bytes() == (here / "dmt_3_smoke.csv").read_bytes()
    assert (there / "dmt_3_smoke.png").exists()


def test_a_failed_row_is_told_and_the_exit_code_is_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, sketch: SimpleNamespace, tmp_path: Path
) -> None:
    wrong = replace(
        TINY,
        adaptation=lambda name: replace(
            TINY.adaptation(name),
            epochs=1,
            pseudo=replace(TINY.adaptation(name).pseudo, scenes=True, scene_groups=(("c999",),)),
        ),
    )
    monkeypatch.setattr(scales, "smoke", lambda: wrong)
    failed = run(f"table dmt.3 --only 'stage 2 (v1)' --seeds 1 --out {tmp_path} --device cpu")
    assert failed.code == 1 and "1 failed" in failed.out
    assert run(f"table dmt.3 --no-make --seeds 1 --out {tmp_path}").code == 1  # nothing is run, the line is there


def test_on_a_test_without_labels_every_row_ends_in_its_track2_txt(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_world: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_world, tmp_path / "world")
    (tmp_path / "world/ground_truth.csv").unlink()
    sources = [tmp_path / "world/AIC21_Track2_ReID", tmp_path / "world/AIC21_Track2_ReID_Simulation"]
    monkeypatch.setattr(scales, "smoke", lambda: replace(TINY, name="smoke", data=lambda layout: Folders.of(*sources)))
    table = f"table dmt.3 --only 'stage 2 (v2)' --seeds 1 --out {tmp_path}/runs --device cpu"
    made = run(table)
    assert made.code == 0, made.err + made.out
    assert made.out.count("no labels") >= 2 and "failed" not in made.out
    with open(tmp_path / "runs/dmt_3_smoke.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seeds done"] == "1"]
    assert [row["row"] for row in rows] == ["stage 1", "stage 2 (v2)"] and not any(row["error"] for row in rows)
    for row in rows:
        assert row["notes"].startswith("the test has no labels, so nothing is evaluated.") and not row["mAP"]
        checked = run(f"submission check {tmp_path}/runs/{row['submission']} --data {sources[0]}")
        assert (checked.code, checked.out) == (0, "No problems found.\n")
    assert "scene-groups: " in rows[1]["notes"]
    again = run(f"{table} --merge {tmp_path}/runs/results.jsonl")
    assert again.code == 0 and "2 rows, 2 of them done" in again.err + again.out


def test_published_rows_need_no_run(run: Run, tmp_path: Path) -> None:
    made = run(f"table strdan.3 --out {tmp_path}")
    assert made.code == 0 and "PROVID" in made.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strdan_3_smoke.csv", "strdan_3_smoke.png"]


def test_parts_of_tables_hold_what_they_are_compared_with() -> None:
    names = [row.name for row in rows_of(["dmt.4"], TINY, seeds=1, only="camera verification")]
    assert names == ["+ weighted tracklets", "+ camera verification", "+ scene groups", "all but camera verification"]
    assert [row.seeds["world"] for row in rows_of(["dmt.3"], TINY, only="v2")] == [1, 2, 1, 2]
    with pytest.raises(InputError, match="has 'nothing' in its name"):
        rows_of(["dmt.4"], TINY, only="nothing")


def test_a_dry_run_counts_on_the_whole_and_steps_on_a_cut(tiny_world: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_world, tmp_path / "world")
    (tmp_path / "world/ground_truth.csv").unlink()  # the real test names no vehicle
    folders = Folders.of(tmp_path / "world/AIC21_Track2_ReID", tmp_path / "world/AIC21_Track2_ReID_Simulation")
    dataset = folders.open()
    scale = replace(
        TINY, data=lambda layout: folders, training=lambda name: replace(TINY.training(name), epochs=7, iterations=None)
    )
    rows = list(with_seeds((row for row in TABLES["dmt.5"].rows(scale)), (1, 2)))
    reported = list(dry_run_stages(rows))
    assert reported[0] == repr(dataset)
    trainings = [sentence for sentence in reported if sentence.startswith("model, tiny resnet50_ibn_a on")]
    assert len(trainings) == 2  # of either type of data, once for both seeds
    both = next(sentence for sentence in trainings if "real + synthetic" in sentence)
    assert f": {7 * 9 * 4 * 2} images, about " in both and "trained images a second" in both
    assert not [sentence for sentence in reported if "FAILED" in sentence]
    assert {sentence.partition(":")[0] for sentence in reported} >= {"model", "crops", "adapted", "features", "metrics"}
    assert "GiB" in reported[-1]


def test_a_dry_run_tells_what_cannot_work(tiny_world: Path) -> None:
    folders = Folders.of(tiny_world / "AIC21_Track2_ReID")
    scale = replace(TINY, data=lambda layout: folders)
    reported = list(dry_run_stages(rows_of(["dmt.1"], scale, seeds=1, only="Type 2: + synthetic")))
    assert any(
        "Type 2: + synthetic: FAILED: " in sentence and "no synthetic training images" in sentence
        for sentence in reported
    )


def test_a_dry_run_of_a_simulated_scale_makes_no_table(
    run: Run, tiny: None, sketch: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "FEW", PRESETS["tiny"])
    made = run(f"table dmt.2 --only 'Type 1' --dry-run --out {tmp_path}/runs --device cpu")
    assert made.code == 0, made.err
    assert made.out.startswith("3 rows, 0 of them done; to build: 1 x world") and "unknown until" in made.out
    assert not (tmp_path / "runs").exists()


def test_a_cut_is_a_table_that_can_be_read(tiny_world: Path, tmp_path: Path) -> None:
    from vreid.reproduce.dry_run import few_vehicles

    dataset = Folders.of(tiny_world / "AIC21_Track2_ReID").open()
    cut = few_vehicles(dataset, tmp_path)
    read = read_table(Path(cut.sources[0]))
    assert (
        len(read.query) and len(read.gallery) and set(read.query.identity.values) <= set(read.gallery.identity.values)
    )


@pytest.mark.parametrize("rank", [1, 0])
def test_of_several_processes_the_first_writes_and_prints(
    rank: int, run: Run, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    made = run(f"table dmt.3 --no-make --seeds 1 --out {tmp_path} --device cpu")
    assert made.code == 0, made.err
    assert (tmp_path / "dmt_3_smoke.csv").exists() == bool(made.out) == (rank == 0)
    reported = run(f"table dmt.3 --out {tmp_path} --device cuda:1")
    assert reported.code == 2 and "each process takes a GPU of its own; use --device cuda" in reported.err
