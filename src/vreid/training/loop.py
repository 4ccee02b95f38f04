"""Base class of training loops: epochs of batches, checkpoints, metrics, progress; subclasses define the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from time import perf_counter

import torch
from torch import Tensor, nn

from vreid.data.loading import Batch, Loader
from vreid.errors import InputError
from vreid.formatting import duration
from vreid.progress import Progress
from vreid.training.checkpoint import LoopState, load_checkpoint, save_checkpoint
from vreid.training.distributed import ProcessGroup
from vreid.training.meter import Meter, Pace, memory_at_most
from vreid.training.run_folder import RunFolder


class Loop(ABC):
    """Resumable training loop: a stopped run continues from its newest checkpoint to bit-identical weights.

    Args:
        title: title of the job, for progress.
        epochs: number of epochs.
        learned: all modules with weights or state that belong in a checkpoint, except the optimiser.
        optimiser: optimiser of the weights.
        run: run folder for metrics and checkpoints.
        device: device of the batches.
        progress: listener.
    """

    remedy = "lower the learning rate"
    """Suggested fix in the error about a loss that is not finite."""
    smaller_batch = "lower the batch size"
    """Suggested fix in the error about a batch that does not fit the device's memory."""

    def __init__(
        self,
        title: str,
        epochs: int,
        learned: nn.ModuleDict,
        optimiser: torch.optim.Optimizer,
        run: RunFolder,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.world = ProcessGroup.current()
        self.title = title
        self.epochs = epochs
        self.learned = learned
        self.optimiser = optimiser
        self.run = run
        self.device = device
        self.progress = progress
        self.state = LoopState()
        self._pace = Pace()

    @abstractmethod
    def train_step(self, batch: Batch, time: float, *, last: bool) -> dict[str, Tensor]:
        """Train on one batch after `time` epochs (`last`: it ends its epoch); return its loss terms."""

    @abstractmethod
    def rate(self, time: float) -> float:
        """Return the learning rate after `time` epochs."""

    def images_of(self, batch: Batch) -> int:
        """Return the number of images of the whole batch, of which `batch` is this process's part."""
        return len(batch.images) * self.world.size

    def can_checkpoint(self, *, last: bool) -> bool:
        """Whether a checkpoint may follow this batch, i.e. no accumulated gradient is pending."""
        return True

    def epoch_ends(self, epoch: int) -> str:
        """Hook at the end of `epoch` (from 0), before its checkpoint; may be called again after a resume.

        Returns:
            Text to append to the epoch's progress line, or "".
        """
        return ""

    def restore(self) -> None:
        """Restore the newest readable checkpoint, if there is one; unreadable ones are renamed."""
        paths = self.run.checkpoint_paths()
        for path in paths:
            try:
                self.state = load_checkpoint(path, self.learned, self.optimiser)
            except InputError as error:
                aside = self.run.set_aside(path) if self.world.first else path
                then = "" if path == paths[-1] else "; the checkpoint before it is used"
                self.progress.note(f"{error} It is kept as {aside.name}{then}.")
                continue
            self.progress.note(f"Resumed after {self.state.total_steps} steps, in epoch {self.state.epoch + 1}.")
            break
        else:
            if paths:
                self.progress.note("No checkpoint can be read; training starts from the beginning.")
        if self.world.first and not self.run.cut_metrics(self.state.metrics_bytes):
            self.progress.note(f"{self.run.metrics}: lines from before the checkpoint are missing.")

    def run_epochs(self, loader: Loader, *, checkpoint_steps: int | None = None, log_steps: int = 10) -> None:
        """Train until the last epoch is complete.

        Args:
            loader: loader of the batches.
            checkpoint_steps: interval of checkpoints in steps, in addition to one after each epoch.
            log_steps: interval of lines of metrics.jsonl, in steps.

        Raises:
            InputError: the loss or the weights are not finite.
        """
        state, epochs = self.state, self.epochs
        loader.set_epoch(state.epoch)
        self.progress.start(self.title, epochs * len(loader), state.total_steps)
        saved = first = state.total_steps
        begun = perf_counter()
        for epoch in range(state.epoch, epochs):
            loader.set_epoch(epoch)
            count = len(loader)  # differs a little from epoch to epoch
            loader.set_epoch(epoch, first_batch=state.step)
            meter, window = Meter(state.sums), Meter()
            for batch in loader:
                time, last = epoch + state.step / count, state.step + 1 == count
                can_checkpoint = self.can_checkpoint(last=last)
                terms = self._step_or_advice(batch, time, last=last)
                state.step += 1
                state.total_steps += 1
                together = self.images_of(batch)
                meter.add(terms, together)
                window.add(terms, together)
                if seconds := self._pace.tick():
                    left = duration(seconds * (epochs * count - state.total_steps))
                    self.progress.note(f"about {left}: {epochs} epoch{'s' * (epochs > 1)} of {count} batches")
                if state.step % log_steps == 0 or last:
                    self._report("step", window, time)
                    window = Meter()
                if checkpoint_steps and can_checkpoint and state.total_steps - saved >= checkpoint_steps and not last:
                    state.sums, saved = meter.sums(), state.total_steps
                    self._checkpoint()
            self._report("epoch", meter, time)
            words = [self._summary(meter), self.epoch_ends(epoch)]
            took = perf_counter() - begun
            remaining = took / max(state.total_steps - first, 1) * (epochs - epoch - 1) * count
            words.append(f"{duration(remaining)} left" if epoch + 1 < epochs else f"took {duration(took)}")
            self.progress.log(f"epoch {epoch + 1}/{epochs}: {', '.join(filter(None, words))}")
            state.epoch, state.step, state.sums, saved = epoch + 1, 0, {}, state.total_steps
            self._checkpoint()

    def _step_or_advice(self, batch: Batch, time: float, *, last: bool) -> dict[str, Tensor]:
        """Train on one batch.

        Raises:
            InputError: it does not fit the device's memory; the message names the options that make it smaller.
        """
        try:
            return self.train_step(batch, time, last=last)
        except torch.OutOfMemoryError as error:
            count, _, height, width = batch.images.shape
            raise InputError(
                f"{self.run.path}: a batch of {count} images of {height} x {width} does not fit the memory of "
                f"{self.device}; {self.smaller_batch}."
            ) from error

    def raise_if_diverged(self, terms: Mapping[str, float], time: float) -> None:
        """Stop training before weights that are not finite reach a checkpoint.

        Raises:
            InputError: a loss term is not finite; the message lists the terms and suggests a fix.
        """
        if all(math.isfinite(value) for value in terms.values()):
            return
        seen = ", ".join(f"{name} {value:g}" for name, value in terms.items() if name != "seconds")
        held = self._broken_weights() or "all weights are finite"
        where = f"in epoch {self.state.epoch + 1} after {self.state.total_steps} steps"
        raise InputError(
            f"{self.run.path}: the loss is not finite {where} ({seen}; learning rate {self.rate(time):g}; {held}); "
            f"{self.remedy}."
        )

    def _broken_weights(self) -> str:
        """Describe the weights that are not finite; "" if there are none."""
        wrong = [name for name, value in self.learned.state_dict().items() if not bool(torch.isfinite(value).all())]
        return f"weights hold NaN or infinity (first {wrong[0]}, {len(wrong)} in all)" if wrong else ""

    def _report(self, event: str, meter: Meter, time: float) -> None:
        line = meter.line()
        self.raise_if_diverged(line, time)
        if not self.world.first:
            return
        if self.run.precision_note:  # not before a batch was read: wrong input is answered with one sentence
            self.progress.note(self.run.precision_note)
            self.run.precision_note = ""
        epoch, rate = self.state.epoch + 1, self.rate(time)
        self.run.log({"event": event, "epoch": epoch, "step": self.state.total_steps, "learning_rate": rate, **line})
        if event == "step":
            loss = f", loss {line['loss']:.3g}" if "loss" in line else ""
            text = f"epoch {epoch}/{self.epochs}{loss}, {line['images_per_second']:.0f} img/s"
            self.progress.advance(meter.batches, text)

    def _summary(self, meter: Meter) -> str:
        """Format mean loss, images per second and memory of an epoch."""
        line = meter.line()
        loss = [f"loss {line['loss']:.3f}"] if "loss" in line else []
        return ", ".join([*loss, f"{line['images_per_second']:.0f} images/s", memory_at_most(self.device)])

    def _checkpoint(self) -> None:
        if broken := self._broken_weights():  # the last step can break weights after a finite loss
            raise InputError(f"{self.run.path}: {broken}, after {self.state.total_steps} steps; {self.remedy}.")
        if not self.world.first:
            return
        self.state.metrics_bytes = self.run.metrics_size()
        path = self.run.checkpoint_path(self.state.total_steps)
        save_checkpoint(path, self.learned, self.optimiser, self.state)
        self.run.prune_checkpoints()
