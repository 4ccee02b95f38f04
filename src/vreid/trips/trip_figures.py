"""Figures of the page of trips as inline SVG: map of flows, travel times, time-space diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.formatting import clock
from vreid.report.figures import GRID, INK, MUTED, PAPER, SERIES_STYLES, drawing, to_svg
from vreid.trips.counts import TravelTimes
from vreid.trips.tables import Position

_EARTH = 6_371_000.0  # radius in metres
_LABELLED = 14  # flows with their numbers on a map of as many cameras at most
_DOTS = 400  # drives in a figure of travel times
_SPAN = 0.98  # share of the drives that the axis of travel times holds
_HOUR = 3600.0
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)  # seconds between ticks


def places_on_map(names: Sequence[str], positions: Mapping[str, Position]) -> dict[str, tuple[float, float]]:
    """Return x (east) and y (north) in metres of the cameras with a position; on a circle if fewer than two have one.

    Example:
        >>> places_on_map(["a", "b"], {})
        {'a': (0.0, 1.0), 'b': (0.0, -1.0)}
    """
    known = {name: positions[name] for name in names if name in positions}
    if len(known) < 2:
        turns = [2 * math.pi * number / max(len(names), 1) for number in range(len(names))]
        return {
            name: (round(math.sin(turn), 9) + 0.0, round(math.cos(turn), 9))
            for name, turn in zip(names, turns, strict=True)
        }
    north, east = np.mean(list(known.values()), axis=0)
    metres = math.radians(1) * _EARTH
    return {
        name: ((at[1] - east) * metres * math.cos(math.radians(north)), (at[0] - north) * metres)
        for name, at in known.items()
    }


def flow_map(
    places: Mapping[str, tuple[float, float]],
    flows: Mapping[tuple[str, str], int],
    tracklets: Mapping[str, int],
    *,
    circle: bool = False,
    name: str = "flows",
) -> str:
    """Draw cameras as circles, their area by the number of tracklets, and arcs between them, their width by the flow.

    Arcs bend to the right of the direction of travel, as traffic on the right does. With `circle` the places are on the
    unit circle, and names stand outside of it.
    """
    from matplotlib.patches import FancyArrowPatch

    x, y = np.array(list(places.values())).T
    wide, high = max(float(np.ptp(x)), 1e-6), max(float(np.ptp(y)), 1e-6)
    side = max(wide, high)
    shown = {pair: count for pair, count in flows.items() if pair[0] in places and pair[1] in places}
    most = max(shown.values(), default=1)
    labelled = sorted(shown, key=lambda pair: (-shown[pair], pair))[: _LABELLED if len(places) <= _LABELLED else 0]
    with drawing(width=5.2, height=min(5.2, max(2.8, 5.2 * (high / side + 0.28) / 1.28))) as (figure, axes):
        for pair, count in sorted(shown.items(), key=lambda item: (-item[1], item[0])):
            start, end = places[pair[0]], places[pair[1]]
            width = 0.8 + 5.2 * count / most
            axes.add_patch(
                FancyArrowPatch(
                    start,
                    end,
                    connectionstyle="arc3,rad=0.16",
                    arrowstyle=f"-|>,head_length={0.3 + 0.05 * width},head_width={0.14 + 0.04 * width}",
                    mutation_scale=11,
                    shrinkA=8,
                    shrinkB=8,
                    linewidth=width,
                    color=SERIES_STYLES[1].color,
                    alpha=0.3 + 0.5 * count / most,
                    zorder=2,
                )
            )
            if pair in labelled:
                (x0, y0), (x1, y1) = start, end
                at = ((x0 + x1) / 2 + 0.08 * (y1 - y0), (y0 + y1) / 2 - 0.08 * (x1 - x0))
                axes.text(*at, f"{count:,}", ha="center", va="center", fontsize=10, color=INK, gid="halo", zorder=5)
        largest = max(tracklets.values(), default=1)
        for camera, (x0, y0) in places.items():
            size = 7 + 9 * math.sqrt(tracklets.get(camera, 0) / largest)
            axes.plot([x0], [y0], "o", color=INK, markersize=size, markeredgecolor=PAPER, markeredgewidth=1.5, zorder=4)
            away = size / 2 + 9
            axes.annotate(
                camera,
                (x0, y0),
                xytext=(away * x0, away * y0) if circle else (0, -away),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=11,
                gid="halo",
                zorder=6,
            )
        edge = 0.14 * side
        axes.set(xlim=(x.min() - edge, x.max() + edge), ylim=(y.min() - edge, y.max() + edge), aspect="equal")
        axes.axis("off")
        return to_svg(figure, name, "Map of the cameras with the flows between them")


@dataclass(frozen=True, eq=False)
class Drives:
    """M drives between two cameras.

    Attributes:
        departure: (M,) hours of the day in UTC, or since the start of undated times.
        seconds: (M,) travel times.
        probability: (M,) of the links.
    """

    departure: NDArray[np.float64]
    seconds: NDArray[np.float64]
    probability: NDArray[np.float64]


def travel_time_figure(drives: Drives, day: TravelTimes, hours: Sequence[TravelTimes], *, name: str) -> str:
    """Draw each drive by its departure, the median and the middle 70 % of each hour, and the histogram of the day."""
    color = SERIES_STYLES[1].color
    top = 1.06 * max(float(np.quantile(drives.seconds, _SPAN)), 1.15 * day.p85, 1.0)
    rows = np.unique(np.linspace(0, len(drives.seconds) - 1, min(_DOTS, len(drives.seconds))).astype(int))
    first, last = math.floor(drives.departure.min()), math.floor(drives.departure.max()) + 1
    with drawing(width=3.9, height=2.5) as (figure, axes):
        axes.plot(drives.departure[rows], drives.seconds[rows], "o", color=color, markersize=3.2, alpha=0.45)
        for one in hours:
            assert one.hour is not None
            edges = [one.hour, one.hour + 1]
            axes.fill_between(edges, [one.p15] * 2, [one.p85] * 2, color=color, alpha=0.16, linewidth=0)
            axes.plot(edges, [one.median] * 2, color=SERIES_STYLES[2].color, linewidth=2)
        step = max(1, math.ceil((last - first) / 5))
        ticks = range(first, last + 1, step)
        axes.set(xlim=(first, last), ylim=(0, top), xticks=ticks, ylabel="seconds")
        axes.set_xticklabels([str(tick) for tick in ticks])
        axes.set_xlabel("hour of departure")
        axes.grid(axis="y")
        side = axes.inset_axes((1.03, 0.0, 0.24, 1.0))
        counts, bins = np.histogram(np.minimum(drives.seconds, top), bins=18, range=(0, top))
        side.barh(bins[:-1], counts, height=0.88 * top / 18, align="edge", color=color, alpha=0.75, linewidth=0)
        side.axhline(day.median, color=SERIES_STYLES[2].color, linewidth=2)
        side.set(ylim=(0, top), xticks=[], yticks=[])
        for spine in side.spines.values():
            spine.set_visible(False)
        return to_svg(figure, name, f"Travel times from {day.origin} to {day.destination}")


def camera_order(flow: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order C cameras so that those with much traffic (C, C) between them are neighbours and most of it goes forward.

    The order is that of the Fiedler vector of the traffic's graph; parts without traffic between them follow each other
    by size.
    """
    from scipy.sparse.csgraph import connected_components

    both = np.sqrt(flow + flow.T)
    np.fill_diagonal(both, 0)
    _, part = connected_components(both > 0, directed=False)
    order: list[int] = []
    for number in sorted(np.unique(part), key=lambda number: (-both[part == number].sum(), number)):
        rows = np.flatnonzero(part == number)
        inside = both[np.ix_(rows, rows)]
        vector = np.linalg.eigh(np.diag(inside.sum(axis=1)) - inside)[1][:, min(1, len(rows) - 1)]
        rows = rows[np.argsort(vector, kind="stable")]
        moved = flow[np.ix_(rows, rows)]
        forward = np.triu(moved).sum() >= np.tril(moved).sum()
        order += (rows if forward else rows[::-1]).tolist()
    return np.array(order, dtype=np.int64)


