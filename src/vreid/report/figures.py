"""The figures of a report as inline SVG: one style, same input same bytes, colours that follow the page's theme.

Matplotlib draws with stand-in colours, which become CSS variables of the page, so that one figure serves light, dark
and print. Series differ by marker and dash as well as by colour. Text stays text in the page's own font.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vreid.report.contents import LadderRow, Road, Site
from vreid.report.trips import Trip
from vreid.retrieval.metrics import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER, RIGHT, WRONG = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper", RIGHT: "right", WRONG: "wrong"}


class Look(NamedTuple):
    """How one series looks in every figure of the page: stand-in colour, marker and dash."""

    color: str
    marker: str
    dash: Any


LOOKS = (
    Look("#010300", "o", "-"),
    Look("#010301", "D", (0, (6, 2))),
    Look("#010302", "s", (0, (2, 1.5))),
    Look("#010303", "^", (0, (6, 2, 1.5, 2))),
    Look("#010304", "v", (0, (1, 1))),
)
"""Looks by position; more than five series start over."""
_VARIABLES |= {look.color: f"series-{number}" for number, look in enumerate(LOOKS)}

LARGE_MAP = 24
"""A map of more cameras is drawn twice as large."""
LABELLED_ROADS = 80
"""Travel times are written beside the roads of a map that has no more of them."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "vreid", "text.parse_math": False, "axes.unicode_minus": False,
    "font.family": "DejaVu Sans", "font.size": 11, "axes.labelsize": 11, "axes.titlesize": 11,
    "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": "none",
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "lines.linewidth": 1.8, "path.simplify": False,
}  # fmt: skip


def looks(names: Sequence[str]) -> dict[str, Look]:
    """One look for each name, by position."""
    return {name: LOOKS[number % len(LOOKS)] for number, name in enumerate(names)}


def ladder(rows: Sequence[LadderRow], baselines: Sequence[LadderRow], parts: Sequence[str]) -> str:
    """The mAP of each row and part with its 95 % interval; each baseline a dotted line in its part's colour."""
    look = looks(parts)
    names = [textwrap.fill(row.name, 18) for row in rows]
    bottom = len(rows) - 0.5
    with _drawing(width=5.6, height=1.0 + 0.5 * len(rows) + 0.2 * len(baselines)) as (figure, axes):
        for position, row in enumerate(rows):
            for number, part in enumerate(parts):
                if part in row.metrics:
                    low, high = interval(row.metrics[part], "mAP")
                    y = position + 0.62 * ((number + 0.5) / len(parts) - 0.5)
                    style: Any = {"color": look[part].color, "zorder": 3}
                    axes.plot([100 * low, 100 * high], [y, y], linewidth=2, alpha=0.6, **style)
                    axes.plot([100 * row.metrics[part].mAP], [y], look[part].marker, markersize=6.5, **style)
            axes.axhline(position + 0.5, color=GRID, linewidth=0.8)
        for number, baseline in enumerate(baselines):
            values = [(part, 100 * baseline.metrics[part].mAP) for part in parts if part in baseline.metrics]
            y = bottom + 0.25 + 0.4 * number
            for part, value in values:
                axes.plot([value, value], [-0.5, y], color=look[part].color, linewidth=1.1, linestyle=(0, (1, 2)))
            axes.text(max((value for _, value in values), default=0.0) + 1, y, baseline.name, fontsize=9.5,
                      color=MUTED, va="center", gid="halo")  # fmt: skip
        axes.set(xlim=(0, 100), ylim=(bottom + 0.1 + 0.4 * len(baselines), -0.5), yticks=range(len(rows)),
                 yticklabels=names, xlabel="mAP in percent, with 95 % interval")  # fmt: skip
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        _legend(axes, [(part, look[part], False) for part in parts])
        return _svg(figure, "ladder", "Mean average precision of every row of the ladder")


def cmc(rows: Sequence[LadderRow], baselines: Sequence[LadderRow], parts: Sequence[str], ranks: int = 20) -> str:
    """CMC of the first row (thin, dashed) and the last row (bold), by part; the last baseline's in grey dots."""
    look = looks(parts)
    with _drawing(width=5.6, height=3.7) as (figure, axes):
        for part in parts:
            for row in rows[:-1][:1]:
                _cmc_line(axes, row, part, ranks, color=look[part].color, linewidth=1.3, linestyle=(0, (4, 2)))
            _cmc_line(axes, rows[-1], part, ranks, color=look[part].color, linewidth=2.2, marker=look[part].marker,
                      markersize=6, markevery=[0])  # fmt: skip
        for row in baselines[-1:]:
            _cmc_line(axes, row, parts[0], ranks, color=MUTED, linewidth=1.5, linestyle=(0, (1, 1.5)))
        axes.set(xlim=(1 - 0.3, ranks + 0.3), ylim=(0, 101), xlabel="within the first ... results",
                 ylabel="queries found, percent", xticks=sorted({1, 5, 10, *range(20, ranks + 1, 10)}))  # fmt: skip
        axes.grid(axis="y")
        _legend(axes, [(part, look[part], False) for part in parts])
        return _svg(figure, "cmc", "Share of queries found within the first results")


def _cmc_line(axes: Axes, row: LadderRow, part: str, ranks: int, **style: Any) -> None:
    if part in row.metrics:
        values = 100 * row.metrics[part].cmc[:ranks]
        axes.plot(np.arange(1, len(values) + 1), values, **style)


