"""What goes into a report: plain frozen values. Whoever made the results fills them in; the page only shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vreid.diagnostics.diagnosis import Diagnosis
from vreid.errors import InputError
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.ranking import Ranking

SIMULATED_NOTICE = "Measured on simulated data: it shows that the code works, not that it works on roads."


@dataclass(frozen=True)
class ResultRow:
    """One row of the results: a name, what it adds in words, and its metrics by part of the queries.

    The keys of `metrics` are the parts, for example "all cameras", "seen cameras" and "new cameras".
    """

    name: str
    description: str
    metrics: Mapping[str, Metrics]


@dataclass(frozen=True)
class Site:
    """A place on the map: a camera, or (`has_camera=False`) a mere junction; `x`, `y` in metres, y upwards.

    `part` groups the cameras by colour; where it equals a part of `rows`, both get the same colour.
    """

    name: str
    x: float
    y: float
    part: str = ""
    has_camera: bool = True


@dataclass(frozen=True)
class MapRoad:
    """A road between two sites by name, open both ways, with its mean travel time in seconds."""

    a: str
    b: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """Everything on the page; each part that is None or empty leaves its section out.

    Attributes:
        title: headline of the page.
        notice: what a reader must know before believing a number ("Measured on simulated data: ...").
        summary: what was done, in a sentence or two.
        facts: ordered pairs of what made the numbers: data set, protocol, model, seed, ...
        rows: the ablation: plain search first, each further row with one more step.
        baselines: what the numbers have to beat (chance, a colour histogram), same parts as `rows`.
        ranking: the ranked lists to show, with the query and gallery Records they refer to.
        ranking_name: name of the row that `ranking` belongs to.
        training: the lines of a run's metrics.jsonl.
        sites, roads: the camera network; needed for the map only.
        stages: seconds by stage of the work.
        commands: pairs of a title and the lines to type.
        diagnosis: what `vreid.diagnostics.diagnose` found.

    Raises:
        InputError: two sites of one name, or a road to a site that is not there.
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
            raise InputError(f"Report: site {twice!r} occurs twice; give every camera and junction its own name.")
        for road in self.roads:
            for end in (road.a, road.b):
                if end not in names:
                    raise InputError(f"Report: a road leads to {end!r}, which is not among the sites; add that site.")

    @property
    def parts(self) -> list[str]:
        """The parts of the queries in order of first appearance in rows and baselines."""
        return list(dict.fromkeys(part for row in (*self.rows, *self.baselines) for part in row.metrics))
