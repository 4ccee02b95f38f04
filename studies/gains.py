"""What do synthetic pictures, crops and adaptation gain, at seen and at new cameras, for the same effort?

Rows of the tables' `smoke` scale: real pictures alone, + synthetic, + crops, + adaptation to the test pictures (preset
`auto`, whatever the gate says; transductive). Each is compared with the row before it twice: at equal visits, where
every real picture (or its crop) was shown equally often, and at equal time, where the row before was trained for as
many batches as its successor took in all, those of the crop model and of the fine-tuning included. Plain search,
protocol `ai-city`; changes with 95 % intervals by bootstrap over vehicles, worlds stacked. Figures are of simulated
pictures. The folder may be that of `vreid table --out`, whose rows are the same.

    python studies/gains.py --out runs/tables --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from vreid.adaptation.adapt_config import preset_named
from vreid.console import ProgressBars
from vreid.diagnostics.slices import ALL, NEW, SEEN
from vreid.files import write_json
from vreid.reproduce.effects import effect
from vreid.reproduce.result_lines import Line
from vreid.reproduce.rows import TYPE_2, TYPE_3, Row
from vreid.reproduce.runner import run_rows
from vreid.reproduce.tables.dmt import first_row
from vreid.reproduce.tables.scales import smoke
from vreid.retrieval_run import RetrievalRun

LONGER = {"real": 17, "+ synthetic": 6, "+ crops": 7}
"""Epochs that take a row, whose own are 5, the batches of the row after it; how many those are is told."""
PARTS = (ALL, SEEN, NEW)


def rows() -> Iterator[tuple[Row, Row | None]]:
    """Each row, and the same trained for as long as the next one takes."""
    first = replace(first_row(smoke()), paper={})
    crops = replace(first, parts=TYPE_3)
    adaptation = replace(preset_named("auto"), gate=False)
    for name, row in (
        ("real", first),
        ("+ synthetic", replace(first, parts=TYPE_2)),
        ("+ crops", crops),
        ("+ adaptation", replace(crops, adaptation=adaptation)),
    ):
        longer = replace(row.training, epochs=LONGER[name]) if name in LONGER else None
        yield replace(row, name=name), replace(row, name=f"{name}, longer", training=longer) if longer else None


def batches(cache: Path, row: Row) -> int:
    """How many there were in every training that the row needs."""
    logs = [path for stage in row.features.all for path in (cache / stage.name).rglob("metrics.jsonl")]
    return sum(json.loads(log.read_text().splitlines()[-1])["step"] for log in logs)


def part_of(line: Line, row: Row, cache: Path, part: str) -> Line:
    """The line with the queries of one kind of camera."""
    search = RetrievalRun.load(cache / row.features.name)
    seen = np.isin(search.query.records.camera.values.astype(str), search.trained_cameras)
    mask = {ALL: seen | True, SEEN: seen, NEW: ~seen}[part]
    return replace(
        line,
        queries={
            name: [value for value, there in zip(values, mask, strict=True) if there]
            for name, values in line.queries.items()
        },
    )


def change(cache: Path, ours: list[Row], theirs: list[Row], lines: dict[str, Line], part: str) -> list[float]:
    """What `ours` have more than `theirs` in points of mAP, with its interval."""
    pairs = [
        (part_of(lines[one.hash], one, cache, part), part_of(lines[other.hash], other, cache, part))
        for one, other in zip(ours, theirs, strict=True)
    ]
    found = effect("", "mAP", pairs, None)
    assert found
    return [found.change, *found.interval]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    cache = options.out
    chains = [[None if row is None else row.seeded(seed) for row in pair] for pair in rows() for seed in options.seeds]
    with ProgressBars() as bars:
        made = run_rows([row for chain in chains for row in chain if row], cache, device=options.device, progress=bars)
    if failed := [f"{line.name}: {line.error}" for line in made if line.error]:
        raise SystemExit("\n".join(failed))
    lines = {line.hash: line for line in made}
    results = []
    before: list[list[Row]] = []
    count = len(options.seeds)
    for number in range(0, len(chains), count):
        own, longer = ([row for row in column if row] for column in zip(*chains[number : number + count], strict=True))
        for group in filter(None, (own, longer)):
            parts = [fmean(lines[row.hash].metrics["parts"][part]["mAP"] for row in group) for part in PARTS]
            results.append(
                {
                    "row": group[0].name,
                    "batches": fmean(batches(cache, row) for row in group),
                    "mAP": dict(zip(PARTS, parts, strict=True)),
                }
            )
        for effort, group in zip(("equal visits", "equal time"), before, strict=False):
            gains = {part: change(cache, own, group, lines, part) for part in PARTS}
            results.append({"row": own[0].name, "over": group[0].name, "effort": effort, "gain": gains})
        before = [own, longer]
    write_json(cache / "gains.json", results)
    for result in results:
        reported = result.get("gain") or {part: [100 * value] for part, value in result["mAP"].items()}
        cells = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*value) if len(value) > 1 else f"{value[0]:.1f}"
            for value in reported.values()
        ]
        head = (
            f"{result['row']} over {result['over']}, {result['effort']}"
            if "over" in result
            else f"{result['row']}, {result['batches']:.0f} batches"
        )
        print(" | ".join([head, *cells]))


if __name__ == "__main__":
    main()
