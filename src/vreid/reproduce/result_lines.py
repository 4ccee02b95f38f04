"""Lines: what became of rows, one JSON object each in a file; written whole, verified when read, merged by hash."""

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
"""Kind of a stage, what decides it in plain values, and which of the links before it are what it is made from."""


def chain(links: Iterable[Link]) -> list[str]:
    """16 hexadecimal digits for each link, over what it says and the digits of the links that it is made from.

    Raises:
        ValueError: a link is made from one that does not stand before it.
    """
    hashes: list[str] = []
    for kind, settings, inputs in links:
        if any(not 0 <= number < len(hashes) for number in inputs):
            raise ValueError("a link is made from one that does not stand before it")
        hashes.append(hash_of([kind, settings, [hashes[number] for number in inputs]]))
    return hashes


@dataclass(frozen=True)
class Line:
    """What became of one row.

    Attributes:
        hash: of the row.
        name: that a row of this hash had; tables take names from their own rows.
        links: what decided the result (`Stage.links`); `hash` is that of the last.
        metrics: the numbers and what they mean (`Metrics.as_dict`), their 95 % intervals by bootstrap over vehicles
            ("intervals"), those of seen and new cameras ("parts"); {} if the row failed.
        queries: "identity" of each query, and its value of each metric that is a mean over queries (None where it was
            skipped), so that rows can be compared query by query.
        facts: initialisation, protocol in words, seeds, what it was trained and judged on, the name of its track2.txt
            below the cache ("submission"), and "labels" where the test has none, so that there are no numbers.
        seconds: of the stages of each kind, whenever they were made.
        error: why it failed; "" if it did not.
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
        """The metrics that are means over queries, 0 to 1: mAP, rank1, ..."""
        return {name: value for name, value in self.metrics.items() if isinstance(value, float)}

    @property
    def notes(self) -> list[str]:
        """What steps did on these images that their names do not say."""
        return list(self.metrics.get("notes", []))

    @classmethod
    def parse(cls, text: str | bytes) -> Line:
        """The line that was written as `text`.

        Raises:
            ValueError, TypeError, KeyError, RecursionError: it is something else, or was changed since.
        """
        found = json.loads(text)
        names = {column.name for column in fields(cls)}
        if not isinstance(found, dict) or set(found) != names:
            raise ValueError(f"its columns are not {', '.join(sorted(names))}")
        links = tuple((str(kind), dict(settings), tuple(map(int, of))) for kind, settings, of in found["links"])
        columns = {name: dict(found[name]) for name in ("metrics", "queries", "facts", "seconds")}
        line = cls(str(found["hash"]), str(found["name"]), links, **columns, error=str(found["error"]))
        if [line.hash] != chain(links)[-1:]:
            raise ValueError("its hash is not that of its links")
        if bool(line.error) + bool(line.numbers) + ("labels" in line.facts and not line.error) != 1:
            raise ValueError("it has neither metrics nor an error, or both")
        if not all(0 <= number <= 1 for number in line.numbers.values()):  # NaN is not either
            raise ValueError("a metric is not between 0 and 1")
        return line


def write_lines(path: Path | str, lines: Iterable[Line]) -> None:
    """Write the file anew, whole or not at all."""
    texts = [json.dumps(asdict(line), ensure_ascii=False, allow_nan=False) for line in lines]
    write_text(path, "".join(text + "\n" for text in texts))


def read_lines(path: Path | str, on_finding: OnFinding = raise_finding) -> list[Line]:
    """The lines of a file.

    Args:
        path: as `write_lines` has written it, on whatever machine.
        on_finding: told of lines that cannot be used; by default the first one is raised.

    Raises:
        InputError: the file cannot be read.
    """
    return [line for _, line in _numbered(Path(path), on_finding)]


def merge(files: Sequence[Path | str], on_finding: OnFinding = raise_finding) -> list[Line]:
    """The lines of several files, one a hash, in the order in which their hashes first occur.

    A line with numbers is taken before one with an error, the earlier before the later. Other numbers under the same
    hash are told: the programs or the machines differ in more than they should.

    Args:
        files: as `write_lines` has written them.
        on_finding: told of lines that cannot be used or contradict an earlier one; by default the first one is raised.

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
                    on_finding(Finding("row", where, what, "find out which is right and leave the other out"))
    return [line for _, line in merged.values()]


def _different(one: Line, other: Line) -> list[tuple[str, float, float]]:
    """Name and values of the metrics that differ by more than another order of summation can explain."""
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
            what = f"is no line of a row of this version of vreid ({error})"
            on_finding(Finding("line", where, what, "leave it out, or run its row again"))
    return found
