"""Assignment: the most probable set of links in which each tracklet has at most one successor and one predecessor.

A link of negative value is never chosen, so the graph falls into small components of links with positive ones. Each
is solved exactly as a sparse assignment problem (LAPJVsp of scipy), where a tracklet may also stay without successor. A
component that is too large for that is split where its links are weakest; then the result may not be the best.

Shapes: N tracklets, E links.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 10_000
"""Largest number of ends of links (tracklets as the first and as the second of a link) of a component."""
_BATCH = 1500  # small components are solved together up to so many tracklets
NONE = -1
"""Successor of the last tracklet of a trip."""


def assign(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    log_odds: NDArray[np.floating],
    count: int,
    largest: int = LARGEST,
) -> NDArray[np.int32]:
    """Return the successor (N,) of each tracklet that maximises the sum of log-odds, NONE without one.

    Args:
        first, second: (E,) rows of distinct links.
        log_odds: (E,).
        count: N.
        largest: components of more ends of links are split into parts of at most so many: links join parts, the
            largest log-odds first, unless the part would be too large. The parts are solved exactly, and the links
            between them are added where both ends are still free.

    Example:
        >>> first, second = np.array([0, 0, 1]), np.array([2, 3, 2])
        >>> assign(first, second, np.array([3.0, 2.0, 2.5]), 4).tolist()
        [3, 2, -1, -1]
    """
    successor = np.full(count, NONE, dtype=np.int32)
    positive = np.flatnonzero(log_odds > 0)
    if not len(positive):
        return successor
    first, second, odds = first[positive], second[positive].astype(np.int64), log_odds[positive].astype(np.float64)
    component, sizes = _components(first, second, count)
    left_out = np.empty(0, dtype=np.int64)
    if sizes.max() > largest:
        kept = np.ones(len(first), dtype=bool)
        large = np.flatnonzero(sizes[component] > largest)
        kept[large] = _inside_parts(first[large], second[large], odds[large], largest)
        left_out = np.flatnonzero(~kept)
        between = first[left_out], second[left_out], odds[left_out]
        first, second, odds = first[kept], second[kept], odds[kept]
        component = _components(first, second, count)[0]
    order = np.argsort(component, kind="stable")
    first, second, odds, component = first[order], second[order], odds[order], component[order]
    starts = np.flatnonzero(np.diff(component, prepend=-1))
    lengths = np.diff(np.append(starts, len(component)))
    alone = starts[lengths == 1]
    successor[first[alone]] = second[alone]
    begin = 0
    rest = [(int(a), int(a + n)) for a, n in zip(starts, lengths, strict=True) if n > 1]
    while begin < len(rest):
        end, links = begin, 0
        while end < len(rest) and (end == begin or links + rest[end][1] - rest[end][0] <= _BATCH):
            links += rest[end][1] - rest[end][0]
            end += 1
        part = np.concatenate([np.arange(*span) for span in rest[begin:end]])
        rows, columns = _matching(first[part], second[part], odds[part])
        successor[rows] = columns
        begin = end
    if len(left_out):
        _add_greedily(successor, *between)
    return successor


def _components(
    first: NDArray[np.integer], second: NDArray[np.integer], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the component (E,) of each link, and the number of ends in each component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shape = (2 * count, 2 * count)
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second + count)), shape=shape)
    of_end = connected_components(graph, directed=False)[1]
    return of_end[first], np.bincount(of_end)


def _inside_parts(
    first: NDArray[np.integer], second: NDArray[np.integer], odds: NDArray[np.float64], largest: int
) -> NDArray[np.bool_]:
    """Whether each link (E,) lies inside one of the parts of at most `largest` ends that the strongest links join."""
    ends = np.unique(np.stack([first, -1 - second]), return_inverse=True)[1].reshape(2, -1)
    parent, size = list(range(int(ends.max()) + 1)), [1] * (int(ends.max()) + 1)

    def root(end: int) -> int:
        while parent[end] != end:
            parent[end] = end = parent[parent[end]]
        return end

    inside = np.zeros(len(first), dtype=bool)
    for link in np.lexsort((second, first, -odds)).tolist():
        one, other = (root(end) for end in ends[:, link].tolist())
        if one != other and size[one] + size[other] <= largest:
            parent[other], size[one] = one, size[one] + size[other]
            other = one
        inside[link] = one == other
    return inside


def _matching(
    first: NDArray[np.integer], second: NDArray[np.integer], odds: NDArray[np.float64]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the rows and columns of the matching of the largest sum."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, i = np.unique(first, return_inverse=True)
    columns, j = np.unique(second, return_inverse=True)
    own = np.arange(len(rows))
    costs = np.concatenate([-odds, np.zeros(len(rows))]) - 2 * odds.max() - 1  # no stored cost is zero
    graph = coo_array(
        (costs, (np.append(i, own), np.append(j, len(columns) + own))), shape=(len(rows), len(columns) + len(rows))
    )
    i, j = min_weight_full_bipartite_matching(graph.tocsr())
    linked = j < len(columns)
    return rows[i[linked]], columns[j[linked]]


def assign_greedily(
    first: NDArray[np.integer], second: NDArray[np.integer], log_odds: NDArray[np.floating], count: int
) -> NDArray[np.int32]:
    """Return successors (N,) chosen one by one, the largest log-odds first; for comparisons."""
    successor = np.full(count, NONE, dtype=np.int32)
    _add_greedily(successor, first, second, log_odds)
    return successor


def _add_greedily(
    successor: NDArray[np.int32],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    log_odds: NDArray[np.floating],
) -> None:
    """Add links of positive log-odds to `successor` whose ends are free, the largest first."""
    taken = np.zeros(len(successor), dtype=bool)
    taken[successor[successor != NONE]] = True
    for link in np.lexsort((second, first, -log_odds)):
        if log_odds[link] <= 0:
            break
        i, j = first[link], second[link]
        if successor[i] == NONE and not taken[j]:
            successor[i], taken[j] = j, True
