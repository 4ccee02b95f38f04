"""The data doctor: what is wrong with a data set, in words, with the file and the mend.

The most repeated error in all of re-identification is a wrong camera name, noticed as queries without a mate; it, and
what else spoils a training run silently, is found here before hours are spent. A check is a function from a data set to
findings; `CHECKS` lists them in the order in which they run.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vreid.data.records import Records

if TYPE_CHECKING:
    from vreid.data.dataset import Dataset

MIN_SIDE = 16
"""A crop with a side shorter than this (pixels) holds too little to tell vehicles apart."""
EXAMPLES = 5
"""How many files a finding names; the rest are counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `check` (its name), `split`, `message` in words, `mend`, and the images it concerns."""

    check: str
    split: str
    message: str
    mend: str
    paths: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"check": self.check, "split": self.split, "message": self.message, "mend": self.mend,
                "paths": list(self.paths)}  # fmt: skip


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _ImageFile:
    """What reading one image file gave: its size in pixels and the hash of its bytes, or the error."""

    width: int = 0
    height: int = 0
    digest: str = ""
    error: str = ""


def _read(path: str) -> _ImageFile:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return _ImageFile(error=error.strerror or str(error))
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return _ImageFile(error=str(error) or type(error).__name__)
    return _ImageFile(width, height, hashlib.sha256(content).hexdigest())


def examine(dataset: Dataset, *, workers: int = 4, progress: Progress = lambda done, total: None) -> list[Finding]:
    """Run every check on `dataset` and return the findings, in the order of `CHECKS`; none means a clean data set.

    Every image is read and decoded once (`workers` threads); `progress(done, total)` is called as images are read.
    """
    splits = {name: getattr(dataset, name) for name in ("train", "query", "gallery") if len(getattr(dataset, name))}
    # With boxes, many records share one full frame: read each file once.
    paths = sorted({path for records in splits.values() for path in records.path})
    files: dict[str, _ImageFile] = {}
    with ThreadPoolExecutor(workers) as pool:
        for done, (path, file) in enumerate(zip(paths, pool.map(_read, paths), strict=True), start=1):
            files[path] = file
            progress(done, len(paths))
    context = _Context(splits, files)
    return [finding for check in CHECKS for finding in check(context)]


@dataclass(frozen=True)
class _Context:
    splits: dict[str, Records]
    files: dict[str, _ImageFile]

    @property
    def labelled(self) -> Iterator[tuple[str, Records]]:
        """Splits with their images of known identity, if any."""
        for name, records in self.splits.items():
            known = records[records.identity.known]
            if len(known):
                yield name, known


def _unreadable(context: _Context) -> Iterator[Finding]:
    for split, records in context.splits.items():
        for path in records.path:
            if context.files[path].error:
                yield Finding("unreadable image", split, f"{path}: cannot be read ({context.files[path].error}).",
                              "Restore the file or take its row out.", (path,))  # fmt: skip


def _tiny(context: _Context) -> Iterator[Finding]:
    for split, records in context.splits.items():
        small = []
        for row, path in enumerate(records.path):
            file = context.files[path]
            x1, y1, x2, y2 = records.box[row]
            side = min(file.width, file.height) if np.isnan(x1) else min(float(x2 - x1), float(y2 - y1))
            if not file.error and side < MIN_SIDE:
                small.append(path)
        if small:
            yield Finding("tiny crop", split, f"{len(small):,} crops have a side under {MIN_SIDE} pixels, "
                          f"{_some(small)}.", "Leave them out, or take them from a sharper source.",
                          tuple(small))  # fmt: skip


def _one_camera(context: _Context) -> Iterator[Finding]:
    for split, records in context.labelled:
        if split == "query":
            continue
        known = records[records.camera.known]
        if len(known) and known.camera.distinct == 1 and known.identity.distinct > 1:
            yield Finding("one camera", split, f"All {len(known):,} images name the same camera, "
                          f"{known.camera.values[0]!r}.", "Give every image the name of the camera that took it: "
                          "matching across cameras cannot be learnt or measured without.", ())  # fmt: skip
        elif len(known) > 10 and known.camera.distinct == len(known):
            yield Finding("camera per image", split, f"Each of the {len(known):,} images names a camera of its own.",
                          "The camera column seems to hold an image number; give the camera's name.", ())  # fmt: skip


def _single_camera_identities(context: _Context) -> Iterator[Finding]:
    for split, records in context.labelled:
        if split != "train" or records.camera.distinct < 2:
            continue
        cameras = defaultdict(set)
        for identity, camera in zip(records.identity.values, records.camera.values, strict=True):
            cameras[identity].add(camera)
        alone = sorted(identity for identity, seen in cameras.items() if len(seen) == 1)
        if len(alone) > 0.5 * len(cameras):
            yield Finding("identities in one camera", split, f"{len(alone):,} of {len(cameras):,} identities are seen "
                          f"by one camera only, {_some(alone)}.", "Check that one vehicle keeps one name over all "
                          "cameras; such identities teach nothing across cameras.", ())  # fmt: skip


def _query_without_mate(context: _Context) -> Iterator[Finding]:
    known = dict(context.labelled)
    if "query" not in known or "gallery" not in known:
        return
    seen = defaultdict(set)
    for identity, camera in zip(known["gallery"].identity.values, known["gallery"].camera.values, strict=True):
        seen[identity].add(camera)
    query = known["query"]
    lost = [
        path
        for path, identity, camera in zip(query.path, query.identity.values, query.camera.values, strict=True)
        if not seen[identity] - {camera}
    ]
    if lost:
        yield Finding("query without mate", "query", f"{len(lost):,} of {len(query):,} queries have no image of their "
                      f"vehicle from another camera in the gallery, {_some(lost)}.", "Check identity and camera names "
                      "of query and gallery; such queries are skipped by every metric.", tuple(lost))  # fmt: skip


def _shared_identities(context: _Context) -> Iterator[Finding]:
    known = dict(context.labelled)
    if "train" not in known:
        return
    train = set(known["train"].identity.values)
    for split in ("query", "gallery"):
        shared = sorted(train & set(known[split].identity.values)) if split in known else []
        if shared:
            yield Finding("identity in train and test", split, f"{len(shared):,} identities are in both, "
                          f"{_some(shared)}.", "Split by identity: a vehicle that is trained on cannot measure "
                          "anything.", ())  # fmt: skip


def _same_picture(context: _Context) -> Iterator[Finding]:
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, records in context.splits.items():
        for row, path in enumerate(records.path):
            file = context.files[path]
            box = tuple(np.nan_to_num(records.box[row], nan=-1.0).tolist())
            key = (file.digest, box)
            if file.error:
                continue
            if key in first:
                pairs[split].append((path, first[key][1]))
            else:
                first[key] = (split, path)
    for split, found in pairs.items():
        examples = _some([f"{a} = {b}" for a, b in found])
        yield Finding("same picture twice", split, f"{len(found):,} images are byte for byte the same as an earlier "
                      f"one, {examples}.", "Keep one of each.", tuple(a for a, _ in found))  # fmt: skip


def _tracklets(context: _Context) -> Iterator[Finding]:
    for split, records in context.splits.items():
        for column, word in (("camera", "cameras"), ("identity", "identities")):
            labels = getattr(records, column)
            both = records.tracklet.known & labels.known
            pairs = np.unique(np.stack([records.tracklet.codes[both], labels.codes[both]]), axis=1)
            tracklets, count = np.unique(pairs[0], return_counts=True)
            wrong = records.tracklet.names[tracklets[count > 1]].tolist()
            if wrong:
                yield Finding(f"tracklet over two {word}", split, f"{len(wrong):,} tracklets hold images of more than "
                              f"one {column}, {_some(wrong)}.", "A tracklet is one vehicle passing one camera: give "
                              "tracklets of different cameras different names.", ())  # fmt: skip


CHECKS: tuple[Callable[[_Context], Iterator[Finding]], ...] = (
    _unreadable,
    _tiny,
    _one_camera,
    _single_camera_identities,
    _query_without_mate,
    _shared_identities,
    _same_picture,
    _tracklets,
)


def _some(names: list[str]) -> str:
    shown = ", ".join(str(name) for name in names[:EXAMPLES])
    return f"for example {shown}" if len(names) > EXAMPLES else f"namely {shown}"
