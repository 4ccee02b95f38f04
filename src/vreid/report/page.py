"""The HTML report: one self-contained file without scripts or network access."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.protocols import PROTOCOLS, Protocol
from vreid.diagnostics.diagnosis import Diagnosis, SaliencyMaps
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
"""Number of best lists and of worst errors shown; without ground truth, their sum is the number of lists."""
BOOKKEEPING = frozenset({"event", "epoch", "step", "learning_rate", "images_per_second", "seconds"})
"""Fields of a line of metrics.jsonl that are not loss terms."""
LONGEST_CURVE = 400
"""Maximum number of points of a loss curve; longer curves are subsampled."""


def write_report(report: Report, path: Path | str) -> None:
    """Write `report` atomically as one self-contained HTML file; equal reports give equal bytes.

    Raises:
        InputError: `path` cannot be written.
    """
    write_text(path, render(report))


def render(report: Report) -> str:
    """Render the page as text (see `write_report`)."""
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
        saliency=[
            [[(thumbnail(one.path, one.box, one.heat), one.caption) for one in row] for row in part.chart.rows]
            if isinstance(part.chart, SaliencyMaps)
            else []
            for part in diagnosis.parts
        ],
    )


def milestones(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Select the headline rows: the first, the last without re-ranking and the last with it, without repetition.

    The selection does not depend on the metrics.
    """
    if not rows:
        return []
    plain = [row for row in rows if not any(metrics.reranked for metrics in row.metrics.values())]
    reranked = [row for row in rows if row not in plain]
    return list({id(row): row for row in (rows[0], *plain[-1:], *reranked[-1:])}.values())


def _charts(report: Report, bounds: Callable[[Metrics], tuple[float, float]]) -> dict[str, str]:
    out = {"ablation": "", "cmc": "", "losses": ""}
    if report.rows and report.parts:
        if sum(len(row.metrics) for row in report.rows) > 1:  # a single point needs no chart
            out["ablation"] = ablation(report.rows, report.baselines, report.parts, bounds)
        out["cmc"] = cmc(report.rows, report.baselines, report.parts)
    curves, unit = loss_curves(report.training or ())
    if curves:
        out["losses"] = losses(curves, unit)
    return out


def loss_curves(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[list[float], list[float]]], str]:
    """Extract loss terms from the lines of a metrics.jsonl: name -> (x, y), and the unit of x, "step" or "epoch".

    Every finite number outside of `BOOKKEEPING` is a loss term. Lines of epochs are ignored if lines of steps exist.
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
    curves = {name: (x, y) for name, (x, y) in curves.items() if len(x) > 1}  # a single point is not a curve
    for name, (x, y) in curves.items():
        every = -(-len(x) // LONGEST_CURVE)
        curves[name] = x[::every], y[::every]
    return curves, unit


def _ranked(report: Report) -> dict[str, Any]:
    """Prepare the ranked lists, camera pairs, candidates and maps for the template."""
    from markupsafe import Markup

    ranked: dict[str, Any] = {"lists": {}, "camera_candidates": [], "pairs": None, "maps": [], "known": frozenset()}
    candidates = None
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
        shown = [card for lists in ranked["lists"].values() for one in lists for card in (one.query, *one.candidates)]
        names = ("camera", "time", "folded", "look_alike")
        ranked["known"] = {name for name in names if any(getattr(card, name) for card in shown)}
        candidates = clearest_candidates(evaluated, report.roads)
        ranked["camera_candidates"] = [] if candidates is None else cards.candidates(candidates)
    if any(site.has_camera for site in report.sites):
        parts = list(dict.fromkeys([*report.parts, *(site.part for site in report.sites if site.part)]))
        ranked["maps"] = [Markup(svg) for svg in camera_maps(report.sites, report.roads, parts, candidates)]
    return ranked


def _protocol(report: Report) -> Protocol:
    """Return the ranking's protocol: that of a row with its name, else the known one, else one that excludes itself."""
    name = report.ranking.protocol if report.ranking else ""
    used = {m.protocol.name: m.protocol for row in report.rows for m in row.metrics.values()}
    return {**PROTOCOLS, **used}.get(name, Protocol(name, exclude="itself"))
