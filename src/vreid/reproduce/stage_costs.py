"""What a stage would be on the whole data: in one sentence, in pictures that a network sees, and in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from vreid.data.dataset import Dataset
from vreid.data.records import Records
from vreid.data.sampling import PairedSampler
from vreid.reproduce.builders import of_part
from vreid.reproduce.stages import Adapted, Crops, Features, Model, Stage, Translations
from vreid.training.supervised import make_sampler
from vreid.training.targets import labelled, make_targets
from vreid.training.train_config import TrainConfig

SEEN = 3.0
"""Pictures that are looked at in the time in which one is learned from: forward, and backward twice as long."""


class Work(NamedTuple):
    """What making a stage takes.

    Attributes:
        reported: in words, without the time.
        learned: pictures that its network learns from, each as often as it does.
        seen: pictures that it looks at besides.
    """

    reported: str
    learned: float
    seen: float = 0.0

    def seconds(self, pace: float) -> float:
        """What it takes where `pace` pictures are learned from in a second."""
        return (self.learned + self.seen / SEEN) / pace


def work(stage: Stage, dataset: Dataset | None) -> Work | None:
    """What `stage` would be on `dataset`; None for a stage without a network, or without data that could be counted.

    A simulated world is not made to be counted: without `dataset` a training tells its settings alone.
    """
    if isinstance(stage, Model):
        return _training(stage, dataset)
    if dataset is None:
        return None
    target = len(dataset.query) + len(dataset.gallery)
    if isinstance(stage, Crops):
        count = target + len(of_part(dataset.train, "real"))
        return Work(f"crops: {count:,} images through {stage.model.training.recipe}", 0, count)
    if isinstance(stage, Translations):
        config, real = stage.config, len(of_part(dataset.train, "real"))
        synthetic = len(dataset.train) - real
        batches = len(PairedSampler(synthetic, real, config.batch_size))
        reported = (
            f"translations: {config.recipe}, {config.epochs} epochs of {batches:,} batches of 2 x "
            f"{config.batch_size}, then {synthetic:,} images"
        )
        return Work(reported, config.epochs * batches * 2 * config.batch_size, synthetic)
    if isinstance(stage, Adapted):
        settings = stage.config
        size = settings.num_identities * (settings.num_instances or 8)
        learned = settings.epochs * settings.iterations * size if settings.iterations else settings.visits * target
        rate = (
            "a rate that follows from the data"
            if settings.learning_rate is None
            else f"rate {settings.learning_rate:g}"
        )
        steps = f"{settings.epochs} x {settings.iterations}" if settings.iterations else f"{settings.visits:g} looks in"
        reported = (
            f"adapted ({settings.preset}): {_name(stage.model)}, clusters of {target:,} images, {steps} batches of "
            f"{settings.num_identities} x {settings.num_instances or 'K'}, {rate}"
        )
        return Work(reported, learned, 2 * target)
    if isinstance(stage, Features):
        adapted = f", adapted ({stage.model.config.preset})" if isinstance(stage.model, Adapted) else ""
        reported = f"features: {_name(stage.first_model)}{adapted}, {target:,} images, views {' + '.join(stage.views)}"
        return Work(reported, 0, target * len(stage.views))
    return None


def _training(stage: Model, dataset: Dataset | None) -> Work:
    config = stage.training
    reported = (
        f"{_name(stage)}, {config.transform.height} x {config.transform.width} pixels: {config.epochs} epochs, "
        f"learning rate {schedule(config)}"
    )
    if dataset is None:
        return Work(reported, 0)
    parts = [_as(of_part(dataset.train, part), part) for part in stage.parts]
    records = labelled(Records.concat(parts), config.target)
    targets = make_targets(records, config.target, config.heads, config.labels, flips=config.transform.flip > 0)
    batches = len(make_sampler(config, records, targets))
    reported += (
        f"; {len(records):,} images, {targets[config.target].outputs:,} classes, {batches:,} batches of "
        f"{config.num_identities} x {config.num_instances} an epoch"
    )
    return Work(reported, config.epochs * batches * config.num_identities * config.num_instances)


def _name(stage: Model) -> str:
    return f"{stage.training.recipe} on {' + '.join(stage.parts)}"


def schedule(config: TrainConfig) -> str:
    """The learning rate of the first epoch, at its peak, where it falls to less than a fifth at once, and of the last.

    Example:
        >>> schedule(TrainConfig("resnet50_ibn_a"))
        '0.00109 (epoch 1), 0.01 (10), 0.001 (40), 0.0001 (70), 0.0001 (80)'
    """
    peak = config.optimiser.learning_rate
    rates = [config.schedule.rate(peak, epoch, config.epochs) for epoch in range(config.epochs)]
    reported = {0, rates.index(max(rates)), len(rates) - 1}
    reported |= {epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1] / 5}
    named = [f"{rates[epoch]:.3g} ({'' if epoch else 'epoch '}{epoch + 1})" for epoch in sorted(reported)]
    return ", ".join(named)


def _as(records: Records, part: str) -> Records:
    return records.with_(variant=[part] * len(records)) if part in ("crop", "translated") else records


def training_memory(config: TrainConfig, classes: int = 1000) -> float:
    """Bytes that a training step holds: weights, gradients and the optimiser's state, and for each picture what is kept
    for the way back, with convolutions in bfloat16 but where `config.precision` is float32.

    What the libraries keep for themselves comes on top (on a GPU about a gigabyte). Counted, not measured: two pictures
    go forward through a network with random weights.
    """
    import torch

    from vreid.models.reid_model import build_from
    from vreid.training.precision import autocast

    model = build_from(replace(config.model, weights=""), classes).train()
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    pictures = torch.zeros(2, 3, config.transform.height, config.transform.width)
    dtype = "float32" if config.precision == "float32" else "bfloat16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        autocast(dtype, torch.device("cpu")),
    ):
        outputs = model(pictures.contiguous(memory_format=torch.channels_last))
    del outputs  # until here it held all that was kept, so that no two of them had one place
    states = 1 if config.optimiser.kind == "sgd" else 3 if config.optimiser.amsgrad else 2
    fixed = sum(value.numel() * value.element_size() for value in model.parameters()) * (2 + states)
    return fixed + sum(kept.values()) / 2 * config.num_identities * config.num_instances
