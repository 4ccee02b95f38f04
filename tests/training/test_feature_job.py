"""The plan of an extraction: shards, their batches, and that any division among processes gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.named_features import MortalWorker, NamedFeatures, ProcessPool, named_records
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.retrieval import feature_shards
from vreid.retrieval.features import FeatureSet
from vreid.training.feature_job import ExtractionSettings, FeatureJob, batches_of, begin, fill

COUNT = 23


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def records(count: int = COUNT) -> Records:
    return named_records(count)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_shards, "SHARD", 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 12))
def test_batches_stay_in_their_shard(count: int, shard: int, batch_size: int) -> None:
    shards = [slice(start, min(start + shard, count)) for start in range(0, count, shard)]
    batches = batches_of(shards, batch_size)
    assert np.array_equal(np.concatenate([np.arange(0), *batches]), np.arange(count))
    assert all(1 <= len(rows) <= batch_size and rows[0] // shard == rows[-1] // shard for rows in batches)
    for one in shards:
        alone = [rows.tolist() for rows in batches_of([one], batch_size)]
        assert alone == [rows.tolist() for rows in batches if one.start <= rows[0] < one.stop]


@pytest.mark.parametrize("normalise", [True, False])
def test_features_are_equal_in_memory_in_a_file_and_in_shards(tmp_path: Path, normalise: bool) -> None:
    how = ExtractionSettings(normalise=normalise, batch_size=2)
    plain = FeatureJob(records(), NamedFeatures(), how).run()
    assert plain.normalised == normalise and plain.raw != normalise and plain.records == records()
    out, listener, extractor = tmp_path / "new" / "query.safetensors", Notes(), NamedFeatures()
    shards = FeatureJob(records(), extractor, how, out=out, progress=listener).run_sharded()
    assert not out.exists() and listener.notes == ["A note."]
    for _ in range(2):  # the second run finds everything
        shards = FeatureJob(records(), extractor, how, out=out).run_sharded()
    stored = FeatureJob(records(), extractor, how, out=out).run()  # the shards become a file
    assert extractor.rows == list(range(COUNT)) and not Path(shards.folder).exists()
    assert stored.features.tobytes() == plain.features.tobytes() == FeatureSet.load(out).features.tobytes()
    assert stored.records == plain.records == FeatureSet.load(out).records and stored.normalised == normalise
    FeatureJob(records(), extractor, how, out=out).run()
    assert extractor.rows == list(range(COUNT))
    FeatureJob(records(), extractor, how, out=out, resume=False).run()
    assert extractor.rows == [*range(COUNT), *range(COUNT)]
    with pytest.raises(InputError, match="shards need an output"):
        FeatureJob(records(), extractor, how).run_sharded()
    with pytest.raises(InputError, match=r"query.safetensors: would be read instead of the shards; remove it or name"):
        FeatureJob(records(), extractor, how, out=out).run_sharded()


def test_a_shard_that_was_removed_from_a_complete_folder_is_computed_again(tmp_path: Path) -> None:
    extractor, out = NamedFeatures(), tmp_path / "query.safetensors"
    shards = FeatureJob(records(), extractor, out=out).run_sharded()
    whole = shards.whole()
    Path(shards.place(5)).unlink()
    again = FeatureJob(records(), extractor, out=out).run_sharded()
    assert extractor.rows == [*range(COUNT), *range(5, 10)]
    assert again.whole().features.tobytes() == whole.features.tobytes()


def test_no_images_make_an_empty_set(tmp_path: Path) -> None:
    for out in (None, tmp_path / "f.safetensors"):
        found = FeatureJob(records(0), NamedFeatures(), out=out).run()
        assert found.features.shape == (0, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.sets(st.integers(0, 4)), st.integers(1, 7))
def test_any_division_among_processes_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, owners: list[int], damaged: set[int], batch_size: int
) -> None:
    how = ExtractionSettings(batch_size=batch_size)
    expected = FeatureJob(records(), NamedFeatures(), how).run()
    job = FeatureJob(records(), NamedFeatures(), how, out=tmp_path_factory.mktemp("job") / "f.safetensors")
    begin(job.store, NamedFeatures())
    starts = list(job.store.starts)
    made: list[int] = []
    hashes: dict[int, str] = {}
    for process in range(3):
        extractor = NamedFeatures()
        own = [start for start, owner in zip(starts, owners, strict=True) if owner == process]
        hashes |= fill(job.store, own, extractor, job.shown, how, Progress())
        made += extractor.rows
    assert sorted(made) == list(range(COUNT))  # nothing twice
    for number in damaged:
        Path(job.store.place(starts[number])).write_bytes(b"cut")
    extractor, listener = NamedFeatures(), Notes()
    for start in starts:  # a process that holds the images of one shard only
        part = {False: job.shown[False][job.store.rows(start)]}
        assert fill(job.store, [start], extractor, part, how, listener, offset=start) == {start: hashes[start]}
    assert sorted(extractor.rows) == [row for row in range(COUNT) if row // 5 in damaged]
    assert sum("Its images are extracted again" in note for note in listener.notes) == len(damaged)
    assert job.run().features.tobytes() == expected.features.tobytes()


def test_wrong_input_leaves_no_folder_unless_there_is_something_to_resume(tmp_path: Path) -> None:
    out = tmp_path / "new/f.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        FeatureJob(Records.of(path=["-1"]), NamedFeatures(), out=out).run()
    assert not out.parent.exists()
    late = records().with_(path=[*map(str, range(20)), "20", "-1", "22"])
    with pytest.raises(InputError, match="cannot be read"):
        FeatureJob(late, NamedFeatures(), out=out).run()
    assert len(list(out.parent.glob("f.shards/rows-*"))) == 4


def test_features_that_are_not_finite_stop_the_job_before_they_are_written(tmp_path: Path) -> None:
    class Broken(NamedFeatures):
        def features(self, *given: Any, **more: Any) -> Iterator[NDArray[np.float32]]:
            for made in super().features(*given, **more):
                yield np.where(made == 13, np.float32(np.nan), made)  # that of image 12

    with pytest.raises(InputError, match=r"^12 .*NaN"):
        FeatureJob(records(), Broken(), ExtractionSettings(batch_size=2), out=tmp_path / "f.safetensors").run()
    assert len(list(tmp_path.glob("f.shards/rows-*"))) == 2


def test_crops_are_matched_and_read(tmp_path: Path) -> None:
    crops = records().with_(path=[str(100 + row) for row in range(COUNT)], variant=["crop"] * COUNT)
    how, extractor = ExtractionSettings(views=("crop",)), NamedFeatures()
    found = FeatureJob(records(), extractor, how, crops=crops[::-1], out=tmp_path / "f.safetensors").run()
    assert extractor.rows == list(range(100, 123)) and found.records == records()
    with pytest.raises(InputError, match="has no crop"):
        FeatureJob(records(), extractor, how, crops=crops[:5])
    with pytest.raises(InputError, match="batch size"):
        ExtractionSettings(batch_size=0)


def test_a_worker_killed_in_the_middle_loses_one_shard_and_repeats_none_that_was_written(tmp_path: Path) -> None:
    how = ExtractionSettings(batch_size=2)
    expected = FeatureJob(records(), NamedFeatures(), how).run()
    (tmp_path / "noted").mkdir()
    worker = MortalWorker(str(tmp_path / "noted"), shard=5, kill=12)
    found = FeatureJob(records(), NamedFeatures(), how, out=tmp_path / "f.safetensors").run(ProcessPool(worker))
    assert found.features.tobytes() == expected.features.tobytes() and found.records == expected.records
    count = worker.count()
    assert [row for row in range(COUNT) if count[row] == 2] == [10, 11, 12, 13]  # its shard, as far as it came
    assert max(count.values()) == 2 and set(count) == set(range(COUNT))


def test_a_killed_driver_goes_on_with_what_its_workers_wrote(tmp_path: Path) -> None:
    (tmp_path / "noted").mkdir()
    worker, out = MortalWorker(str(tmp_path / "noted"), shard=5), tmp_path / "f.safetensors"
    job = FeatureJob(records(), NamedFeatures(), out=out)
    pool = ProcessPool(worker, 1)
    pool.begin(job.store.folder, job.store.job)
    written = next(iter(pool.run(job.tasks())))  # and then nobody asks for more
    assert set(written) == {0}
    extractor = NamedFeatures()
    FeatureJob(records(), extractor, out=out).run()
    assert not set(range(5)) & set(extractor.rows)


def test_wrong_input_of_a_worker_and_another_model_end_the_job(tmp_path: Path) -> None:
    wrong = records().with_(path=[*map(str, range(22)), "-1"])
    worker = MortalWorker(str(tmp_path), shard=5)
    with pytest.raises(InputError, match="-1: cannot be read"):
        FeatureJob(wrong, NamedFeatures(), out=tmp_path / "a/f.safetensors").run(ProcessPool(worker))
    other = NamedFeatures()
    other.hash = "n"
    with pytest.raises(InputError, match="computes with model m instead of n; install the same version"):
        FeatureJob(records(), other, out=tmp_path / "b/f.safetensors").run(ProcessPool(worker))
