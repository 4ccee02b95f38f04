"""Checks of identities, cameras, splits, colours and types."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.doctor.case import Case
from vreid.data.findings import Finding
from vreid.data.protocols import Exclusion, Groups
from vreid.data.records import UNKNOWN, Labels, joint_codes
from vreid.data.spellings import spelling

MANY = 10
"""Minimum number of images for a different name on each of them to be suspicious."""
FEW_PER_CAMERA = 4
"""Minimum mean number of images per camera for a single-image camera to be suspicious."""
CAMERA_LIKE = re.compile(r"(c|cam|camera)[\s_-]?\d+", re.IGNORECASE)
"""Pattern of camera names that vehicles do not have."""

TO_TRAIN, OF_TEST = "to train on", "of the test"
_BOTH = (("identity", "vehicle"), ("camera", "camera"))


def _pools(case: Case) -> dict[str, NDArray[np.bool_]]:
    """Return training images and test images (query and gallery together), without empty pools."""
    pools = {TO_TRAIN: case.train, OF_TEST: ~case.train}
    return {name: images for name, images in pools.items() if images.any()}


def swapped(case: Case) -> Iterator[Finding]:
    """Report swapped or duplicated identity and camera columns."""
    identity, camera = case.records.identity, case.records.camera
    both = np.flatnonzero(identity.known & camera.known)
    if not len(both):
        return
    first = int(both[0])
    fix = "check which column holds the vehicle and which the camera"
    identities, cameras = set(identity.values[both]), set(camera.values[both])
    if len(both) > 1 and len(identities) > 1 and (identity.values[both] == camera.values[both]).all():
        yield case.finding(
            "identity and camera swapped",
            [first],
            f"identity and camera are the same here ({identity.values[first]!r}) and for every other image",
            fix,
        )
    elif all(map(CAMERA_LIKE.fullmatch, identities)) and not any(map(CAMERA_LIKE.fullmatch, cameras)):
        yield case.finding(
            "identity and camera swapped",
            [first],
            f"the identity is {identity.values[first]!r} and "
            f"the camera {camera.values[first]!r}; all identities look like cameras, and no camera "
            "does",
            fix,
        )


def same_for_all(case: Case) -> Iterator[Finding]:
    """Report pools with one camera or one identity: most often a wrong column."""
    fixes = {
        "camera": "give every image the name of its camera; cross-camera matching can otherwise be neither learned "
        "nor measured",
        "identity": "give every vehicle its own name",
    }
    for pool, images in _pools(case).items():
        others = {"identity": case.records.camera, "camera": case.records.identity}
        for column, word in _BOTH:
            if column == "camera" and pool == OF_TEST and not case.dataset.protocol.needs_camera:
                continue
            labels = getattr(case.records, column)
            # A video is searched among others; whether these are of other cameras, is not known here.
            known = np.flatnonzero(images & labels.known & ~case.scan.video)
            # A single vehicle may legitimately appear at a single camera.
            if len(known) > 1 and labels[known].distinct == 1 and others[column][known].distinct != 1:
                yield case.finding(
                    f"one {column}",
                    [int(known[0])],
                    f"all {len(known):,} images {pool} have the same {word}, {labels.values[known[0]]!r}",
                    fixes[column],
                )


def one_for_each(case: Case) -> Iterator[Finding]:
    """Report a different camera (or, in training, identity) on every image: most often an image number."""
    for pool, images in _pools(case).items():
        for column, word in _BOTH:
            labels = getattr(case.records, column)
            known = np.flatnonzero(images & labels.known & (case.records.domain.values == "real"))
            if column == "identity" and pool != TO_TRAIN:
                continue  # there it is `query_without_positive`
            if len(known) > MANY and labels[known].distinct == len(known):
                yield case.finding(
                    f"{column} per image",
                    [int(known[0])],
                    f"each of the {len(known):,} images {pool} "
                    f"has a different {word}, this one {labels.values[known[0]]!r}",
                    f"the column seems to hold image numbers; give the {word}'s name",
                )


def train_and_test(case: Case) -> Iterator[Finding]:
    """Report identities that occur in both train and test."""
    identity = case.records.identity
    trained, first = np.unique(identity.codes[case.train], return_index=True)
    train_image = dict(zip(trained.tolist(), np.flatnonzero(case.train)[first].tolist(), strict=True))
    shared = _firsts(case, ~case.train & identity.known, lambda image: int(identity.codes[image]) in train_image)
    if shared:
        beside = [train_image[int(identity.codes[image])] for image in shared]
        yield case.finding(
            "identity in train and test",
            shared,
            f"vehicle {identity.values[shared[0]]!r} is also in train, {case.where(beside[0])}",
            "split by vehicle; a test on training vehicles measures nothing",
            beside=beside,
        )


def _firsts(case: Case, images: NDArray[np.bool_], wanted: Callable[[int], bool]) -> list[int]:
    """Return the first image of each `wanted` identity among `images`."""
    _, first = np.unique(case.records.identity.codes[images], return_index=True)
    return sorted(image for image in np.flatnonzero(images)[first].tolist() if wanted(image))


def query_without_positive(case: Case) -> Iterator[Finding]:
    """Report queries without a positive match in the gallery under the protocol."""
    dataset, protocol = case.dataset, case.dataset.protocol
    query, gallery = dataset.query, dataset.gallery
    if not len(query) or not gallery.identity.known.any():
        return
    if protocol.needs_camera and gallery.camera.distinct == 1:
        return  # `same_for_all` says why
    if protocol.exclude == "same_camera":  # removes the same of the vehicle's own images, and is faster to compute
        protocol = replace(protocol, exclude="same_identity_and_camera")
    exclusion = Exclusion(query, gallery, protocol)
    query_identity, gallery_identity = joint_codes(query.identity, gallery.identity)
    of_identity = Groups(gallery_identity)
    start = int(np.argmax(case.split == ("query" if "query" in case.split else "gallery")))
    lost = [
        start + row
        for row in np.flatnonzero(query_identity >= 0).tolist()
        if not len(np.setdiff1d(of_identity[query_identity[row]], exclusion.removed(row), assume_unique=True))
    ]
    if lost:
        identity, camera = case.records.identity.values[lost[0]], case.records.camera.values[lost[0]]
        place = f" from a camera other than {camera!r}" if protocol.needs_camera and camera else ""
        yield case.finding(
            "query without positive match",
            lost,
            f"the gallery holds no image of vehicle {identity!r}{place}",
            "check the identity and camera names of query and gallery; metrics skip such queries",
        )


def two_spellings(case: Case) -> Iterator[Finding]:
    """Report names that are spellings of each other, such as "c1" and "C001" (see `vreid.data.spellings.spelling`)."""
    for column, word in _BOTH:
        labels: Labels = getattr(case.records, column).compact()
        count = np.bincount(labels.codes[labels.known], minlength=len(labels.names))
        forms: dict[str, list[int]] = defaultdict(list)
        for code, name in enumerate(labels.names):
            forms[spelling(str(name), column)].append(code)
        rare = {}
        for codes in forms.values():
            usual, *others = sorted(codes, key=lambda code: -count[code])
            rare.update({code: usual for code in others})
        images = sorted(int(np.argmax(labels.codes == code)) for code in rare)
        if images:
            name = labels.values[images[0]]
            usual = labels.names[rare[int(labels.codes[images[0]])]]
            yield case.finding(
                "inconsistent spelling",
                images,
                f"{word} {name!r} is probably another spelling of {usual!r}",
                "use one spelling per name",
            )


def left_out(case: Case) -> Iterator[Finding]:
    """Report images without a label where others of their split have one."""
    for split in dict.fromkeys(case.split.tolist()):
        for column in ("identity", "camera"):
            codes = getattr(case.records, column).codes
            images = np.flatnonzero((case.split == split) & (codes == UNKNOWN))
            if column == "identity" and split != "train":
                continue  # a gallery may hold distractors without identity
            if 0 < len(images) < (case.split == split).sum():
                yield case.finding(
                    f"no {column}",
                    images.tolist(),
                    f"this image has no {column}, but others in its split do",
                    f"fill in the {column} or remove the row",
                )


def two_looks(case: Case) -> Iterator[Finding]:
    """Report vehicles whose colour or type changes."""
    for column, word in (("color", "colours"), ("vehicle_type", "types")):
        images, usual = odd_ones_out(case.records.identity, getattr(case.records, column))
        if images:
            labels = getattr(case.records, column)
            yield case.finding(
                f"identity with two {word}",
                images,
                f"vehicle "
                f"{case.records.identity.values[images[0]]!r} is {labels.values[images[0]]!r} here but "
                f"{labels.values[usual[0]]!r} in {case.where(usual[0])}",
                f"correct the {word[:-1]} or the identity",
                beside=usual,
            )


def odd_ones_out(groups: Labels, labels: Labels) -> tuple[list[int], list[int]]:
    """For each group with several labels, return an image with the rarest label and one with the most common.

    Ties go to the label that occurs first; the returned images are the first with their label.
    """
    both = np.flatnonzero(groups.known & labels.known)
    pairs, first, count = np.unique(
        np.stack([groups.codes[both], labels.codes[both]]), axis=1, return_index=True, return_counts=True
    )
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for group, image, number in zip(pairs[0].tolist(), both[first].tolist(), count.tolist(), strict=True):
        members[group].append((-number, image))
    mixed = [sorted(found) for found in members.values() if len(found) > 1]
    rows = sorted((found[-1][1], found[0][1]) for found in mixed)
    return [odd for odd, _ in rows], [usual for _, usual in rows]


def one_camera_identities(case: Case) -> Iterator[Finding]:
    """Report training identities seen by one camera only."""
    records = case.records
    usable = case.train & records.identity.known & records.camera.known & (records.domain.values == "real")
    if records.camera[usable].distinct < 2:
        return
    pairs = np.unique(np.stack([records.identity.codes[usable], records.camera.codes[usable]]), axis=1)
    seen_by = Counter(pairs[0].tolist())
    alone = _firsts(case, usable, lambda image: seen_by[int(records.identity.codes[image])] == 1)
    if alone:
        first = alone[0]
        yield case.finding(
            "identity seen by one camera",
            alone,
            f"vehicle {records.identity.values[first]!r} is seen by camera {records.camera.values[first]!r} only",
            "check that a vehicle has the same name at all cameras; one seen by one camera has no positives",
        )


def one_image_cameras(case: Case) -> Iterator[Finding]:
    """Report cameras with a single image where others have many: most often a misspelt name."""
    records = case.records
    usable = np.flatnonzero(records.camera.known & (records.domain.values == "real"))
    _, first, count = np.unique(records.camera.codes[usable], return_index=True, return_counts=True)
    images = sorted(usable[first[count == 1]].tolist())
    if images and len(usable) >= FEW_PER_CAMERA * len(count):
        yield case.finding(
            "camera with one image",
            images,
            f"camera {records.camera.values[images[0]]!r} has only this image",
            "check the name; if it is right, remove the image",
        )
