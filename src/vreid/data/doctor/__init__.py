"""The data doctor: what is wrong with a data set, in words, with the file, the row and the mend.

The most repeated error in all of re-identification is a wrong camera name, noticed as queries without a mate; it, and
what else spoils a training run silently, is found here before hours are spent. A check is a function from a `Case` to
findings; `CHECKS` lists them, gravest first. They are written to be silent unless something is wrong: what a careful
data set may well hold (distractors, junk, consecutive frames that look alike, a query that its protocol removes from
the gallery) is no finding.

What a reader cannot read it tells itself; both together are

    reported: list[Finding] = []
    findings = told + examine(open_dataset(source, tell=told.append))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from vreid.data.dataset import Dataset
from vreid.data.doctor import clocks, duplicates, image_checks, label_checks, tracklet_checks
from vreid.data.doctor.case import Case
from vreid.data.doctor.image_scan import Progress
from vreid.data.findings import Finding

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
    progress: Progress = lambda done, total: None,
    now: float | None = None,
) -> list[Finding]:
    """Run every check on `dataset` and return the findings, gravest first; none means that nothing is wrong.

    Every image is read and decoded once, in `workers` threads; images that look like copies are decoded once more,
    to be compared closely. Memory grows by about 1 kB an image.

    Args:
        dataset: from `open_dataset`.
        progress: called as progress(done, total) while images are read.
        now: UTC seconds after which a time lies in the future; default: the computer's clock.
    """
    case = Case.of(dataset, workers=workers, progress=progress, now=time.time() if now is None else now)
    return [finding for check in CHECKS for finding in check(case)]


__all__ = ["CHECKS", "Case", "examine"]