def time_space_diagram(
    lines: Sequence[tuple[Sequence[float], Sequence[int]]],
    names: Sequence[str],
    window: tuple[float, float],
    *,
    name: str = "time-space",
) -> str:
    """Draw one line a trip: times (seconds) and places, rows of `names`, the first of which is drawn at the bottom."""
    forward, backward = SERIES_STYLES[1], SERIES_STYLES[2]
    length = window[1] - window[0]
    step = next((step for step in _STEPS if length / step <= 7), _STEPS[-1])
    with drawing(width=9.6, height=1.2 + 0.4 * max(len(names), 3)) as (figure, axes):
        for times, places in lines:
            style = forward if places[-1] >= places[0] else backward
            axes.plot(times, places, color=style.color, linewidth=1.1, alpha=0.7, zorder=2)
            axes.plot(times, places, "o", color=style.color, markersize=2.6, alpha=0.9, zorder=3)
        ticks = np.arange(math.ceil(window[0] / step) * step, window[1] + 1e-6, step)
        shown = [clock(float(tick))[: 5 if step >= 60 and tick > 1e8 else None] for tick in ticks]
        axes.set(xlim=window, ylim=(-0.5, len(names) - 0.5), yticks=range(len(names)), xticks=ticks)
        axes.set_yticklabels(names)
        axes.set_xticklabels(shown)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color=GRID)
        axes.set_xlabel("time (UTC)" if window[0] > 1e8 else "time since the start", color=MUTED)
        return to_svg(figure, name, "Time-space diagram: one line a trip")
