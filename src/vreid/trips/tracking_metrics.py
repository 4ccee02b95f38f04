"""Metrics of tracking over several cameras: IDF1, HOTA and CLEAR of boxes with identities.

IDF1 is of Ristani et al. 2016 (Performance measures and a data set for multi-target, multi-camera tracking), HOTA of
Luiten et al. 2021, CLEAR of Bernardin and Stiefelhagen 2008. Numbers are those of TrackEval, and for IDF1 of
py-motmetrics too, when the frames of all cameras are given to them one after the other.

Shapes: N true boxes, M found ones, E pairs of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.formatting import plural

Float = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLD = 0.5
"""Least overlap (IoU) of boxes that match in IDF1 and CLEAR."""
ALPHAS = np.arange(1, 20) * 0.05
"""Overlaps over which HOTA is averaged."""
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class TrackBoxes:
    """N boxes with the identities that they belong to, over all cameras.

    Attributes:
        camera: (N,) names.
        frame: (N,) numbers.
        identity: (N,) names or numbers, the same over all cameras.
        corners: (N, 4) x1, y1, x2, y2 in pixels.
    """

    camera: NDArray[np.object_]
    frame: Ints
    identity: NDArray[np.object_]
    corners: Float

    @classmethod
    def of(cls, *, camera: ArrayLike, frame: ArrayLike, identity: ArrayLike, corners: ArrayLike) -> TrackBoxes:
        """Build from any sequences.

        Raises:
            InputError: columns of different lengths, or a box without area.
        """
        boxes = np.asarray(corners, dtype=np.float64).reshape(-1, 4)
        columns = (np.asarray(camera, dtype=object), np.asarray(frame, dtype=np.int64), np.asarray(identity, object))
        if {len(column) for column in columns} != {len(boxes)}:
            lengths = [len(column) for column in (*columns, boxes)]
            raise InputError(f"boxes: columns have {lengths} values; give one value a box.")
        flat = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        if flat.any():
            row = int(np.argmax(flat))
            raise InputError(f"box {row + 1} has the corners {boxes[row].tolist()}; give x1 < x2 and y1 < y2.")
        return cls(columns[0], columns[1], columns[2], boxes)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        boxes, cameras = plural(len(self), "box", "boxes"), plural(len(set(self.camera)), "camera")
        return f"TrackBoxes: {boxes}, {plural(len(set(self.identity)), 'identity', 'identities')}, {cameras}"

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> TrackBoxes:
        return TrackBoxes(self.camera[index], self.frame[index], self.identity[index], self.corners[index])

    def at_several_cameras(self) -> TrackBoxes:
        """Select the boxes of identities at two cameras or more: CityFlow's rule, for the truth and for results."""
        return self[several_cameras(self.identity, self.camera)]


def several_cameras(identity: ArrayLike, camera: ArrayLike) -> NDArray[np.bool_]:
    """Return (N,) whether the identity of each row occurs at two cameras or more.

    Example:
        >>> several_cameras(["a", "b", "a"], ["c1", "c1", "c2"]).tolist()
        [True, False, True]
    """
    names, place = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    pairs = np.unique(np.stack([place.ravel(), _codes(camera)]), axis=1)
    chosen: NDArray[np.bool_] = (np.bincount(pairs[0], minlength=len(names)) > 1)[place.ravel()]
    return chosen


@dataclass(frozen=True)
class TrackingMetrics:
    """Metrics of tracking; shares from 0 to 1, counts of boxes.

    Attributes:
        idf1, idp, idr: F1, precision and recall of boxes with the right identity.
        idtp, idfp, idfn: boxes with the right identity, found ones without, true ones without.
        hota, deta, assa, loca: HOTA with its detection, association and localisation accuracy.
        mota, motp: CLEAR's accuracy, and the mean overlap of matched boxes.
        switches: changes of the found identity along a true one.
        matches, false_positives, misses: of CLEAR.
    """

    idf1: float
    idp: float
    idr: float
    idtp: int
    idfp: int
    idfn: int
    hota: float
    deta: float
    assa: float
    loca: float
    mota: float
    motp: float
    switches: int
    matches: int
    false_positives: int
    misses: int


