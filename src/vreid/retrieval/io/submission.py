"""AI City Challenge submissions (track2.txt): write, read, check and score them.

One line per query, in order of image number, with the space-separated numbers of the 100 nearest gallery images, best
first. The number of an image is that in its file name (000012.jpg is 12), from 1.

Shapes: Q queries, G gallery images, K numbers on a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.data.findings import Finding, OnFinding, raise_finding
from vreid.data.protocols import AI_CITY, Protocol
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import read_lines_bounded, write_text
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.ranking import Ranking
from vreid.retrieval.tiles import Tiles

LENGTH = 100
"""Images listed per query."""

SUBMISSION = Protocol("submission", exclude="nothing", top_k=LENGTH)
"""Protocol of the ranking in a submission: nothing is excluded, so that no label of a test image is used."""

_NUMBER = re.compile(r"0*(\d{1,9})(\.jpe?g|\.png)?", re.IGNORECASE | re.ASCII)
_USABLE = ("length", "order")  # findings despite which a submission can be scored
_SORTED = 10  # so many numbers in ascending order are not a ranking (probability 1 in 3.6 million)


def image_numbers(records: Records) -> NDArray[np.int64]:
    """Return the number (N,) of each image from its key or file name: "test/000012" and "image_test/12.jpg" are 12.

    Raises:
        InputError: the name of an image is not a number, or two images have the same number.
    """
    numbers = np.empty(len(records), dtype=np.int64)
    row_of: dict[int, int] = {}
    for row, names in enumerate(zip(records.image_key, records.path, strict=True)):
        found = next(filter(None, (_NUMBER.fullmatch(re.split(r"[/\\]", name)[-1]) for name in names)), None)
        if found is None:
            raise InputError(
                f"{names[1]} (image {row + 1}): its name is not a number, which a submission needs; name it like "
                "000001.jpg."
            )
        numbers[row] = int(found[1])
        if row_of.setdefault(int(found[1]), row) != row:
            first = records.path[row_of[int(found[1])]]
            raise InputError(f"{names[1]} (image {row + 1}): has the same number as {first}; remove one of them.")
    return numbers


def write_submission(ranking: Ranking, path: Path | str) -> None:
    """Write a ranking atomically as track2.txt.

    Every line has 100 numbers (or the whole gallery if it is smaller); images excluded by a step (camera verification)
    are appended in order of number. Rank under `SUBMISSION`: protocols that exclude images by identity would use labels
    of test images.

    Raises:
        InputError: an image has no number, rankings are too short, or the file cannot be written.
    """
    wanted = min(LENGTH, len(ranking.gallery))
    if ranking.indices.shape[1] < wanted:
        raise InputError(
            f"{path}: needs {wanted} images per query, but the ranking is cut at {ranking.indices.shape[1]}; "
            f"rank with top_k={LENGTH}."
        )
    query, gallery = image_numbers(ranking.query), image_numbers(ranking.gallery)
    lines = []
    for row in np.argsort(query):
        listed = ranking.indices[row, : ranking.lengths[row]]
        numbers = gallery[listed[:wanted]]
        if len(numbers) < wanted:
            others = np.sort(np.delete(gallery, listed))
            numbers = np.concatenate([numbers, others[: wanted - len(numbers)]])
        lines.append(" ".join(map(str, numbers.tolist())))
    write_text(path, "\n".join(lines) + "\n")


def _lines(path: Path | str, on_finding: OnFinding) -> Iterator[NDArray[np.int64]]:
    """Read the numbers on each line, in any of the common forms.

    Numbers may have leading zeros and ".jpg" and be separated by spaces, tabs or commas; line ends, a byte order mark,
    UTF-16 and trailing empty lines do not matter. An empty line between others is a query without a list.
    """
    data = read_lines_bounded(path)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    lines = re.split(r"\r\n|\n|\r", data.decode(encoding, "replace").rstrip())
    if lines == [""]:
        raise InputError(f"{path}: is empty; give one line of image numbers per query.")
    for line, text in enumerate(lines, start=1):
        tokens = [token for token in re.split(r"[\s,;]+", text) if token]
        matches = [_NUMBER.fullmatch(token) for token in tokens]
        if None in matches:
            wrong = repr(tokens[matches.index(None)][:30])
            on_finding(Finding("not a number", f"{path}, line {line}", f"{wrong} is not an image number", "correct it"))
        yield np.array([int(match[1]) for match in matches if match], dtype=np.int64)


def check_submission(path: Path | str, query: Records, gallery: Records) -> list[Finding]:
    """Check a submission for these queries and this gallery, line by line; [] if it is valid.

    Findings: a wrong number of lines, a line with other than 100 images (or the size of the gallery), entries that are
    not image numbers, numbers of no gallery image, numbers that occur twice on a line, and lines sorted by number
    instead of by distance.

    Raises:
        InputError: the file cannot be read or is empty, or an image of the data set has no number.
    """
    findings: list[Finding] = []
    _examined(path, query, gallery, findings.append)
    return findings


def score_submission(path: Path | str, query: Records, gallery: Records, protocol: Protocol = AI_CITY) -> Metrics:
    """Evaluate a submission against labelled records; the distance of an image is its rank on the line.

    Images that a line does not list are misses, so only `mAP_at_k` (at `protocol.top_k`, or at 100 if the protocol does
    not truncate rankings) and `cmc` are known; `mAP` and `mINP`, which need full rankings, are NaN. The protocol's
    exclusions apply to the submitted lines: if a line holds images of the query's own tracklet, fewer than 100 are
    left, and the result can be lower than that of the full ranking. Short, long and sorted lines are evaluated as they
    are.

    Raises:
        InputError: `check_submission` finds another defect, records have no labels, or the protocol does not rank
            images.
    """
    if protocol.unit != "image" or protocol.repeats:
        raise InputError(f"{path}: a submission ranks images, but protocol {protocol.name} does not; use ai-city.")

    def reject_unusable(finding: Finding) -> None:
        if finding.check not in _USABLE:
            raise_finding(finding)

    lists = _examined(path, query, gallery, reject_unusable)
    line_of_query = np.argsort(np.argsort(image_numbers(query)))
    source = _Places(tuple(lists[line] for line in line_of_query), len(gallery))
    distances = Distances(query, gallery, source, np.arange(len(gallery), dtype=np.int32), steps=("as submitted",))
    metrics = evaluate_distances(distances, replace(protocol, top_k=protocol.top_k or LENGTH))
    unknown = np.full(len(query), np.nan)
    return replace(metrics, mAP=np.nan, mINP=np.nan, average_precision=unknown, inverse_negative_penalty=unknown)


@dataclass(frozen=True, eq=False)
class _Places:
    """Ranks on a line, from 1, as distances; +inf if an image is not listed.

    Attributes:
        lists: Q arrays of gallery indices, best first.
        columns: G.
    """

    lists: tuple[NDArray[np.intp], ...]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.lists), self.columns

    def tiles(self) -> Tiles:
        """Yield one tile per 64 lines."""
        for start in range(0, len(self.lists), 64):
            part = self.lists[start : start + 64]
            tile = np.full((len(part), self.columns), np.inf, dtype=np.float32)
            for row, listed in zip(tile, part, strict=True):
                row[listed] = np.arange(1, len(listed) + 1)
            yield start, tile


def _examined(path: Path | str, query: Records, gallery: Records, on_finding: OnFinding) -> list[NDArray[np.intp]]:
    """Return the gallery indices on each line (arbitrary for invalid numbers), and report all findings."""
    if not len(query) or not len(gallery):
        raise InputError(f"{path}: the data set has no query or no gallery images; give the one of the submission.")
    numbers = image_numbers(gallery)
    order = np.argsort(numbers)
    out = []
    for line, listed in enumerate(_lines(path, on_finding), start=1):
        for check, message, fix in _wrong(listed, numbers[order]):
            on_finding(Finding(check, f"{path}, line {line}", message, fix))
        place = np.searchsorted(numbers, listed, sorter=order)
        out.append(order[np.minimum(place, len(order) - 1)])
    if len(out) != len(query):
        fix = "give one line per query, in order of its number"
        on_finding(Finding("lines", str(path), f"has {len(out):,} lines for {len(query):,} queries", fix))
    return out


def _wrong(listed: NDArray[np.int64], gallery: NDArray[np.int64]) -> Iterator[tuple[str, str, str]]:
    """Yield check, message and fix for the numbers on one line; `gallery` holds all valid numbers, ascending."""
    wanted = min(LENGTH, len(gallery))
    if len(listed) != wanted:
        yield "length", f"has {len(listed):,} numbers", f"give {wanted}"
    invalid = listed[~np.isin(listed, gallery)]
    if len(invalid):
        span = f"from {gallery[0]} to {gallery[-1]}"
        fix = "add 1 to all numbers, the first is 1" if 0 in invalid else "use the numbers in the file names"
        yield "range", f"{_some(invalid)} not the number of a gallery image ({span})", fix
    numbers, count = np.unique(listed, return_counts=True)
    if len(numbers) < len(listed):
        yield "twice", f"{_some(numbers[count > 1])} listed more than once", "list each image once"
    if len(listed) >= _SORTED and (np.diff(listed) > 0).all():
        yield "order", "is sorted by number", "list the nearest image first"


def _some(numbers: NDArray[np.int64]) -> str:
    more = f" (and {len(numbers) - 1:,} more)" if len(numbers) > 1 else ""
    return f"number {numbers[0]}{more} is"
