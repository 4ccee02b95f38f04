"""Figures of a report as inline SVG: deterministic bytes, colours of the page's theme.

Matplotlib draws with placeholder colours that are replaced by CSS variables of the page, so one figure serves light,
dark and print. Series differ by marker and dash as well as by colour. Text stays text in the page's font.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vreid.report.contents import ResultRow
from vreid.retrieval.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER, RIGHT, WRONG = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper", RIGHT: "right", WRONG: "wrong"}


class SeriesStyle(NamedTuple):
    """Style of one series in all figures of the page: placeholder colour, marker and dash."""

    color: str
    marker: str
    dash: Any


SERIES_STYLES = (
    SeriesStyle("#010300", "o", "-"),
    SeriesStyle("#010301", "D", (0, (6, 2))),
    SeriesStyle("#010302", "s", (0, (2, 1.5))),
    SeriesStyle("#010303", "^", (0, (6, 2, 1.5, 2))),
    SeriesStyle("#010304", "v", (0, (1, 1))),
)
"""SaliencyMaps by position; more than five series start over."""
_VARIABLES |= {style.color: f"series-{number}" for number, style in enumerate(SERIES_STYLES)}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vreid",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "path.simplify": False,
}


def series_styles(names: Sequence[str]) -> dict[str, SeriesStyle]:
    """Assign a style to each name, by position."""
    return {name: SERIES_STYLES[number % len(SERIES_STYLES)] for number, name in enumerate(names)}


def ablation(
    rows: Sequence[ResultRow],
    baselines: Sequence[ResultRow],
    parts: Sequence[str],
    bounds: Callable[[Metrics], tuple[float, float]],
) -> str:
    """Draw the mAP of each row and part with its interval `bounds`; baselines are dotted lines in the part's colour."""
    styles = series_styles(parts)
    names = [textwrap.fill(row.name, 18) for row in rows]
    bottom = len(rows) - 0.5
    metric = next((m.protocol.full_metric for row in rows for m in row.metrics.values()), "mAP")
    with drawing(width=5.6, height=1.0 + 0.5 * len(rows) + 0.2 * len(baselines)) as (figure, axes):
        for position, row in enumerate(rows):
            for number, part in enumerate(parts):
                if part in row.metrics:
                    low, high = bounds(row.metrics[part])
                    y = position + 0.62 * ((number + 0.5) / len(parts) - 0.5)
                    style: Any = {"color": styles[part].color, "zorder": 3}
                    axes.plot([100 * low, 100 * high], [y, y], linewidth=2, alpha=0.6, **style)
                    axes.plot([100 * row.metrics[part].mAP], [y], styles[part].marker, markersize=6.5, **style)
            axes.axhline(position + 0.5, color=GRID, linewidth=0.8)
        for number, baseline in enumerate(baselines):
            values = [(part, 100 * baseline.metrics[part].mAP) for part in parts if part in baseline.metrics]
            y = bottom + 0.25 + 0.4 * number
            for part, value in values:
                axes.plot([value, value], [-0.5, y], color=styles[part].color, linewidth=1.1, linestyle=(0, (1, 2)))
            axes.text(
                max((value for _, value in values), default=0.0) + 1,
                y,
                baseline.name,
                fontsize=9.5,
                color=MUTED,
                va="center",
                gid="halo",
            )
        axes.set(
            xlim=(0, 100),
            ylim=(bottom + 0.1 + 0.4 * len(baselines), -0.5),
            yticks=range(len(rows)),
            yticklabels=names,
            xlabel=f"{metric} in percent, with 95 % interval",
        )
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        legend(axes, [(part, styles[part], False) for part in parts])
        return to_svg(figure, "ablation", "Mean average precision of each row of results")


RANKS = 20
"""Length of the CMC curve."""


def cmc(rows: Sequence[ResultRow], baselines: Sequence[ResultRow], parts: Sequence[str]) -> str:
    """Draw the CMC of the first row (dashed) and the last row (bold) by part, and of the last baseline (grey dots)."""
    styles = series_styles(parts)
    with drawing(width=5.6, height=3.7) as (figure, axes):
        for part in parts:
            for row in rows[:-1][:1]:
                _cmc_line(axes, row, part, color=styles[part].color, linewidth=1.3, linestyle=(0, (4, 2)))
            marker: dict[str, Any] = {"marker": styles[part].marker, "markersize": 6, "markevery": [0]}
            _cmc_line(axes, rows[-1], part, color=styles[part].color, linewidth=2.2, **marker)
        for row in baselines[-1:]:
            _cmc_line(axes, row, parts[0], color=MUTED, linewidth=1.5, linestyle=(0, (1, 1.5)))
        axes.set(
            xlim=(1 - 0.3, RANKS + 0.3),
            ylim=(0, 101),
            xlabel="rank k",
            ylabel="percent of queries",
            xticks=(1, 5, 10, RANKS),
        )
        axes.grid(axis="y")
        legend(axes, [(part, styles[part], False) for part in parts])
        return to_svg(figure, "cmc", "Cumulative matching characteristic")


def _cmc_line(axes: Axes, row: ResultRow, part: str, **style: Any) -> None:
    if part in row.metrics:
        values = 100 * row.metrics[part].cmc[:RANKS]
        axes.plot(np.arange(1, len(values) + 1), values, **style)


def losses(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str) -> str:
    """Draw loss terms over training: name -> (x, y)."""
    styles = series_styles(list(curves))
    with drawing(width=5.6, height=3.3) as (figure, axes):
        for name, (x, y) in curves.items():
            axes.plot(x, y, color=styles[name].color, linestyle=styles[name].dash, label=name)
        positive = all(value > 0 for _, y in curves.values() for value in y)
        axes.set(xlabel=xlabel, ylabel="loss", ylim=(0, None) if positive else None)
        axes.margins(x=0.01)
        axes.grid(axis="y")
        legend(axes, [(name, styles[name], True) for name in curves])
        return to_svg(figure, "losses", "Training loss over time")


def legend(axes: Axes, entries: Sequence[tuple[str, SeriesStyle, bool]]) -> None:
    """Add a legend above the axes, with a line or (flag False) a marker per entry; none for a single entry."""
    from matplotlib.lines import Line2D

    if len(entries) < 2:
        return
    handles = [
        Line2D(
            [],
            [],
            color=style.color,
            linestyle=style.dash if line else "none",
            marker="" if line else style.marker,
            markersize=7,
            label=name,
        )
        for name, style, line in entries
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(entries),
        borderaxespad=0.2,
        handletextpad=0.5,
        columnspacing=1.4,
        handlelength=2.2 if entries[0][2] else 1.0,
    )


@contextmanager
def drawing(*, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Create an empty figure of `width` x `height` inches in the report's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts of its own
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Convert the figure to one <svg> element for HTML: no prologue or metadata, ids only where needed and unique."""
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
