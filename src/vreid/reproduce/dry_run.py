"""A dry run: what the stages of some rows would take on the data at hand, and one step of each to see that it goes.

Counts, batches and schedules are those of the whole data. The steps are taken on a cut of it, with pictures and
networks of the true size, and on a GPU with batches of the true size too: a configuration that cannot work, a folder
that cannot be read and a GPU that is too small show within minutes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import AdaptConfig
from vreid.data.augment import TrainTransform
from vreid.data.dataset import Dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.formatting import duration
from vreid.progress import Progress
from vreid.reproduce.builders import of_part, scene_groups
from vreid.reproduce.rows import AnyRow, Cropping, Ensemble, Row, SideModel, stages
from vreid.reproduce.runner import run_rows, seconds_taken
from vreid.reproduce.stage_costs import training_memory, work
from vreid.reproduce.stages import (
    Adapted,
    Crops,
    Data,
    Features,
    Folders,
    Model,
    Scenes,
    SimulatedWorld,
    Stage,
    Translations,
)
from vreid.retrieval.postprocessing.scene_groups import SceneGroups
from vreid.simulator.city.presets import PRESETS
from vreid.training.meter import memory_at_most
from vreid.training.train_config import TrainConfig

CUT, SHOTS = 32, 2
"""Vehicles of each domain, and of the test, that the steps are taken on; images of each at most."""
STEPS = {"cpu": 2, "cuda": 20}
"""Steps of every loop; the first ten on a GPU choose kernels and are not timed."""
PIXELS = 1 << 20
"""Of all pictures of a batch on a CPU: 16 of 256 x 256."""
FEW = replace(PRESETS["tiny"], name="few", train_identities=CUT, synthetic_identities=CUT, synthetic_images=4)
"""What stands for a simulated world: batches of 64 images can be drawn from it."""


def dry_run_stages(rows: Iterable[AnyRow], device: str = "cpu", progress: Progress | None = None) -> Iterator[str]:
    """One sentence each: what the data hold; what each stage would be on them; what a step of every stage took.

    Simulated worlds are not made for it: the steps are then taken on a world of few vehicles.

    Raises:
        InputError: the data cannot be read.
    """
    chosen = _one_of_each(rows)
    wholes: dict[Data, Dataset] = {row.data: row.data.open() for row in chosen if isinstance(row.data, Folders)}
    for dataset in wholes.values():
        yield repr(dataset)
        yield from dataset.notes
        if not dataset.query.identity.known.any():
            yield (
                "The test names no vehicles: rows end in their track2.txt and are not evaluated. For numbers take "
                "some training vehicles for a test (vreid data split) and give that as the first --data."
            )
    for data in [stage.data for stage in stages(chosen) if isinstance(stage, Scenes) and stage.data in wholes]:
        with suppress(InputError):  # the row will fail and tell
            groups = scene_groups(wholes[data])
            yield groups.describe(wholes[data].query, wholes[data].gallery)
            wholes[data] = _with_scenes(wholes[data], groups)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        datas: dict[Data, Data] = {}
        for data in dict.fromkeys(row.data for row in chosen):
            datas[data] = (
                SimulatedWorld(FEW, 1, data.layout)
                if isinstance(data, SimulatedWorld)
                else few_vehicles(wholes[data], folder)
            )
        short = [_short(row, datas[row.data], device.partition(":")[0]) for row in chosen]
        lines = run_rows(short, folder / "cache", device=device, progress=progress)
        yield from (f"{line.name}: FAILED: {line.error}" for line in lines if line.error)
        yield from _on_the_whole(stages(chosen), stages(short), folder / "cache", wholes)
        seconds = seconds_taken(folder / "cache")
        kinds = dict.fromkeys(name.partition("/")[0] for name in seconds)
        for kind in kinds:
            took = [value for name, value in seconds.items() if name.startswith(f"{kind}/")]
            yield f"{kind}: {len(took)} tried on the cut, {duration(sum(took))}."
    yield f"Memory of the dry run: {memory_at_most(torch.device(device))} at most."


def _with_scenes(dataset: Dataset, groups: SceneGroups) -> Dataset:
    """The test with its scene groups as column `scene`: a cut does not hold the labels that tell them."""
    codes = groups.of(dataset.query, dataset.gallery)
    query, gallery = (
        side.with_(scene=["" if code < 0 else f"group {code}" for code in group.tolist()])
        for side, group in zip((dataset.query, dataset.gallery), codes, strict=True)
    )
    return replace(dataset, query=query, gallery=gallery)


def _on_the_whole(
    chosen: tuple[Stage, ...], short: tuple[Stage, ...], cache: Path, wholes: dict[Data, Dataset]
) -> Iterator[str]:
    """What each stage of `chosen` would take by the pace of its network in the stage of `short`; then all together."""
    total, seen = 0.0, set[str]()
    for stage, stepped in zip(chosen, short, strict=True):
        network = _network(stage)
        found = work(stage, wholes.get(network.data)) if network else None
        if found is None:
            continue
        pace = _pace(cache, stepped)
        total += found.seconds(pace) if pace else 0
        if found.reported in seen:
            continue
        seen.add(found.reported)
        reported = found.reported
        if isinstance(stage, Model):
            reported += f"; {training_memory(stage.training) / 2**30:.1f} GiB"
            reported += f"; {pace:.1f} images a second" if pace else "; not tried"
        if isinstance(stage, Adapted) and not list((cache / stepped.name).glob("round-*")):
            reported += "; not tried, as the cut has no tracklets to learn from"
        if pace and found.seconds(pace):
            reported += f"; about {duration(found.seconds(pace))}"
        yield f"{reported}."
    if total:
        yield f"All of it on this machine, but for clustering and ranking: about {duration(total)}."


def _network(stage: Stage) -> Model | Translations | None:
    """The training whose network does the work of `stage`."""
    if isinstance(stage, (Model, Translations)):
        return stage
    if isinstance(stage, Features):
        return stage.first_model
    return stage.model if isinstance(stage, (Crops, Adapted)) else None


def _one_of_each(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """The rows of the first seed."""
    found: dict[AnyRow, AnyRow] = {}
    for row in rows:
        found.setdefault(row.seeded(0), row)
    return list(found.values())


def _short(row: AnyRow, data: Data, device: str) -> AnyRow:
    """`row` on other data, with a few steps of every loop."""
    if isinstance(row, Ensemble):
        return replace(row, members=tuple(_short_row(member, data, device) for member in row.members))
    return _short_row(row, data, device)


def _short_row(row: Row, data: Data, device: str) -> Row:
    def steps(training: TrainConfig) -> TrainConfig:
        count = _identities(training.transform, training.num_identities, training.num_instances, device)
        return replace(training, epochs=1, iterations=STEPS[device], num_identities=count)

    def side(model: SideModel | None) -> SideModel | None:
        return model and replace(model, training=steps(model.training))

    return replace(
        row,
        data=data,
        training=steps(row.training),
        crops=row.crops and Cropping(steps(row.crops.training), row.crops.config),
        translation=row.translation and replace(row.translation, epochs=1),
        adaptation=row.adaptation and _tracklets(row.adaptation, row.training.transform, device),
        camera_bias=side(row.camera_bias),
        orientation_bias=side(row.orientation_bias),
    )


def _tracklets(adaptation: AdaptConfig, transform: TrainTransform, device: str) -> AdaptConfig:
    """A few steps on clusters that every cut has: its tracklets. Those of the settings need many images a vehicle."""
    clusters = replace(adaptation.pseudo, own_share=0.0, k1=4, k2=1, eps=0.3, min_samples=2)
    count = _identities(transform, adaptation.num_identities, adaptation.num_instances or 8, device)
    return replace(adaptation, pseudo=clusters, epochs=1, iterations=STEPS[device], num_identities=count)


def _identities(transform: TrainTransform, count: int, instances: int, device: str) -> int:
    """P of a batch: the true one, or on a CPU, where only the pace is of interest, no more than `PIXELS` allow."""
    if device != "cpu":
        return count
    fitting = PIXELS // (transform.height * transform.width * instances)
    return min(count, max(2, fitting // 2 * 2))  # half of them may be of either domain


def few_vehicles(dataset: Dataset, folder: Path) -> Folders:
    """A table of few vehicles of each kind, the test with made-up vehicles where it has none."""
    real, synthetic = (of_part(dataset.train, part) for part in ("real", "synthetic"))
    query, gallery = dataset.query, dataset.gallery
    if query.identity.known.any():
        query = _few(query, query.identity.codes, 1)
        gallery = gallery[np.isin(gallery.identity.values, list(set(query.identity.values)))]
        gallery = _few(gallery, _passages(gallery))
    else:  # the halves change places, as images in the same place of both lists may be of one camera
        gallery = _few(gallery, _passages(gallery))
        vehicles = len(np.unique(_passages(gallery)))
        query = _made_up(_few(query, np.arange(len(query)), 1), vehicles, vehicles // 2)
        gallery = _made_up(gallery, vehicles)
    kept = [_few(real, real.identity.codes), _few(synthetic, synthetic.identity.codes), query, gallery]
    table = folder / f"cut-{len(list(folder.iterdir()))}.csv"
    splits = zip(kept, ("train", "train", "query", "gallery"), strict=True)
    Records.concat([records.with_(split=[split] * len(records)) for records, split in splits]).write_table(table)
    return Folders.of(table)


def _few(records: Records, codes: NDArray[np.integer], shots: int = SHOTS) -> Records:
    """At most `shots` images of each of `CUT` groups, which `codes` tell apart, spread over all that there are."""
    rows = [_spread(np.flatnonzero(codes == code), shots) for code in _spread(np.unique(codes[codes >= 0]), CUT)]
    return records[np.concatenate([*rows, np.empty(0, dtype=np.intp)])]


def _spread(values: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(np.intp)]


def _passages(records: Records) -> NDArray[np.integer]:
    """The tracklet of each image; where there are none, its vehicle; or itself."""
    for labels in (records.tracklet, records.identity):
        if labels.known.any():
            return labels.codes
    return np.arange(len(records))


def _made_up(records: Records, vehicles: int, first: int = 0) -> Records:
    """Images of unknown vehicles, passage by passage as of so many vehicles that come in turn."""
    passage = np.unique(_passages(records), return_inverse=True)[1]
    return records.with_(identity=[f"cut-{(first + number) % vehicles}" for number in passage.tolist()])


def _pace(cache: Path, stage: Stage) -> float | None:
    """Images a second that the network of a stage learned from in its last steps, if there were any."""
    network = _network(stage)
    if network is None:
        return None
    metrics = cache / network.name / ("model" if isinstance(network, Translations) else "") / "metrics.jsonl"
    if not metrics.is_file():
        return None
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    paces = [line["images_per_second"] for line in lines if line["event"] == "step"]
    return float(paces[-1]) if paces else None
