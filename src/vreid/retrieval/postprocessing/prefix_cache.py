"""The cache of post-processing: states after the first steps of a list, shared by all lists that start alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vreid.retrieval.features import Sides
from vreid.retrieval.postprocessing.state import SearchState

Model = int | str | Path | Sides
"""Whose features: the number of a model of the ensemble, or the `features` of a bias."""


@dataclass(frozen=True)
class Action:
    """One entry of the list of steps: a function from one state to the next, and its configuration.

    Attributes:
        run: called as run(state, config), with `other` as run(state, config, other state). The first action of a list
            starts from features instead: run(query, gallery, config).
        config: hashable.
        other: which prefix makes the other state, from the prefix before this action and `config`.
    """

    run: Callable[..., SearchState]
    config: Any
    other: Callable[[Prefix, Any], Prefix] | None = None


@dataclass(frozen=True)
class Prefix:
    """The first actions of a list, applied to the features of one model."""

    model: Model
    actions: tuple[Action, ...]

    def without(self, config: type[Any]) -> Prefix:
        """The same actions but for those of a configuration of this type."""
        return replace(self, actions=tuple(action for action in self.actions if not isinstance(action.config, config)))

    @property
    def needs(self) -> tuple[Prefix, ...]:
        """The prefixes whose states the last action takes, in the order of its arguments."""
        *first, last = self.actions
        before = replace(self, actions=tuple(first))
        others = (last.other(before, last.config),) if last.other else ()
        return (before, *others) if first else ()


class PrefixCache:
    """Makes the state of each prefix once, and forgets it as soon as no remaining action needs it.

    Args:
        features: query and gallery features of a model; asked for when an action first needs them.
        wanted: every prefix that `take` will be called with, as often as it will be.
    """

    def __init__(self, features: Callable[[Model], Sides], wanted: Iterable[Prefix]) -> None:
        self._features = features
        self._states: dict[Prefix, SearchState] = {}
        self._uses = Counter(wanted)
        unseen = list(self._uses)
        while unseen:
            for prefix in unseen.pop().needs:
                if not self._uses[prefix]:
                    unseen.append(prefix)
                self._uses[prefix] += 1

    def take(self, prefix: Prefix) -> SearchState:
        """The state after the actions of `prefix`.

        Raises:
            InputError: as its actions.
        """
        state = self._states.pop(prefix) if prefix in self._states else self._make(prefix)
        self._uses[prefix] -= 1
        if self._uses[prefix]:
            self._states[prefix] = state
        return state

    def _make(self, prefix: Prefix) -> SearchState:
        last = prefix.actions[-1]
        if len(prefix.actions) == 1:
            return last.run(*self._features(prefix.model), last.config)
        before, *others = (self.take(needed) for needed in prefix.needs)
        return last.run(before, last.config, *others)
