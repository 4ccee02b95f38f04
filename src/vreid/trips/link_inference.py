"""LinkInference: candidate links and their log-odds in any window of time, by what a sample taught.

First tracklets are compared alone, then in the context of what precedes and follows. The context of a link must not
hold what was concluded from the link itself: the past is weighted with links that were scored without the future, and
the future with links scored without the past (as in forward-backward).

Shapes: N tracklets, E links.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.progress import Progress
from vreid.trips.candidate_links import Appearances, CandidateLinks, Cohorts, Looks, candidate_links
from vreid.trips.confirmations import Confirmations
from vreid.trips.link_learning import Learned, Sample, learn, relearned
from vreid.trips.link_model import LinkModel
from vreid.trips.probability import marginals
from vreid.trips.tables import TimedTracklets

PASSES = 4
"""Comparisons of all tracklets: alone, by their past, by their future, by both."""
_ROUNDS = 4  # of learning, before the context is added
_LEAST = -7.0  # least log-odds of a candidate

Scored = tuple[CandidateLinks, NDArray[np.float64]]
"""Links and their log-odds (E,)."""


@dataclass(frozen=True, eq=False)
class LinkInference:
    """A model of links for each comparison, with the tracklets among which look-alikes are counted.

    Attributes:
        alone, of_past, of_future, of_both: model and cohorts of each comparison.
        most: maximum number of successors that are considered for a tracklet.
    """

    alone: tuple[LinkModel, Cohorts]
    of_past: tuple[LinkModel, Cohorts]
    of_future: tuple[LinkModel, Cohorts]
    of_both: tuple[LinkModel, Cohorts]
    most: int

    @classmethod
    def learn(cls, sample: Sample, answers: Confirmations, longest: float, overlap: float, most: int) -> LinkInference:
        """Learn from a sample, whose rows the answers name."""
        known: dict[str, Learned] = {}
        found: dict[str, tuple[LinkModel, Cohorts]] = {}

        def compared(name: str, looks: Looks) -> tuple[Appearances, LinkModel]:
            appearances = Appearances.of(sample.table, looks)
            if name == "alone":
                known[name] = learn(sample, appearances, longest, overlap, _ROUNDS, most, _LEAST)
            else:
                before, rounds = ("of_past", 3) if name == "of_both" else ("alone", 2)
                known[name] = relearned(sample, appearances, known[before], rounds, most, _LEAST)
            found[name] = known[name].model, appearances.cohorts
            return appearances, known[name].model

        _compare(sample.table, answers, most, Progress(), compared)
        return cls(**found, most=most)

    @property
    def model(self) -> LinkModel:
        """The model of the last comparison."""
        return self.of_both[0]

    def links(self, table: TimedTracklets, answers: Confirmations, progress: Progress) -> Scored:
        """Find candidates among the tracklets of a window, whose rows the answers name."""

        def compared(name: str, looks: Looks) -> tuple[Appearances, LinkModel]:
            model, cohorts = getattr(self, name)
            return Appearances.of(table, looks, cohorts), model

        last = _compare(table, answers, self.most, progress, compared)
        return answers.applied(*candidate_links(*last, self.most, _LEAST, progress))


def _compare(
    table: TimedTracklets,
    answers: Confirmations,
    most: int,
    progress: Progress,
    compared: Callable[[str, Looks], tuple[Appearances, LinkModel]],
) -> tuple[Appearances, LinkModel]:
    """Go through the comparisons, each named with its looks, up to what the last one compares."""

    def in_context(name: str, looks: Looks) -> Looks:
        links, odds = answers.applied(*candidate_links(*compared(name, looks), most, _LEAST, progress))
        return Looks.in_context(table, links, marginals(links.first, links.second, odds, len(table)).link)

    alone = Looks.alone(table)
    context = in_context("alone", alone)
    past, future = in_context("of_past", context.up_to(alone)), in_context("of_future", alone.up_to(context))
    return compared("of_both", past.up_to(future))