def evaluate_boxes(truth: TrackBoxes, found: TrackBoxes, *, cityflow: bool = True) -> TrackingMetrics:
    """Evaluate identities of boxes over all cameras.

    Args:
        truth: true boxes.
        found: boxes of a result.
        cityflow: only identities at two cameras or more count, of the truth and of the result.

    Raises:
        InputError: an identity has two boxes on a frame, or no true box is left.
    """
    if cityflow:
        truth, found = truth.at_several_cameras(), found.at_several_cameras()
    if not len(truth):
        raise InputError("the truth has no vehicle at two cameras or more; evaluate it with cityflow=False.")
    for name, boxes in (("truth", truth), ("result", found)):
        _reject_repeated(name, boxes)
    frames = _Frames.of(truth, found)
    idtp = _right_identities(frames)
    idfp, idfn = len(found) - idtp, len(truth) - idtp
    hota, deta, assa, loca = _hota(frames)
    matches, overlap, switches = _clear(frames)
    false_positives, misses = len(found) - matches, len(truth) - matches
    return TrackingMetrics(
        idf1=2 * idtp / (len(found) + len(truth)),
        idp=idtp / max(len(found), 1),
        idr=idtp / len(truth),
        idtp=idtp,
        idfp=idfp,
        idfn=idfn,
        hota=hota,
        deta=deta,
        assa=assa,
        loca=loca,
        mota=1 - (false_positives + misses + switches) / len(truth),
        motp=overlap / max(matches, 1),
        switches=switches,
        matches=matches,
        false_positives=false_positives,
        misses=misses,
    )


def assign_identities(true: Ints, found: Ints, shared: Float, count: int) -> Ints:
    """Assign found identities to true ones one to one so that they share most; return that (count,) of each, or -1.

    Args:
        true, found: (K,) codes of distinct pairs.
        shared: (K,) what the two have in common, above 0.
        count: number of true identities.

    Example:
        >>> assign_identities(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0]), 2).tolist()
        [1, 0]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    assigned = np.full(count, -1, dtype=np.int64)
    if not len(true):
        return assigned
    columns = int(found.max()) + 1
    most = float(shared.max())
    # Every true identity may stay alone: a column of its own with the cost of sharing nothing.
    cost = np.concatenate([most + 1 - shared, np.full(count, most + 1)])
    rows = np.concatenate([true, np.arange(count)])
    graph = csr_array((cost, (rows, np.concatenate([found, columns + np.arange(count)]))), (count, columns + count))
    row, column = min_weight_full_bipartite_matching(graph)
    assigned[row] = np.where(column < columns, column, -1)
    return assigned


def _codes(values: ArrayLike) -> Ints:
    codes: Ints = np.unique(np.asarray(values).astype(str), return_inverse=True)[1].ravel().astype(np.int64)
    return codes


def _reject_repeated(name: str, boxes: TrackBoxes) -> None:
    keys = np.stack([_codes(boxes.camera), boxes.frame, _codes(boxes.identity)], axis=1)
    _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = int(first[np.argmax(counts > 1)])
        raise InputError(
            f"{name}: identity {boxes.identity[row]} has two boxes on frame {boxes.frame[row]} of camera "
            f"{boxes.camera[row]}; remove one."
        )


@dataclass(frozen=True, eq=False)
class _Frames:
    """True and found boxes by frame: those of frame i are rows `of_truth[i]` to `of_truth[i + 1]`, by identity."""

    truth: Ints  # (N,) identities of the true boxes, in order of camera and frame
    found: Ints  # (M,)
    of_truth: Ints
    of_found: Ints
    truth_corners: Float
    found_corners: Float

    @classmethod
    def of(cls, truth: TrackBoxes, found: TrackBoxes) -> _Frames:
        both = np.concatenate([truth.camera, found.camera])
        frames = np.stack([_codes(both), np.concatenate([truth.frame, found.frame])])
        place = np.unique(frames, axis=1, return_inverse=True)[1].ravel()
        count = int(place.max()) + 1
        columns = []
        for boxes, at in ((truth, place[: len(truth)]), (found, place[len(truth) :])):
            identity = _codes(boxes.identity)
            order = np.lexsort((identity, at))
            borders = np.searchsorted(at[order], np.arange(count + 1))
            columns.append((identity[order], borders, boxes.corners[order]))
        (a, of_a, box_a), (b, of_b, box_b) = columns
        return cls(a, b, of_a, of_b, box_a, box_b)

    def __iter__(self) -> Iterator[tuple[int, int, Float]]:
        """Yield the first true row, the first found row and the overlaps (n, m) of each frame that has both."""
        for number in range(len(self.of_truth) - 1):
            a, a_end = int(self.of_truth[number]), int(self.of_truth[number + 1])
            b, b_end = int(self.of_found[number]), int(self.of_found[number + 1])
            if a < a_end and b < b_end:
                yield a, b, overlaps(self.truth_corners[a:a_end], self.found_corners[b:b_end])


def overlaps(one: Float, two: Float) -> Float:
    """Return the IoU (n, m) of boxes (n, 4) and (m, 4), given by their corners.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5.0, 5, 6, 6]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    area_one, area_two = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two))
    iou: Float = inside / (area_one[:, None] + area_two[None] - inside)
    return iou


