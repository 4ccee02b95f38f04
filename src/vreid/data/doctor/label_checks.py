"""What is wrong with identities, cameras, splits, colours and types."""

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
"""From this many images on, a name of its own for each of them is no coincidence."""
FEW_PER_CAMERA = 4
"""Only where cameras have at least this many images on average is one with a single image odd."""
CAMERA_LIKE = re.compile(r"(c|cam|camera)[\s_-]?\d+", re.IGNORECASE)
"""What cameras are called, and vehicles are not."""

TO_TRAIN, OF_TEST = "to train on", "of the test"
_BOTH = (("identity", "vehicle"), ("camera", "camera"))


def _pools(case: Case) -> dict[str, NDArray[np.bool_]]:
    """The images to train on and those of the test (query and gallery together), without empty pools."""
    pools = {TO_TRAIN: case.train, OF_TEST: ~case.train}
    return {name: images for name, images in pools.items() if images.any()}


def swapped(case: Case) -> Iterator[Finding]:
    """Columns in each other's place, or one column given twice."""
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
    """One camera, or one identity, for all images of a pool: most often a wrong column."""
    fixes = {
        "camera": "give every image the name of the camera that took it; matching across cameras can be neither learnt "
        "nor measured without",
        "identity": "give every vehicle a name of its own",
    }
    for pool, images in _pools(case).items():
        others = {"identity": case.records.camera, "camera": case.records.identity}
        for column, word in _BOTH:
            if column == "camera" and pool == OF_TEST and not case.dataset.protocol.needs_camera:
                continue
            labels = getattr(case.records, column)
            known = np.flatnonzero(images & labels.known)
            # One vehicle alone may well have been seen by one camera alone.
            if len(known) > 1 and labels[known].distinct == 1 and others[column][known].distinct != 1:
                yield case.finding(
                    f"one {column}",
                    [int(known[0])],
                    f"all {len(known):,} images {pool} name the same {word}, {labels.values[known[0]]!r}",
                    fixes[column],
                )


def one_for_each(case: Case) -> Iterator[Finding]:
    """A camera for each image, or in training an identity for each: most often the number of the image."""
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
                    f"names a {word} of its own, this one {labels.values[known[0]]!r}",
                    f"the column seems to hold a number of the image; give the {word}'s name",
                )


def train_and_test(case: Case) -> Iterator[Finding]:
    """Vehicles that are trained on and tested with."""
    identity = case.records.identity
    trained, first = np.unique(identity.codes[case.train], return_index=True)
    fellow_of = dict(zip(trained.tolist(), np.flatnonzero(case.train)[first].tolist(), strict=True))
    shared = _firsts(case, ~case.train & identity.known, lambda image: int(identity.codes[image]) in fellow_of)
    if shared:
        small_variants = [fellow_of[int(identity.codes[image])] for image in shared]
        yield case.finding(
            "identity in train and test",
            shared,
            f"vehicle {identity.values[shared[0]]!r} is also in train, {case.where(small_variants[0])}",
            "split by vehicle; one that was trained on measures nothing",
            beside=small_variants,
        )


def _firsts(case: Case, images: NDArray[np.bool_], wanted: Callable[[int], bool]) -> list[int]:
    """The first image of each identity among `images` that is `wanted`."""
    _, first = np.unique(case.records.identity.codes[images], return_index=True)
    return sorted(image for image in np.flatnonzero(images)[first].tolist() if wanted(image))


def query_without_positive(case: Case) -> Iterator[Finding]:
    """Queries that no image of their vehicle is left for in the gallery, as the protocol says."""
    dataset, protocol = case.dataset, case.dataset.protocol
    query, gallery = dataset.query, dataset.gallery
    if not len(query) or not gallery.identity.known.any():
        return
    if protocol.needs_camera and gallery.camera.distinct == 1:
        return  # `same_for_all` says why
    if protocol.exclude == "same_camera":  # of a vehicle's own images it removes the same, and that is quick to tell
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
        place = f" from another camera than {camera!r}" if protocol.needs_camera and camera else ""
        yield case.finding(
            "query without mate",
            lost,
            f"the gallery holds no image of vehicle {identity!r}{place}",
            "check identity and camera names of query and gallery; every metric skips such queries",
        )


def two_spellings(case: Case) -> Iterator[Finding]:
    """Names that are spellings of one another, as "c1" and "C001" (see `vreid.data.spellings.spelling`)."""
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
                "two spellings",
                images,
                f"{word} {name!r} is probably {usual!r}, spelled another way",
                "spell one name one way",
            )


def left_out(case: Case) -> Iterator[Finding]:
    """Images without a label where the others of their split have one."""
    for split in dict.fromkeys(case.split.tolist()):
        for column in ("identity", "camera"):
            codes = getattr(case.records, column).codes
            images = np.flatnonzero((case.split == split) & (codes == UNKNOWN))
            if column == "identity" and split != "train":
                continue  # a gallery may hold vehicles that nobody knows
            if 0 < len(images) < (case.split == split).sum():
                yield case.finding(
                    f"no {column}",
                    images.tolist(),
                    f"this image has no {column}, while others of its split do",
                    f"fill in the {column} or take the row out",
                )


def two_looks(case: Case) -> Iterator[Finding]:
    """Vehicles that change colour or type."""
    for column, word in (("color", "colours"), ("vehicle_type", "types")):
        images, usual = odd_ones_out(case.records.identity, getattr(case.records, column))
        if images:
            labels = getattr(case.records, column)
            yield case.finding(
                f"identity of two {word}",
                images,
                f"vehicle "
                f"{case.records.identity.values[images[0]]!r} is {labels.values[images[0]]!r} here and "
                f"{labels.values[usual[0]]!r} in {case.where(usual[0])}",
                f"correct the {word[:-1]} or the identity",
                beside=usual,
            )


def odd_ones_out(groups: Labels, labels: Labels) -> tuple[list[int], list[int]]:
    """In each group with more than one label: an image whose label is rarest, and one with the commonest.

    Among equally common labels the one that comes first counts as the commonest; images are the first of their label.
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
    """Training vehicles that one camera alone has seen."""
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
            "identity in one camera",
            alone,
            f"vehicle {records.identity.values[first]!r} is seen by camera {records.camera.values[first]!r} alone",
            "check that a vehicle keeps its name over all cameras; one that does not teaches nothing across them",
        )


def one_image_cameras(case: Case) -> Iterator[Finding]:
    """Cameras with a single image where the others have many: most often a misspelt name."""
    records = case.records
    usable = np.flatnonzero(records.camera.known & (records.domain.values == "real"))
    _, first, count = np.unique(records.camera.codes[usable], return_index=True, return_counts=True)
    images = sorted(usable[first[count == 1]].tolist())
    if images and len(usable) >= FEW_PER_CAMERA * len(count):
        yield case.finding(
            "camera with one image",
            images,
            f"camera {records.camera.values[images[0]]!r} has this image only",
            "check the name; if it is right, take the image out",
        )
