"""Duplicate images: byte-for-byte copies, and images saved again, rescaled or brightened.

Consecutive images of one tracklet are similar by nature, so similarity alone is not reported: near-copies count only
across train and test, across vehicles, and across cameras.

They are found in two steps. Thumbnails of 16 x 16 x 3 values are standardised to length 1 and are similar if their
correlation is at least `ALIKE`. The projection on 16 principal components increases no distance, so the neighbours of
an image in this space, found with a k-d tree, include all similar images (limited to the `NEIGHBOURS` nearest). The
nearest one with contradicting labels is compared at a higher resolution, for which the files of both are decoded again:
`PAIRS` pairs at a time, each of their files once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.doctor.case import Case
from vreid.data.doctor.image_scan import SIDE
from vreid.data.findings import Finding
from vreid.data.images import cut, read_image, region
from vreid.data.protocols import Exclusion
from vreid.errors import InputError

ALIKE = 0.98
"""Minimum correlation of two thumbnails for a close comparison."""
SAME = 0.984
"""Correlation of two images, at up to `CLOSE` pixels a side, from which on they are one image. Look-alikes before one
place behind one pole reach 0.983, a copy saved again at JPEG quality 75 stays above 0.984."""
CLOSE = 64
NEIGHBOURS = 32
COMPONENTS = 16
SAMPLE = 512
"""Number of images from which the principal components are computed."""
CHUNK = 4096
PAIRS = 2048
"""Pairs compared closely at a time, with up to 2 x 64 x 64 x 3 bytes each."""

TRAIN_AND_TEST, TWO_IDENTITIES, TWO_CAMERAS = (
    "image in train and test",
    "image with two identities",
    "image with two cameras",
)
QUERY_IN_GALLERY, TWICE = "query in gallery", "duplicate image"
FIXES = {
    TRAIN_AND_TEST: "remove it from train; a test on training images measures nothing",
    TWO_IDENTITIES: "find out which vehicle it shows and remove the other image",
    TWO_CAMERAS: "find out which camera took it and remove the other image",
    QUERY_IN_GALLERY: "remove it from the gallery; the protocol keeps it, so it would always rank first",
    TWICE: "keep one of them",
}


def duplicate_images(case: Case) -> Iterator[Finding]:
    """Report duplicate images, each by its most severe consequence."""
    found: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    removal = _Removal(case)
    pairs = copies(case)
    for image, earlier in pairs:
        if check := _contradiction(case, image, earlier) or _plain_copy(case, image, earlier, removal):
            found[check].append((image, earlier, True))
    for image, earlier in near_copies(case, {image for image, _ in pairs}):
        if check := _contradiction(case, image, earlier):
            found[check].append((image, earlier, False))
    found[TWO_CAMERAS] = _without_copied_cameras(case, found[TWO_CAMERAS])
    for check, fix in FIXES.items():
        rows = sorted(found[check])
        if rows:
            image, earlier, exact = rows[0]
            likeness = "is a byte-for-byte copy of" if exact else "shows the same scene as"
            yield case.finding(
                check,
                [row[0] for row in rows],
                f"the image {likeness} {case.where(earlier)}",
                fix,
                beside=[row[1] for row in rows],
            )


def _without_copied_cameras(case: Case, rows: list[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    """Omit unlabelled cameras whose frames are all copies of another camera's frames, with a note for each."""
    camera, box = case.records.camera, case.records.box
    pairs: dict[tuple[int, int], set[int]] = defaultdict(set)
    for image, earlier, exact in rows:
        if exact:
            pairs[int(camera.codes[image]), int(camera.codes[earlier])].add(image)
    copied = set()
    for (later, first), images in pairs.items():
        own = np.flatnonzero(camera.codes == later)
        whole = len(images) == len(own) == np.count_nonzero(camera.codes == first)
        if whole and not np.isnan(box[own]).any() and not case.records.identity.known.any():
            case.notes.append(f"frames of camera {camera.names[later]} are those of camera {camera.names[first]}.")
            copied.add((later, first))
    return [row for row in rows if (int(camera.codes[row[0]]), int(camera.codes[row[1]])) not in copied]


