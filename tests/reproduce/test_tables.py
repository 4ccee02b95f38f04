"""The papers' tables: published figures, shared stages, effects of changed fields, and tiny runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.tiny_scale import TINY
from vreid.data.readers.cityflow import read_cityflow
from vreid.errors import InputError
from vreid.models.published import IMAGENET
from vreid.recipes.strdan import CASES
from vreid.reproduce.result_lines import Line
from vreid.reproduce.rows import BEST_MEMBER, TYPE_4, AnyRow, Ensemble, Row, compared_with
from vreid.reproduce.runner import plan, run_rows
from vreid.reproduce.stages import Folders, Model, SimulatedWorld
from vreid.reproduce.table import tabulate
from vreid.reproduce.tables import TABLES, dmt, strdan
from vreid.reproduce.tables.running import rows_of
from vreid.reproduce.tables.scales import Initialisation, gpu, paper, scale_named, smoke
from vreid.retrieval.io.submission import check_submission

TWICE: dict[str, dict[str, tuple[float, ...]]] = {
    "dmt.1": {"Type 1": (36.0, 51.7), "Type 2": (46.2, 64.8), "Type 3": (49.1, 65.9), "Type 4": (49.9, 66.4)},
    "dmt.2": {
        "Type 1, resnet50": (36.0, 51.7),
        "Type 1, resnet101": (38.8, 54.8),
        "Type 1, transreid": (42.1, 59.8),
        "Type 2, resnet50": (46.2, 64.8),
        "Type 2, resnet101": (47.6, 68.2),
        "Type 2, transreid": (45.5, 61.0),
    },
    "dmt.3": {"stage 1": (46.2, 64.8), "stage 2 (v1)": (66.0, 76.8)},
    "dmt.4": {
        "baseline": (46.2, 64.8),
        "+ TTA": (47.0, 65.0),
        "+ re-ranking": (58.8, 66.1),
        "+ weighted tracklets": (66.8, 66.9),
        "+ camera verification": (72.7, 73.3),
        "+ inter-camera fusion": (74.7, 75.4),
        "+ biases": (76.0, 75.9),
    },
    "dmt.5": {
        "baseline, Type 1": (36.0, 51.7),
        "baseline, Type 2": (46.2, 64.8),
        "+ adaptation": (66.0, 76.8),
        "+ post-processing": (76.0, 75.9),
        "+ both": (80.3, 80.9),
    },
    "dmt.6": {
        "ResNet101-IBN-a, stage 1": (54.0, 72.3),
        "ResNet101-IBN-a, stage 2": (71.2, 79.2),
        "ResNet101-IBN-a, post": (81.6, 83.5),
        "ResNet101-IBN-a (Type 4), stage 1": (54.9, 72.7),
        "ResNet101-IBN-a (Type 4), stage 2": (72.5, 80.2),
        "ResNet101-IBN-a (Type 4), post": (82.2, 83.5),
        "ResNet101-IBN-a (resized crop), stage 1": (54.3, 71.5),
        "ResNet101-IBN-a (resized crop), stage 2": (71.4, 79.0),
        "ResNet101-IBN-a (resized crop), post": (82.6, 84.6),
        "ResNeXt101-IBN-a, stage 1": (50.6, 70.2),
        "ResNeXt101-IBN-a, stage 2": (74.0, 82.5),
        "ResNeXt101-IBN-a, post": (82.5, 84.0),
        "ResNeSt101, stage 1": (51.2, 70.8),
        "ResNeSt101, stage 2": (72.4, 80.8),
        "ResNeSt101, post": (82.5, 84.1),
        "SE-ResNet101-IBN-a, stage 1": (51.6, 69.9),
        "SE-ResNet101-IBN-a, stage 2": (73.1, 81.6),
        "SE-ResNet101-IBN-a, post": (82.1, 84.3),
        "DenseNet169-IBN-a, stage 1": (51.2, 69.2),
        "DenseNet169-IBN-a, stage 2": (69.9, 79.6),
        "DenseNet169-IBN-a, post": (82.7, 85.9),
        "TransReID, stage 1": (47.5, 65.2),
        "TransReID, stage 2": (52.4, 70.3),
        "TransReID, post": (78.5, 81.3),
        "ensemble of the 7 CNNs": (84.3, 85.9),
        "ensemble of all 8": (84.8, 86.7),
    },
    "strdan.1": {
        "case 1": (25.5,),
        "case 3": (35.2,),
        "case 4": (38.4,),
        "case 5": (34.1,),
        "case 6": (37.5,),
        "case 7": (35.3,),
        "case 8": (34.0,),
    },
    "strdan.2": {
        "case 1": (73.0,),
        "case 2": (76.1,),
        "case 3": (74.2,),
        "case 4": (74.9,),
        "case 5": (74.7,),
        "case 6": (75.3,),
        "case 7": (74.8,),
        "case 8": (74.6,),
    },
}
"""Row (or how its name begins) -> mAP and rank-1; mAP alone for StRDAN. Typed a second time, from the papers."""
LISTS = {
    "strdan.3": (18.7, 24.9, 48.0, 48.5, 58.3, 59.5, 61.3, 66.9, 67.6, 71.9, 73.0, 76.1),
}


@pytest.mark.parametrize("name", TWICE)
def test_the_figures_are_the_papers(name: str) -> None:
    rows = {row.name: tuple(row.paper.values()) for row in TABLES[name].rows(TINY) if row.paper}
    assert len(rows) == len(TWICE[name])
    for begins, figures in TWICE[name].items():
        exact = [row for row in rows if row == begins] or [row for row in rows if row.startswith(begins)]
        assert [rows[row] for row in exact] == [figures]
    metrics = {metric for row in TABLES[name].rows(TINY) for metric in row.paper}
    assert metrics == ({"mAP", "rank1"} if name.startswith("dmt") else {TABLES[name].metric})


@pytest.mark.parametrize("name", LISTS)
def test_published_lists(name: str) -> None:
    assert tuple(figures[TABLES[name].metric] for figures in TABLES[name].published.values()) == LISTS[name]
    assert not list(TABLES[name].rows(TINY))  # nothing of ours is comparable on simulated data


@pytest.mark.parametrize("name", TABLES)
def test_row_names_are_unique_and_compared_rows_exist(name: str) -> None:
    rows = list(TABLES[name].rows(TINY))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) and all(name in names for row in rows for name in compared_with(row, rows))
    assert all(
        row.against
        for row in rows
        if row.paper
        and row is not rows[0]
        and row.name not in ("Type 2, resnet50_ibn_a", "case 1: real alone, re-ranked")
        and "stage 1" not in row.name
    )


def named(name: str, begins: str) -> Any:
    return next(row for row in TABLES[name].rows(TINY) if row.name.startswith(begins))


def test_tables_share_stages() -> None:
    second = named("dmt.1", "Type 2")
    for name, begins in (
        ("dmt.2", "Type 2, resnet50"),
        ("dmt.3", "stage 1"),
        ("dmt.4", "base"),
        ("dmt.5", "baseline, Type 2"),
    ):
        assert named(name, begins).hash == second.hash
    assert named("dmt.5", "+ post").hash == named("dmt.4", "+ scene groups").hash
    assert named("dmt.4", "+ biases").hash == named("dmt.4", "all but scene groups").hash
    assert named("dmt.5", "+ adaptation").hash == named("dmt.3", "stage 2 (v1)").hash
    crops = {
        stage.hash
        for name in ("dmt.1", "dmt.4", "dmt.6")
        for row in TABLES[name].rows(TINY)
        for stage in row.evaluated.all
        if stage.kind == "crops"
    }
    assert len(crops) == 1
    eight = named("dmt.6", "ensemble of all 8")
    assert isinstance(eight, Ensemble) and len(eight.members) == 16
    assert len({member.hash for member in eight.members}) == 16
    assert [member.adaptation.preset for member in eight.members[:2]] == ["v1", "v2"]


LAST: Row = replace(named("dmt.5", "+ both"), parts=TYPE_4)


def changed_kinds(changed: Row) -> set[str]:
    """Stages with another hash by kind; models by their training images."""

    def reported(row: AnyRow) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for stage in row.evaluated.all:
            kind = f"model of {'+'.join(stage.parts)}" if isinstance(stage, Model) else stage.kind
            found.setdefault(kind, set()).add(stage.hash)
        return found

    before, after = reported(LAST), reported(changed)
    assert before.keys() == after.keys()
    return {kind for kind in before if before[kind] != after[kind]}


MAIN = "model of real+crop+translated"


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        (replace(LAST, name="x", paper={}, against=""), set()),
        (replace(LAST, training=replace(LAST.training, seed=5)), {MAIN, "adapted", "features", "metrics"}),
        (
            replace(LAST, crops=replace(LAST.crops, config=replace(LAST.crops.config, ratio=0.5))),
            {"crops", MAIN, "adapted", "features", "metrics"},
        ),
        (
            replace(LAST, translation=replace(LAST.translation, cycle=5.0)),
            {"translations", MAIN, "adapted", "features", "metrics"},
        ),
        (replace(LAST, adaptation=replace(LAST.adaptation, epochs=2)), {"adapted", "features", "metrics"}),
        (replace(LAST, orientation_bias=replace(LAST.orientation_bias, weight=0.2)), {"metrics"}),
        (
            replace(
                LAST, orientation_bias=replace(TINY.orientation, training=replace(TINY.orientation.training, seed=9))
            ),
            {"model of synthetic", "features", "metrics"},
        ),
        (replace(LAST, post=replace(LAST.post, exclude_same_camera=False)), {"metrics"}),
    ],
    ids=["name", "seed", "crops", "translation", "adaptation", "weight", "side model", "post"],
)
def test_a_changed_field_rebuilds_exactly_the_dependent_stages(changed: Row, rebuilt: set[str]) -> None:
    assert changed_kinds(changed) == rebuilt


def test_missing_crop_settings_raise() -> None:
    with pytest.raises(InputError, match="kind 'crop' need settings"):
        replace(LAST, crops=None).model.hash  # noqa: B018
    with pytest.raises(InputError, match="need crops; give the settings"):
        replace(LAST, crops=None, parts=("real",)).evaluated.hash  # noqa: B018
    with pytest.raises(InputError, match="all with the same data"):
        Ensemble("none", ())


def test_scales(tmp_path: Path) -> None:
    small, large = smoke(), gpu()
    assert small.training("transreid").model.transreid.image_size == (64, 64)
    assert small.training("resnet101_ibn_a_crop").transform.resized_crop
    assert {scale.training("resnext101_ibn_a").transform.height for scale in (small, large)} == {64, 256}
    assert not small.adaptation("v2").gate and small.adaptation("v2").pseudo.scenes
    for name, sources, reported in (
        ("big", (), "smoke, gpu, paper"),
        ("smoke", ("a",), "simulates its data"),
        ("paper", (), "needs the real data sets"),
    ):
        with pytest.raises(InputError, match=reported):
            scale_named(name, sources)


def with_world(cache: Path, tiny_world: Path) -> None:
    """Let the world that tests share be the one that `TINY` makes."""
    shutil.copytree(tiny_world, cache / SimulatedWorld("tiny", 1).name)


def test_all_kinds_of_rows_run_end_to_end_and_the_ensemble_ends_in_a_submission(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_world(tmp_path, tiny_world)
    chosen = {"ResNet101-IBN-a (Type 4)", "DenseNet169-IBN-a"}
    monkeypatch.setattr(dmt, "TRANSFORMER", "ResNet101-IBN-a (Type 4)")
    monkeypatch.setattr(dmt, "MODELS", {name: dmt.MODELS[name] for name in dmt.MODELS if name in chosen})
    rows = [row for name in ("dmt.5", "dmt.6") for row in TABLES[name].seeded(TINY, 1)]
    first = rows[:2]
    run_rows(first, tmp_path)  # a table that was stopped goes on
    planned = plan(rows, tmp_path, {"crops": 1.0})
    assert "world" not in planned.missing and len(planned.missing["crops"]) == 1 and planned.seconds is None
    lines = {line.name: line for line in run_rows(rows, tmp_path)}
    assert not [line.error for line in lines.values() if line.error]
    assert plan(rows, tmp_path).describe() == f"{len(rows)} rows, {len(rows)} of them done."
    adapted, both = lines["+ adaptation"], lines["+ both"]
    assert adapted.metrics["transductive"] and adapted.facts["adapted"] and not adapted.metrics["reranked"]
    assert not lines["baseline, Type 2"].metrics["transductive"]
    assert both.metrics["reranked"] and "bias" in " ".join(both.metrics["steps"])
    assert set(both.seconds) == {"model", "crops", "adapted", "scenes", "features", "metrics"}
    (note,) = both.notes  # the simulated test has a column scene
    assert " pairs of images are excluded, between the groups " in note and not adapted.notes
    assert str(tmp_path) not in (tmp_path / "results.jsonl").read_text()

    eight = lines["ensemble of all 8"]
    assert eight.metrics["steps"][-1] == "ensemble of 4 by mean"
    (world,) = (tmp_path / "world").iterdir()
    dataset = read_cityflow(world / "AIC21_Track2_ReID")
    for line in lines.values():  # of single models too
        assert not check_submission(tmp_path / line.facts["submission"], dataset.query, dataset.gallery)
    submission = tmp_path / eight.facts["submission"]
    assert submission.read_bytes() != (tmp_path / lines["ensemble of all 8, by rank"].facts["submission"]).read_bytes()


def test_strdan_rows_run(sketch: SimpleNamespace, tmp_path: Path) -> None:
    rows = [row for row in TABLES["strdan.2"].seeded(TINY, 1) if row.name.startswith(("case 1", "case 4: "))]
    lines = run_rows(rows, tmp_path)
    assert not [line.error for line in lines if line.error]
    assert [line.metrics["reranked"] for line in lines] == [False, False, True, True]
    assert all({"mAP", "mAP@100"} <= line.numbers.keys() for line in lines)


@pytest.mark.parametrize("table", ["strdan.1", "strdan.2"])
def test_cases_from_other_initial_weights_have_one_budget(table: str) -> None:
    """Each row shows as many images as any other, but for one, which sees the real ones as often as the joint rows."""
    for name, weights in (("ImageNet", IMAGENET), ("random", "")):
        rows = {row.name: row for row in rows_of([table], smoke(), seeds=1, only=f"{name} weights, ")}
        assert len(rows) == 16 and {row.training.model.weights for row in rows.values()} == {weights}

        def images(row: AnyRow) -> int:
            config = row.training
            return config.epochs * (config.iterations or 0) * config.num_identities * config.num_instances

        budgets = {name: images(row) for name, row in rows.items()}
        (budget,) = {count for name, count in budgets.items() if "half" not in name}
        assert {count for name, count in budgets.items() if "half" in name} == {budget // 2}
        labels = {row.training.heads for row in rows.values()}
        assert labels == {(), ("domain",), *(CASES[number] for number in (2, 3, 4, 8))}
        (preset,) = {row.data.preset for row in rows.values()}
        assert preset.synthetic_identities >= 4 * preset.train_identities
    assert not any("weights" in row.name for scale in (TINY, gpu()) for row in TABLES[table].rows(scale))


def test_a_case_from_random_weights_runs(sketch: SimpleNamespace, tmp_path: Path) -> None:
    start = Initialisation("random", replace(TINY.strdan, iterations=2), TINY.data)
    scale = replace(TINY, initialisations=(start,))
    lines = run_rows(rows_of(["strdan.1"], scale, seeds=1, only="random weights, identity"), tmp_path)
    assert not [line.error for line in lines if line.error]
    assert {line.facts["initialisation"] for line in lines} == {"random"}
    assert "random weights, case 1: real alone" in {line.name for line in lines}


def test_on_the_papers_own_data_strdan_3_has_our_rows(tiny_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders.of(tiny_world / "AIC21_Track2_ReID")
    scale = replace(TINY, data=lambda layout: folders)
    assert not TABLES["strdan.3"].seeded(scale, 1)  # CityFlow's
    reported = TABLES["strdan.3"].other_data(scale)
    assert "the paper's figures are for VeRi-776, but the data is CityFlowV2-ReID (" in reported
    veri = replace(folders, searched="VeRi-776", test=(1678, 11579, 200))
    for other in (replace(veri, test=(1678, 11579, 199)), replace(veri, searched="a folder of pictures")):
        scale = replace(TINY, data=lambda layout, data=other: data)
        assert not list(strdan.table_3(scale))
        assert not any(row.paper for row in TABLES["strdan.2"].seeded(scale, 1))
    scale = replace(TINY, data=lambda layout: veri)
    assert not TABLES["strdan.3"].other_data(scale) and TABLES["dmt.1"].other_data(scale)
    rows = TABLES["strdan.3"].seeded(scale, 1)
    assert [row.name for row in rows] == ["ours, case 1: real alone, re-ranked", "ours, case 2: orientation, re-ranked"]
    real = paper([tiny_world / "AIC21_Track2_ReID"])
    assert real.training("resnet101_ibn_a").transform.height == 384
    assert real.strdan.model.weights.startswith("resnet50-") and real.data("veri") == folders


def test_strdan_1_protocol_depends_on_cameras_in_the_test(tiny_world: Path) -> None:
    def rows(data: Folders | SimulatedWorld) -> list[AnyRow]:
        return TABLES["strdan.1"].seeded(replace(TINY, data=lambda layout: data), 1)

    folders = Folders.of(tiny_world / "AIC21_Track2_ReID")
    assert folders.cameras and {row.protocol.name for row in rows(folders)} == {"ai-city"}
    assert not any(row.paper for row in rows(folders))  # not the data of the paper
    unnamed = replace(folders, searched="CityFlow-ReID", cameras=False)
    for data in (unnamed, SimulatedWorld("tiny", 1, "cityflow2020")):
        assert {row.protocol.name for row in rows(data)} == {"camera-less"} and any(row.paper for row in rows(data))


def test_an_ensemble_is_compared_with_the_best_of_its_members_here() -> None:
    rows = TABLES["dmt.6"].seeded(TINY, 1)
    seven = next(row for row in rows if row.name == "ensemble of the 7 CNNs")
    members = compared_with(seven, rows)
    assert seven.against == BEST_MEMBER and len(members) == 7 and all(name.endswith(", post") for name in members)

    def line(row: AnyRow, value: float) -> Line:
        return Line(row.hash, row.name, (), {"mAP": value}, {"identity": ["1", "2"], "mAP": [value, value]})

    single = [row for row in rows if row.name in members]
    lines = [line(seven, 0.75), *(line(row, 0.6 - 0.01 * place) for place, row in enumerate(single))]
    (entry,) = (entry for entry in tabulate(rows, lines) if entry.name == seven.name)
    assert entry.effect and entry.effect.against == single[0].name == "ResNet101-IBN-a, post"
    assert entry.effect.change == pytest.approx(75 - 60) and entry.effect.paper == pytest.approx(84.3 - 82.7)
