"""Supervised training: one loop for every model that is trained on labels.

A training is defined by its configuration (`TrainConfig`), its targets (`vreid.training.targets`) and its objective,
which computes named loss terms from outputs and labels. Runs are resumable: batches and augmentation are functions of
(seed, epoch, position) and everything else is in the checkpoint, so `resume=True` continues to bit-identical weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor, nn

from vreid.configuration import plain_values
from vreid.data.dataset import fingerprint
from vreid.data.loading import Batch, Loader, train_loader
from vreid.data.records import Records
from vreid.data.sampling import BatchSampler, Counted, DomainSampler, ImageSampler, PKSampler, Share
from vreid.data.seeds import seed_everything
from vreid.errors import InputError
from vreid.models.keys import load_pretrained
from vreid.models.reid_model import ReidModel, build_from
from vreid.models.weights import load_strict, load_weights, save_weights, weights_hash
from vreid.progress import Progress
from vreid.training.compiling import compile_in_place, compiler_failed, fallback_sentence, undo_compilation
from vreid.training.distributed import ProcessGroup
from vreid.training.loop import Loop
from vreid.training.objective import Objective
from vreid.training.optimiser import build_optimiser, set_rates
from vreid.training.precision import Precision, autocast, choose_precision
from vreid.training.run_folder import RunFolder, environment
from vreid.training.schedules import reversal_strength
from vreid.training.targets import (
    POSITIVES,
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
"""Metrics that a validation writes in addition to mean average precision."""


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
    initial_weights: Mapping[str, Tensor] | None = None,
    cameras: Sequence[str] = (),
    validation: Validation | None = None,
) -> Path:
    """Train the model of `config` on the labelled images of `records`; return the path of the trained model.

    In distributed training (see `vreid.training.distributed`), every process calls it with the same arguments.

    Args:
        config: the configuration, which together with the data determines the weights.
        records: training images; those whose identity (or other target) is unknown or junk are ignored.
        out: the run folder; see `vreid.training.run_folder` for its contents.
        device: "cpu", "cuda", "cuda:1", ...
        workers: processes that load images (None: chosen for the device); the weights do not depend on it.
        resume: continue the run in `out`, or start it if there is none; a complete run is left as it is.
        checkpoint_steps: interval of checkpoints in steps, in addition to one after each epoch.
        log_steps: interval of lines of metrics.jsonl, in steps.
        tensorboard: also write these lines for TensorBoard.
        progress: listener for cost estimate, steps and time.
        initial_weights: weights of the whole model, including the classifier, in place of `config.model.weights`; rows
            of the classifier are the identities that occur, in order of their codes.
        cameras: names of the cameras of the embeddings (SIE) in `initial_weights`; images of other cameras take the
            mean of all.
        validation: evaluation every few epochs, written to metrics.jsonl and `progress`. It does not change the trained
            weights, except with `validation.keep_best`.

    Raises:
        InputError: `out` is in use or holds another run, there are too few images, `initial_weights` do not fit, or the
            loss is not finite.

    Example:
        >>> from vreid.recipes import RECIPES                                          # doctest: +SKIP
        >>> train(RECIPES["small"](), dataset.train, out="runs/first", resume=True)    # doctest: +SKIP
        PosixPath('runs/first/model.safetensors')
    """
    world = ProcessGroup.current()
    progress = progress if progress and world.first else Progress()
    chosen = labelled(records, config.target)
    flips = config.transform.flip > 0
    targets = make_targets(chosen, config.target, config.heads, config.labels, flips=flips)
    options = config.model.transreid
    cameras = side_cameras(options, chosen) if initial_weights is None else tuple(cameras)
    if len(cameras) != options.sie_cameras and options.sie_cameras > 1:
        raise InputError(
            f"The initial weights have {options.sie_cameras} camera embeddings, but name {len(cameras)} cameras; "
            "give the model file that training wrote."
        )
    sides = side_information(options, cameras, chosen)
    targets = {**targets, **{f"{SIDE}{name}": side for name, side in sides.items()}}
    sampler = make_sampler(config, chosen, targets)
    share = make_share(config, world)
    loader = train_loader(
        chosen, config.transform, sampler, seed=config.seed, workers=workers, device=device, share=share
    )
    data = {"fingerprint": fingerprint(chosen), "images": len(chosen), "identities": chosen.identity.distinct}
    initialisation = config.model.initialisation
    if initial_weights is not None:
        data["start"] = hashed = weights_hash(initial_weights)
        initialisation = f"given weights (hash {hashed[:16]})"
    elif config.model.weights:
        data["initialisation"] = initialisation
    if validation is not None and validation.keep_best:
        data["kept"] = {"epoch": "best", **validation.as_dict()}
    asked: dict[str, Any] = {"config": plain_values(config), "data": data, "resume": resume, "tensorboard": tensorboard}
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
        if initial_weights is not None:
            load_strict(model, initial_weights, "The initial weights")
        elif config.model.weights:
            sentence = load_pretrained(model, config.model.weights, config.model.backbone, cameras)
            if sentence:
                progress.note(sentence)
        sizes = {"num_classes": targets[POSITIVES].outputs, "num_features": model.num_features // (1 + model.num_local)}
        objective = Objective(config.losses, config.target, **sizes)
        world.wait()  # all processes check the folder before the first one writes
        started = world.agree(lambda: _begin(run, config, model, place, world, progress))
        trainer = Trainer(config, model, objective, run, place, started["precision"], progress, validation, workers)
        if validation is not None:
            _announce(validation, chosen, progress)
        trainer.restore()
        trainer.fit(loader, targets, checkpoint_steps=checkpoint_steps, log_steps=log_steps)
        facts = {
            "kind": "model",
            "model": plain_values(config.model),
            "transform": plain_values(config.transform.test()),
            "target": config.target,
            "num_identities": model.num_identities,
            "heads": heads,
            "labels": {name: targets[name].names for name in config.heads if targets[name].names},
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
    """Report the validation data, and warn about training images in them and about optimistic numbers."""
    when = "every epoch" if validation.every == 1 else f"every {validation.every} epochs"
    progress.note(f"Validation {when} on {validation}.")
    shared = len(set(trained.path) & {*validation.query.path, *validation.gallery.path})
    if shared:
        progress.note(f"{shared:,} image files of {validation.name} are training images too: its numbers are too high.")
    if validation.keep_best:
        progress.note(
            f"The epoch with the highest mAP on {validation.name} is kept: final numbers on these images are "
            "optimistic; evaluate on others."
        )


def _begin(
    run: RunFolder, config: TrainConfig, model: ReidModel, device: torch.device, world: ProcessGroup, progress: Progress
) -> dict[str, Any]:
    """Write the files of a new run; return the environment in which the run was started."""
    precision = choose_precision(config.precision, device, model, training=True)
    here = environment(device, precision, world.size)
    run.begin()
    return run.environment(here, progress)


def make_sampler(config: TrainConfig, records: Records, targets: Targets) -> BatchSampler:
    """Build the batch sampler of `config` for images with these `targets`.

    Raises:
        InputError: there are too few images or identities.
    """
    classes, size = targets[POSITIVES].values.numpy(), (config.num_identities, config.num_instances)
    if config.batches == "images":
        sampler: BatchSampler = ImageSampler(len(records), math.prod(size), config.seed)
    elif config.batches == "domains":
        sampler = DomainSampler(classes, records.domain.values, *size, config.seed)
    else:
        sampler = PKSampler(classes, *size, config.seed)
    return sampler if config.iterations is None else Counted(sampler, config.iterations)


def make_share(config: TrainConfig, world: ProcessGroup) -> Share:
    """Return this process's share of each batch: whole identities, at least two images, images of each domain.

    Shares of identities may differ by one identity. Those of images and of two domains are equal.

    Raises:
        InputError: the identities of a batch cannot be divided like this.
    """
    unit = world.size * (2 if config.batches == "domains" or config.num_instances == 1 else 1)
    equal = config.batches != "identities" or config.num_instances == 1
    if world.size > 1 and equal and config.num_identities % unit:
        raise InputError(
            f"num_identities is {config.num_identities}, but {world.size} processes share each batch evenly; "
            f"make it a multiple of {unit}."
        )
    if config.num_identities < world.size:
        raise InputError(
            f"num_identities is {config.num_identities}, too few for {world.size} processes, each of which takes at "
            f"least one identity of a batch; start {config.num_identities} or fewer."
        )
    return Share(world.rank, world.size, config.num_instances)


class _Losses(nn.Module):
    """Loss terms of the whole batch from a process's share of it; the module that DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, objective: nn.Module, world: ProcessGroup, sizes: Sequence[int]) -> None:
        super().__init__()
        self.model, self.objective, self.world, self.sizes = model, objective, world, sizes

    def forward(self, images: Tensor, labels: Mapping[str, Tensor], reversal: float) -> dict[str, Tensor]:
        side_labels = {name.removeprefix(SIDE): value for name, value in labels.items() if name.startswith(SIDE)}
        outputs = self.model(images, reversal=reversal, **side_labels)
        terms: dict[str, Tensor] = self.objective(*self.world.gather_all(outputs, labels, self.sizes))
        return terms


