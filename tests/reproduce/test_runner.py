"""Row runner: hashes, sharing of stages, and resuming after a kill, a failure or a move."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vreid.data.augment import TrainTransform
from vreid.data.protocols import AI_CITY, MARKET, VEHICLE_ID
from vreid.errors import InputError
from vreid.locks import locked
from vreid.models.reid_model import ModelConfig
from vreid.reproduce import builders, runner
from vreid.reproduce import stages as stages_module
from vreid.reproduce.builders import of_part
from vreid.reproduce.result_lines import Line, merge, read_lines, write_lines
from vreid.reproduce.rows import TYPE_1, Folders, Row, SimulatedWorld, with_seeds
from vreid.reproduce.rows import stages as stages_of
from vreid.reproduce.runner import RESULTS, plan, run_rows, seconds_taken
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.camera_statistics import CameraMean, CameraWhitening
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval_run import RetrievalRun
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.formats.write import simulate
from vreid.training.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
TRAINING = TrainConfig(
    recipe="tiny",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=4,
    num_instances=2,
    epochs=1,
    transform=TrainTransform(height=32, width=32, pad=2),
    precision="float32",
)
PLAIN = Row("plain", SimulatedWorld("tiny", seed=1), TRAINING)
RERANKED = replace(PLAIN, name="+ re-ranking", post=PostProcessing.parse("rerank=4:2:0.5"))
STAGES = ("world", "model", "features", "metrics")


def hashes(row: Row) -> dict[str, str]:
    return {stage.kind: stage.hash for stage in row.evaluated.all}


def with_training(**changes: Any) -> Row:
    return replace(PLAIN, training=replace(TRAINING, **changes))


def with_world(**changes: Any) -> Row:
    assert isinstance(PLAIN.data, SimulatedWorld)
    return replace(PLAIN, data=replace(PLAIN.data, **changes))


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        (replace(PLAIN, name="other"), None),
        (replace(PLAIN, paper={"mAP": 46.2}), None),
        (with_world(preset=PRESETS["tiny"]), None),
        (with_world(seed=2), "world"),
        (with_world(layout="veri"), "world"),
        (with_world(preset=replace(PRESETS["tiny"], models=4)), "world"),
        (replace(PLAIN, parts=TYPE_1), "model"),
        (replace(PLAIN, against="other"), None),
        (with_training(epochs=2), "model"),
        (with_training(seed=2), "model"),
        (with_training(losses=replace(TRAINING.losses, triplet_margin=0.3)), "model"),
        (replace(PLAIN, views=("original",)), "features"),
        (replace(PLAIN, normalise=False), "features"),
        (RERANKED, "metrics"),
        (replace(PLAIN, post=PostProcessing(exclude_same_camera=True)), "metrics"),
        (replace(PLAIN, post=PostProcessing(camera_mean=CameraMean())), "metrics"),
        (replace(PLAIN, post=PostProcessing(camera_whitening=CameraWhitening())), "metrics"),
        (replace(PLAIN, protocol=MARKET), "metrics"),
    ],
    ids=str,
)
def test_a_changed_field_changes_the_hashes_of_what_depends_on_it(changed: Row, first: str | None) -> None:
    before, after = hashes(PLAIN), hashes(changed)
    same = [stage for stage in STAGES if before[stage] == after[stage]]
    assert same == list(STAGES if first is None else STAGES[: STAGES.index(first)])
    assert list(before) == list(STAGES) and changed.hash == after["metrics"]


def test_neighbouring_steps_and_protocols_have_different_hashes() -> None:
    rows = [replace(RERANKED, post=PostProcessing.parse(f"rerank={values}")) for values in ("4:2:0.5", "4:1:0.5")]
    rows += [replace(RERANKED, protocol=protocol) for protocol in (MARKET, AI_CITY, replace(AI_CITY, top_k=50))]
    assert len({row.hash for row in rows}) == 5


def test_another_simulator_version_changes_all_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(hashes(PLAIN).values())
    monkeypatch.setattr(stages_module, "SIMULATOR_VERSION", -1)
    assert not before & set(hashes(with_world()).values())


def test_files_are_hashed_by_content(tmp_path: Path) -> None:
    def row(folder: str, weights: bytes, features: bytes) -> Row:
        place = tmp_path / folder
        place.mkdir()
        (place / "w.pth").write_bytes(weights)
        for side in ("query", "gallery"):
            (place / f"{side}.safetensors").write_bytes(features)
        training = replace(TRAINING, model=replace(TRAINING.model, weights=str(place / "w.pth")))
        return replace(PLAIN, training=training, post=PostProcessing(camera_bias=Bias(features=str(place))))

    first, moved = row("a", b"w", b"f"), row("b", b"w", b"f")
    assert hashes(first) == hashes(moved) and first.model.hash != PLAIN.model.hash
    assert row("c", b"v", b"f").model.hash != first.model.hash
    other = row("d", b"w", b"g")
    assert other.features.hash == first.features.hash and other.hash != first.hash
    (tmp_path / "a" / "w.pth").unlink()
    with pytest.raises(InputError, match=r"w\.pth: cannot be read"):
        plan([replace(first)], tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"preset": "tinny"}, "tiny"),
        ({"layout": "verry"}, "veri"),
        ({"seed": -1}, "negative"),
    ],
)
def test_an_invalid_world_raises_at_construction(changes: dict[str, Any], reported: str) -> None:
    with pytest.raises(InputError, match=reported):
        with_world(**changes)


def test_folders_are_hashed_by_content(sketch: SimpleNamespace, tmp_path: Path) -> None:
    real = "AIC21_Track2_ReID"
    world = simulate(tmp_path / "world", preset="tiny", seed=1, workers=1).path
    shutil.copytree(world, tmp_path / "moved")
    here, moved = Folders.of(world / real), Folders.of(tmp_path / "moved" / real)
    assert here.hash == moved.hash
    assert Folders.of(world / real, labels="none").hash != here.hash
    picture = next((tmp_path / "moved" / real / "image_train").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert Folders.of(tmp_path / "moved" / real).hash != here.hash
    with pytest.raises(InputError, match="the data has changed"):
        moved.open()


@pytest.mark.parametrize("layout", ["cityflow", "cityflow2020", "veri"])
def test_the_parts_of_a_world_that_are_trained_on(layout: str, sketch: SimpleNamespace, tmp_path: Path) -> None:
    folder = simulate(tmp_path / "world", preset="tiny", seed=1, layout=layout, workers=1).path
    world = SimulatedWorld("tiny", 1, layout)
    dataset = world.open(folder)
    assert world.settings["simulator_version"]
    real, synthetic = (of_part(dataset.train, part) for part in ("real", "synthetic"))
    assert set(real.domain.values) == {"real"} and set(synthetic.domain.values) == {"synthetic"}
    assert len(dataset.train) == len(real) + len(synthetic)
    assert dataset.query.identity.known.all() and len(dataset.gallery)


class Counts(Counter[str]):
    """How often the runner built each stage."""

    def watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original: Callable[..., Any] = getattr(builders, name)

        def counted(*args: Any, **named: Any) -> Any:
            self[name] += 1
            return original(*args, **named)

        monkeypatch.setattr(builders, name, counted)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch, sketch: SimpleNamespace) -> Counts:
    """Counts of simulate, train, extract; images are noise."""
    found = Counts()
    for name in ("simulate", "train", "extract"):
        found.watch(monkeypatch, name)
    return found


def test_rows_share_stages_and_nothing_is_built_twice(counts: Counts, tmp_path: Path) -> None:
    seeded = replace(with_training(seed=7), name="other seed")
    assert plan([PLAIN, RERANKED, seeded], tmp_path).describe() == (
        "3 rows, 0 of them done; to build: 1 x world, 2 x model, 2 x features; time: unknown until one is built."
    )
    lines = run_rows([PLAIN, RERANKED, PLAIN], tmp_path)
    assert counts == {"simulate": 1, "train": 1, "extract": 1}
    assert lines[0] is lines[2] and not any(line.error for line in lines)
    assert read_lines(tmp_path / RESULTS) == lines[:2]

    write_lines(tmp_path / "elsewhere" / RESULTS, merge([tmp_path / RESULTS]))
    assert run_rows([RERANKED, PLAIN], tmp_path / "elsewhere") == lines[1::-1]
    first = (tmp_path / RESULTS).read_bytes()
    assert run_rows([PLAIN, RERANKED], tmp_path) == lines[:2]
    assert (tmp_path / RESULTS).read_bytes() == first
    for stage in ("world", "model"):  # not needed once there are features
        shutil.rmtree(tmp_path / stage)
    third = replace(PLAIN, post=PostProcessing(exclude_same_camera=True))
    assert not run_rows([third], tmp_path)[0].error
    assert counts == {"simulate": 1, "train": 1, "extract": 1}
    assert (
        plan([seeded, PLAIN, third], tmp_path)
        .describe()
        .startswith("3 rows, 2 of them done; to build: 1 x world, 1 x model, 1 x features; time: ")
    )


def test_a_line_equals_the_output_of_the_commands(counts: Counts, tmp_path: Path) -> None:
    row = replace(RERANKED, protocol=AI_CITY)
    (line,) = run_rows([row], tmp_path)
    search = RetrievalRun.load(tmp_path / "features" / row.features.hash).under(AI_CITY)
    metrics = search.evaluate(row.post)["all cameras"]
    assert line.metrics["mAP"] == metrics.mAP and line.metrics["mAP@100"] == metrics.mAP_at_k
    assert line.metrics["reranked"] and line.metrics["transductive"] and line.metrics["protocol"] == "ai-city"
    assert set(line.metrics["parts"]) == {"all cameras", "seen cameras", "new cameras"}
    for name in ("mAP", "mAP@100", "rank1", "mINP"):
        low, high = line.metrics["intervals"][name]
        assert low <= line.metrics[name] <= high and low < high
    for name in ("mAP", "mAP@100", "rank1", "mINP"):
        values = [value for value in line.queries[name] if value is not None]
        assert np.mean(values) == pytest.approx(line.metrics[name], abs=1e-6)
    assert line.queries["identity"] == search.query.records.identity.values.tolist()
    assert line.facts["initialisation"] == "random" and line.facts["seeds"] == {"world": 1, "training": 1234}
    assert line.facts["simulator_version"] and line.facts["trained on"]["precision"] == "float32"
    assert line.facts["judged on"]["device"] == "cpu" and "numpy" in line.facts["judged on"]
    assert line.seconds.keys() == set(STAGES)
    assert str(tmp_path) not in (tmp_path / RESULTS).read_text()


def test_a_failed_row_does_not_stop_others_and_is_retried(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unjudged = replace(PLAIN, name="unjudged", protocol=VEHICLE_ID)
    untrained = replace(with_training(num_identities=400), name="untrained")
    again = replace(untrained, post=RERANKED.post)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    foreign = with_training(model=replace(TRAINING.model, weights=str(tmp_path / "w.pth")))
    lines = run_rows([unjudged, untrained, again, PLAIN, replace(foreign, name="foreign")], tmp_path)
    assert "draws its galleries" in lines[0].error
    assert lines[1].error and lines[1].error == lines[2].error
    assert not lines[3].error and lines[3].numbers
    assert "w.pth" in lines[4].error and lines[4].facts["initialisation"].startswith("w.pth (sha256 ")
    assert counts == {"simulate": 1, "train": 3, "extract": 1}  # what failed for one row failed for the next

    monkeypatch.setattr(builders, "train", lambda *args, **named: 1 // 0)
    torn = with_training(seed=9)
    for line in run_rows([torn, replace(torn, post=RERANKED.post)], tmp_path / "torn"):
        assert line.error == "ZeroDivisionError: integer division or modulo by zero"
    monkeypatch.setattr(runner, "line_numbers", lambda *args: 1 // 0)
    mended = run_rows([RERANKED, PLAIN], tmp_path)
    assert mended[0].error.startswith("ZeroDivisionError") and "line_numbers" in mended[0].facts["traceback"]
    assert mended[1] == lines[3]
    monkeypatch.undo()
    assert not run_rows([RERANKED], tmp_path)[0].error
    stored = {line.name: bool(line.error) for line in read_lines(tmp_path / RESULTS)}
    assert stored == {"unjudged": True, "untrained": True, "plain": False, "foreign": True, "+ re-ranking": False}


def test_stages_of_other_processes_are_awaited_last_and_their_lines_are_kept(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_rows([PLAIN], tmp_path / "other")
    (others,) = read_lines(tmp_path / "other" / RESULTS)
    seeded, third = replace(with_training(seed=7), name="seeded"), replace(with_training(seed=8), name="third")
    cache = tmp_path / "cache"
    with ExitStack() as held:
        held.enter_context(locked(cache / "locks" / seeded.model.name.replace("/", "-")))

        def sleep(seconds: float) -> None:
            if (cache / RESULTS).exists():  # else it is somebody else's sleep, before a row is done
                held.close()  # the other process has done its work, and written a line
                write_lines(cache / RESULTS, [*read_lines(cache / RESULTS), others])

        monkeypatch.setattr(runner.time, "sleep", sleep)
        lines = run_rows([seeded, third, PLAIN], cache)
    assert [(line.name, line.error) for line in lines] == [("seeded", ""), ("third", ""), ("plain", "")]
    assert [line.name for line in read_lines(cache / RESULTS)] == ["third", "plain", "seeded"]
    assert counts["train"] == 4  # that of PLAIN twice: it was made before the other's line was there


WATCHED = """
import os, pickle, sys
from pathlib import Path
from vreid.reproduce.builders import StageBuilder
from vreid.reproduce.runner import run_rows

