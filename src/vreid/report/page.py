"""The HTML report: one file, no script, no network; everything a reader needs to believe the numbers or not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.protocols import PROTOCOLS, Protocol
from vreid.diagnostics.diagnosis import Diagnosis, Looks
from vreid.files import write_text
from vreid.report.camera_candidates import clearest_candidates
from vreid.report.cards import CardMaker
from vreid.report.charts import chart
from vreid.report.contents import Report, ResultRow
from vreid.report.figures import ablation, cmc, losses
from vreid.report.maps import LARGE, camera_maps
from vreid.report.rank_lists import EvaluatedRanking
from vreid.report.template import fill
from vreid.report.thumbnails import thumbnail
from vreid.retrieval.evaluation.metrics import Metrics, interval

GOOD, BAD = 4, 8
"""How many good lists and how many of the worst errors are shown; without ground truth, how many lists in all."""
BOOKKEEPING = frozenset({"event", "epoch", "step", "learning_rate", "images_per_second", "seconds"})
"""What a line of metrics.jsonl holds besides loss terms."""
LONGEST_CURVE = 400
"""Points of a loss curve; longer ones are thinned."""


def write_report(report: Report, path: Path | str) -> None:
    """Write `report` as one self-contained HTML file, whole or not at all; the same report gives the same bytes.

    Raises:
        InputError: `path` cannot be written.
    """
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page as text (see `write_report`)."""
    from markupsafe import Markup

    bounds = functools.cache(lambda metrics: interval(metrics, "mAP"))
    return fill(
        "page.html",
        report=report,
        bounds=bounds,
        large_map=sum(site.has_camera for site in report.sites) > LARGE,
        milestones=milestones(report.rows),
        protocols=list(dict.fromkeys(m.protocol.description for row in report.rows for m in row.metrics.values())),
        figures={name: Markup(svg) for name, svg in _charts(report, bounds).items()},
        diagnosis=Markup(_diagnosis(report.diagnosis)) if report.diagnosis else "",
        **_ranked(report),
    )


def _diagnosis(diagnosis: Diagnosis) -> str:
    from markupsafe import Markup

    return fill(
        "diagnosis.html",
        diagnosis=diagnosis,
        charts=[Markup(chart(part, number)) for number, part in enumerate(diagnosis.parts)],
        looks=[
            [[(thumbnail(look.path, look.box, look.heat), look.caption) for look in row] for row in part.chart.rows]
            if isinstance(part.chart, Looks)
            else []
            for part in diagnosis.parts
        ],
    )


def milestones(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows worth a headline: the first, the last without re-ranking, the last with it; each once.

    Chosen by their place, never by their numbers.
    """
    if not rows:
        return []
    plain = [row for row in rows if not any(metrics.reranked for metrics in row.metrics.values())]
    reranked = [row for row in rows if row not in plain]
    return list({id(row): row for row in (rows[0], *plain[-1:], *reranked[-1:])}.values())


def _charts(report: Report, bounds: Callable[[Metrics], tuple[float, float]]) -> dict[str, str]:
    out = {"ablation": "", "cmc": "", "losses": ""}
    if report.rows and report.parts:
        if sum(len(row.metrics) for row in report.rows) > 1:  # one point is no chart
            out["ablation"] = ablation(report.rows, report.baselines, report.parts, bounds)
        out["cmc"] = cmc(report.rows, report.baselines, report.parts)
    curves, unit = loss_curves(report.training or ())
    if curves:
        out["losses"] = losses(curves, unit)
    return out


def loss_curves(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[list[float], list[float]]], str]:
    """Loss terms in the lines of a metrics.jsonl, name -> (x, y), and what x counts: "step" or "epoch".

    Every finite number that is not bookkeeping is a term. Where some lines tell of steps, those of epochs are left out.
    """
    steps = [line for line in lines if line.get("event", "step") == "step" and "step" in line]
    unit = "step" if steps else "epoch"
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in steps or [line for line in lines if line.get("event", "epoch") == "epoch" and "epoch" in line]:
        for key, value in line.items():
            if key not in BOOKKEEPING and isinstance(value, (int, float)) and np.isfinite(value):
                x, y = curves.setdefault(key, ([], []))
                x.append(float(line[unit]))
                y.append(float(value))
    curves = {name: (x, y) for name, (x, y) in curves.items() if len(x) > 1}  # one point is no curve
    for name, (x, y) in curves.items():
        every = -(-len(x) // LONGEST_CURVE)
        curves[name] = x[::every], y[::every]
    return curves, unit


def _ranked(report: Report) -> dict[str, Any]:
    """What the template shows of the ranking, and the maps (which can do without one)."""
    from markupsafe import Markup

    ranked: dict[str, Any] = {"lists": {}, "found": [], "pairs": None, "maps": [], "known": frozenset()}
    found = None
    if report.ranking is not None and len(report.ranking):
        evaluated = EvaluatedRanking(report.ranking, _protocol(report))
        cards = CardMaker(evaluated)
        if (evaluated.hits >= 0).any():
            queries = {"good": evaluated.good(GOOD), "bad": evaluated.worst(BAD)}
            ranked["pairs"] = evaluated.camera_pairs()
        else:
            count = min(GOOD + BAD, len(report.ranking))
            queries = {"some": np.linspace(0, len(report.ranking) - 1, count).astype(int).tolist()}
        ranked["lists"] = {name: [cards.rank_list(query) for query in chosen] for name, chosen in queries.items()}
        shown = [card for made in ranked["lists"].values() for one in made for card in (one.query, *one.candidates)]
        names = ("camera", "time", "folded", "look_alike")
        ranked["known"] = {name for name in names if any(getattr(card, name) for card in shown)}
        found = clearest_candidates(evaluated, report.roads)
        ranked["found"] = [] if found is None else cards.candidates(found)
    if any(site.has_camera for site in report.sites):
        parts = list(dict.fromkeys([*report.parts, *(site.part for site in report.sites if site.part)]))
        ranked["maps"] = [Markup(svg) for svg in camera_maps(report.sites, report.roads, parts, found)]
    return ranked


def _protocol(report: Report) -> Protocol:
    """Return the ranking's protocol: that of a row, else a known one, else one that excludes only the query image."""
    name = report.ranking.protocol if report.ranking else ""
    used = {m.protocol.name: m.protocol for row in report.rows for m in row.metrics.values()}
    return {**PROTOCOLS, **used}.get(name, Protocol(name, exclude="itself"))
