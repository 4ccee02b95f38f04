"""Hold out some training vehicles as a labelled test, as in the DMT paper's Split-Test.

The paper took 88 of CityFlowV2-ReID's 440 training vehicles and did not say which; they bear far more images than a
uniform draw would, as those of one scene do. So whole scenes are held out where there are several: what is asked is how
well a model does at cameras it has never seen.

Whatever is held out, no vehicle of the test is in training: images of test vehicles elsewhere (at training cameras) are
left out of both, since a gallery at cameras that the model knows would be an easier question. A query is one image of a
vehicle at a camera, drawn by the seed, if another held-out camera saw the vehicle too; the gallery is the rest. The
protocol is the AI City one, whose full-list mAP is Market-1501's and whose mAP@100 stands beside it; the query
camera's images of other vehicles stay.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vreid.data.dataset import Dataset
from vreid.data.findings import Origin
from vreid.data.protocols import AI_CITY, PROTOCOLS
from vreid.data.readers.common import natural
from vreid.data.readers.held_out import METADATA, TABLE
from vreid.data.records import Records, connected_cameras
from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.files import read_json, write_json
from vreid.locks import LOCK, locking

By = Literal["scene", "cameras", "identities"]

SHARE = 0.2
"""Default share of held-out vehicles: the paper's 88 of 440."""

Mask = NDArray[np.bool_]


def hold_out(
    dataset: Dataset, by: By = "scene", names: Sequence[str] = (), *, count: int | None = None, seed: int = 0
) -> Dataset:
    """Divide the training images of `dataset` into training, query and gallery, all labelled.

    Scenes are those of the Records, or, where these do not say, groups of cameras that share vehicles, each named after
    its first camera. Without `names` the scene is held out whose number of vehicles is nearest to a fifth of all (the
    first by name among equals); where there is no second scene, identities are held out instead, and a note says so.
    Images without identity or camera are left out.

    Args:
        dataset: its training images are divided; of a data set without a split, all images. Others are joined later.
        by: what is held out: scenes, cameras, or identities drawn by chance from those that two cameras saw.
        names: of the scenes or cameras.
        count: how many identities; None: a fifth of all.
        seed: draws the identities and the query images; equal seeds give equal lists.

    Raises:
        InputError: no labels, an unknown name, or a side that would be empty.

    Example:
        >>> made = hold_out(open_dataset("AIC21_Track2_ReID"), "identities", count=88)   # doctest: +SKIP
        >>> made.query.identity.distinct, made.train.identity.distinct                   # doctest: +SKIP
        (88, 352)
    """
    if by not in get_args(By):
        raise InputError(f"hold out {by!r}: is unknown; use one of {', '.join(get_args(By))}.")
    if (by == "cameras") != bool(names) and by != "scene":
        raise InputError(f"hold out {by}: " + ("name them." if by == "cameras" else "has no names; give a count."))
    if count is not None and by != "identities":
        raise InputError(f"hold out {by}: takes no count; a count belongs to identities.")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more.")
    everything, origin = _divisible(dataset)
    usable = np.flatnonzero(everything.identity.known & everything.camera.known)
    if not len(usable):
        lacking = "camera" if everything.identity.known.any() else "identity"
        raise InputError(f"{dataset.name}: no image to divide has a known {lacking}; a split needs both labels.")
    notes = []
    if len(usable) < len(everything):
        notes.append(f"images left out, as their identity or camera is not known: {len(everything) - len(usable):,}.")
    records = everything[usable]
    if by == "scene":
        scenes = _scenes(records, notes)
        chosen = _known_names("scene", names, scenes) if names else _fitting_scene(records, scenes)
        if chosen:
            held = np.isin(scenes, chosen)
            inside = ", ".join(sorted(set(records.camera.values[held]), key=natural))
            what = f"scene {', '.join(chosen)} (cameras {inside})"
        else:
            notes.append("there are no two scenes to divide, so identities are held out instead.")
            by = "identities"
    if by == "cameras":
        held = np.isin(records.camera.values, _known_names("camera", names, records.camera.values))
        what = f"cameras {', '.join(sorted(set(names), key=natural))}"
    if by == "identities":
        drawn = _draw_identities(records, count, seed)
        held = np.isin(records.identity.codes, drawn)
        what = f"{len(drawn):,} of {records.identity.distinct:,} identities, drawn by seed {seed}"
    places, counted = _divide(records, held, what, seed)
    rows = {} if origin is None else {split: _listed(origin, usable[index]) for split, index in places.items()}
    parts = {split: records[index].with_(split=[split] * len(index)) for split, index in places.items()}
    source = {**dataset.source, "held_out": what, "split_seed": seed, "split_of": dataset.fingerprint()}
    return Dataset(
        f"{dataset.name} split",
        parts["train"],
        parts["query"],
        parts["gallery"],
        AI_CITY,
        source,
        (*notes, *counted),
        rows,
    )


