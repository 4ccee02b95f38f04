"""Slices of metrics: seen and new cameras, camera pairs, colours, types, orientations, sizes, times.

A slice by a property of the query (`slices`) selects queries; the gallery stays whole. A slice by a relation of query
and match (`match_slices`: camera pair, time gap) selects matches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import read_image
from vreid.data.protocols import Protocol
from vreid.data.records import Labels, Records, joint_codes
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluated_rows, ranks_of, scores
from vreid.retrieval.evaluation.metrics import Metrics, summary
from vreid.retrieval.postprocessing.tracklet_features import tracklet_units

ALL, SEEN, NEW = "all cameras", "seen cameras", "new cameras"

FEW = 30
"""Slices of fewer queries are marked in tables."""

Bins = tuple[list[str], NDArray[np.intp]]
"""Names of the slices in order, and the slice of each of N images; -1: unknown."""
MatchBins = tuple[list[str], Callable[[int, NDArray[np.intp]], NDArray[np.intp]]]
"""Names of the slices in order, and a function (row of a query, its matches as gallery units) -> their slices."""

_DAY = 86400
_GAPS = {"under 1 min": 60, "1 to 10 min": 600, "10 to 60 min": 3600, "over 1 h": np.inf}  # upper ends in seconds


def camera_parts(train: Records, query: Records) -> dict[str, NDArray[np.bool_]]:
    """Masks over the Q queries by whether their camera has training images; one entry if all or none have.

    Example:
        >>> train = Records.of(path=["a.jpg"], camera=["c1"])
        >>> query = Records.of(path=["q.jpg", "r.jpg"], camera=["c1", "c9"])
        >>> {name: mask.tolist() for name, mask in camera_parts(train, query).items()}
        {'all cameras': [True, True], 'seen cameras': [True, False], 'new cameras': [False, True]}
    """
    parts = {ALL: np.ones(len(query), dtype=np.bool_)}
    trained = set(train.camera.values[train.camera.known])
    seen = np.array([camera in trained for camera in query.camera.values], dtype=np.bool_)
    if trained and seen.any() and not seen.all():
        parts |= {SEEN: seen, NEW: ~seen}
    return parts


def slices(metrics: Metrics, query: Records, by: str) -> dict[str, Metrics]:
    """Split metrics by camera, colour, type, orientation (60 degrees), size (terciles) or hour of the query.

    Size is the area in pixels of the box, or of the image without one. Slices without an evaluated query are omitted;
    queries with an unknown property are the last slice, "unknown".

    Args:
        metrics: metrics of the Q queries.
        query: records of the queries.
        by: a name of `QUERY_BINS`.

    Raises:
        InputError: unknown slices, no query has the property, or an image needed for its size is missing.
    """
    if by not in QUERY_BINS:
        raise InputError(f"slices by {by!r} are unknown; use one of {', '.join(QUERY_BINS)}.")
    if len(query) != len(metrics.relevant):
        raise InputError(f"slices: {len(query):,} records for metrics of {len(metrics.relevant):,} queries.")
    names, codes = QUERY_BINS[by](query)
    if not (codes >= 0).any():
        raise InputError(f"slices by {by}: unknown for all queries; add the column or choose other slices.")
    masks = {name: codes == code for code, name in enumerate(names)}
    masks["unknown"] = masks.pop("unknown", False) | (codes < 0)  # some tables contain the word
    return {name: metrics.of(mask) for name, mask in masks.items() if (metrics.relevant[mask] > 0).any()}


def match_slices(distances: Distances, protocol: Protocol, by: str) -> dict[str, Metrics]:
    """Split metrics by a relation of query and match: "camera-pair" (query's camera -> match's) or "gap" (time).

    Only matches in the slice count. Other matches of a query are removed from its list, neither hits nor misses; all
    images of other vehicles stay, so slices have the same negatives. The metrics of a slice cover the queries with a
    match in it. All slices are computed in one pass over the distances.

    Args:
        distances: from search or post-processing.
        protocol: the evaluation protocol.
        by: a name of `MATCH_BINS`.

    Raises:
        InputError: as `evaluate_distances`; unknown slices, or the property is unknown for all queries and matches.
    """
    parts = {}
    for name, rows in match_scores(distances, protocol, by).items():
        query, precision, precision_at_k, penalty, first_hit, relevant = rows.T
        identity = distances.query.identity.codes[query.astype(np.intp)]
        metrics = summary(protocol, precision, precision_at_k, penalty, first_hit, relevant.astype(np.int64), identity)
        parts[name] = metrics.described_as(distances)
    return parts


def match_scores(distances: Distances, protocol: Protocol, by: str) -> dict[str, NDArray[np.float64]]:
    """Compute the values behind `match_slices`: by slice (n, 6) for the n queries with matches in it, ascending.

    Columns: row of the query, AP over the full list and cut at K, matches / rank of the last match, rank of the first
    match (0: none), and number of matches.

    Raises:
        InputError: as `match_slices`.
    """
    if by not in MATCH_BINS:
        raise InputError(f"slices by {by!r} are unknown; use one of {', '.join(MATCH_BINS)}.")
    gallery = distances.gallery
    if protocol.unit == "tracklet":  # a tracklet is described by its first image
        gallery = gallery[np.unique(tracklet_units(gallery)[0], return_index=True)[1]]
    names, codes_of = MATCH_BINS[by](distances.query, gallery)
    found: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    for query, row, matches in evaluated_rows(distances, protocol):
        ranks = ranks_of(row, matches)
        codes = codes_of(query, matches[np.argsort(row[matches], kind="stable")])  # in the order of ranks
        for code in np.unique(codes[codes >= 0]).tolist():
            own = np.flatnonzero(codes == code)
            place = own[own < len(ranks)]  # matches after the last candidate have no rank
            others_before = place - np.arange(len(place))
            found[code].append((query, *scores(ranks[place] - others_before, len(own), protocol), len(own)))
    if not found:
        raise InputError(f"slices by {by}: unknown for all queries and matches; check identities and add the column.")
    return {names[code]: np.array(found[code]) for code in sorted(found)}


def _labels(column: str) -> Callable[[Records], Bins]:
    def bins(query: Records) -> Bins:
        labels: Labels = getattr(query, column).compact()
        return labels.names.tolist(), labels.codes.astype(np.intp)

    return bins


def _orientations(query: Records) -> Bins:
    codes = np.nan_to_num(query.orientation // 60, nan=-1).astype(np.intp)
    return [f"{start} to {start + 60} degrees" for start in range(0, 360, 60)], codes


def _hours(query: Records) -> Bins:
    codes = np.nan_to_num(query.time % _DAY // (_DAY / 4), nan=-1).astype(np.intp)
    return [f"{start:02d} to {start + 6:02d} h UTC" for start in range(0, 24, 6)], codes


def _sizes(query: Records) -> Bins:
    area = np.prod(query.box[:, 2:] - query.box[:, :2], axis=1, dtype=np.float64)
    for row in np.flatnonzero(np.isnan(area)):
        area[row] = _image_area(query.path[row])
    low, high = np.quantile(area, [1 / 3, 2 / 3])
    names = [f"small (to {low:,.0f} pixels)", "medium", f"large (over {high:,.0f} pixels)"]
    return names, (area > low).astype(np.intp) + (area > high)


def _image_area(path: str) -> int:
    try:
        with Image.open(path) as file:  # reads the header only
            return file.width * file.height
    except Exception:  # read_image turns Pillow's errors into an InputError
        image = read_image(path)
        return image.width * image.height


def _camera_pairs(query: Records, gallery: Records) -> MatchBins:
    cameras = np.union1d(query.camera.names, gallery.camera.names).tolist()
    query_camera, gallery_camera = (codes.astype(np.intp) for codes in joint_codes(query.camera, gallery.camera))

    def codes_of(row: int, matches: NDArray[np.intp]) -> NDArray[np.intp]:
        own, theirs = query_camera[row], gallery_camera[matches]
        return np.where((own >= 0) & (theirs >= 0), own * len(cameras) + theirs, -1)

    return [f"{one} -> {other}" for one in cameras for other in cameras], codes_of


def _gaps(query: Records, gallery: Records) -> MatchBins:
    def codes_of(row: int, matches: NDArray[np.intp]) -> NDArray[np.intp]:
        gap = np.abs(gallery.time[matches] - query.time[row])
        return np.where(np.isnan(gap), -1, np.searchsorted(list(_GAPS.values()), gap, side="right"))

    return list(_GAPS), codes_of


QUERY_BINS: dict[str, Callable[[Records], Bins]] = {
    "camera": _labels("camera"),
    "color": _labels("color"),
    "type": _labels("vehicle_type"),
    "orientation": _orientations,
    "size": _sizes,
    "hour": _hours,
}
"""Slices by a property of the query, by name."""

MATCH_BINS: dict[str, Callable[[Records, Records], MatchBins]] = {"camera-pair": _camera_pairs, "gap": _gaps}
"""Slices by a relation of query and match, by name."""
