"""What a diagnosis is: parts, each with numbers, one plain sentence, and what people would rather look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.diagnostics.estimates import Estimate


@dataclass(frozen=True)
class BarChart:
    """Groups of named numbers to compare, for example one group a slicing; `line` is what all are held against."""

    groups: Mapping[str, Mapping[str, Estimate]]
    label: str
    line: float | None = None


@dataclass(frozen=True)
class Curve:
    """One line of a chart: numbers with intervals over `x`."""

    name: str
    x: Sequence[float]
    y: Sequence[Estimate]


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis; `marks` are single points (x, y) with their names."""

    curves: Sequence[Curve]
    xlabel: str
    ylabel: str
    log_x: bool = False
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ScatterChart:
    """A map of P points (P, 2) with the identity and camera of each."""

    place: NDArray[np.float32]
    identity: Sequence[str]
    camera: Sequence[str]


@dataclass(frozen=True, eq=False)
class Grids:
    """Square grids of shares 0 to 1 over the picture, by name."""

    grids: Mapping[str, NDArray[np.float64]]
    label: str


@dataclass(frozen=True, eq=False)
class Looked:
    """One picture (its `box`, where it has one) under the map (H, W) of where a model looked, 0 to 1."""

    caption: str
    path: str
    box: tuple[float, ...] | None
    heat: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Looks:
    """Rows of pictures with their activation maps."""

    rows: Sequence[Sequence[Looked]]


Chart = BarChart | Curves | ScatterChart | Grids | Looks


@dataclass(frozen=True)
class Part:
    """One thing looked at.

    Attributes:
        name: what it is about, for example "camera gap".
        sentence: what was found, in plain words.
        numbers: what it rests on, by name; shares and their differences are 0 to 1.
        warning: somebody has to look at this before the other numbers are believed; then `fix` says what to do.
        needs: what was used besides the features ("identities", "pictures", "a model"); it says who can have it.
        limits: what it does not say.
        chart: the figure.
    """

    name: str
    sentence: str
    numbers: Mapping[str, Estimate] = field(default_factory=dict)
    warning: bool = False
    fix: str = ""
    needs: str = ""
    limits: str = ""
    chart: Chart | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts for JSON; the chart stays out."""
        texts = {name: getattr(self, name) for name in ("name", "sentence", "warning", "fix", "needs", "limits")}
        return texts | {"numbers": {name: asdict(number) for name, number in self.numbers.items()}}


@dataclass(frozen=True)
class Diagnosis:
    """All parts that could be had, and why the others could not.

    Attributes:
        parts: in the order of the page.
        left_out: (name, reason) of what was not looked at.
    """

    parts: Sequence[Part]
    left_out: Sequence[tuple[str, str]] = ()

    @property
    def warnings(self) -> list[Part]:
        """The parts that somebody has to look at."""
        return [part for part in self.parts if part.warning]

    def __getitem__(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts for JSON."""
        return {"parts": [part.as_dict() for part in self.parts], "left_out": [list(pair) for pair in self.left_out]}
