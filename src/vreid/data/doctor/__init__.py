"""Data set checks: report problems with file, row and suggested fix.

The most common error in re-identification data is a wrong camera name, which shows as queries without a positive
match. The checks find it, and other errors that silently spoil a training run, before hours are spent. A check is a
function from a `Case` to findings; `CHECKS` lists them, most severe first. Legitimate content (distractors, junk,
similar consecutive frames, queries that the protocol removes from the gallery) is not reported.

Readers report what they cannot read. To collect both:

    reported: list[Finding] = []
    dataset = open_dataset(source, on_finding=reported.append)
    findings = reported + examine(dataset)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from vreid.data.dataset import Dataset
from vreid.data.doctor import clocks, duplicates, image_checks, label_checks, tracklet_checks
from vreid.data.doctor.case import Case
from vreid.data.findings import Finding
from vreid.progress import Progress

CHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    image_checks.unreadable,
    label_checks.swapped,
    label_checks.same_for_all,
    label_checks.one_for_each,
    label_checks.train_and_test,
    duplicates.duplicate_images,
    label_checks.query_without_positive,
    label_checks.two_spellings,
    label_checks.left_out,
    tracklet_checks.over_two,
    label_checks.two_looks,
    clocks.absent,
    clocks.impossible,
    clocks.clock_off,
    clocks.equal_times,
    tracklet_checks.frames_against_times,
    tracklet_checks.twice_in_a_frame,
    tracklet_checks.holes,
    label_checks.one_camera_identities,
    label_checks.one_image_cameras,
    image_checks.boxes,
    image_checks.tiny,
    image_checks.blank,
)


def examine(
    dataset: Dataset,
    *,
    workers: int = 4,
    progress: Progress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[Finding]:
    """Run all checks on `dataset` and return the findings, most severe first; an empty list means no problems.

    Every image is decoded once, in `workers` threads; suspected copies are decoded again for a close comparison.
    Memory grows by about 1 kB per image.

    Args:
        dataset: from `open_dataset`.
        progress: listener, counts image files.
        on_note: called with each observation that is worth a note but no problem.
    """
    case = Case.of(dataset, workers=workers, progress=progress, now=time.time())
    findings = [finding for check in CHECKS for finding in check(case)]
    for note in case.notes:
        on_note(note)
    return findings


__all__ = ["CHECKS", "Case", "examine"]