def _divisible(dataset: Dataset) -> tuple[Records, Origin | None]:
    """The images to divide, and where they are listed."""
    for split in ("train", "gallery"):
        records = getattr(dataset, split)
        if len(records) and (split == "train" or np.array_equal(records.image_key, dataset.query.image_key)):
            return records, dataset.origins.get(split)
    raise InputError(
        f"{dataset.name}: has no training images to divide; give a data set with labelled training images."
    )


def _listed(origin: Origin, index: NDArray[np.intp]) -> Origin:
    file = origin.file if isinstance(origin.file, str) else origin.file[index]
    return Origin(file, origin.rows[index], origin.unit)


# ------------------------------------------------------------------------------------------------ what is held out


def _scenes(records: Records, notes: list[str]) -> NDArray[np.object_]:
    """The scene of each image: as the Records say, else the group of cameras that share vehicles."""
    if records.scene.known.all():
        return records.scene.values
    groups = connected_cameras(records)
    notes.append(f"scenes are groups of cameras that share vehicles ({len(groups):,}), as the data set names none.")
    scene = {camera: min(group, key=natural) for group in groups for camera in group}
    return np.array([scene[camera] for camera in records.camera.values], dtype=object)


def _known_names(kind: str, names: Sequence[str], there: NDArray[np.object_]) -> list[str]:
    present = sorted(set(there), key=natural)
    for name in names:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=3)
            some = f"{', '.join(present[:6])}{' and more' if len(present) > 6 else ''}"
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {some}."
            raise InputError(f"there is no {kind} {name!r} among the training images; {hint}")
    return sorted(set(names), key=natural)


def _fitting_scene(records: Records, scenes: NDArray[np.object_]) -> list[str]:
    """The scene that can be searched and whose number of vehicles is nearest to `SHARE` of all, if there is one."""
    total = records.identity.distinct
    fitting = []
    for order, scene in enumerate(sorted(set(scenes), key=natural)):
        inside = records[scenes == scene]
        count = inside.identity.distinct
        if count < total and _seen_twice(inside).any():
            fitting.append((abs(count - SHARE * total), order, str(scene)))
    return [min(fitting)[2]] if fitting else []


def _draw_identities(records: Records, count: int | None, seed: int) -> NDArray[np.intp]:
    """Codes of the identities to hold out."""
    total = records.identity.distinct
    codes = np.flatnonzero(_seen_twice(records))
    count = max(1, round(SHARE * total)) if count is None else count
    if count < 1:
        raise InputError(f"count {count} is less than 1; give how many identities to hold out.")
    if count > len(codes) or count >= total:
        raise InputError(
            f"{count:,} identities cannot be held out: of {total:,} in training {len(codes):,} were seen by two "
            "cameras, and one must be left to train; give a smaller count."
        )
    order = np.array(sorted(codes.tolist(), key=lambda code: natural(str(records.identity.names[code]))), dtype=np.intp)
    return np.sort(order[generator(seed, "split", "identities").permutation(len(order))[:count]])


def _seen_twice(records: Records) -> Mask:
    """By code of the identity: whether two cameras saw it."""
    pairs = np.unique(np.stack([records.identity.codes, records.camera.codes]), axis=1)
    return np.bincount(pairs[0], minlength=len(records.identity.names)) >= 2


