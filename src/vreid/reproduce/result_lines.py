"""Result lines: the results of rows as JSON lines, written atomically, verified when read, merged by hash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vreid.configuration import hash_of
from vreid.data.findings import Finding, OnFinding, raise_finding
from vreid.files import read_lines_bounded, write_text

Link = tuple[str, dict[str, Any], tuple[int, ...]]
"""Kind of a stage, its settings in plain values, and the indices of its inputs among the preceding links."""


def chain(links: Iterable[Link]) -> list[str]:
    """Hash each link over its kind, its settings and the hashes of its inputs, to 16 hexadecimal digits.

    Raises:
        ValueError: an input of a link does not precede it.
    """
    hashes: list[str] = []
    for kind, settings, inputs in links:
        if any(not 0 <= number < len(hashes) for number in inputs):
            raise ValueError("an input of a link does not precede it")
        hashes.append(hash_of([kind, settings, [hashes[number] for number in inputs]]))
    return hashes


@dataclass(frozen=True)
class Line:
    """Result of one row.

    Attributes:
        hash: hash of the row.
        name: name of a row with this hash; tables use the names of their own rows.
        links: the stages of the row (`Stage.links`); `hash` is that of the last.
        metrics: metrics with protocol and steps (`Metrics.as_dict`), 95 % intervals by bootstrap over vehicles
            ("intervals"), metrics of seen and new cameras ("parts"); {} if the row failed.
        queries: "identity" of each query, and its value of each metric that is a mean over queries (None if skipped),
            for paired comparison of rows.
        facts: initialisation, protocol, seeds, environment of training and evaluation, path of the track2.txt below the
            cache ("submission"), and "labels" if the test has no labels, so that there are no metrics.
        seconds: run time by kind of stage.
        error: why the row failed; "" if it did not.
    """

    hash: str
    name: str
    links: tuple[Link, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    queries: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def numbers(self) -> dict[str, float]:
        """The metrics that are means over queries, in 0 to 1: mAP, rank1, ..."""
        return {name: value for name, value in self.metrics.items() if isinstance(value, float)}

    @property
    def notes(self) -> list[str]:
        """Notes of the post-processing steps."""
        return list(self.metrics.get("notes", []))

    @classmethod
    def parse(cls, text: str | bytes) -> Line:
        """Parse and verify one line.

        Raises:
            ValueError, TypeError, KeyError, RecursionError: not a line, or changed since it was written.
        """
        found = json.loads(text)
        names = {column.name for column in fields(cls)}
        if not isinstance(found, dict) or set(found) != names:
            raise ValueError(f"its columns are not {', '.join(sorted(names))}")
        links = tuple((str(kind), dict(settings), tuple(map(int, of))) for kind, settings, of in found["links"])
        columns = {name: dict(found[name]) for name in ("metrics", "queries", "facts", "seconds")}
        line = cls(str(found["hash"]), str(found["name"]), links, **columns, error=str(found["error"]))
        if [line.hash] != chain(links)[-1:]:
            raise ValueError("its hash does not match its links")
        if bool(line.error) + bool(line.numbers) + ("labels" in line.facts and not line.error) != 1:
            raise ValueError("it has neither metrics nor an error, or both")
        if not all(0 <= number <= 1 for number in line.numbers.values()):  # NaN is not either
            raise ValueError("a metric is not between 0 and 1")
        return line


def write_lines(path: Path | str, lines: Iterable[Line]) -> None:
    """Write the file atomically."""
    texts = [json.dumps(asdict(line), ensure_ascii=False, allow_nan=False) for line in lines]
    write_text(path, "".join(text + "\n" for text in texts))


def read_lines(path: Path | str, on_finding: OnFinding = raise_finding) -> list[Line]:
    """Read the lines of a file.

    Args:
        path: a file written by `write_lines`.
        on_finding: called with lines that cannot be used; by default the first one is raised.

    Raises:
        InputError: the file cannot be read.
    """
    return [line for _, line in _numbered(Path(path), on_finding)]


def merge(files: Sequence[Path | str], on_finding: OnFinding = raise_finding) -> list[Line]:
    """Merge the lines of several files, one per hash, in the order of first occurrence of the hashes.

    Lines with metrics take precedence over lines with an error, earlier lines over later ones. Conflicting results for
    one hash are reported, since programs or machines then differ in more than rounding.

    Args:
        files: files written by `write_lines`.
        on_finding: called with unusable and conflicting lines; by default the first one is raised.

    Raises:
        InputError: a file cannot be read.
    """
    merged: dict[str, tuple[str, Line]] = {}
    for file in files:
        for where, line in _numbered(Path(file), on_finding):
            first_where, first = merged.setdefault(line.hash, (where, line))
            if first.error and not line.error:
                merged[line.hash] = where, line
            elif not first.error and not line.error:
                for name, here, there in _different(line, first)[:1]:
                    what = f"{line.name!r} has {name} = {here}, but {there} in {first_where} under the same hash"
                    on_finding(Finding("row", where, what, "find out which is correct and omit the other"))
    return [line for _, line in merged.values()]


def _different(one: Line, other: Line) -> list[tuple[str, float, float]]:
    """Name and values of the metrics that differ by more than rounding."""
    both = {name: (one.numbers.get(name, -1.0), other.numbers.get(name, -1.0)) for name in one.numbers | other.numbers}
    return [(name, *values) for name, values in both.items() if abs(values[0] - values[1]) > 1e-6]


def _numbered(path: Path, on_finding: OnFinding) -> list[tuple[str, Line]]:
    texts = read_lines_bounded(path).splitlines()
    found = []
    for number, text in enumerate(texts, start=1):
        where = f"{path}, line {number}"
        try:
            found.append((where, Line.parse(text)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            what = f"is not a result line of this version of vreid ({error})"
            on_finding(Finding("line", where, what, "remove it, or run its row again"))
    return found
