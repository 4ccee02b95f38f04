"""VeRi-776, exactly as distributed.

    VeRi/
        image_train/ image_query/ image_test/      0002_c002_00030600_0.jpg: vehicle, camera, frame, index
        name_train.txt name_query.txt name_test.txt
        train_label.xml test_label.xml             imageName, vehicleID, cameraID, colorID (from 1), typeID (from 1)
        gt_index.txt jk_index.txt                  a line a query: gallery images of its vehicle, counted from 1 in
                                                   name_test.txt, in other cameras (gt) and in its own (jk)
        test_track.txt                             0002_c002_t0175, then the names of the track's images
        list_color.txt list_type.txt               1 yellow, ...: instead of the names that are built in
        keypoint_train.txt keypoint_test.txt       view of the vehicle, the last word of a line (see `read_views`)

Image keys are file names without extension, so a query image that is in the gallery too has one key. The jk lists go
into the protocol; both are checked against the names, which count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import VERI
from vreid.data.readers.attributes import COLORS, VEHICLE_TYPES, color_and_type, contradictions
from vreid.data.readers.common import (
    Listing,
    attribute,
    compare_with_folder,
    find_below,
    first_image,
    images_in,
    quoted,
    read_items,
    read_lines,
    read_splits,
    shown,
    source_of,
)
from vreid.data.readers.list_files import image_file_name, key_of
from vreid.data.readers.tracks import read_tracks, tracklets
from vreid.data.records import Records
from vreid.errors import InputError

PLACES = (".", "VeRi", "VeRi_with_plate")
"""Candidate locations of the data set, relative to the path that the user gives."""
GROUND_TRUTH = ("gt_index.txt", "gt_index_776.txt", "gt_image.txt")
JUNK = ("jk_index.txt", "jk_index_776.txt", "jk_image.txt")

_KEYS = {"train": "train", "query": "query", "gallery": "test"}  # split -> name used in files and folders
_NAME = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})_([0-9]{1,15})_[0-9]{1,9}(\.\w{1,5})?", re.IGNORECASE)
_CLASS = re.compile(r"([0-9]{1,9})[\s,:;.]+(\S.*)")


def find(folder: Path) -> Path | None:
    """Return the data set's folder (`folder` or one of `PLACES` below it), or None."""
    return find_below(folder, PLACES, _is_veri)


def _is_veri(folder: Path) -> bool:
    """Whether VeRi's lists or labels are present; without them, images named as VeRi's are a plain folder."""
    listed = any(
        (folder / file).is_file() for name in _KEYS.values() for file in (f"name_{name}.txt", f"{name}_label.xml")
    )
    return listed and any(_NAME.fullmatch(first_image(folder / f"image_{name}") or "") for name in _KEYS.values())


@dataclass(frozen=True)
class _NameList:
    """The images of a split: usable ones in order, and the keys of all rows, by which index files count."""

    records: Records
    origin: Origin | None
    rows: Sequence[str | None]