# ------------------------------------------------------------------------------------------------ the three sides


def _divide(records: Records, held: Mask, what: str, seed: int) -> tuple[dict[str, NDArray[np.intp]], list[str]]:
    """Indices of each side, ascending, and notes with what was counted."""
    tested = np.isin(records.identity.codes, np.unique(records.identity.codes[held]))
    variants = records.variant.values
    shown = held & (variants == ("original" if "original" in variants else variants[0]))  # crops stay out of the test
    test = np.flatnonzero(shown)
    query = _draw_queries(records, test, seed)
    train = np.flatnonzero(~tested)
    for empty, wrong in (
        (not len(train), "every vehicle was seen there, so none is left to train"),
        (not len(query), "no vehicle was seen by two of these cameras, so there is nothing to search for"),
    ):
        if empty:
            raise InputError(f"hold out {what}: {wrong}; hold out something else.")
    gallery = np.setdiff1d(test, query)
    notes = [f"held out: {what}."]
    elsewhere = tested & ~held
    if elsewhere.any():
        notes.append(
            f"images of test vehicles at other cameras, left out: {int(elsewhere.sum()):,}; so no test vehicle is in "
            "training, and the gallery shows the held-out cameras only."
        )
    unsearched = records[test].identity.distinct - records[query].identity.distinct
    if unsearched:
        notes.append(f"test vehicles seen by one held-out camera only, and so in the gallery alone: {unsearched:,}.")
    return {"train": train, "query": query, "gallery": gallery}, notes


def _draw_queries(records: Records, test: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """One image of each (identity, camera) of the test, so that each has a positive in the gallery at another camera.

    Where a camera's only image of a vehicle is the last positive of another query, it stays in the gallery.
    """
    images: dict[str, dict[str, list[int]]] = {}
    for index, identity, camera in zip(
        test.tolist(), records.identity.values[test], records.camera.values[test], strict=True
    ):
        images.setdefault(identity, {}).setdefault(camera, []).append(index)
    drawn = []
    for identity, cameras in images.items():
        if len(cameras) < 2:
            continue
        lone = sorted((camera for camera, there in cameras.items() if len(there) == 1), key=natural)
        needed = lone[:1] if len(cameras) - len(lone) < 2 else []
        for camera, there in cameras.items():
            if camera not in needed:
                there = sorted(there, key=lambda index: natural(str(records.image_key[index])))
                drawn.append(there[int(generator(seed, "split", "query", identity, camera).integers(len(there)))])
    return np.sort(np.array(drawn, dtype=np.intp))


# ------------------------------------------------------------------------------------------------ on disk


@locking("out")
def write_split(dataset: Dataset, out: Path | str) -> None:
    """Write what `hold_out` made into the folder `out`, so that `open_dataset(out)` gives it back.

    split.csv lists the images of all three sides (paths relative to `out`); split.json, written last, holds how
    they were chosen and the protocol. Writing the same split again is allowed; another one raises.

    Raises:
        InputError: `out` holds something else, or cannot be written.
    """
    out = Path(out)
    if PROTOCOLS.get(dataset.protocol.name) != dataset.protocol:
        raise InputError(f"{dataset.name}: protocol {dataset.protocol.name!r} has no name that {METADATA} could store.")
    sides = (dataset.train, dataset.query, dataset.gallery)
    metadata = {
        "name": dataset.name,
        "protocol": dataset.protocol.name,
        "source": dict(dataset.source),
        "notes": list(dataset.notes),
        "counts": counts(dataset),
    }
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= {TABLE, METADATA, LOCK}):
        raise InputError(f"{out}: holds something else; choose a new folder.")
    if (out / METADATA).exists() and read_json(out / METADATA) != metadata:
        raise InputError(f"{out}: holds another split; choose another folder or remove this one.")
    records = Records.concat(sides)
    records.write_table(out / TABLE)
    write_json(out / METADATA, metadata)


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Images, identities and cameras of each side."""
    sides = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    return {
        name: {"images": len(side), "identities": side.identity.distinct, "cameras": side.camera.distinct}
        for name, side in sides.items()
    }
