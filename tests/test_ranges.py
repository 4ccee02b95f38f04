"""Ranges of settings: every number of a configuration has one, and both ends hold."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import pytest

from vreid.adaptation.adapt_config import AdaptConfig, PseudoConfig
from vreid.errors import InputError
from vreid.ranges import bounds, check_number, check_settings, in_range
from vreid.simulator.city.presets import PRESETS
from vreid.training.crop import CropConfig
from vreid.training.train_config import TrainConfig
from vreid.training.translate import TranslateConfig


@dataclass(frozen=True)
class Inner:
    share: float = in_range(0.5, above=0, below=1)


@dataclass(frozen=True)
class Settings:
    count: int = field(metadata=bounds(least=1))
    limit: int | None = in_range(None, least=0, most=1000)
    sides: tuple[float, float] = in_range((0.0, 1.0), least=0, ascending=True)
    weight: float = in_range(1.0)
    kind: Literal["a", "b"] | None = "a"
    kinds: tuple[Literal["a", "b"], ...] = ()
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        check_settings(self, "thing ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "thing count is 0; give a whole number of at least 1."),
        ({"count": 1.5}, "thing count is 1.5; give a whole number of at least 1."),
        ({"count": "3"}, "thing count is 3; give a whole number of at least 1."),
        ({"count": None}, "thing count is None; give a whole number of at least 1."),
        ({"limit": 1001}, "thing limit is 1001; give a whole number from 0 to 1,000."),
        ({"sides": (0.0, -1.0)}, "thing sides is -1.0; give a number of at least 0."),
        ({"sides": (1.0, 0.5)}, "thing sides is (1.0, 0.5); give the smaller number first."),
        ({"weight": float("nan")}, "thing weight is nan; give a number that is finite."),
        ({"weight": float("inf")}, "thing weight is inf; give a number that is finite."),
        ({"kind": "c"}, "thing kind is 'c'; use one of a, b."),
        ({"kinds": ("a", "c")}, "thing kinds is 'c'; use one of a, b."),
        ({"inner": Inner(share=1.0)}, "thing inner.share is 1.0; give a number above 0 and below 1."),
    ],
)
def test_a_setting_out_of_its_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        replace(Settings(1), **change)
    assert str(error.value) == message


def test_the_ends_of_a_range_are_allowed() -> None:
    Settings(np.int64(1), limit=1000, sides=(0.0, 0.0), kind=None)  # type: ignore[arg-type]
    assert TrainConfig("any", seed=2**63 - 1).seed == 2**63 - 1
    check_number("x", 0.1, least=0.1, most=0.1)


@pytest.mark.parametrize(
    "config",
    [TrainConfig("any"), AdaptConfig(), PseudoConfig(), CropConfig(), TranslateConfig(), PRESETS["tiny"]],
    ids=lambda config: type(config).__name__,
)
def test_every_number_of_a_configuration_has_a_range(config: Any) -> None:
    """Each number set to NaN, at any depth, is an error that names it."""

    def numbers(part: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for one in fields(part):
            value = getattr(part, one.name)
            if hasattr(value, "__dataclass_fields__"):
                found += numbers(value, (*path, one.name))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                found.append((*path, one.name))
        return found

    def changed(part: Any, path: tuple[str, ...]) -> Any:
        name, *rest = path
        return replace(part, **{name: changed(getattr(part, name), tuple(rest)) if rest else float("nan")})

    paths = [path for path in numbers(config) if path[0] not in ("model", "new_scene")]
    assert len(paths) > 4
    for path in paths:
        with pytest.raises(InputError, match=f"{path[-1]} is nan; give a"):
            changed(config, path)
