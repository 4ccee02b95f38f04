"""Maps of a report: cameras, roads with travel times, and the candidates of one query, with an enlarged view."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from vreid.report.camera_candidates import CameraCandidate, CameraCandidates
from vreid.report.contents import MapRoad, Site
from vreid.report.figures import (
    GRID,
    INK,
    MUTED,
    PAPER,
    RIGHT,
    SERIES_STYLES,
    WRONG,
    drawing,
    legend,
    series_styles,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGE = 24
"""Maps of more cameras are drawn twice as large."""
LABELLED_ROADS = 60
"""Maximum number of roads on a map with travel times."""
ENLARGE_BELOW = 0.6
"""Correct candidates within less than this share of the map's longer side get an enlarged map."""
MARGIN = 0.2
"""Margin of an enlarged map, as a share of its longer side."""


class MapWindow(NamedTuple):
    """A rectangle of the map in metres."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, sites: Sequence[Site], margin: float) -> MapWindow:
        """Bound the sites with a margin of `margin` times the longer side; the shorter side is at least 0.4 of it."""
        xs, ys = [site.x for site in sites], [site.y for site in sites]
        longer = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
        half_x, half_y = (max((max(v) - min(v)) / 2 + margin * longer, 0.4 * (0.5 + margin) * longer) for v in (xs, ys))
        x, y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
        return cls(x - half_x, y - half_y, x + half_x, y + half_y)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in metres."""
        return self.right - self.left, self.top - self.bottom

    def holds(self, x: float, y: float) -> bool:
        """Return whether the point lies inside."""
        return self.left <= x <= self.right and self.bottom <= y <= self.top


def camera_maps(
    sites: Sequence[Site], roads: Sequence[MapRoad], parts: Sequence[str], found: CameraCandidates | None
) -> list[str]:
    """Draw the whole map and, if the route between correct candidates covers a small part of it, that part enlarged."""
    whole = MapWindow.around(sites, 0.08)
    on_route = {name for leg in found.legs for name in leg} if found else set()
    stops = [site for site in sites if site.name in on_route]
    window = MapWindow.around(stops, MARGIN) if stops else whole
    title = "Map of the cameras and roads"
    if max(window.size) > ENLARGE_BELOW * max(whole.size):
        return [_map("map", title, sites, roads, parts, found, whole, None)]
    return [
        _map("map", title, sites, roads, parts, found, whole, window),
        _map("zoom", "Map of the correct candidates", sites, roads, parts, found, window, None),
    ]


def _map(
    name: str,
    title: str,
    sites: Sequence[Site],
    roads: Sequence[MapRoad],
    parts: Sequence[str],
    found: CameraCandidates | None,
    window: MapWindow,
    enlarged: MapWindow | None,
) -> str:
    """Draw one map of `window`; the content of `enlarged` is only framed, since another map shows it."""
    place = {site.name: site for site in sites}
    cameras = [site for site in sites if site.has_camera and window.holds(site.x, site.y)]
    visible = [road for road in roads if any(window.holds(place[end].x, place[end].y) for end in (road.a, road.b))]
    styles = series_styles(parts)
    width = 5.4 if len(cameras) <= LARGE else 10.8
    wide, high = window.size
    with drawing(width=width, height=min(high / wide, 1.1) * width + 0.3) as (figure, axes):
        for road in visible:
            a, b = place[road.a], place[road.b]
            axes.plot([a.x, b.x], [a.y, b.y], color=GRID, linewidth=3.5, solid_capstyle="round", zorder=1)
            x, y = (a.x + b.x) / 2, (a.y + b.y) / 2
            if enlarged is None and len(visible) <= LABELLED_ROADS and window.holds(x, y):
                axes.text(
                    x,
                    y,
                    f"{road.seconds:.0f} s",
                    fontsize=8.5,
                    color=MUTED,
                    ha="center",
                    va="center",
                    gid="halo",
                    zorder=4,
                )
        for site in sites:
            if not site.has_camera:
                axes.plot([site.x], [site.y], "o", color=GRID, markersize=5, zorder=1)
        for site in cameras:
            own = styles.get(site.part, SERIES_STYLES[0])
            axes.plot(
                [site.x],
                [site.y],
                own.marker,
                color=own.color,
                markersize=8,
                zorder=4,
                markeredgecolor=PAPER,
                markeredgewidth=1.2,
            )
            if enlarged is None or not enlarged.holds(site.x, site.y):
                axes.annotate(
                    site.name,
                    (site.x, site.y),
                    xytext=(0, -16),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=9,
                    gid="halo",
                    zorder=5,
                )
        if found is not None:
            _draw_candidates(axes, found, place, window, enlarged)
        if enlarged is not None:
            left, bottom, right, top = enlarged
            axes.plot(
                [left, right, right, left, left],
                [bottom, bottom, top, top, bottom],
                color=MUTED,
                linewidth=1.2,
                linestyle=(0, (3, 2)),
            )
        axes.set(xlim=(window.left, window.right), ylim=(window.bottom, window.top))
        axes.set_aspect("equal")
        axes.axis("off")
        legend(axes, [(part, styles[part], False) for part in parts if any(site.part == part for site in cameras)])
        return to_svg(figure, name, title)


def _draw_candidates(
    axes: Axes, found: CameraCandidates, place: dict[str, Site], window: MapWindow, enlarged: MapWindow | None
) -> None:
    for leg in found.legs if enlarged is None else ():
        points = [(place[name].x, place[name].y) for name in leg if name in place]
        for start, end in pairwise(points):
            last = end is points[-1]
            arrow = {"arrowstyle": "-|>" if last else "-", "color": INK, "linewidth": 2.4, "mutation_scale": 15}
            shrink = {"shrinkA": 8 if start is points[0] else 0, "shrinkB": 9 if last else 0}
            axes.annotate("", end, start, zorder=3, arrowprops=arrow | shrink)
    for number, candidate in enumerate(found.candidates, start=1):
        site = place.get(candidate.camera)
        if site is None or not window.holds(site.x, site.y):
            continue
        color, mark = _verdict(candidate)
        axes.plot(
            [site.x],
            [site.y],
            "o",
            markersize=17,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=2.2,
            zorder=3,
        )
        if enlarged is None or not enlarged.holds(site.x, site.y):
            axes.annotate(
                f"{number}{mark}",
                (site.x, site.y),
                xytext=(0, 17),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=12,
                fontweight="bold",
                color=color,
                gid="halo",
                zorder=6,
            )


def _verdict(candidate: CameraCandidate) -> tuple[str, str]:
    """Return colour and mark of a candidate; the mark repeats the colour's meaning."""
    if candidate.correct is None:
        return INK, ""
    return (RIGHT, " \N{CHECK MARK}") if candidate.correct else (WRONG, " \N{MULTIPLICATION X}")
