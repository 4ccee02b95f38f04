"""Supervised training: one loop for every model that learns from labels.

What varies is configuration (`TrainConfig`) and the objective, a function from the model's outputs and the batch's
labels to named loss terms. A run can be killed at any moment: batches and augmentation are functions of (seed, epoch,
position), everything else is in the checkpoint, so `resume=True` ends in the same weights to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vreid.data.dataset import fingerprint
from vreid.data.loading import Loader, train_loader
from vreid.data.records import Records
from vreid.data.seeds import seed_everything
from vreid.errors import InputError
from vreid.losses import identity_loss, triplet_loss
from vreid.models.reid_model import ReidModel, TrainOutputs, build_from
from vreid.models.weights import save_weights
from vreid.training.checkpoint import LoopState, load_checkpoint, save_checkpoint
from vreid.training.config import LossConfig, TrainConfig
from vreid.training.meter import Meter, Pace
from vreid.training.optimiser import build_optimiser, set_rates
from vreid.training.precision import autocast, resolve_precision
from vreid.training.progress import Progress, Silence, duration
from vreid.training.run_folder import RunFolder, environment

Objective = Callable[[TrainOutputs, Tensor], Mapping[str, Tensor]]
"""(outputs, identities (B,)) -> weighted loss terms by name; their sum is minimised."""


def objective_of(config: LossConfig) -> Objective:
    """The Bag-of-Tricks objective: cross-entropy on the logits plus batch-hard triplet on f_t."""

    def objective(outputs: TrainOutputs, identities: Tensor) -> Mapping[str, Tensor]:
        terms = {}
        if config.identity:
            loss = identity_loss(outputs.logits, identities, label_smoothing=config.label_smoothing)
            terms["identity"] = config.identity * loss
        if config.triplet:
            form, squared, margin = config.triplet_form, config.triplet_squared, config.triplet_margin
            loss = triplet_loss(outputs.pooled, identities, form=form, squared=squared, margin=margin)
            terms["triplet"] = config.triplet * loss
        return terms

    return objective


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
    progress: Progress | None = None,
) -> Path:
    """Train the model of `config` on the known identities of `records`; return the path of the trained model.

    Args:
        config: what decides the weights besides the data.
        records: training images; those whose identity is unknown or junk are left out.
        out: the run folder; see `vreid.training.run_folder` for what it will hold.
        device: "cpu", "cuda", "cuda:1", ...
        workers: processes that load images (None: chosen for the device); the weights do not depend on it.
        resume: continue the run in `out`, or start it if there is none; a complete run is left as it is.
        checkpoint_steps: write a checkpoint every so many steps besides the one after each epoch.
        log_steps: steps between two lines of metrics.jsonl.
        progress: listener for cost estimate, steps and time.

    Raises:
        InputError: `out` is in use or holds another run, the data do not suffice, or the loss is no longer finite.

    Example:
        >>> from vreid.recipes import RECIPES                                          # doctest: +SKIP
        >>> train(RECIPES["small"](), dataset.train, out="runs/first", resume=True)    # doctest: +SKIP
        PosixPath('runs/first/model.safetensors')
    """
    progress = progress or Silence()
    chosen = records[records.identity.known]
    if len(chosen) == 0:
        raise InputError("There is no training image with a known identity; training needs labels.")
    identity = chosen.identity.compact()
    loader = train_loader(
        chosen,
        config.transform,
        num_identities=config.num_identities,
        num_instances=config.num_instances,
        seed=config.seed,
        workers=workers,
        device=device,
    )
    data = {"fingerprint": fingerprint(chosen), "images": len(chosen), "identities": identity.distinct}
    run = RunFolder(out, config=config.as_dict(), data=data, resume=resume)
    if run.model.exists():
        progress.note(f"{run.path} is complete; nothing is left to train.")
        return run.model
    place = torch.device(device)
    here = environment(place, resolve_precision(config.precision, place))
    seed_everything(config.seed)
    model = build_from(config.model, identity.distinct)
    try:
        run.begin()
        started = run.environment(here, progress)
        trainer = Trainer(config, model, objective_of(config.losses), run, place, started["precision"], progress)
        trainer.restore()
        trainer.fit(loader, identity.codes, checkpoint_steps=checkpoint_steps, log_steps=log_steps)
    except InputError:
        run.abandon()
        raise
    finally:
        run.close()
        progress.finish()
    facts = {
        "kind": "model",
        "model": config.as_dict()["model"],
        "transform": asdict(config.transform.test()),
        "num_identities": identity.distinct,
        "recipe": config.recipe,
        "seed": config.seed,
        "fingerprint": data["fingerprint"],
        "vreid": started["vreid"],
        "revision": started["revision"],
    }
    save_weights(run.model, trainer.model.state_dict(), facts)
    return run.model


class Trainer:
    """The loop itself: a model and an objective in, trained weights, metrics and checkpoints out."""

    def __init__(
        self,
        config: TrainConfig,
        model: ReidModel,
        objective: Objective,
        run: RunFolder,
        device: torch.device,
        precision: str,
        progress: Progress,
    ) -> None:
        self.config = config
        # Convolutions are fastest in this layout wherever bfloat16 is, and no slower elsewhere.
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.objective = objective
        self.run = run
        self.device = device
        self.precision = precision
        self.progress = progress
        self.optimiser = build_optimiser(self.model, config.optimiser)
        self.state = LoopState()
        self._pace = Pace()

    def restore(self) -> None:
        """Go back to the newest checkpoint that can be read, if there is one."""
        for path in self.run.checkpoint_paths():
            try:
                self.state = load_checkpoint(path, self.model, self.optimiser)
            except InputError as error:
                self.progress.note(f"{error} The checkpoint before it is used.")
                continue
            self.progress.note(f"Resumed after {self.state.total_steps} steps, in epoch {self.state.epoch + 1}.")
            break
        self.run.cut_metrics(self.state.metrics_bytes)

    def fit(
        self, loader: Loader, identities: NDArray[np.int32], *, checkpoint_steps: int | None = None, log_steps: int = 10
    ) -> None:
        """Train until the last epoch is over; `identities` (N,) are the targets of the loader's N images."""
        state, epochs = self.state, self.config.epochs
        targets = torch.from_numpy(identities.astype(np.int64))
        loader.set_epoch(state.epoch)
        self.progress.start(f"train {self.config.recipe}", epochs * len(loader), state.total_steps)
        for epoch in range(state.epoch, epochs):
            loader.set_epoch(epoch)
            count = len(loader)  # differs a little from epoch to epoch
            loader.set_epoch(epoch, first_batch=state.step)
            meter, window = Meter(state.sums), Meter()
            for images, rows, _ in loader:
                rate = self.rate(epoch + state.step / count)
                terms = self.step(images, targets[rows].to(self.device), rate)
                state.step += 1
                state.total_steps += 1
                meter.add(terms, len(images))
                window.add(terms, len(images))
                if seconds := self._pace.tick():
                    left = duration(seconds * (epochs * count - state.total_steps))
                    self.progress.note(f"about {left}: {epochs} epoch{'s' * (epochs > 1)} of {count} batches")
                if state.step % log_steps == 0 or state.step == count:
                    self._report("step", window, rate)
                    window = Meter()
                if checkpoint_steps and state.total_steps % checkpoint_steps == 0 and state.step < count:
                    state.sums = meter.sums()
                    self._checkpoint()
            self._report("epoch", meter, rate)
            state.epoch, state.step, state.sums = epoch + 1, 0, {}
            self._checkpoint()

    def rate(self, time: float) -> float:
        """Learning rate when `time` epochs are over, before the factors of the parameter groups."""
        return self.config.schedule.rate(self.config.optimiser.learning_rate, time, self.config.epochs)

    def step(self, images: Tensor, identities: Tensor, rate: float) -> dict[str, Tensor]:
        """One step on (B, 3, H, W) images with (B,) targets; return the loss terms and their sum as "loss".

        Raises:
            InputError: the loss is not finite. (On a GPU each report looks instead: looking waits for the device.)
        """
        set_rates(self.optimiser, rate)
        with autocast(self.precision, self.device):
            outputs = self.model(images.contiguous(memory_format=torch.channels_last))
            terms = dict(self.objective(outputs, identities))
        terms["loss"] = torch.stack(list(terms.values())).sum()
        if self.device.type == "cpu":
            self._refuse_divergence({name: float(value.detach()) for name, value in terms.items()}, rate)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        return terms

    def _report(self, event: str, meter: Meter, rate: float) -> None:
        line = meter.line()
        self._refuse_divergence(line, rate)
        epoch = self.state.epoch + 1
        self.run.log({"event": event, "epoch": epoch, "step": self.state.total_steps, "learning_rate": rate, **line})
        if event == "step":
            pace = f"{line['images_per_second']:.0f} images/s"
            self.progress.advance(meter.batches, f"epoch {epoch}/{self.config.epochs}, loss {line['loss']:.3f}, {pace}")

    def _checkpoint(self) -> None:
        self.state.metrics_bytes = self.run.metrics_size()
        path = self.run.checkpoint_path(self.state.total_steps)
        save_checkpoint(path, self.model, self.optimiser, self.state)
        self.run.prune_checkpoints()

    def _refuse_divergence(self, terms: Mapping[str, float], rate: float) -> None:
        if all(math.isfinite(value) for value in terms.values()):
            return
        seen = ", ".join(f"{name} {value:g}" for name, value in terms.items() if name != "seconds")
        wrong = [name for name, value in self.model.state_dict().items() if not bool(torch.isfinite(value).all())]
        held = f"{len(wrong)} weights hold NaN or infinity, first {wrong[0]}" if wrong else "all weights are finite"
        where = f"in epoch {self.state.epoch + 1} after {self.state.total_steps} steps"
        raise InputError(
            f"{self.run.path}: the loss is not finite {where} ({seen}; learning rate {rate:g}; {held}); "
            "lower optimiser.learning_rate, set clip_norm=1 or precision=float32."
        )
