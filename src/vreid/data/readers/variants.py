"""Image variants: originals, crops to the vehicle, and style-translated copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.readers.common import compare_with_folder
from vreid.data.records import Records
from vreid.errors import InputError

VARIANTS = ("original", "crop", "translated")

Copies = Mapping[str, Mapping[str, Path]]
"""Variant -> split -> the folder of its images, which have the same names in every variant."""


def in_variants(dataset: Dataset, variants: Sequence[str], copies: Copies, place: Path) -> Dataset:
    """Return `dataset` with all `variants` of its training images, and query and gallery as the first of them.

    Variants of an image share everything but path and `variant`.

    Args:
        dataset: as its reader gives it, in one variant.
        variants: names in `copies`.
        copies: where the images are.
        place: the data set's folder.

    Raises:
        InputError: a variant has no images.
    """
    variants = tuple(dict.fromkeys(variants))
    notes = list(dataset.notes)

    def records_of(split: str, variant: str) -> Records:
        records: Records = getattr(dataset, split)
        if not len(records) or records.variant.values[0] == variant:
            return records
        folder = copies[variant].get(split)
        if folder is None:
            raise InputError(
                f"{place}: has no {variant} images of {split}; it has those of {', '.join(copies[variant])}."
            )
        names = [path.rpartition("/")[2] for path in records.path]
        notes.extend(compare_with_folder(names, folder, Path(dataset.where(split, 0).partition(",")[0]))[1])
        return records.with_(path=[f"{folder}/{name}" for name in names], variant=[variant] * len(names))

    train = Records.concat([records_of("train", variant) for variant in variants])
    query, gallery = (records_of(split, variants[0]) for split in ("query", "gallery"))
    origins = dict(dataset.origins)
    if "train" in origins:
        origins["train"] = origins["train"].repeated(len(variants))
    return replace(dataset, train=train, query=query, gallery=gallery, notes=tuple(notes), origins=origins)
