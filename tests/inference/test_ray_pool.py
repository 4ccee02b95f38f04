"""Extraction on a local Ray cluster of two processes; runs where ray is installed (`make test-ray`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.named_features import MortalWorker, NamedFeatures, named_records
from support.tiny_model import picture, write_model
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.extraction import extractor_of
from vreid.inference.ray_pool import RayPool
from vreid.inference.shard_workers import ModelCopy, ShardWorker
from vreid.retrieval import feature_shards
from vreid.training.feature_job import ExtractionSettings, FeatureJob

ROOT = Path(__file__).parents[2]
ray = pytest.importorskip("ray", reason="ray is not installed: make test-ray runs these tests")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / name) for name in ("src", "tests")))  # of the workers
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number:02d}.png" for number in range(26)]
    for number, path in enumerate(paths):
        Image.fromarray(picture(40, 60, number)).save(path)
    return Records.of(path=paths, camera=["c1"] * len(paths))


def test_features_are_those_of_one_process_to_the_bit(records: Records, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    for normalise in (True, False):
        how = ExtractionSettings(normalise=normalise, batch_size=4)
        alone = FeatureJob(records, extractor_of(model, "cpu"), how).run()
        worker = ShardWorker(ModelCopy.of(model), device="cpu")
        job = FeatureJob(records, extractor_of(model, "cpu"), how, out=tmp_path / f"{normalise}.safetensors")
        with RayPool(worker, count=2) as pool:
            found = job.run(pool)
        assert found.features.tobytes() == alone.features.tobytes() and found.records == alone.records
        assert found.model == alone.model and found.views == alone.views


def test_an_actor_killed_in_the_middle_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_shards, "SHARD", 5)
    how = ExtractionSettings(batch_size=2)
    expected = FeatureJob(named_records(23), NamedFeatures(), how).run()
    worker = MortalWorker(str(tmp_path), shard=5, kill=12)
    with RayPool(worker, count=2) as pool:
        job = FeatureJob(named_records(23), NamedFeatures(), how, out=tmp_path / "f.safetensors")
        found = job.run(pool)
    assert found.features.tobytes() == expected.features.tobytes()
    count = worker.count()
    assert [row for row in range(23) if count[row] == 2] == [10, 11, 12, 13] and max(count.values()) == 2


def test_an_actor_that_dies_again_and_again_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_shards, "SHARD", 5)
    worker = MortalWorker(str(tmp_path), shard=5, kill=12, times=100)
    job = FeatureJob(named_records(23), NamedFeatures(), out=tmp_path / "f.safetensors")
    with RayPool(worker, count=1) as pool, pytest.raises(InputError, match="a worker died or could not start 4 times"):
        job.run(pool)
    found = FeatureJob(named_records(23), NamedFeatures(), out=tmp_path / "f.safetensors").run()
    assert len(found) == 23 and max(worker.count()[row] for row in range(10)) == 1


def test_wrong_input_of_an_actor_is_the_same_sentence(tmp_path: Path) -> None:
    wrong = named_records(9).with_(path=[*map(str, range(8)), "-1"])
    job = FeatureJob(wrong, NamedFeatures(), out=tmp_path / "f.safetensors")
    with (
        RayPool(MortalWorker(str(tmp_path), shard=2048), count=1) as pool,
        pytest.raises(InputError, match=r"^-1: cannot be read\.$"),
    ):
        job.run(pool)


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    ray.shutdown()
    with (
        pytest.raises(InputError, match=r"--ray 127\.0\.0\.1:1: there is no such Ray cluster"),
        RayPool(MortalWorker(str(tmp_path), shard=5), "127.0.0.1:1"),
    ):
        pass
