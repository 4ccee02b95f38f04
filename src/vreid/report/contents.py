"""Contents of a report as frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vreid.diagnostics.diagnosis import Diagnosis
from vreid.errors import InputError
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.ranking import Ranking

SIMULATED_NOTICE = "Measured on simulated data; the numbers do not transfer to real roads."


@dataclass(frozen=True)
class ResultRow:
    """One row of results: a name, a description, and metrics by part of the queries.

    The keys of `metrics` are the parts, for example "all cameras", "seen cameras" and "new cameras".
    """

    name: str
    description: str
    metrics: Mapping[str, Metrics]


@dataclass(frozen=True)
class Site:
    """A place on the map: a camera, or (`has_camera=False`) a junction; `x`, `y` in metres, y upwards.

    `part` groups cameras by colour, the same as for the part of the results with that name.
    """

    name: str
    x: float
    y: float
    part: str = ""
    has_camera: bool = True


@dataclass(frozen=True)
class MapRoad:
    """A two-way road between two sites by name, with its mean travel time in seconds."""

    a: str
    b: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """Contents of the page; a section whose value is None or empty is omitted.

    Attributes:
        title: headline of the page.
        notice: warning above the results ("Measured on simulated data ...").
        summary: one or two sentences about the experiment.
        facts: pairs of name and value: data set, protocol, model, seed, ...
        rows: results; the first row is plain search, each further row adds one step.
        baselines: baselines (chance, a colour histogram) with the same parts as `rows`.
        ranking: the ranked lists to show, with their query and gallery Records.
        ranking_name: name of the row that `ranking` belongs to.
        training: the lines of a run's metrics.jsonl.
        sites, roads: the camera network, for the map.
        stages: seconds by stage.
        commands: pairs of a title and command lines.
        diagnosis: result of `vreid.diagnostics.diagnose`.

    Raises:
        InputError: two sites with one name, or a road to an unknown site.
    """

    title: str
    notice: str = ""
    summary: str = ""
    facts: Sequence[tuple[str, str]] = ()
    rows: Sequence[ResultRow] = ()
    baselines: Sequence[ResultRow] = ()
    ranking: Ranking | None = None
    ranking_name: str = ""
    training: Sequence[Mapping[str, Any]] | None = None
    sites: Sequence[Site] = ()
    roads: Sequence[MapRoad] = ()
    stages: Mapping[str, float] | None = None
    commands: Sequence[tuple[str, Sequence[str]]] = ()
    diagnosis: Diagnosis | None = None

    def __post_init__(self) -> None:
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"Report: site {twice!r} occurs twice; give every camera and junction a unique name.")
        for road in self.roads:
            for end in (road.a, road.b):
                if end not in names:
                    raise InputError(f"Report: a road leads to the unknown site {end!r}; add it to the sites.")

    @property
    def parts(self) -> list[str]:
        """The parts of the queries in order of first appearance in rows and baselines."""
        return list(dict.fromkeys(part for row in (*self.rows, *self.baselines) for part in row.metrics))
