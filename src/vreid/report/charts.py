"""Figures of a diagnosis: each kind of chart as inline SVG."""

from __future__ import annotations

from typing import Any

import numpy as np

from vreid.diagnostics.diagnosis import BarChart, Curves, Grids, Part, ScatterChart
from vreid.report.figures import GRID, INK, MUTED, SERIES_STYLES, WRONG, drawing, to_svg

ROW = 0.27
"""Height of one row of bars in inches."""
COLORS = ("#4477aa", "#ee6677", "#228833", "#aa8800", "#2299bb", "#aa3377", "#888888", "#cc6611", "#6655cc", "#008866")
"""Colours of vehicles in a scatter chart, distinguishable on light and dark backgrounds."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")


def chart(part: Part, number: int) -> str:
    """Draw the figure of one part as SVG; "" if it has none. `number` makes its ids unique on the page."""
    if _points_of(part.chart) < 2:
        return ""
    title = f"{part.name}: {part.sentence}"
    name = f"diagnosis-{number}"
    match part.chart:
        case BarChart():
            return _bars(part.chart, name, title)
        case Curves():
            return _curves(part.chart, name, title)
        case ScatterChart():
            return _points(part.chart, name, title)
        case Grids():
            return _grids(part.chart, name, title)
        case _:
            return ""


def _points_of(shown: object) -> int:
    """Count the points of a chart; a grid always counts as enough."""
    match shown:
        case BarChart():
            return sum(map(len, shown.groups.values()))
        case Curves():
            return max((len(curve.x) for curve in shown.curves), default=0)
        case ScatterChart():
            return len(shown.place)
        case _:
            return 2


def _bars(bars: BarChart, name: str, title: str) -> str:
    labels: list[tuple[float, str, bool]] = []
    with drawing(width=5.6, height=0.8 + ROW * sum(1.2 + len(group) for group in bars.groups.values())) as (
        figure,
        axes,
    ):
        y = 0.0
        for group, numbers in bars.groups.items():
            labels.append((y, group, True))
            for label, number in numbers.items():
                y += 1
                axes.plot(
                    [100 * number.low, 100 * number.high], [y, y], color=SERIES_STYLES[1].color, linewidth=2, alpha=0.6
                )
                axes.plot(
                    [100 * number.value], [y], SERIES_STYLES[1].marker, color=SERIES_STYLES[1].color, markersize=6
                )
                labels.append((y, label, False))
            y += 1.2
        if bars.line is not None:
            axes.axvline(100 * bars.line, color=MUTED, linewidth=1.1, linestyle=(0, (1, 2)))
        axes.set(
            ylim=(y - 0.6, -0.7),
            xlabel=bars.label,
            yticks=[place for place, _, _ in labels],
            yticklabels=[label for _, label, _ in labels],
        )
        lowest = min((n.low for group in bars.groups.values() for n in group.values()), default=0)
        axes.set_xlim(left=min(0, 100 * lowest))
        for tick, (_, _, heading) in zip(axes.get_yticklabels(), labels, strict=True):
            tick.set(color=INK if not heading else MUTED, fontstyle="italic" if heading else "normal")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        return to_svg(figure, name, title)


def _curves(curves: Curves, name: str, title: str) -> str:
    with drawing(width=5.6, height=3.4) as (figure, axes):
        for curve, style in zip(curves.curves, SERIES_STYLES[1:], strict=False):
            axes.fill_between(
                curve.x,
                [100 * e.low for e in curve.y],
                [100 * e.high for e in curve.y],
                color=style.color,
                alpha=0.18,
                linewidth=0,
            )
            axes.plot(curve.x, [100 * e.value for e in curve.y], marker=style.marker, color=style.color, markersize=5)
        first = min(curves.curves[0].x)
        for text, (at, y) in curves.marks.items():
            x = max(at, first) if curves.log_x else at  # 0 is drawn at the left edge of a logarithmic axis
            axes.plot([x], [y], "X", color=WRONG, markersize=9)
            right = x > np.mean(axes.get_xlim())
            axes.annotate(
                text,
                (x, y),
                textcoords="offset points",
                xytext=(-8 if right else 8, -14),
                color=INK,
                ha="right" if right else "left",
                fontsize=10,
                gid="halo",
            )
        if curves.log_x:
            axes.set_xscale("log")
            ticks = list(curves.curves[0].x)
            axes.set_xticks(ticks, [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        axes.set(xlabel=curves.xlabel, ylabel=curves.ylabel)
        axes.set_ylim(bottom=0, top=min(101, axes.get_ylim()[1]) if axes.get_ylim()[1] > 60 else None)
        axes.grid(axis="y")
        return to_svg(figure, name, title)


def _points(points: ScatterChart, name: str, title: str) -> str:
    from matplotlib.lines import Line2D

    color = dict(zip(dict.fromkeys(sorted(points.identity)), COLORS * len(points.identity), strict=False))
    marker = dict(zip(dict.fromkeys(sorted(points.camera)), MARKERS * len(points.camera), strict=False))
    with drawing(width=5.6, height=4.8) as (figure, axes):
        identity, camera = np.array(points.identity, dtype=object), np.array(points.camera, dtype=object)
        for vehicle, its_color in color.items():
            for place, its_marker in marker.items():
                here = points.place[(identity == vehicle) & (camera == place)]
                style: Any = {"color": its_color, "markersize": 5.5, "alpha": 0.85}
                axes.plot(here[:, 0], here[:, 1], its_marker, **style)
        handles = [
            Line2D([], [], color=MUTED, marker=shape, linestyle="none", markersize=6, label=place)
            for place, shape in marker.items()
        ]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=min(6, len(handles)),
            handletextpad=0.2,
            columnspacing=1.0,
            borderaxespad=0.2,
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=GRID)
        return to_svg(figure, name, title)


def _grids(grids: Grids, name: str, title: str) -> str:
    (label, grid), *_ = grids.grids.items()
    with drawing(width=5.6, height=3.6) as (figure, axes):
        for (row, column), value in np.ndenumerate(grid):
            axes.add_patch(_cell(column, row, float(value)))
            axes.text(column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center", fontsize=9, color=INK)
        inner = [[1, 1], [grid.shape[1] - 1, 1], [grid.shape[1] - 1, grid.shape[0] - 1], [1, grid.shape[0] - 1], [1, 1]]
        axes.plot(*np.array(inner).T, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.set(
            xlim=(0, grid.shape[1]), ylim=(grid.shape[0], 0), xticks=[], yticks=[], xlabel=f"{grids.label}, {label}"
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        return to_svg(figure, name, title)


def _cell(x: float, y: float, value: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 0.97, 0.97, facecolor=SERIES_STYLES[1].color, alpha=0.08 + 0.6 * value, linewidth=0)
