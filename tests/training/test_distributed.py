"""Several processes work as one does: the same batches, losses, gradients, weights, features; resumed to the last bit.

torchrun runs this file as a program, `python -m training.test_distributed FOLDER`; see `ranked`.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from support.distributed_jobs import adaptations, extractions, sides_of, translations, write_vehicles
from vreid.data.augment import TrainTransform
from vreid.data.loading import train_loader
from vreid.data.records import Records
from vreid.data.sampling import DomainSampler, PKSampler, Share
from vreid.errors import InputError
from vreid.losses import NO_LABEL
from vreid.models import ModelConfig, build
from vreid.models.reid_model import TrainOutputs
from vreid.training import supervised
from vreid.training.distributed import ProcessGroup, processes
from vreid.training.objective import Objective
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import CosineSchedule
from vreid.training.supervised import Trainer, make_share, train
from vreid.training.targets import POSITIVES
from vreid.training.train_config import LossConfig, TrainConfig
from vreid.training.translate_images import translate

ROOT = Path(__file__).parents[2]
TINY = TrainConfig(
    recipe="tiny",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=4,
    num_instances=2,
    epochs=3,
    transform=TrainTransform(height=32, width=32, pad=2),
    optimiser=OptimiserConfig(learning_rate=0.01),
    schedule=CosineSchedule(warmup_epochs=0.5),
    precision="float32",
)
FROZEN = replace(TINY, epochs=2, accumulation=2, clip_norm=1.0, ema=0.5)


# ---------------------------------------------------------------- what both ranks, and one process, do


class Frozen(Trainer):
    """Batch normalisation, in backbone and neck, by its running statistics: these do not see how a batch is shared.

    In float32: where bfloat16 is fast, fine-tuning would choose it.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.precision = "float32"
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Stopped(Trainer):
    """Is interrupted in its seventh step."""

    def step(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        if self.state.total_steps == 6:
            raise KeyboardInterrupt
        return super().step(*args, **options)


def losses_of_given_features(world: ProcessGroup) -> dict[str, Tensor]:
    """Loss terms and their gradients with respect to this rank's rows of eight images; labels are missing unevenly."""
    rng = torch.Generator().manual_seed(0)
    size = 8 // world.size
    own = slice(world.rank * size, (world.rank + 1) * size)
    positives = torch.tensor([0, 0, 1, 1, 2, 2, 0, 3])
    labels = {
        POSITIVES: positives,
        "identity": positives.masked_fill(torch.arange(8) < 3, NO_LABEL),
        "orientation": torch.tensor([10.0, torch.nan, torch.nan, torch.nan, 90.0, 180.0, 270.0, 5.0]),
    }
    pooled, weight = torch.randn(8, 4, generator=rng), torch.randn(4, 4, generator=rng)
    part = pooled[own].requires_grad_()
    # f_t is an output and feeds the others, as in a model.
    outputs = TrainOutputs(part @ weight, part, (part * 2,), (part.square(),), {"orientation": part[:, :2]})
    objective = Objective(LossConfig(label_smoothing=0.1))
    terms = objective(*world.gather_all(outputs, {name: values[own] for name, values in labels.items()}))
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert part.grad is not None
    return {name: value.detach() for name, value in terms.items()} | {"gradient": part.grad / world.size}


def train_as(kind: type[Trainer], config: TrainConfig, records: Records, out: Path, **options: Any) -> None:
    with mock.patch.object(supervised, "Trainer", kind):
        train(config, records, out=out, log_steps=1, **options)


def ranked(folder: Path) -> None:
    """The program of each rank; what the first rank of several leaves in `folder` is compared with one process."""
    torch.set_num_threads(1)
    records = pickle.loads((folder / "records").read_bytes())
    with processes("cpu") as place:
        world = ProcessGroup.current()
        assert (place, world.size) == ("cpu", 2)
        torch.save(losses_of_given_features(world), folder / f"losses{world.rank}")
        train_as(Frozen, FROZEN, records, folder / "frozen")
        train(TINY, records, out=folder / "whole", log_steps=1)
        with suppress(KeyboardInterrupt):
            train_as(Stopped, TINY, records, folder / "resumed", checkpoint_steps=1)
        train(TINY, records, out=folder / "resumed", log_steps=1, resume=True, checkpoint_steps=1)
        with pytest.raises(InputError, match="sync_batchnorm needs GPUs"):
            train(replace(TINY, sync_batchnorm=True), records, out=folder / "synchronised")
        with pytest.raises(InputError, match="only the first one knows"):
            world.agree(lambda: failing("only the first one knows"))
        assert list(world.in_turn(world.turn.of("abcde"))) == list("abcde")
        jobs(folder, records)


def failing(sentence: str) -> None:
    raise InputError(sentence)


def jobs(folder: Path, records: Records) -> None:
    """Extraction, adaptation and translation; batch normalisation is frozen in fine-tuning, as above."""
    model = folder / "start" / "model.safetensors"
    extractions(records, model, folder)
    with mock.patch.object(supervised, "Trainer", Frozen):
        adaptations(records, model, folder)
    translations(records, folder)


# ---------------------------------------------------------------- two ranks against one


def torchrun(*program: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *program],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return write_vehicles(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, records: Records) -> Path:
    """A folder with a trained model."""
    folder = tmp_path_factory.mktemp("start")
    train(TINY, records, out=folder / "start")
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, records: Records, start: Path) -> Path:
    """What two ranks have left."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(start, folder, dirs_exist_ok=True)
    (folder / "records").write_bytes(pickle.dumps(records))
    ended = torchrun("training.test_distributed", str(folder))
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, records: Records, start: Path) -> Path:
    """What one process has left."""
    folder = tmp_path_factory.mktemp("one")
    shutil.copytree(start, folder, dirs_exist_ok=True)
    jobs(folder, records)
    return folder


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_losses_and_mining_agree_on_given_features(two: Path) -> None:
    ranks = [torch.load(two / f"losses{rank}") for rank in range(2)]
    alone = losses_of_given_features(ProcessGroup())
    gradient = alone.pop("gradient")
    assert alone.keys() == {"identity", "triplet", "head orientation"}
    for rank in ranks:
        assert all(torch.allclose(rank[name], value, rtol=1e-6) for name, value in alone.items())
    torch.testing.assert_close(torch.cat([rank["gradient"] for rank in ranks]), gradient, rtol=1e-5, atol=1e-7)


def test_two_ranks_agree_with_one_when_batch_statistics_are_frozen(two: Path, records: Records, tmp_path: Path) -> None:
    """Accumulation, clipping, running mean, sampling, augmentation and schedule included."""
    train_as(Frozen, FROZEN, records, tmp_path / "run")
    one, other = lines(tmp_path / "run"), lines(two / "frozen")
    assert [(line["event"], line["step"]) for line in one] == [(line["event"], line["step"]) for line in other]
    for left, right in zip(one, other, strict=True):
        for name in ("loss", "identity", "triplet", "learning_rate"):
            assert right[name] == pytest.approx(left[name], rel=1e-4), (name, left, right)
    expected, found = (load_file(run / "model.safetensors") for run in (tmp_path / "run", two / "frozen"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_both_ranks_resume_to_identical_weights(two: Path) -> None:
    whole, resumed = (load_file(two / run / "model.safetensors") for run in ("whole", "resumed"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    one, other = lines(two / "whole"), lines(two / "resumed")
    assert [(line["event"], line["step"]) for line in one] == [(line["event"], line["step"]) for line in other]


def test_the_first_rank_alone_writes(two: Path) -> None:
    whole = lines(two / "whole")
    steps = [line["step"] for line in whole if line["event"] == "step"]
    assert steps == list(range(1, len(steps) + 1))  # none twice
    assert json.loads((two / "whole/environment.json").read_text())["processes"] == 2
    assert len(list((two / "whole/checkpoints").iterdir())) == 2
    assert not (two / "synchronised").exists()


def test_features_are_those_of_one_process_to_the_last_bit(one: Path, two: Path) -> None:
    found, expected = (load_file(folder / "features.safetensors") for folder in (two, one))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].nan_to_num(), expected[name].nan_to_num()) for name in expected)
    assert [path.name for path in two.glob("*.parts")] == []
    assert not (two / "broken.safetensors").exists()


@pytest.mark.parametrize("run", ["repeated", "gated"])
def test_adaptation_agrees_with_one_process(run: str, one: Path, two: Path) -> None:
    tables = [
        {path.relative_to(folder): path for path in (folder / run).rglob("pseudo_*.csv")} for folder in (one, two)
    ]
    assert tables[0].keys() == tables[1].keys()
    assert all(path.read_text() == tables[1][name].read_text() for name, path in tables[0].items())
    facts = [json.loads((folder / run / "pseudo.json").read_text()) for folder in (one, two)]
    assert facts[0]["clusters"] == facts[1]["clusters"] >= 3
    verdicts = [fact.get("verdict", {}).get("decision") for fact in facts]
    assert verdicts[0] == verdicts[1] and (verdicts[0] is None) == (run == "repeated")
    model = "model" if verdicts[0] in (None, "ACCEPT") else "rejected"
    first, expected, found = (
        load_file(place / name)
        for place, name in (
            (one / "start", "model.safetensors"),
            (one / run, f"{model}.safetensors"),
            (two / run, f"{model}.safetensors"),
        )
    )
    learned = [name for name in expected if name in first and not torch.equal(first[name], expected[name])]
    assert len(learned) > 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_translation_agrees_with_one_process(one: Path, two: Path) -> None:
    left, right = (lines(folder / "translation") for folder in (one, two))
    assert len(left) == len(right) > 20
    for ours, theirs in zip(left, right, strict=True):
        assert theirs.keys() == ours.keys()
        for name in {"step", "loss", "judges", "siamese", "keeping"} & ours.keys():
            assert theirs[name] == pytest.approx(ours[name], rel=5e-3), (name, ours, theirs)
    expected, found = (load_file(folder / "translation" / "model.safetensors") for folder in (one, two))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-3)


def test_translated_images_are_those_of_one_process_to_the_last_bit(
    two: Path, records: Records, tmp_path: Path
) -> None:
    translate(two / "translation", sides_of(records)[0], tmp_path / "translated", batch_size=2)
    images = [sorted((folder / "translated").rglob("*.png")) for folder in (two, tmp_path)]
    assert [path.name for path in images[0]] == [path.name for path in images[1]] and len(images[0]) == 15
    assert all(ours.read_bytes() == theirs.read_bytes() for ours, theirs in zip(*images, strict=True))
    assert not list((two / "translated").glob(".*"))


@pytest.fixture
def table(records: Records, tmp_path: Path) -> Path:
    """A table of the images, half of which are a test."""
    rows = ["path,identity,camera,split"]
    for number, path in enumerate(records.path):
        split = ("train", "query", "gallery")[0 if number < 16 else 1 + number % 2]
        rows.append(f"{path},v{number // 4},c{number // 2 % 2},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "labels.csv"


def test_the_command_under_torchrun(table: Path, tmp_path: Path) -> None:
    settings = [
        "epochs=1",
        "num_identities=4",
        "num_instances=2",
        "model.backbone=resnet10_ibn_a_tiny",
        "transform.height=32",
        "transform.width=32",
        "precision=float32",
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    out = ["--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    ended = torchrun("vreid", "train", "small", "--data", str(table), *out, *sets)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads(ended.stdout) == {"model": str(tmp_path / "run/model.safetensors")}  # said once
    assert (tmp_path / "run/model.safetensors").exists()


def test_an_error_of_one_process_ends_all_with_one_sentence(start: Path, table: Path, tmp_path: Path) -> None:
    """The sixth image of the gallery is broken: in batches of four, it is the second process that reads it."""
    text = table.read_text().splitlines()
    broken = [row for row in text if row.endswith("gallery")][5]
    Path(tmp_path / "broken.png").write_bytes(b"no image")
    table.write_text("\n".join(text).replace(broken.partition(",")[0], str(tmp_path / "broken.png")) + "\n")
    out = ["--out", str(tmp_path / "features"), "--batch-size", "4", "--device", "cpu"]
    ended = torchrun("vreid", "extract", str(start / "start"), str(table), *out)
    assert ended.returncode and ended.stdout == ""
    assert [line for line in ended.stderr.splitlines() if line.startswith("vreid:")] == [
        f"vreid: {tmp_path / 'broken.png'}: is not an image that can be read; use JPEG or PNG."
    ]
    assert "exitcode  : 2" in ended.stderr and "Traceback" not in ended.stderr.partition("vreid:")[0]
    assert (tmp_path / "features/query.safetensors").exists()


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize("first_batch", [0, 1])
def test_shares_of_a_batch_are_its_images_augmented_alike(records: Records, first_batch: int) -> None:
    sampler = PKSampler(records.identity.codes, 4, 2, seed=3)
    kept = []
    for share in (Share(), Share(0, 2, 2), Share(1, 2, 2)):
        loader = train_loader(records, TINY.transform, sampler, seed=7, workers=0, share=share)
        loader.set_epoch(1, first_batch)
        kept.append(list(loader))
    whole, *parts = kept
    assert len(whole) > 1 - first_batch and all(len(part) == len(whole) for part in parts)
    for number, batch in enumerate(whole):
        images = torch.empty_like(batch.images)
        for rank, part in enumerate(parts):
            places = [place for place in range(8) if place // 2 % 2 == rank]
            assert part[number].rows.tolist() == batch.rows[places].tolist()
            images[places] = part[number].images
        assert torch.equal(images, batch.images)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_share_of_two_domains_has_both(size: int) -> None:
    identities, domains = np.repeat(np.arange(16), 3), np.repeat([0, 1], 24)
    for batch in DomainSampler(identities, domains, num_identities=8, num_instances=3):
        shares = [Share(rank, size, 3).of(batch) for rank in range(size)]
        assert sorted(image for share in shares for image in share) == sorted(batch)
        for share in shares:
            assert domains[share].sum() * 2 == len(share)
            assert (np.bincount(identities[share], minlength=16) % 3 == 0).all()


def test_batches_that_cannot_be_shared_raise() -> None:
    with pytest.raises(InputError, match="num_identities is 4, too few for 5 processes"):
        make_share(TINY, ProcessGroup(0, 5))
    assert make_share(TINY, ProcessGroup(2, 3)).sizes(8) == [4, 2, 2]
    with pytest.raises(InputError, match="a multiple of 8"):
        make_share(replace(TINY, batches="domains"), ProcessGroup(0, 4))
    images = replace(TINY, batches="images", num_instances=1, losses=LossConfig(triplet=0))
    with pytest.raises(InputError, match="a multiple of 8"):  # one image cannot be normalised
        make_share(images, ProcessGroup(0, 4))
    assert make_share(TINY, ProcessGroup(3, 4)) == Share(3, 4, 2)
    assert make_share(replace(images, num_identities=5), ProcessGroup()) == Share(0, 1, 1)
    with pytest.raises(InputError, match="no process 2 among 2"):
        Share(2, 2)


# ---------------------------------------------------------------- processes


def test_dropout_is_drawn_by_rank_and_step() -> None:
    def draw(world: ProcessGroup, step: int) -> float:
        world.seed_step(5, step)
        return float(torch.rand(()))

    draws = [draw(ProcessGroup(rank, 2), step) for rank in range(2) for step in range(2)]
    assert len(set(draws)) == 4 and draw(ProcessGroup(1, 2), 0) == draws[2]
    torch.manual_seed(0)
    expected = float(torch.rand(()))
    torch.manual_seed(0)
    assert draw(ProcessGroup(), 3) == expected  # one process goes on with the draws of its seed


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """As torchrun starts the second of two processes, on a machine of two GPUs; what is called is listed."""
    calls: list[Any] = []
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: calls.append(index))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda kind, **_: calls.append(kind))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append("left"))
    yield calls


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_takes_the_gpu_of_its_local_rank(launched: list[Any], device: str) -> None:
    with processes(device) as place:
        assert place == "cuda:1"
    assert launched == [1, "nccl", "left"]


def test_gloo_on_cpu_and_nothing_alone(launched: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with processes("cpu") as place:
        assert place == "cpu" and launched == ["gloo"]
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes("cuda:0") as place:
        assert place == "cuda:0" and launched == ["gloo", "left"]


def test_missing_gpus_are_reported(launched: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="a GPU of its own; use --device cuda"), processes("cuda:0"):
        pass
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="--nproc-per-node 2"), processes("auto"):
        pass
    assert launched == []


def test_synchronised_batchnorm_keeps_the_names_of_weights() -> None:
    model = build("resnet10_ibn_a_tiny", 3)
    names = list(model.state_dict())
    ProcessGroup(0, 2).synchronise_batchnorm(model, torch.device("cuda"))
    assert list(model.state_dict()) == names
    kinds = {type(module) for module in model.modules()}
    assert nn.SyncBatchNorm in kinds and not kinds & {nn.BatchNorm1d, nn.BatchNorm2d}


if __name__ == "__main__":
    ranked(Path(sys.argv[1]))
