"""Leaks: a test vehicle or a test picture that was trained on, a query that lies in the gallery."""

from __future__ import annotations

from vreid.data.dataset import Dataset
from vreid.data.doctor import Case
from vreid.data.doctor.duplicates import QUERY_IN_GALLERY, TRAIN_AND_TEST, duplicate_images
from vreid.data.doctor.label_checks import train_and_test
from vreid.diagnostics.diagnosis import Part
from vreid.errors import InputError
from vreid.progress import Progress


def leaks(dataset: Dataset, progress: Progress | None = None) -> Part:
    """The data doctor's checks of what makes every number of a test worthless.

    Raises:
        InputError: the data set has no training images, or no test images.
    """
    if not len(dataset.train) or not len(dataset.query) + len(dataset.gallery):
        raise InputError(f"leaks: {dataset.name} needs both train and test images; give the whole data set.")
    case = Case.of(dataset, workers=1, progress=progress, now=0.0)
    copies = [finding for finding in duplicate_images(case) if finding.check in (TRAIN_AND_TEST, QUERY_IN_GALLERY)]
    found = [*train_and_test(case), *copies]
    return Part(
        name="leaks",
        sentence=" ".join(f"{finding.where}: {finding.message}." for finding in found)
        or f"No vehicle and no picture of the test is among the {len(dataset.train):,} training pictures.",
        warning=bool(found),
        fix="; ".join(dict.fromkeys(finding.fix for finding in found)),
        needs="the data set with its training pictures, identities",
        limits="A vehicle trained on under another name shows only where a picture of it is the same.",
    )
