"""Cache of search states after the first steps of a post-processing, shared by all with the same first steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vreid.retrieval.features import Sides
from vreid.retrieval.postprocessing.state import SearchState

Model = int | str | Path | Sides
"""Model of the features: index of a model of the ensemble, or the `features` of a bias."""


@dataclass(frozen=True)
class Action:
    """An executed step: a function from one state to the next, and its configuration.

    Attributes:
        run: called as run(state, config), or with `other` as run(state, config, other state). The first action of a
            list is called with features: run(query, gallery, config).
        config: the configuration, hashable.
        other: function from the prefix before this action and `config` to the prefix of the other state.
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
        """Return the same actions without those with a configuration of this type."""
        return replace(self, actions=tuple(action for action in self.actions if not isinstance(action.config, config)))

    @property
    def needs(self) -> tuple[Prefix, ...]:
        """Prefixes whose states are the arguments of the last action, in their order."""
        *first, last = self.actions
        before = replace(self, actions=tuple(first))
        others = (last.other(before, last.config),) if last.other else ()
        return (before, *others) if first else ()


class PrefixCache:
    """Compute the state of each prefix once, and drop it when no remaining action needs it.

    Args:
        features: function from a model to its query and gallery features, called when they are first needed.
        wanted: all prefixes with which `take` will be called, with repetitions.
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
        """Return the state after the actions of `prefix`.

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
