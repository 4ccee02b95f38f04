"""The plan of an extraction: shards, their batches, and that any division among processes gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.retrieval import feature_shards
from vreid.retrieval.feature_shards import FeatureShards
from vreid.training.feature_job import ExtractionSettings, FeatureJob, Rows, batches_of, fill

COUNT = 23


class FromNames:
    """An extractor whose features say which image they are of, and in which batch it was, as rounding would."""

    hash, num_features = "m", 3

    def __init__(self) -> None:
        self.rows: list[int] = []

    def precision(self, stored: str | None) -> tuple[str, str]:
        return "float32", "A note."

    def features(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterator[NDArray[np.float32]]:
        for rows in batches:
            names = [int(path) for path in shown[settings.kinds[0]].path[rows]]
            if -1 in names:
                raise InputError("-1: cannot be read.")
            self.rows += names
            yield np.array([[name + 1, names[0], len(names)] for name in names], dtype=np.float32)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def records(count: int = COUNT) -> Records:
    return Records.of(path=[str(row) for row in range(count)], camera=[f"c{row % 3}" for row in range(count)])


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
@pytest.mark.parametrize("sharded", [True, False])
def test_features_are_equal_in_memory_in_a_file_and_in_shards(tmp_path: Path, sharded: bool, normalise: bool) -> None:
    how = ExtractionSettings(normalise=normalise, batch_size=2)
    plain = FeatureJob(records(), FromNames(), how).run()
    assert plain.normalised == normalise and plain.raw != normalise and plain.records == records()
    out, listener = tmp_path / "new" / "query.safetensors", Notes()
    stored = FeatureJob(records(), FromNames(), how, out=out, sharded=sharded, progress=listener).run()
    assert stored.features.tobytes() == plain.features.tobytes() and stored.records == plain.records
    assert out.exists() != sharded and (tmp_path / "new/query.shards").exists() == sharded
    assert listener.notes == ["A note."]
    again = FromNames()
    repeated = FeatureJob(records(), again, how, out=out, sharded=sharded).run()
    assert again.rows == [] and repeated.features.tobytes() == plain.features.tobytes()
    if sharded:
        opened = FeatureShards.open(tmp_path / "new/query.shards").whole()
        assert opened.features.tobytes() == plain.features.tobytes() and opened.normalised == normalise
    FeatureJob(records(), again, how, out=out, sharded=sharded, resume=False).run()
    assert again.rows == list(range(COUNT))


def test_no_images_make_an_empty_set(tmp_path: Path) -> None:
    for out in (None, tmp_path / "f.safetensors"):
        found = FeatureJob(records(0), FromNames(), out=out).run()
        assert found.features.shape == (0, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.sets(st.integers(0, 4)), st.integers(1, 7))
def test_any_division_among_processes_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, owners: list[int], damaged: set[int], batch_size: int
) -> None:
    how = ExtractionSettings(batch_size=batch_size)
    expected = FeatureJob(records(), FromNames(), how).run()
    job = FeatureJob(records(), FromNames(), how, out=tmp_path_factory.mktemp("job") / "f.safetensors")
    job.begin()
    assert job.store is not None
    starts = list(job.store.starts)
    made: list[int] = []
    hashes: dict[int, str] = {}
    for process in range(3):
        extractor = FromNames()
        own = [start for start, owner in zip(starts, owners, strict=True) if owner == process]
        hashes |= fill(job.store, own, extractor, job.shown, how, Progress())
        made += extractor.rows
    assert sorted(made) == list(range(COUNT))  # nothing twice
    for number in damaged:
        Path(job.store.place(starts[number])).write_bytes(b"cut")
    extractor, listener = FromNames(), Notes()
    for start in starts:  # a process that holds the images of one shard only
        part = {False: job.shown[False][job.store.rows(start)]}
        assert fill(job.store, [start], extractor, part, how, listener, offset=start) == {start: hashes[start]}
    assert sorted(extractor.rows) == [row for row in range(COUNT) if row // 5 in damaged]
    assert sum("Its images are extracted again" in note for note in listener.notes) == len(damaged)
    assert job.join(hashes).features.tobytes() == expected.features.tobytes()


def test_wrong_input_leaves_no_folder_unless_there_is_something_to_resume(tmp_path: Path) -> None:
    out = tmp_path / "new/f.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        FeatureJob(Records.of(path=["-1"]), FromNames(), out=out).run()
    assert not out.parent.exists()
    late = records().with_(path=[*map(str, range(20)), "20", "-1", "22"])
    with pytest.raises(InputError, match="cannot be read"):
        FeatureJob(late, FromNames(), out=out).run()
    assert len(list(out.parent.glob("f.shards/rows-*"))) == 4


def test_features_that_are_not_finite_stop_the_job_before_they_are_written(tmp_path: Path) -> None:
    class Broken(FromNames):
        def features(self, *given: Any, **more: Any) -> Iterator[NDArray[np.float32]]:
            for made in super().features(*given, **more):
                yield np.where(made == 13, np.float32(np.nan), made)  # that of image 12

    with pytest.raises(InputError, match=r"^12 .*NaN"):
        FeatureJob(records(), Broken(), ExtractionSettings(batch_size=2), out=tmp_path / "f.safetensors").run()
    assert len(list(tmp_path.glob("f.shards/rows-*"))) == 2


def test_crops_are_matched_and_read(tmp_path: Path) -> None:
    crops = records().with_(path=[str(100 + row) for row in range(COUNT)], variant=["crop"] * COUNT)
    how, extractor = ExtractionSettings(views=("crop",)), FromNames()
    found = FeatureJob(records(), extractor, how, crops=crops[::-1], out=tmp_path / "f.safetensors").run()
    assert extractor.rows == list(range(100, 123)) and found.records == records()
    with pytest.raises(InputError, match="has no crop"):
        FeatureJob(records(), extractor, how, crops=crops[:5])
    with pytest.raises(InputError, match="batch size"):
        ExtractionSettings(batch_size=0)
