"""A dry run: a few steps of every stage of some rows, and the time that all of it would take at their pace.

The steps are taken on a cut of the data, with images and networks of the true size, and on a GPU with batches of the
true size too: a configuration that cannot work, a folder that cannot be read and a GPU that is too small show within
minutes.
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
from vreid.data.sampling import PairedSampler
from vreid.errors import InputError
from vreid.formatting import duration
from vreid.progress import Progress
from vreid.reproduce.builders import of_part, scene_groups
from vreid.reproduce.rows import AnyRow, Cropping, Ensemble, Row, SideModel, stages
from vreid.reproduce.runner import run_rows, seconds_taken
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
from vreid.training.supervised import make_sampler
from vreid.training.targets import labelled, make_targets
from vreid.training.train_config import TrainConfig

CUT, SHOTS = 32, 2
"""Vehicles of each domain, and of the test, that the steps are taken on; images of each at most."""
STEPS = {"cpu": 2, "cuda": 20}
"""Steps of every loop; the first ten on a GPU choose kernels and are not timed."""
PIXELS = 1 << 20
"""Of all pictures of a batch on a CPU: 16 of 256 x 256."""
EXTRACTED = 3.0
"""Images that are extracted in the time in which one is learned from: forward, and backward twice as long."""
FEW = replace(PRESETS["tiny"], name="few", train_identities=CUT, synthetic_identities=CUT, synthetic_images=4)
"""What stands for a simulated world: batches of 64 images can be drawn from it."""


def dry_run_stages(rows: Iterable[AnyRow], device: str = "cpu", progress: Progress | None = None) -> Iterator[str]:
    """One sentence each: what the data hold; what each stage would take on them; what a step of every stage took.

    Simulated worlds are not made for it: the steps are then taken on a world of few vehicles, and the time that the
    whole would take is the plan's (`vreid.reproduce.runner.plan`).

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
        yield from _costs(stages(chosen), stages(short), folder / "cache", wholes)
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


def _costs(
    chosen: tuple[Stage, ...], short: tuple[Stage, ...], cache: Path, wholes: dict[Data, Dataset]
) -> Iterator[str]:
    """What each stage of `chosen` would take at the pace of its network in the stage of `short`; then all together."""
    total, reported = 0.0, dict[str, None]()
    for stage, stepped in zip(chosen, short, strict=True):
        network = _network(stage)
        if network is None or network.data not in wholes:
            continue
        learned, extracted = _work(stage, wholes[network.data])
        sentence = f"{_title(stage, network)}: {learned + extracted:,.0f} images"
        pace = _pace(cache, stepped)
        if pace:
            seconds = (learned + extracted / EXTRACTED) / pace
            total += seconds
            sentence += f", about {duration(seconds)} at {pace:.1f} trained images a second"
        if not pace or (isinstance(stage, Adapted) and not list((cache / stepped.name).glob("round-*"))):
            sentence += "; not tried" + (", as the cut has no tracklets to learn from" if pace else "")
        reported[f"{sentence}."] = None
    yield from reported
    if total:
        yield f"All of it on this machine, but for clustering and ranking: about {duration(total)}."


def _title(stage: Stage, network: Model | Translations) -> str:
    """`stage` in words, as "adapted (v1), resnet50_ibn_a on real + synthetic"."""
    kind = f"{stage.kind} ({stage.config.preset})" if isinstance(stage, Adapted) else stage.kind
    if isinstance(stage, Features) and isinstance(stage.model, Adapted):
        kind = f"{kind} ({stage.model.config.preset})"
    if isinstance(network, Translations):
        return f"{kind}, {network.config.recipe}"
    views = f", views {' + '.join(stage.views)}" if isinstance(stage, Features) else ""
    return f"{kind}, {network.training.recipe} on {' + '.join(network.parts)}{views}"


def _work(stage: Stage, dataset: Dataset) -> tuple[float, float]:
    """Images of the whole data that a stage's network learns from, each as often as it does, and that it extracts."""
    target, real = len(dataset.query) + len(dataset.gallery), len(of_part(dataset.train, "real"))
    if isinstance(stage, Model):
        config = stage.training
        records = labelled(Records.concat([of_part(dataset.train, part) for part in stage.parts]), config.target)
        targets = make_targets(records, config.target, config.heads, config.labels, flips=config.transform.flip > 0)
        batches = len(make_sampler(config, records, targets))
        return config.epochs * batches * config.num_identities * config.num_instances, 0
    if isinstance(stage, Translations):
        synthetic = len(dataset.train) - real
        batches = len(PairedSampler(synthetic, real, stage.config.batch_size))
        return stage.config.epochs * batches * 2 * stage.config.batch_size, synthetic
    if isinstance(stage, Adapted):
        settings = stage.config
        size = settings.num_identities * (settings.num_instances or 8)
        steps = settings.iterations and settings.epochs * settings.iterations
        return steps * size if steps else settings.visits * target, 2 * target
    if isinstance(stage, Features):
        return 0, target * len(stage.views)
    return 0, target + real  # crops


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
