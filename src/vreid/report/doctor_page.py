"""The picture page of the data doctor: each finding in words, with the suspicious pictures beside it."""

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
"""Pictures shown of one finding."""
FINDINGS = 50
"""Findings shown of one check; the rest are counted."""


@dataclass(frozen=True)
class Shown:
    """One picture of a finding: a data URI (None where it cannot be read), its folder and name, and the whole path."""

    picture: str | None
    folder: str
    name: str
    path: str


def write_findings(dataset: Dataset, findings: Sequence[Finding], path: Path | str) -> None:
    """Write what is wrong with `dataset` as one self-contained HTML file, whole or not at all.

    Raises:
        InputError: `path` cannot be written.
    """
    write_text(path, render_findings(dataset, findings))


def render_findings(dataset: Dataset, findings: Sequence[Finding]) -> str:
    """The page as text (see `write_findings`); findings of one check stand together, in the order they came."""
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
    """The pictures to show, those to be looked at side by side in one list."""
    boxes = finding.boxes or ((),) * len(finding.paths)
    shown = [
        Shown(thumbnail(path, box or None), f"{Path(path).parent.name}/".removeprefix("/"), Path(path).name, path)
        for path, box in zip(finding.paths[:PICTURES], boxes, strict=False)
    ]
    step = 2 if finding.paired else 1
    for start in range(0, len(shown), step):
        yield shown[start : start + step]