def _contradiction(case: Case, one: int, other: int) -> str:
    """Return the check that two near-identical images violate, if any."""
    records = case.records
    if case.train[one] != case.train[other]:
        return TRAIN_AND_TEST
    for labels, check in ((records.identity, TWO_IDENTITIES), (records.camera, TWO_CAMERAS)):
        if min(labels.codes[one], labels.codes[other]) >= 0 and labels.codes[one] != labels.codes[other]:
            return check
    return ""


def _plain_copy(case: Case, image: int, earlier: int, removal: _Removal) -> str:
    """Return the check that two identical images without a contradiction violate, if any."""
    if case.split[image] != case.split[earlier]:
        return "" if removal.removes(earlier, image) else QUERY_IN_GALLERY
    # A crop may legitimately equal its original.
    return "" if case.records.image_key[image] == case.records.image_key[earlier] else TWICE


class _Removal:
    """Whether the protocol excludes a gallery image for a query; prepared lazily."""

    def __init__(self, case: Case) -> None:
        self._case = case

    @cached_property
    def _exclusion(self) -> Exclusion:
        dataset = self._case.dataset
        return Exclusion(dataset.query, dataset.gallery, dataset.protocol)

    def removes(self, query: int, image: int) -> bool:
        return bool(np.isin(self._case.row[image], self._exclusion.removed(int(self._case.row[query]))))


def copies(case: Case) -> list[tuple[int, int]]:
    """Return images whose file and box equal those of an earlier one, each with the first copy."""
    seen: dict[tuple[bytes, bytes], int] = {}
    out = []
    for image in np.flatnonzero(case.scan.seen & ~case.scan.flat).tolist():
        key = case.scan.digest[image], case.records.box[image].tobytes()
        earlier = seen.setdefault(key, image)
        if earlier != image:
            out.append((image, earlier))
    return out