class Trainer(Loop):
    """Training loop of a model with an objective: weights, metrics and checkpoints."""

    remedy = "lower optimiser.learning_rate, set clip_norm=1 or precision=float32"
    smaller_batch = (
        "lower num_identities or num_instances and raise accumulation by as much, or lower transform.height and "
        "transform.width"
    )

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
        if config.compile and (sentence := compile_in_place(self.model.backbone)):  # the EMA copy stays uncompiled
            progress.note(sentence)
        optimiser = build_optimiser(learned, config.optimiser)
        super().__init__(f"train {config.recipe}", config.epochs, learned, optimiser, run, device, progress)
        self.sizes = make_share(config, world).sizes(config.num_identities * config.num_instances)
        losses = _Losses(self.model, self.objective, world, self.sizes)
        self.losses = world.parallel(losses, some_unused=not config.losses.identity)
        self.precision = precision
        self._targets: Targets | None = None

    @property
    def trained(self) -> nn.Module:
        """The resulting model: the trained model, or the EMA of its weights."""
        return self.learned["mean" if self.config.ema else "model"]

    def fit(
        self, loader: Loader, targets: Targets, *, checkpoint_steps: int | None = None, log_steps: int = 10
    ) -> None:
        """Train until the last epoch is complete; `targets` are those of the loader's N images."""
        self._targets = targets
        self.run_epochs(loader, checkpoint_steps=checkpoint_steps, log_steps=log_steps)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept instead of the last."""
        return self.validation is not None and self.validation.keep_best

    def epoch_ends(self, epoch: int) -> str:
        """Run validation if it is due, keep the model if it is the best, and return the metrics as text."""
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

    def images_of(self, batch: Batch) -> int:
        """Return the number of images of the whole batch."""
        return sum(self.sizes)

    def can_checkpoint(self, *, last: bool) -> bool:
        """Whether this step updates the weights, so that no accumulated gradient is pending."""
        return last or (self.state.step + 1) % self.config.accumulation == 0

    def train_step(self, batch: Batch, time: float, *, last: bool) -> dict[str, Tensor]:
        """Train on a batch of the loader with its targets."""
        assert self._targets is not None, "fit sets them"
        if self.config.fresh_optimiser and self.state.step == 0:
            self.optimiser.state.clear()
        labels = batch_labels(self._targets, batch.rows, batch.flipped, self.device)
        return self.step(batch.images, labels, time, moves=self.can_checkpoint(last=last))

    def rate(self, time: float, peak: float | None = None) -> float:
        """Return the learning rate after `time` epochs for a peak rate (None: that of parameters without a factor)."""
        peak = self.config.optimiser.learning_rate if peak is None else peak
        return self.config.schedule.rate(peak, time, self.config.epochs)

    def step(
        self, images: Tensor, labels: Mapping[str, Tensor], time: float, *, moves: bool = True
    ) -> dict[str, Tensor]:
        """Train on images (B, 3, H, W), in distributed training this process's share, and targets (B,) by name.

        `time` is the number of completed epochs. If `moves` is false, gradients accumulate and no weight is updated.

        Returns:
            The loss terms and their sum as "loss".

        Raises:
            InputError: the loss is not finite. (On a GPU this is checked only when metrics are written, since reading
                the loss synchronises the device.)
        """
        set_rates(self.optimiser, self.config.optimiser.learning_rate, partial(self.rate, time))
        self.world.seed_step(self.config.seed, self.state.total_steps)
        with nullcontext() if moves else self.world.gradients_wait(self.losses):
            with autocast(self.precision, self.device):
                reversal = reversal_strength(time / self.config.epochs)
                terms = self._loss_terms(images.contiguous(memory_format=torch.channels_last), labels, reversal)
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

    def _loss_terms(self, images: Tensor, labels: Mapping[str, Tensor], reversal: float) -> dict[str, Tensor]:
        """Compute the loss terms; without torch.compile from the first call on, if its compiler fails in that."""
        try:
            terms: dict[str, Tensor] = self.losses(images, labels, reversal)
        except Exception as error:
            if not (self.config.compile and compiler_failed(error)):
                raise
            undo_compilation(self.model.backbone)
            self.progress.note(fallback_sentence(error))
            terms = self.losses(images, labels, reversal)
        return terms

    @torch.no_grad()
    def _average(self) -> None:
        """Update the EMA of weights and normalisation statistics."""
        steps = self.state.total_steps
        decay = min(self.config.ema, (1 + steps) / (10 + steps))  # so that the initial weights decay quickly
        present = self.model.state_dict()
        for name, value in self.trained.state_dict().items():
            if value.is_floating_point():
                value.lerp_(present[name], 1 - decay)
            else:
                value.copy_(present[name])