def losses(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str) -> str:
    """Loss terms over training: name -> (x, y)."""
    look = looks(list(curves))
    with _drawing(width=5.6, height=3.3) as (figure, axes):
        for name, (x, y) in curves.items():
            axes.plot(x, y, color=look[name].color, linestyle=look[name].dash, label=name)
        positive = all(value > 0 for _, y in curves.values() for value in y)
        axes.set(xlabel=xlabel, ylabel="loss", ylim=(0, None) if positive else None)
        axes.margins(x=0.01)
        axes.grid(axis="y")
        _legend(axes, [(name, look[name], True) for name in curves])
        return _svg(figure, "losses", "Training loss over time")


def camera_map(sites: Sequence[Site], roads: Sequence[Road], parts: Sequence[str], trip: Trip | None) -> str:
    """The road graph with travel times, cameras by part, and a trip in time order with its hits and misses."""
    place = {site.name: (site.x, site.y) for site in sites}
    cameras = [site for site in sites if site.has_camera]
    look = looks(parts)
    wide = float(np.ptp([x for x, _ in place.values()])) or 1.0
    high = float(np.ptp([y for _, y in place.values()])) or 1.0
    width = 5.4 if len(cameras) <= LARGE_MAP else 10.8
    with _drawing(width=width, height=float(np.clip(high / wide, 0.4, 1.0)) * width + 0.4) as (figure, axes):
        for road in roads:
            (x1, y1), (x2, y2) = place[road.a], place[road.b]
            axes.plot([x1, x2], [y1, y2], color=GRID, linewidth=3.5, solid_capstyle="round", zorder=1)
            if len(roads) <= LABELLED_ROADS:
                axes.text((x1 + x2) / 2, (y1 + y2) / 2, f"{road.seconds:.0f} s", fontsize=8, color=MUTED, ha="center",
                          va="center", gid="halo", zorder=4)  # fmt: skip
        if trip is not None:
            _draw_trip(axes, trip, place)
        for site in sites:
            if not site.has_camera:
                axes.plot([site.x], [site.y], "o", color=GRID, markersize=5, zorder=1)
                continue
            own = look.get(site.part, LOOKS[0])
            axes.plot([site.x], [site.y], own.marker, color=own.color, markersize=8, zorder=4,
                      markeredgecolor=PAPER, markeredgewidth=1.2)  # fmt: skip
            axes.annotate(site.name, (site.x, site.y), xytext=(0, -13), textcoords="offset points", ha="center",
                          va="center", fontsize=9, gid="halo", zorder=5)  # fmt: skip
        axes.set_aspect("equal")
        axes.axis("off")
        axes.margins(0.07)
        named = [part for part in parts if any(site.part == part for site in cameras)]
        _legend(axes, [(part, look[part], False) for part in named])
        return _svg(figure, "map", "Map of the cameras and roads" + (" with one found trip" if trip else ""))


def _draw_trip(axes: Axes, trip: Trip, place: Mapping[str, tuple[float, float]]) -> None:
    for leg in trip.legs:
        points = [place[name] for name in leg if name in place]
        for (x1, y1), (x2, y2) in pairwise(points):
            axes.annotate("", (x2, y2), (x1, y1), zorder=3,
                          arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 2.2, "shrinkA": 8, "shrinkB": 8,
                                      "mutation_scale": 13})  # fmt: skip
    for number, sighting in enumerate(trip.sightings, start=1):
        if sighting.camera not in place:
            continue
        color = INK if sighting.correct is None else RIGHT if sighting.correct else WRONG
        mark = "" if sighting.correct is None else " \N{CHECK MARK}" if sighting.correct else " \N{MULTIPLICATION X}"
        axes.plot(*place[sighting.camera], "o", markersize=17, markerfacecolor="none", markeredgecolor=color,
                  markeredgewidth=2.2, linestyle="none", zorder=3)  # fmt: skip
        axes.annotate(f"{number}{mark}", place[sighting.camera], xytext=(0, 16), textcoords="offset points",
                      ha="center", va="center", fontsize=11, fontweight="bold", color=color, gid="halo",
                      zorder=6)  # fmt: skip


def _legend(axes: Axes, entries: Sequence[tuple[str, Look, bool]]) -> None:
    """A legend above the axes; a line where the flag says so, else a marker. None where nothing is told apart."""
    from matplotlib.lines import Line2D

    if len(entries) < 2:
        return
    handles = [
        Line2D([], [], color=look.color, linestyle=look.dash if line else "none", marker="" if line else look.marker,
               markersize=7, label=name)
        for name, look, line in entries
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(entries), borderaxespad=0.2,
                handletextpad=0.5, columnspacing=1.4, handlelength=2.2 if entries[0][2] else 1.0)  # fmt: skip


@contextmanager
def _drawing(*, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure in the report's style, `width` x `height` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts of its own
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure, name: str, title: str) -> str:
    """The figure as one <svg> element for an HTML page: no prologue, no metadata, ids only where needed and unique."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, bracket, body = text.partition(">")
    text = re.sub(r'\s(?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", head) + bracket + body
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="halo(?:_\d+)?"', ' class="halo"', text)
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)([\w-]+)', rf"\g<1>{name}-\g<2>", text)
    text = text.replace("xlink:href", "href")
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var(--{variable})")
    label = escape(title)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).rstrip()