def near_copies(case: Case, without: set[int]) -> Iterator[tuple[int, int]]:
    """Return near-copies of earlier images that they contradict; at most one pair per image."""
    usable = case.scan.seen & ~case.scan.flat
    usable[list(without)] = False
    images = np.flatnonzero(usable)
    if not _any_at_odds(case, images):
        return
    from scipy.spatial import cKDTree  # half a second, which videos and single images do not need

    directions = _principal(_unit(case, images[:: -(-len(images) // SAMPLE)]))
    points = np.concatenate([_unit(case, part) @ directions for part in _parts(images)])
    tree = cKDTree(points)
    radius = np.sqrt(2 * (1 - ALIKE))
    suspected: set[tuple[int, int]] = set()
    for start in range(0, len(images), CHUNK):
        own = np.arange(start, min(start + CHUNK, len(images)))
        _, near = tree.query(
            points[own], k=min(NEIGHBOURS, len(images)), distance_upper_bound=radius, workers=case.workers
        )
        left, right = np.repeat(own, near.shape[1]), near.ravel()
        there = (right < len(images)) & (right != left)
        left, right = images[left[there]], images[right[there]]
        at_odds = _at_odds(case, left, right)
        suspected.update(_nearest(case, left[at_odds], right[at_odds]))
    yield from same_images(case, sorted(suspected))


def _any_at_odds(case: Case, images: NDArray[np.intp]) -> bool:
    """Whether any two images contradict each other; those of one camera without identities do not."""
    records = case.records[images]
    return len(np.unique(case.train[images])) > 1 or max(records.identity.distinct, records.camera.distinct) > 1


def _at_odds(case: Case, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.bool_]:
    """`_contradiction` for many pairs."""
    out: NDArray[np.bool_] = case.train[left] != case.train[right]
    for labels in (case.records.identity, case.records.camera):
        known = (labels.codes[left] >= 0) & (labels.codes[right] >= 0)
        out |= known & (labels.codes[left] != labels.codes[right])
    return out


def _nearest(case: Case, left: NDArray[np.intp], right: NDArray[np.intp]) -> list[tuple[int, int]]:
    """For each of `left` (ascending), find the most similar image of `right`, if similar enough; later image first."""
    best: dict[int, tuple[float, int]] = {}
    for part in _parts(np.arange(len(left))):
        likeness = np.einsum("nd,nd->n", *(_unit(case, side[part], np.float64) for side in (left, right)))
        for value, one, other in zip(likeness.tolist(), left[part].tolist(), right[part].tolist(), strict=True):
            if value >= ALIKE and (value, -other) > best.get(one, (0.0, 0)):
                best[one] = value, -other
    return [(max(one, -other), min(one, -other)) for one, (_, other) in best.items()]


def _parts(images: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return np.split(images, range(CHUNK, len(images), CHUNK))


def _unit(case: Case, images: NDArray[np.intp], kind: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    return _standard(case.scan.thumbnail[images].reshape(len(images), SIDE * SIDE * 3), kind)


def _standard(levels: NDArray[np.generic], kind: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    """Standardise rows to mean 0 and length 1, which removes brightness and contrast."""
    values = levels.astype(kind)
    values -= values.mean(axis=-1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
    return values


def _principal(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the principal components of the rows (N, D): (D, up to 16) orthonormal columns."""
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    out: NDArray[np.float32] = directions[:COMPONENTS].T
    return out


def same_images(case: Case, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield those of `pairs` whose images are the same, compared at up to `CLOSE` pixels a side."""
    with ThreadPoolExecutor(case.workers) as pool:
        for start in range(0, len(pairs), PAIRS):
            sizes = {pair: _common_size(case, *pair) for pair in pairs[start : start + PAIRS]}
            wanted: dict[str, set[tuple[int, tuple[int, int]]]] = defaultdict(set)
            for pair, size in sizes.items():
                for image in pair:
                    wanted[str(case.records.path[image])].add((image, size))
            decoded: dict[tuple[int, tuple[int, int]], NDArray[np.uint8]] = {}
            for found in pool.map(lambda path, images: _decode(case, path, images), wanted, wanted.values()):
                decoded.update(found)
            for (one, other), size in sizes.items():
                sides = [decoded[image, size] for image in (one, other) if (image, size) in decoded]
                if len(sides) == 2:
                    a, b = (_standard(levels.reshape(-1)) for levels in sides)
                    if float(a @ b) >= SAME:
                        yield one, other


def _common_size(case: Case, one: int, other: int) -> tuple[int, int]:
    """Width and height at which two images are compared: of the smaller one, up to `CLOSE` pixels."""
    widths, heights = zip(*(_sides(case, image) for image in (one, other)), strict=True)
    return min(CLOSE, *widths), min(CLOSE, *heights)


def _sides(case: Case, image: int) -> tuple[int, int]:
    """Width and height of an image, or of its box, in pixels."""
    width, height = case.scan.size[image].tolist()
    box = case.records.box[image]
    if np.isnan(box).any():
        return width, height
    x1, y1, x2, y2 = region(box.tolist(), width, height, str(case.records.path[image]))
    return x2 - x1, y2 - y1


def _decode(
    case: Case, path: str, images: Iterable[tuple[int, tuple[int, int]]]
) -> dict[tuple[int, tuple[int, int]], NDArray[np.uint8]]:
    """Decode one file and reduce each of its images (number, size) to that size; nothing if it was deleted."""
    try:
        whole = read_image(path)
        return {(image, size): _reduced(whole, case, image, size) for image, size in images}
    except InputError:  # deleted or replaced since it was first read
        return {}


def _reduced(whole: Image.Image, case: Case, image: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    box = case.records.box[image]
    part = whole if np.isnan(box).any() else cut(whole, box.tolist(), str(case.records.path[image]))
    return np.asarray(part.resize(size, Image.Resampling.BOX))
