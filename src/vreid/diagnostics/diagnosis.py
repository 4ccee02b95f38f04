"""Result of a diagnosis: parts with a summary sentence, numbers and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.diagnostics.estimates import Estimate


@dataclass(frozen=True)
class BarChart:
    """Groups of named numbers, for example one group per sliced property; `line` is a reference value."""

    groups: Mapping[str, Mapping[str, Estimate]]
    label: str
    line: float | None = None


@dataclass(frozen=True)
class Curve:
    """One curve of a chart: numbers with intervals over `x`."""

    name: str
    x: Sequence[float]
    y: Sequence[Estimate]


@dataclass(frozen=True)
class Curves:
    """Curves over a common axis; `marks` are named points (x, y)."""

    curves: Sequence[Curve]
    xlabel: str
    ylabel: str
    log_x: bool = False
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ScatterChart:
    """P points (P, 2) with their identity and camera."""

    place: NDArray[np.float32]
    identity: Sequence[str]
    camera: Sequence[str]


@dataclass(frozen=True, eq=False)
class Grids:
    """Square grids of shares in 0 to 1 over the image, by name."""

    grids: Mapping[str, NDArray[np.float64]]
    label: str


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """One image (or its `box`) with an activation map (H, W) in 0 to 1."""

    caption: str
    path: str
    box: tuple[float, ...] | None
    heat: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SaliencyMaps:
    """Rows of images with activation maps."""

    rows: Sequence[Sequence[SaliencyMap]]


Chart = BarChart | Curves | ScatterChart | Grids | SaliencyMaps


@dataclass(frozen=True)
class Part:
    """Result of one diagnostic.

    Attributes:
        name: subject, for example "camera gap".
        sentence: summary of the result.
        numbers: estimates by name; shares and their differences are 0 to 1.
        warning: whether the result casts doubt on the metrics.
        fix: suggested fix for a warning.
        needs: inputs besides the features ("identities", "images", "a model").
        limits: limitations of the result.
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
        """Return numbers and texts for JSON, without the chart."""
        texts = {name: getattr(self, name) for name in ("name", "sentence", "warning", "fix", "needs", "limits")}
        return texts | {"numbers": {name: asdict(number) for name, number in self.numbers.items()}}


@dataclass(frozen=True)
class Diagnosis:
    """Results of all available diagnostics.

    Attributes:
        parts: results in the order of the page.
        left_out: (name, reason) of diagnostics that are not available.
    """

    parts: Sequence[Part]
    left_out: Sequence[tuple[str, str]] = ()

    @property
    def warnings(self) -> list[Part]:
        """The parts with a warning."""
        return [part for part in self.parts if part.warning]

    def __getitem__(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return numbers and texts for JSON."""
        return {"parts": [part.as_dict() for part in self.parts], "left_out": [list(pair) for pair in self.left_out]}