def read_veri(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the data set in `folder`; a split that is not there is empty.

    Args:
        folder: the one with image_train in it.
        on_finding: called with each wrong row.

    Raises:
        InputError: none of the images of a list is there, or a file cannot be read.
    """
    folder = Path(folder)
    notes: list[str] = []
    classes = {
        name: _classes(Listing(folder / f"list_{name}.txt", on_finding), names)
        for name, names in (("color", COLORS[:10]), ("type", VEHICLE_TYPES[:9]))
    }
    lists = read_splits(
        lambda split: _read_split(folder, split, classes, notes, on_finding),
        _KEYS,
        _NameList(Records.of(path=[]), None, []),
        lambda part: len(part.records),
        notes,
    )
    train, query, gallery = (lists[split].records for split in _KEYS)
    junk = _junk(folder, lists["query"], lists["gallery"], notes, on_finding)
    return Dataset(
        "VeRi-776",
        train,
        query,
        gallery,
        replace(VERI, junk=junk),
        source_of(folder),
        tuple(notes),
        {split: part.origin for split, part in lists.items() if part.origin},
    )


def read_views(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> dict[str, int]:
    """Return the view (0 to 7) of the images that keypoint_train.txt and keypoint_test.txt list, by image key.

    The number is one of eight view classes, not an angle, so `Records.orientation` stays unknown.

    Args:
        folder: VeRi's.
        on_finding: called with each line without a view.

    Raises:
        InputError: neither file is there.

    Example:
        >>> views = read_views("data/VeRi")                                        # doctest: +SKIP
        >>> [views.get(key, -1) for key in open_dataset("data/VeRi").train.image_key]  # doctest: +SKIP
    """
    paths = [path for name in ("train", "test") if (path := Path(folder) / f"keypoint_{name}.txt").is_file()]
    if not paths:
        raise InputError(f"{folder}: has neither keypoint_train.txt nor keypoint_test.txt; put them there.")
    views = {}
    for path in paths:
        for number, text in read_lines(path):
            words = text.split()
            image, view = words[0], words[-1]
            match = _NAME.fullmatch(re.split(r"[/\\]", image)[-1])
            if match is None or re.fullmatch("[0-7]", view) is None:
                Listing(path, on_finding).wrong(
                    number,
                    f"{quoted(image)} ... {quoted(view)} is not an image with its view",
                    "end the line with a number from 0 to 7",
                )
            else:
                views[key_of(match[0])] = int(view)
    return views


def _classes(listing: Listing, names: Sequence[str]) -> dict[int, str]:
    """Map numbers to names: built-in names, overridden by the list file."""
    found = dict(enumerate(names, start=1))
    for number, text in read_lines(listing.path) if listing.path.is_file() else ():
        match = _CLASS.fullmatch(text)
        if match is None:
            listing.wrong(number, f"is {quoted(text)}", "write a number and a name, like 1 yellow")
        else:
            found[int(match[1])] = match[2].strip().lower()
    return found


def _read_split(
    folder: Path, split: str, classes: Mapping[str, Mapping[int, str]], notes: list[str], on_finding: OnFinding
) -> _NameList:
    name = _KEYS[split]
    image_folder = folder / f"image_{name}"
    labels = Listing(folder / f"{name}_label.xml", on_finding, "Item")
    items = dict(_items(labels)) if labels.path.is_file() else {}
    names = Listing(folder / f"name_{name}.txt", on_finding)
    if names.path.is_file():
        listing, rows = names, read_lines(names.path)
    elif items:
        listing, rows = labels, [(number, item["imageName"]) for number, item in items.items()]
    elif image_folder.is_dir():
        listing, rows = Listing(image_folder, on_finding), [(0, image) for image in images_in(image_folder)]
        notes.append(f"there is no {names.path.name}, so all images in {image_folder.name} are read.")
    else:
        return _NameList(Records.of(path=[]), None, [])
    keys: list[str | None] = []
    row_of: dict[str, tuple[int, re.Match[str]]] = {}
    for number, text in rows:
        match = _NAME.fullmatch(text)
        key = key_of(text) if match else None
        keys.append(key)
        if match is None or key is None:
            listing.wrong(number, f"image {quoted(text)} is not named like 0002_c002_00030600_0.jpg", "correct it")
        elif key in row_of:
            listing.wrong(
                number, f"image {text} is already in {listing.unit} {row_of[key][0]}", "remove one", "duplicate entry"
            )
        else:
            row_of[key] = number, match
    matches = [match for _, match in row_of.values()]
    files = [image_file_name(match[0]) for match in matches]
    if listing.path != image_folder:
        notes += compare_with_folder(files, image_folder, listing.path)[1]
    item_of = {key_of(item["imageName"]): number for number, item in items.items()}
    described = [(item_of.get(key, 0), items.get(item_of.get(key, 0), {})) for key in row_of]
    unlabelled = [file for file, (number, _) in zip(files, described, strict=True) if not number]
    if items and unlabelled:
        counted = f"{len(unlabelled):,} of {len(files):,} images, first {unlabelled[0]}"
        notes.append(f"without colour and type, since {labels.path.name} does not list them: {counted}.")
    notes += contradictions(matches, described, labels)
    colors, types = color_and_type(described, labels, notes, colors=classes["color"], types=classes["type"], base=1)
    records = Records.of(
        path=[f"{image_folder}/{file}" for file in files],
        image_key=list(row_of),
        identity=["junk" if match[1] == "-1" else match[1] for match in matches],
        camera=[f"c{int(match[2]):03d}" for match in matches],
        frame=[int(match[3]) for match in matches],
        tracklet=_tracklets(folder, name, list(row_of), listing, notes),
        color=colors,
        vehicle_type=types,
        split=[split] * len(matches),
    )
    origin = listing.origin([number for number, _ in row_of.values()]) if listing.path != image_folder else None
    return _NameList(records, origin, keys)


def _items(labels: Listing) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and attributes of the Items that name an image, each image once."""
    number_of: dict[str, int] = {}
    for number, item in enumerate(read_items(labels.path), start=1):
        image = attribute(item, "imageName", labels, number)
        if image is None:
            continue
        known = number_of.setdefault(key_of(image), number)
        if known == number:
            yield number, item
        else:
            labels.wrong(number, f"image {shown(image)} is already in Item {known}", "remove one", "duplicate entry")


def _tracklets(folder: Path, name: str, keys: list[str], listing: Listing, notes: list[str]) -> list[str | None] | None:
    path = folder / f"{name}_track.txt"
    if name != "test" and not path.is_file():
        return None  # VeRi has tracks of the gallery only

    def key(token: str) -> str | None:
        return key_of(token) if _NAME.fullmatch(token) else None

    found = [read_tracks(path, key, listing.on_finding, named=True)] if path.is_file() else []
    return tracklets(found, keys, name, listing.path.name, notes)


def _junk(
    folder: Path, query: _NameList, gallery: _NameList, notes: list[str], on_finding: OnFinding
) -> dict[str, tuple[str, ...]]:
    """Return the junk gallery images of each query (jk file), with notes where jk and gt files contradict the names."""
    junk: dict[str, tuple[str, ...]] = {}
    facts = {
        key: (identity, camera)
        for part in (query, gallery)
        for key, identity, camera in zip(
            part.records.image_key, part.records.identity.values, part.records.camera.values, strict=True
        )
    }
    others: dict[str, set[str]] = {}
    for key, identity in zip(gallery.records.image_key, gallery.records.identity.values, strict=True):
        others.setdefault(identity, set()).add(key)
    for names, same_camera in ((GROUND_TRUTH, False), (JUNK, True)):
        path = next((path for name in names if (path := folder / name).is_file()), None)
        if path is None:
            continue
        left_out: list[str] = []
        for key, found in _indexed(Listing(path, on_finding), query, gallery, facts, same_camera):
            if same_camera:
                junk[key] = tuple(found)
            else:
                identity, camera = facts[key]
                all_of_them = {other for other in others.get(identity, ()) if facts[other][1] != camera}
                left_out += [key] if all_of_them - set(found) else []
        if left_out:
            counted = f"{len(left_out):,} queries, first {left_out[0]}"
            notes.append(f"{path.name} leaves out images of the query's vehicle in other cameras: {counted}.")
    return junk


def _indexed(
    listing: Listing, query: _NameList, gallery: _NameList, facts: Mapping[str, tuple[str, str]], same_camera: bool
) -> Iterator[tuple[str, list[str]]]:
    """Yield query and gallery keys of the valid lines of an index file."""
    for number, text in read_lines(listing.path):
        key = query.rows[number - 1] if number <= len(query.rows) else None
        if number > len(query.rows):
            listing.wrong(number, f"there are only {len(query.rows):,} queries", "use the file of this data set")
        if key is None or key not in facts:
            continue
        found, wrong = [], ""
        for token in text.split():
            place = int(token) if re.fullmatch("[0-9]{1,9}", token) else 0
            other = key_of(token) if not place else gallery.rows[place - 1] if place <= len(gallery.rows) else None
            if other is None or other not in facts:
                wrong = wrong or f"{quoted(token)} is not a gallery image"
            elif facts[other][0] != facts[key][0]:
                wrong = wrong or f"{token} is {other}, another vehicle than that of query {key}"
            elif (facts[other][1] == facts[key][1]) != same_camera:
                camera = "another camera than that" if same_camera else "the camera"
                wrong = wrong or f"{token} is {other}, in {camera} of query {key}"
            else:
                found.append(other)
        if wrong:
            listing.wrong(number, wrong, "use files of one data set, or remove the index files")
        yield key, found