def _right_identities(frames: _Frames) -> int:
    """Return IDTP: the boxes that overlap under the best assignment of found to true identities."""
    pairs = []
    for a, b, overlap in frames:
        i, j = np.nonzero(overlap >= THRESHOLD)
        pairs.append(np.stack([frames.truth[a + i], frames.found[b + j]]))
    if not pairs:
        return 0
    distinct, counts = np.unique(np.concatenate(pairs, axis=1), axis=1, return_counts=True)
    if not len(counts):
        return 0
    assigned = assign_identities(distinct[0], distinct[1], counts.astype(np.float64), int(frames.truth.max()) + 1)
    return int(counts[assigned[distinct[0]] == distinct[1]].sum())


def _hota(frames: _Frames) -> tuple[float, float, float, float]:
    """Return HOTA, DetA, AssA and LocA, averaged over `ALPHAS`."""
    from scipy.optimize import linear_sum_assignment

    size_true, size_found = np.bincount(frames.truth), np.bincount(frames.found)
    if not len(frames.found):
        return 0.0, 0.0, 0.0, 1.0
    overlap_of: dict[tuple[int, int], float] = {}
    for a, b, overlap in frames:
        share = overlap.sum(0)[None] + overlap.sum(1)[:, None] - overlap
        share = np.divide(overlap, share, out=np.zeros_like(overlap), where=share > _EPSILON)
        for i, j in zip(*np.nonzero(share), strict=True):
            key = int(frames.truth[a + i]), int(frames.found[b + j])
            overlap_of[key] = overlap_of.get(key, 0.0) + float(share[i, j])
    alignment = {
        (one, two): shared / (size_true[one] + size_found[two] - shared) for (one, two), shared in overlap_of.items()
    }
    matched = []
    for a, b, overlap in frames:
        score = np.zeros_like(overlap)
        for i, j in zip(*np.nonzero(overlap), strict=True):
            score[i, j] = alignment[int(frames.truth[a + i]), int(frames.found[b + j])] * overlap[i, j]
        i, j = linear_sum_assignment(-score)
        matched.append(np.stack([frames.truth[a + i], frames.found[b + j], overlap[i, j]]))
    true, found, overlap = np.concatenate(matched, axis=1) if matched else np.empty((3, 0))
    pairs = np.stack([true, found]).astype(np.int64)
    results = []
    for alpha in ALPHAS:
        good = overlap >= alpha - _EPSILON
        count = int(good.sum())
        distinct, shared = np.unique(pairs[:, good], axis=1, return_counts=True)
        accuracy = shared / (size_true[distinct[0]] + size_found[distinct[1]] - shared)
        assa = float((shared * accuracy).sum()) / max(count, 1)
        deta = count / (len(frames.truth) + len(frames.found) - count)
        loca = max(1e-10, float(overlap[good].sum())) / max(1e-10, count)
        results.append((np.sqrt(deta * assa), deta, assa, loca))
    hota, deta, assa, loca = np.mean(results, axis=0).tolist()
    return hota, deta, assa, loca


def _clear(frames: _Frames) -> tuple[int, float, int]:
    """Return matches, the sum of their overlaps, and identity switches.

    A pair of the frame before stays together while its boxes overlap enough.
    """
    from scipy.optimize import linear_sum_assignment

    matches = switches = 0
    total = 0.0
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for a, b, overlap in frames:
        true, found = frames.truth[a : a + len(overlap)], frames.found[b : b + overlap.shape[1]]
        kept = found[None] == np.array([before.get(int(one), -1) for one in true])[:, None]
        score = np.where(overlap >= THRESHOLD - _EPSILON, 1000.0 * kept + overlap, 0.0)
        i, j = linear_sum_assignment(-score)
        good = score[i, j] > _EPSILON
        i, j = i[good], j[good]
        before = dict(zip(true[i].tolist(), found[j].tolist(), strict=True))
        switches += sum(last.get(one, two) != two for one, two in before.items())
        last |= before
        matches += len(i)
        total += float(overlap[i, j].sum())
    return matches, total, switches
