"""Bar chart of a table: our results, the paper's figures, and directions of effects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vreid.files import atomic_write
from vreid.reproduce.table import Entry

PAPER, OURS = "#b9c2cc", "#1f6fb2"
MARKS = {"holds": "holds", "reversed": "REVERSED", "not resolved": "not resolved", None: ""}


def draw_table(entries: Sequence[Entry], out: Path | str, *, title: str, metric: str, note: str = "") -> None:
    """Write a .png or .svg with two bars per row: ours (whiskers: standard deviation over seeds) and the paper's.

    Args:
        entries: from `tabulate`; entries without both numbers are omitted.
        out: the file; its suffix selects the format.
        title: title of the chart.
        metric: the metric to draw, in percent.
        note: text below the bars: data and initial weights.

    Raises:
        InputError: `out` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [entry for entry in entries if metric in entry.mean or metric in entry.paper]
    figure = Figure(figsize=(8.5, 1.6 + 0.48 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, entry in enumerate(shown):
        if metric in entry.mean:
            value, spread = entry.mean[metric], entry.spread.get(metric)
            axes.barh(place - 0.19, value, 0.36, color=OURS, xerr=spread, error_kw={"capsize": 2, "lw": 1})
            reported = f"{value:.1f}  {MARKS[entry.effect.direction] if entry.effect else ''}"
            axes.text(value + (spread or 0) + 1, place - 0.19, reported, va="center", fontsize=8)
        if metric in entry.paper:
            axes.barh(place + 0.19, entry.paper[metric], 0.36, color=PAPER)
            axes.text(
                entry.paper[metric] + 1,
                place + 0.19,
                f"{entry.paper[metric]:.1f}",
                va="center",
                fontsize=8,
                color="#56606b",
            )
    axes.set_yticks(range(len(shown)), [entry.name for entry in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{metric} in percent\n{note}", fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [axes.barh(0, 0, color=color, label=label) for color, label in ((OURS, "ours"), (PAPER, "the paper's"))]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    with atomic_write(out) as temporary:
        figure.savefig(temporary, format=Path(out).suffix.removeprefix("."), dpi=110)
