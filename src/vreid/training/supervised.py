"""Supervised training: one loop for every model that learns from labels.

What varies is configuration (`TrainConfig`), what the outputs are to say (`vreid.training.targets`) and the objective,
which makes named loss terms of outputs and labels. A run can be killed at any moment: batches and augmentation are
functions of (seed, epoch, position), everything else is in the checkpoint, so `resume=True` ends in the same weights to
the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor, nn

from vreid.data.dataset import fingerprint
from vreid.data.loading import Batch, Loader, train_loader
from vreid.data.records import Records
from vreid.data.sampling import BatchSampler, Counted, DomainSampler, ImageSampler, PKSampler, Share
from vreid.data.seeds import seed_everything
from vreid.errors import InputError
from vreid.models.keys import load_pretrained
from vreid.models.reid_model import ReidModel, build_from
from vreid.models.weights import load_strict, load_weights, save_weights, weights_hash
from vreid.training.distributed import ProcessGroup
from vreid.training.loop import Loop
from vreid.training.objective import Objective
from vreid.training.optimiser import build_optimiser, set_rates
from vreid.training.precision import Precision, autocast, choose_precision
from vreid.training.progress import Progress, Silence
from vreid.training.run_folder import RunFolder, environment
from vreid.training.schedules import reversal_strength
from vreid.training.targets import (
    MATES,
    SIDE,
    Targets,
    batch_labels,
    labelled,
    make_targets,
    side_cameras,
    side_information,
)
from vreid.training.train_config import TrainConfig
from vreid.training.validation import Validation

SHOWN = ("rank1", "rank5", "mINP", "num_queries")
"""What a validation writes besides its mean average precision."""


def train(
    config: TrainConfig,
    records: Records,
    *,
    out: Path | str,
    device: str = "cpu",
    workers: int | None = None,
    resume: bool = False,
    checkpoint_steps: int | None = None,
    log_steps: int = 10,
    tensorboard: bool = False,
    progress: Progress | None = None,
    start: Mapping[str, Tensor] | None = None,
    cameras: Sequence[str] = (),
    validation: Validation | None = None,
) -> Path:
    """Train the model of `config` on the labelled images of `records`; return the path of the trained model.

    Several processes that have joined (see `vreid.training.distributed`) call it alike and train one model together.

    Args:
        config: what decides the weights besides the data.
        records: training images; those whose identity (or other target) is unknown or junk are left out.
        out: the run folder; see `vreid.training.run_folder` for what it will hold.
        device: "cpu", "cuda", "cuda:1", ...
        workers: processes that load images (None: chosen for the device); the weights do not depend on it.
        resume: continue the run in `out`, or start it if there is none; a complete run is left as it is.
        checkpoint_steps: write a checkpoint every so many steps besides the one after each epoch.
        log_steps: steps between two lines of metrics.jsonl.
        tensorboard: write these lines for TensorBoard too.
        progress: listener for cost estimate, steps and time.
        start: weights of the whole model, classifier included, to start from instead of those that `config` names; rows
            of the classifier are the identities that occur, in the order of their codes.
        cameras: names of the cameras of the embeddings (SIE) in `start`; images of other cameras take the mean of all.
        validation: evaluates the model every few epochs; the numbers go into metrics.jsonl and to `progress`. The
            trained weights are the same with and without it, but for `validation.keep_best`.

    Raises:
        InputError: `out` is in use or holds another run, the data do not suffice, `start` does not fit, or the
            loss is no longer finite.

    Example:
        >>> from vreid.recipes import RECIPES                                          # doctest: +SKIP
        >>> train(RECIPES["small"](), dataset.train, out="runs/first", resume=True)    # doctest: +SKIP
        PosixPath('runs/first/model.safetensors')
    """
    world = ProcessGroup.current()
    progress = progress if progress and world.first else Silence()
    chosen = labelled(records, config.target)
    flips = config.transform.flip > 0
    targets = make_targets(chosen, config.target, config.heads, config.labels, flips=flips)
    options = config.model.transreid
    cameras = side_cameras(options, chosen) if start is None else tuple(cameras)
    if len(cameras) != options.sie_cameras and options.sie_cameras > 1:
        raise InputError(
            f"The weights to start from have {options.sie_cameras} camera embeddings, but name {len(cameras)} cameras; "
            "give the model file that training wrote."
        )
    reported = side_information(options, cameras, chosen)
    targets = {**targets, **{f"{SIDE}{name}": side for name, side in reported.items()}}
    sampler = make_sampler(config, chosen, targets)
    share = make_share(config, world)
    loader = train_loader(
        chosen, config.transform, sampler, seed=config.seed, workers=workers, device=device, share=share
    )
    data = {"fingerprint": fingerprint(chosen), "images": len(chosen), "identities": chosen.identity.distinct}
    initialisation = config.model.initialisation
    if start is not None:
        data["start"] = hashed = weights_hash(start)
        initialisation = f"given weights (hash {hashed[:16]})"
    elif config.model.weights:
        data["initialisation"] = initialisation
    if validation is not None and validation.keep_best:
        data["kept"] = {"epoch": "best", **validation.as_dict()}
    asked: dict[str, Any] = {"config": config.as_dict(), "data": data, "resume": resume, "tensorboard": tensorboard}
    run = RunFolder(out, **asked, writes=world.first)
    try:
        if run.model.exists():
            progress.note(f"{run.path} is complete; nothing is left to train.")
            return run.model
        place = torch.device(device)
        seed_everything(config.seed)
        heads: dict[str, int] = {name: targets[name].outputs for name in config.heads}
        model = build_from(replace(config.model, weights=""), targets[config.target].outputs, heads)
        model.cameras = tuple(cameras)
        if start is not None:
            load_strict(model, start, "The weights to start from")
        elif config.model.weights:
            sentence = load_pretrained(model, config.model.weights, config.model.backbone, cameras)
            if sentence:
                progress.note(sentence)
        sizes = {"num_classes": targets[MATES].outputs, "num_features": model.num_features // (1 + model.num_local)}
        objective = Objective(config.losses, config.target, **sizes)
        world.wait()  # for the looks of all at the folder, before the first writes
        started = world.agree(lambda: _begin(run, config, model, place, world, progress))
        trainer = Trainer(config, model, objective, run, place, started["precision"], progress, validation, workers)
        if validation is not None:
            _announce(validation, chosen, progress)
        trainer.restore()
        trainer.fit(loader, targets, checkpoint_steps=checkpoint_steps, log_steps=log_steps)
        facts = {
            "kind": "model",
            "model": config.as_dict()["model"],
            "transform": asdict(config.transform.test()),
            "target": config.target,
            "num_identities": model.num_identities,
            "heads": heads,
            "cameras": cameras,
            "initialisation": initialisation,
            "recipe": config.recipe,
            "seed": config.seed,
            "fingerprint": data["fingerprint"],
            "vreid": started["vreid"],
            "revision": started["revision"],
        }
        if world.first:
            weights = trainer.trained.state_dict()
            if trainer.keeps_best:
                weights, kept = load_weights(run.best)
                facts["validation"] = kept["validation"]
            save_weights(run.model, weights, facts)
            run.best.unlink(missing_ok=True)
    except InputError:
        if world.first:
            run.abandon()
        raise
    finally:
        run.close()
        progress.finish()
    world.wait()
    return run.model


def _announce(validation: Validation, trained: Records, progress: Progress) -> None:
    """Say what a training is evaluated on, and what must not be."""
    when = "every epoch" if validation.every == 1 else f"every {validation.every} epochs"
    progress.note(f"Validation {when} on {validation}.")
    shared = len(set(trained.path) & {*validation.query.path, *validation.gallery.path})
    if shared:
        progress.note(f"{shared:,} image files of {validation.name} are trained on too: its numbers are too high.")
    if validation.keep_best:
        progress.note(
            f"The epoch with the highest mAP on {validation.name} is kept: final numbers on these images are "
            "optimistic; evaluate on others."
        )


def _begin(
    run: RunFolder, config: TrainConfig, model: ReidModel, device: torch.device, world: ProcessGroup, progress: Progress
) -> dict[str, Any]:
    """Write the start of a run; return the environment that it was started in."""
    precision = choose_precision(config.precision, device, model, training=True)
    here = environment(device, precision, world.size)
    run.begin()
    return run.environment(here, progress)


def make_sampler(config: TrainConfig, records: Records, targets: Targets) -> BatchSampler:
    """The batches that `config` asks for, of images with these `targets`.

    Raises:
        InputError: the images do not suffice.
    """
    classes, size = targets[MATES].values.numpy(), (config.num_identities, config.num_instances)
    if config.batches == "images":
        sampler: BatchSampler = ImageSampler(len(records), math.prod(size), config.seed)
    elif config.batches == "domains":
        sampler = DomainSampler(classes, records.domain.values, *size, config.seed)
    else:
        sampler = PKSampler(classes, *size, config.seed)
    return sampler if config.iterations is None else Counted(sampler, config.iterations)


def make_share(config: TrainConfig, world: ProcessGroup) -> Share:
    """What of each batch falls to this process: as much as to the others, of either domain, and at least two images.

    Raises:
        InputError: the identities of a batch cannot be dealt out so.
    """
    unit = world.size * (2 if config.batches == "domains" or config.num_instances == 1 else 1)
    if world.size > 1 and config.num_identities % unit:
        raise InputError(
            f"num_identities is {config.num_identities}, but {world.size} processes share each batch evenly; "
            f"make it a multiple of {unit}."
        )
    return Share(world.rank, world.size, config.num_instances)


class _Losses(nn.Module):
    """A share of a batch in, the loss terms of the whole batch out; what the processes run and wait for together."""

    def __init__(self, model: nn.Module, objective: nn.Module, world: ProcessGroup) -> None:
        super().__init__()
        self.model, self.objective, self.world = model, objective, world

    def forward(self, images: Tensor, labels: Mapping[str, Tensor], reversal: float) -> dict[str, Tensor]:
        reported = {name.removeprefix(SIDE): value for name, value in labels.items() if name.startswith(SIDE)}
        outputs = self.model(images, reversal=reversal, **reported)
        terms: dict[str, Tensor] = self.objective(*self.world.gather_all(outputs, labels))
        return terms


class Trainer(Loop):
    """The loop with a model and an objective in it: trained weights, metrics and checkpoints come out."""

    remedy = "lower optimiser.learning_rate, set clip_norm=1 or precision=float32"

    def __init__(
        self,
        config: TrainConfig,
        model: ReidModel,
        objective: Objective,
        run: RunFolder,
        device: torch.device,
        precision: str,
        progress: Progress,
        validation: Validation | None = None,
        workers: int | None = None,
    ) -> None:
        self.config = config
        self.validation = validation
        self.workers = workers
        world = ProcessGroup.current()
        if config.sync_batchnorm:
            world.synchronise_batchnorm(model, device)
        # Convolutions are fastest in this layout wherever bfloat16 is, and no slower elsewhere.
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.objective = objective.to(device)
        learned = nn.ModuleDict({"model": self.model, "objective": self.objective})
        if config.ema:
            learned["mean"] = deepcopy(self.model).requires_grad_(False)
        if config.compile:
            self.model.backbone.compile()  # in place: names of weights stay, and the mean above is as it was
        optimiser = build_optimiser(learned, config.optimiser)
        super().__init__(f"train {config.recipe}", config.epochs, learned, optimiser, run, device, progress)
        losses = _Losses(self.model, self.objective, world)
        self.losses = world.parallel(losses, some_unused=not config.losses.identity)
        self.precision = precision
        self._targets: Targets | None = None

    @property
    def trained(self) -> nn.Module:
        """The model to keep: the one that was trained, or the running mean of its weights."""
        return self.learned["mean" if self.config.ema else "model"]

    def fit(
        self, loader: Loader, targets: Targets, *, checkpoint_steps: int | None = None, log_steps: int = 10
    ) -> None:
        """Train until the last epoch is over; `targets` are those of the loader's N images."""
        self._targets = targets
        self.run_epochs(loader, checkpoint_steps=checkpoint_steps, log_steps=log_steps)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept in place of the last."""
        return self.validation is not None and self.validation.keep_best

    def epoch_ends(self, epoch: int) -> str:
        """Evaluate the model where validation is due, keep it if it is the best, and return the numbers in words."""
        check, number = self.validation, epoch + 1
        if check is None or (number % check.every and number != self.epochs):
            return ""
        words = ""
        if self.world.first:
            begun = perf_counter()
            metrics = check.evaluate(
                cast(ReidModel, self.trained),
                self.config.transform.test(),
                device=str(self.device),
                workers=self.workers,
                precision=cast(Precision, self.precision),
            )
            found = {name: value for name, value in metrics.as_dict().items() if name in SHOWN}
            found = {metrics.protocol.full_metric: metrics.mAP, **found}
            line = {"event": "validation", "epoch": number, "step": self.state.total_steps, **found}
            protocol = {"data": check.name, "protocol": check.protocol.name}
            self.run.log({**line, **protocol, "seconds": round(perf_counter() - begun, 3)})
            best = not self.state.best or metrics.mAP > self.state.best["mAP"]
            if best:
                self.state.best = {"epoch": number, "mAP": metrics.mAP}
                if check.keep_best:
                    kept = {**check.as_dict(), **self.state.best}
                    save_weights(self.run.best, self.trained.state_dict(), {"kind": "best", "validation": kept})
            words = f"{metrics.protocol.full_metric} {100 * metrics.mAP:.1f}{' (best so far)' if best else ''}"
        self.world.wait()
        return words

    def can_checkpoint(self, *, last: bool) -> bool:
        """Whether the weights move in this step, so that no gradient waits for the next."""
        return last or (self.state.step + 1) % self.config.accumulation == 0

    def train_step(self, batch: Batch, time: float, *, last: bool) -> dict[str, Tensor]:
        """One step on a batch of the loader, with its targets."""
        assert self._targets is not None, "fit sets them"
        if self.config.fresh_optimiser and self.state.step == 0:
            self.optimiser.state.clear()
        labels = batch_labels(self._targets, batch.rows, batch.flipped, self.device)
        return self.step(batch.images, labels, time, moves=self.can_checkpoint(last=last))

    def rate(self, time: float, peak: float | None = None) -> float:
        """Learning rate after `time` epochs of parameters whose peak is `peak` (None: those without a factor)."""
        peak = self.config.optimiser.learning_rate if peak is None else peak
        return self.config.schedule.rate(peak, time, self.config.epochs)

    def step(
        self, images: Tensor, labels: Mapping[str, Tensor], time: float, *, moves: bool = True
    ) -> dict[str, Tensor]:
        """One step when `time` epochs are over, on (B, 3, H, W) images (of several processes: this one's) with their
        targets (B,) by name.

        Unless the step `moves` the weights its gradients wait for those of the next.

        Returns:
            The loss terms and their sum as "loss".

        Raises:
            InputError: the loss is not finite. (On a GPU each report looks instead: looking waits for the device.)
        """
        set_rates(self.optimiser, self.config.optimiser.learning_rate, partial(self.rate, time))
        self.world.seed_step(self.config.seed, self.state.total_steps)
        with nullcontext() if moves else self.world.gradients_wait(self.losses):
            with autocast(self.precision, self.device):
                reversal = reversal_strength(time / self.config.epochs)
                terms: dict[str, Tensor] = self.losses(
                    images.contiguous(memory_format=torch.channels_last), labels, reversal
                )
            terms["loss"] = torch.stack(list(terms.values())).sum()
            if self.device.type == "cpu":
                self.raise_if_diverged({name: float(value.detach()) for name, value in terms.items()}, time)
            (terms["loss"] / self.config.accumulation).backward()  # type: ignore[no-untyped-call]
        if moves:
            if self.config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.learned.parameters(), self.config.clip_norm)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            if self.config.ema:
                self._average()
        return terms

    @torch.no_grad()
    def _average(self) -> None:
        """Move the mean of the weights, and of what normalisation counts, towards the present ones."""
        steps = self.state.total_steps
        decay = min(self.config.ema, (1 + steps) / (10 + steps))  # so that the random start is soon forgotten
        present = self.model.state_dict()
        for name, value in self.trained.state_dict().items():
            if value.is_floating_point():
                value.lerp_(present[name], 1 - decay)
            else:
                value.copy_(present[name])
