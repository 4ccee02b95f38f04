"""HTML page of the data doctor: each finding with the images concerned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.files import write_text
from vreid.report.template import fill
from vreid.report.thumbnails import thumbnail

PICTURES = 12
"""Maximum number of images per finding."""
FINDINGS = 50
"""Maximum number of findings per check; the rest are counted."""


@dataclass(frozen=True)
class Shown:
    """One image of a finding: a data URI (None if it cannot be read), its folder and name, and its full path."""

    thumbnail: str | None
    folder: str
    name: str
    path: str


def write_findings(dataset: Dataset, findings: Sequence[Finding], path: Path | str) -> None:
    """Write the findings of `dataset` atomically as one self-contained HTML file.

    Raises:
        InputError: `path` cannot be written.
    """
    write_text(path, render_findings(dataset, findings))


def render_findings(dataset: Dataset, findings: Sequence[Finding]) -> str:
    """Render the page as text (see `write_findings`), grouped by check in the order of first appearance."""
    order = list(dict.fromkeys(finding.check for finding in findings))
    grouped = groupby(sorted(findings, key=lambda finding: order.index(finding.check)), lambda finding: finding.check)
    checks = [(check, list(group)) for check, group in grouped]
    splits = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    return fill(
        "findings.html",
        name=dataset.name,
        count=len(findings),
        notes=dataset.notes,
        facts=[(split, repr(records).removeprefix("Records: ")) for split, records in splits.items() if len(records)],
        protocol=dataset.protocol.description,
        checks=[
            (check, [(finding, list(_rows(finding))) for finding in group[:FINDINGS]], len(group))
            for check, group in checks
        ],
        most=PICTURES,
    )


def _rows(finding: Finding) -> Iterator[list[Shown]]:
    """Yield the images of a finding in groups to show side by side."""
    boxes = finding.boxes or ((),) * len(finding.paths)
    shown = [
        Shown(thumbnail(path, box or None), f"{Path(path).parent.name}/".removeprefix("/"), Path(path).name, path)
        for path, box in zip(finding.paths[:PICTURES], boxes, strict=False)
    ]
    step = 2 if finding.paired else 1
    for start in range(0, len(shown), step):
        yield shown[start : start + step]