def build(self, stage, original=StageBuilder.build):
    with open(sys.argv[3], "a") as file:
        file.write(stage.name + "\\n")
    original(self, stage)

StageBuilder.build = build
rows = pickle.loads(Path(sys.argv[1]).read_bytes())
lines = run_rows(rows, sys.argv[2], processes=2)
sys.exit(any(line.error for line in lines))
"""


def test_two_processes_share_a_cache_and_one_goes_on_where_the_other_was_killed(
    sketch: SimpleNamespace, tmp_path: Path
) -> None:
    world = simulate(tmp_path / "world", preset="tiny", seed=1, workers=1).path
    row = replace(with_training(epochs=8), data=Folders.of(world / "AIC21_Track2_ReID"), parts=TYPE_1)
    rows = [row, replace(row, training=replace(row.training, seed=7, epochs=1))]
    whole = run_rows(rows, tmp_path / "whole")
    assert not any(line.error for line in whole)
    job, cache, built = tmp_path / "job", tmp_path / "cache", tmp_path / "built"
    job.write_bytes(pickle.dumps(rows))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(job), str(cache), str(built)],
            env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        )

    def until(file: str, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None and not list(cache.glob(file)):
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
        assert child.poll() is None

    first = start()
    until(f"{row.model.name}/checkpoints/step-*", first)
    first.send_signal(signal.SIGSTOP)
    assert not (cache / row.model.name / "model.safetensors").exists() and not (cache / RESULTS).exists()
    second = start()
    until(RESULTS, second)  # of the other row; then it waits for the stage of the first
    first.kill()
    assert (first.wait(), second.wait()) == (-signal.SIGKILL, 0)
    again = {row.model.name: 2}
    assert Counter(built.read_text().split()) == {
        stage.name: again.get(stage.name, 1) for stage in stages_of(rows) if stage.complete
    }

    def reported(line: Line) -> Line:  # the revision of the source may change under a test, and tests set variables
        facts = {name: fact for name, fact in line.facts.items() if name not in ("trained on", "judged on")}
        return replace(line, seconds={}, facts=facts)

    found = {line.hash: reported(line) for line in read_lines(cache / RESULTS)}
    assert found == {line.hash: reported(line) for line in whole}


def test_seeds() -> None:
    rows = list(with_seeds([PLAIN, RERANKED], (1, 2, 3)))
    assert [(row.name, row.seeds) for row in rows[2:4]] == [
        ("plain", {"world": 3, "training": 3}),
        ("+ re-ranking", {"world": 1, "training": 1}),
    ]
    assert len({row.hash for row in rows}) == 6 and len({row.data.hash for row in rows}) == 3


@pytest.mark.parametrize("content", ["[]", '{"model/0": "long"}', '{"model/0": NaN}', "3"])
def test_damaged_seconds_of_stages_are_reported(content: str, tmp_path: Path) -> None:
    (tmp_path / "seconds").mkdir()
    (tmp_path / "seconds" / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: seconds.* must be"):
        seconds_taken(tmp_path)
