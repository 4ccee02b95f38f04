"""Learning-rate schedules: pure functions of training progress, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vreid.ranges import in_range


@dataclass(frozen=True)
class StepSchedule:
    """Linear warm-up, then a factor `decay` at each milestone, updated once per epoch. DMT's CNN schedule.

    In epoch e = 1, 2, ... the peak rate is multiplied by decay^(milestones <= e) and, while e < warmup_epochs, by
    warmup_factor (1 - e / warmup_epochs) + e / warmup_epochs.

    Example:
        >>> [round(StepSchedule().rate(0.01, epoch - 1, epochs=80), 5) for epoch in (1, 10, 40)]
        [0.00109, 0.01, 0.001]
    """

    kind: Literal["steps"] = "steps"
    milestones: tuple[int, ...] = in_range((40, 70), least=1, most=100_000)
    decay: float = in_range(0.1, least=0, most=1)
    warmup_epochs: int = in_range(10, least=0, most=100_000)
    warmup_factor: float = in_range(0.01, least=0, most=1)

    def rate(self, peak: float, time: float, epochs: int) -> float:
        """Return the learning rate after `time` of `epochs` epochs (fractional within an epoch)."""
        epoch = int(time) + 1
        factor = math.prod(self.decay for milestone in self.milestones if epoch >= milestone)
        if epoch < self.warmup_epochs:
            done = epoch / self.warmup_epochs
            factor *= self.warmup_factor * (1 - done) + done
        return peak * factor


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up, then half a cosine down to `final_factor`, updated in every step; for short runs.

    Example:
        >>> schedule = CosineSchedule(warmup_epochs=0.0, final_factor=0.0)
        >>> [round(schedule.rate(1.0, time, epochs=10), 3) for time in (0, 5, 10)]
        [1.0, 0.5, 0.0]
    """

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: float = in_range(1.0, least=0, most=100_000)
    warmup_factor: float = in_range(0.1, least=0, most=1)
    final_factor: float = in_range(0.01, least=0, most=1)

    def rate(self, peak: float, time: float, epochs: int) -> float:
        """Return the learning rate after `time` of `epochs` epochs (fractional within an epoch)."""
        if time < self.warmup_epochs:
            return peak * (self.warmup_factor + (1 - self.warmup_factor) * time / self.warmup_epochs)
        done = min((time - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1e-9), 1.0)
        return peak * (self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class EpochCosineSchedule:
    """Linear warm-up, then a cosine over all epochs, in absolute rates, updated once per epoch. DMT's TransReID.

    In epoch e = 1, 2, ... of E the rate is warmup_rate + e (peak - warmup_rate) / warmup_epochs, and from
    e = warmup_epochs on final_rate + (peak - final_rate) (1 + cos(pi e / E)) / 2. Every parameter group has its own
    peak and the same two ends.

    Example:
        >>> [round(EpochCosineSchedule().rate(0.01, epoch - 1, epochs=40), 6) for epoch in (1, 20, 40)]
        [0.002001, 0.005005, 1e-05]
    """

    kind: Literal["epoch-cosine"] = "epoch-cosine"
    warmup_epochs: int = in_range(5, least=0, most=100_000)
    warmup_rate: float = in_range(1e-6, least=0, most=1e30)
    final_rate: float = in_range(1e-5, least=0, most=1e30)

    def rate(self, peak: float, time: float, epochs: int) -> float:
        """Return the learning rate after `time` of `epochs` epochs (fractional within an epoch)."""
        epoch = int(time) + 1
        if epoch < self.warmup_epochs:
            return self.warmup_rate + epoch * (peak - self.warmup_rate) / self.warmup_epochs
        return self.final_rate + (peak - self.final_rate) * (1 + math.cos(math.pi * epoch / epochs)) / 2


Schedule = StepSchedule | CosineSchedule | EpochCosineSchedule


def reversal_strength(progress: float) -> float:
    """Return the strength of gradient reversal for adversarial heads: 2 / (1 + exp(-10 p)) - 1, from 0 to almost 1.

    `progress` p is the share of completed steps (Ganin and Lempitsky, ICML 2015; StRDAN's code).

    Example:
        >>> [round(reversal_strength(progress), 4) for progress in (0, 0.1, 0.5, 1)]
        [0.0, 0.4621, 0.9866, 0.9999]
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1
