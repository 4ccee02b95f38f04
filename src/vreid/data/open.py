"""Open a data set: detect which family a source is of and read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vreid.data.dataset import Dataset, LabelSource
from vreid.data.findings import OnFinding, raise_finding
from vreid.data.readers.families import FAMILIES, recognise
from vreid.data.readers.variants import VARIANTS, in_variants
from vreid.data.remote_source import open_remote
from vreid.errors import InputError
from vreid.files import system_error
from vreid.object_storage import is_address, normalised


def open_dataset(
    source: Path | str,
    *,
    labels: LabelSource = None,
    variants: Sequence[str] = ("original",),
    test_list: str | None = None,
    identities: Literal["auto", "global", "local"] = "auto",
    on_finding: OnFinding = raise_finding,
) -> Dataset:
    """Recognise what `source` is and read it.

    Recognised by what is in them, in the order of `vreid.data.readers.families.FAMILIES`: a table (.csv, .tsv, .txt
    file, or a folder with exactly one CSV); folders of VeRi-776, CityFlowV2-ReID, CityFlow-ReID, VehicleX, VehicleID,
    VERI-Wild, VRIC, or folders above them; boxes of trackers and detectors beside frames or videos; images with a text
    file each; folders of images.

    Args:
        source: file or folder, here or on object storage ("s3://BUCKET/FOLDER", `vreid.object_storage`);
            `FOLDER@SELECTOR,...` chooses variants and the test list. A path that exists as it is
            written is taken as it is.
        labels: labels of CityFlow's test images: None (unknown, as distributed), the path of a table, or "auto": a
            ground_truth.csv beside the folder, if there is one. Other sources bring their labels with them.
        variants: which images, where a data set has several of an image: original, crop, translated. Training images
            are taken in all of them, query and gallery in the first.
        test_list: size of the test (VehicleID: 800, 1600, 2400; VERI-Wild: 3000, 5000, 10000; or small, medium, large);
            None: the smallest.
        identities: what the ids of tracker output name: vehicles over all cameras ("global"), tracks of one camera
            ("local"), or "auto": vehicles in CityFlow's layout and AI City's files, tracks elsewhere.
        on_finding: called with each row that is wrong. By default the first is raised; with `append` of a list they are
            collected, and such a row is left out, such a value unknown.

    Raises:
        InputError: nothing of the kind is there, or its labels are wrong.

    Example:
        >>> open_dataset("data/AIC21_Track2_ReID@original,crop")   # doctest: +SKIP
        Dataset CityFlowV2-ReID: train 105,434 images, 440 identities, 40 cameras, ...
    """
    if is_address(source):
        address, _, chosen = normalised(source).partition("@")

        def read(copy: Path, report: OnFinding) -> Dataset:
            return open_dataset(
                f"{copy}@{chosen}" if chosen else copy,
                labels=labels,
                variants=variants,
                test_list=test_list,
                identities=identities,
                on_finding=report,
            )

        return open_remote(address, read, on_finding)
    path, selectors = _parsed(normalised(source))
    variants = [word for word in selectors if word in VARIANTS] or list(variants)
    lists = [word for word in selectors if word not in VARIANTS] or ([] if test_list is None else [test_list])
    if not variants or len(lists) > 1:
        raise InputError(
            f"{source}: chooses {len(variants)} variants and {len(lists)} test lists; choose one variant "
            "or more, and one test list at most."
        )
    try:
        found = recognise(path)
        if found is None:
            signs = "; ".join(family.signs for family in FAMILIES)
            raise InputError(f"{path}: is not a known data set format; looked for {signs}.")
        family, place = found
        copies = family.copies(place) if family.copies else {"original": {}}
        sizes = family.list_sizes(place) if family.list_sizes else {}
        for word in (
            *(word for word in variants if word not in copies),
            *(word for word in lists if word not in sizes),
        ):
            raise InputError(f"{place}: has no {word!r}; available: {', '.join([*copies, *sizes])}.")
        options = {"labels": labels, "test_list": lists[0] if lists else None, "identities": identities}
        if identities not in ("auto", "global", "local"):
            raise InputError(f"identities {identities}: is unknown; use auto, global or local.")
        if isinstance(labels, Path) and not labels.exists():
            raise InputError(f"{labels}: the table of labels does not exist; check the name.")
        for name, given in (("labels", isinstance(labels, Path)), ("identities", identities != "auto")):
            if given and name not in family.takes:
                raise InputError(f"{place}: has its own {name}; omit --{name}.")
        dataset = family.read(place, on_finding=on_finding, **{name: options[name] for name in family.takes})
        if family.copies:
            dataset = in_variants(dataset, variants, copies, place)
    except OSError as error:
        raise system_error(error.filename or path, "read", error) from error
    if on_finding is raise_finding and not any(len(split) for split in (dataset.train, dataset.query, dataset.gallery)):
        raise InputError(f"{place}: lists no images; unpack the data set again.")
    return dataset


def _parsed(source: Path | str) -> tuple[Path, list[str]]:
    """The path and the selectors of FOLDER@SELECTOR,..."""
    path = Path(source)
    if not path.exists():
        place, at, selectors = str(source).rpartition("@")
        if not (at and Path(place).exists()):
            raise InputError(f"{source}: does not exist; give a folder of images or a CSV table.")
        path = Path(place)
        words = [word.strip() for word in selectors.split(",")]
        if "" in words:
            raise InputError(f"{source}: nothing follows @; write for example FOLDER@original,crop.")
        return path, words
    return path, []
