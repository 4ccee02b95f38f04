"""Leaks: test vehicles or images in the training set, and queries in the gallery."""

from __future__ import annotations

from vreid.data.dataset import Dataset
from vreid.data.doctor import Case
from vreid.data.doctor.duplicates import QUERY_IN_GALLERY, TRAIN_AND_TEST, duplicate_images
from vreid.data.doctor.label_checks import train_and_test
from vreid.diagnostics.diagnosis import Part
from vreid.errors import InputError
from vreid.progress import Progress


def leaks(dataset: Dataset, progress: Progress | None = None) -> Part:
    """Run the data doctor's checks for leaks between training, query and gallery.

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
        or f"No test vehicle or test image is among the {len(dataset.train):,} training images.",
        warning=bool(found),
        fix="; ".join(dict.fromkeys(finding.fix for finding in found)),
        needs="the data set with its training images, identities",
        limits="A test vehicle with another name in the training set is detected only if it shares an image.",
    )
