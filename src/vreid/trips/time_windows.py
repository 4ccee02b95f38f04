"""Windows of time, in which the tracklets of a long period are linked one window after the other.

Each window has a core, and the cores follow each other without gaps; around it lie the tracklets within a margin of
time, which compete for the same links and are the context of those of the core. A core ends in a pause in which no link
can cross, if there is one, and else where it is full.

Shapes: N tracklets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid.trips.tables import TimedTracklets


@dataclass(frozen=True)
class TimeWindow:
    """Rows of a table.

    Attributes:
        core: the tracklets whose links to later ones are decided here.
        around: the core and what lies within the margin before and after it.
    """

    core: slice
    around: slice

    def __len__(self) -> int:
        return int(self.around.stop - self.around.start)


def time_windows(table: TimedTracklets, size: int, longest: float, margin: float) -> list[TimeWindow]:
    """Divide the tracklets, which are in the order of their starts.

    Args:
        table: N tracklets.
        size: largest number of tracklets of a core.
        longest: longest time of a link in seconds; nothing crosses a pause that is longer.
        margin: seconds before and after a core.

    Example:
        >>> times = np.array([0.0, 1, 2, 1000, 1001])
        >>> table = TimedTracklets.of(id="abcde", camera="xyxyx", start=times, end=times, vector=np.ones((5, 2)))
        >>> [(one.core, one.around) for one in time_windows(table, 4, 10, 20)]
        [(slice(0, 3, None), slice(0, 3, None)), (slice(3, 5, None), slice(3, 5, None))]
    """
    pauses = np.flatnonzero(table.start[1:] - np.maximum.accumulate(table.end)[:-1] > longest) + 1
    cuts = [0]
    while len(table) - cuts[-1] > size:
        low, high = cuts[-1] + size // 2, cuts[-1] + size
        inside = pauses[(pauses > low) & (pauses <= high)]
        cuts.append(int(inside[-1]) if len(inside) else high)
    return [_window(table, low, high, margin) for low, high in zip(cuts, [*cuts[1:], len(table)], strict=True)]


def most_within(table: TimedTracklets, seconds: float) -> int:
    """Return how many tracklets start within `seconds` at the busiest time."""
    after = np.searchsorted(table.start, table.start + seconds, side="right")
    return int((after - np.arange(len(table))).max())


def _window(table: TimedTracklets, low: int, high: int, margin: float) -> TimeWindow:
    """Put the margin around a core. A vehicle that stays in view for longer than a margin does not extend it."""
    begin = np.searchsorted(table.start, table.start[low] - margin, side="left")
    last = table.start[high - 1]
    seen = min(float(table.end[low:high].max()), last + margin)
    return TimeWindow(
        slice(low, high), slice(int(begin), int(np.searchsorted(table.start, seen + margin, side="right")))
    )
