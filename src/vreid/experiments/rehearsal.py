"""A dry run: what the stages of some rows would take on the data at hand, and one step of each to see that it goes.

Counts, batches and schedules are those of the whole data. The steps are taken on a cut of it, with pictures, networks
and batches of the true size: a configuration that cannot work, a folder that cannot be read and a GPU that is too small
show within minutes.
"""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.records import Records
from vreid.experiments.making import of_part
from vreid.experiments.rows import AnyRow, Cropping, Ensemble, Row, SideModel, stages
from vreid.experiments.runner import run_rows, seconds_taken
from vreid.experiments.stages import Data, Folders, Model, World
from vreid.simulator.presets import PRESETS
from vreid.training.config import TrainConfig
from vreid.training.progress import Progress
from vreid.training.supervised import make_sampler
from vreid.training.targets import labelled, make_targets
from vreid.wording import duration

CUT = 24
"""Vehicles of each domain, and of the test, that the steps are taken on; as many images of each at most."""
FEW = replace(PRESETS["tiny"], name="few", train_identities=CUT, synthetic_identities=CUT, synthetic_images=4)
"""What stands for a simulated world: batches of 64 images can be drawn from it."""


def rehearse(rows: Iterable[AnyRow], device: str = "cpu", progress: Progress | None = None) -> Iterator[str]:
    """One sentence each: what the data hold; what each training would be; what a step of every stage took.

    Simulated worlds are not made for it: the steps are then taken on a world of few vehicles.

    Raises:
        InputError: the data cannot be read.
    """
    chosen = _one_of_each(rows)
    wholes: dict[Data, Dataset] = {row.data: row.data.open() for row in chosen if isinstance(row.data, Folders)}
    yield from map(repr, wholes.values())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        datas: dict[Data, Data] = {}
        for data in dict.fromkeys(row.data for row in chosen):
            datas[data] = World(FEW, 1, data.layout) if isinstance(data, World) else _cut(wholes[data], folder)
        short = [_short(row, datas[row.data]) for row in chosen]
        lines = run_rows(short, folder / "cache", device=device, progress=progress)
        yield from (f"{line.name}: FAILED: {line.error}" for line in lines if line.error)
        seen: set[str] = set()
        for true, stepped in zip(stages(chosen), stages(short), strict=True):
            if isinstance(true, Model):
                told = _training(true, folder / "cache" / stepped.name, wholes.get(true.data))
                yield from (told,) if told not in seen else ()
                seen.add(told)
        seconds = seconds_taken(folder / "cache")
        kinds = dict.fromkeys(name.partition("/")[0] for name in seconds)
        for kind in kinds:
            took = [value for name, value in seconds.items() if name.startswith(f"{kind}/")]
            yield f"{kind}: {len(took)} tried on the cut, {duration(sum(took))}."
    yield f"Memory: {_memory(device)}."


def _one_of_each(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """The rows of the first seed."""
    found: dict[AnyRow, AnyRow] = {}
    for row in rows:
        found.setdefault(row.seeded(0), row)
    return list(found.values())


def _short(row: AnyRow, data: Data) -> AnyRow:
    """`row` on other data, with one or two steps of every loop."""
    if isinstance(row, Ensemble):
        return replace(row, members=tuple(_short_row(member, data) for member in row.members))
    return _short_row(row, data)


def _short_row(row: Row, data: Data) -> Row:
    def side(model: SideModel | None) -> SideModel | None:
        return model and replace(model, training=_steps(model.training))

    return replace(
        row,
        data=data,
        training=_steps(row.training),
        crops=row.crops and Cropping(_steps(row.crops.training), row.crops.config),
        translation=row.translation and replace(row.translation, epochs=1),
        adaptation=row.adaptation and replace(row.adaptation, epochs=1, iterations=2),
        camera_bias=side(row.camera_bias),
        orientation_bias=side(row.orientation_bias),
    )


def _steps(training: TrainConfig) -> TrainConfig:
    return replace(training, epochs=1, iterations=2)


def _cut(dataset: Dataset, folder: Path) -> Folders:
    """A table of few vehicles of each kind, the test with made-up vehicles where it has none."""
    real, synthetic = (of_part(dataset.train, part) for part in ("real", "synthetic"))
    kept = [_few(records) for records in (real, synthetic)]
    query, gallery = _named(dataset.query), _named(dataset.gallery)
    known = set(query.identity.values[query.identity.known][:CUT])
    test = [records[[name in known for name in records.identity.values]] for records in (query, gallery)]
    kept += [_few(records) for records in test]
    table = folder / f"cut-{len(list(folder.iterdir()))}.csv"
    splits = zip(kept, ("train", "train", "query", "gallery"), strict=True)
    Records.concat([records.with_(split=[split] * len(records)) for records, split in splits]).write_csv(table)
    return Folders.of(table)


def _few(records: Records) -> Records:
    """At most `CUT` images of each of the first `CUT` vehicles."""
    codes = records.identity.codes
    rows = [np.flatnonzero(codes == code)[:CUT] for code in np.unique(codes[codes >= 0])[:CUT]]
    return records[np.concatenate([*rows, np.empty(0, dtype=np.intp)])]


def _named(records: Records) -> Records:
    """Images of unknown vehicles, as of `CUT` vehicles that come in turn."""
    if records.identity.known.any():
        return records
    return records.with_(identity=[f"cut-{number % CUT}" for number in range(len(records))])


def _training(stage: Model, run: Path, dataset: Dataset | None) -> str:
    """What a training would be, and what it would take by the pace of the steps that were made in `run`."""
    config = stage.training
    told = f"{config.recipe} on {' + '.join(stage.parts)}, {config.transform.height} x {config.transform.width} pixels"
    rates = [config.schedule.rate(config.optimiser.learning_rate, time, config.epochs)
             for time in (0, config.epochs / 2, config.epochs - 1)]  # fmt: skip
    told += (
        f": {config.epochs} epochs, learning rate {', '.join(f'{rate:.2g}' for rate in rates)} (first, middle, last)"
    )
    pace = _pace(run / "metrics.jsonl")
    told += f", {pace:.0f} images a second" if pace else ", not tried"
    if dataset is None:
        return f"{told}."
    parts = [_as(of_part(dataset.train, part), part) for part in stage.parts]
    records = labelled(Records.concat(parts), config.target)
    targets = make_targets(records, config.target, config.heads, config.labels, flips=config.transform.flip > 0)
    batches, size = len(make_sampler(config, records, targets)), config.num_identities * config.num_instances
    told += (f"; {len(records):,} images, {batches:,} batches of {config.num_identities} x {config.num_instances} "
             "an epoch")  # fmt: skip
    return f"{told}; about {duration(config.epochs * batches * size / pace)}." if pace else f"{told}."


def _as(records: Records, part: str) -> Records:
    return records.with_(variant=[part] * len(records)) if part in ("crop", "translated") else records


def _pace(metrics: Path) -> float | None:
    """Images a second of the last steps of a run, if there were any."""
    if not metrics.is_file():
        return None
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    paces = [line["images_per_second"] for line in lines if line.get("images_per_second")]
    return float(paces[-1]) if paces else None


def _memory(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU at most"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most"
