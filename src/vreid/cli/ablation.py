"""`vreid evaluate --ablate`: what each step of a post-processing is worth."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.options import print_json, print_notes
from vreid.console import say

if TYPE_CHECKING:
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

Ablate = Annotated[
    bool,
    typer.Option("--ablate", help="Judge what each step of --post is worth: added one by one, and left out of all."),
]


def evaluate_ablation(search: RetrievalRun, post: PostProcessing, as_json: bool) -> None:
    """Print the cumulative and the leave-one-out ladder."""
    from rich import box
    from rich.table import Table

    from vreid.console import Console

    rows = search.ablate(post)
    if as_json:
        print_json(
            [
                {
                    "ladder": row.ladder,
                    "name": row.name,
                    "steps": row.post.describe(),
                    "metrics": row.metrics.as_dict(),
                    "value": row.value,
                    "interval": row.interval,
                    "change": row.change,
                    "change_interval": row.change_interval,
                }
                for row in rows
            ]
        )
        return
    say(search.protocol.description)
    table = Table("", search.protocol.metric, "95 %", "rank-1", "step is worth", "95 %", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.ladder != row.ladder:
            table.add_section()
        low, high = (100 * value for value in row.interval)
        worth = ("", "")
        if row.change is not None and row.change_interval is not None:
            least, most = (100 * value for value in row.change_interval)
            worth = f"{100 * row.change:+.1f}", f"{least:+.1f} to {most:+.1f}"
        table.add_row(
            row.name, f"{100 * row.value:.1f}", f"{low:.1f}-{high:.1f}", f"{100 * row.metrics.rank1:.1f}", *worth
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    print_notes(row.metrics for row in rows)
    say(
        "Intervals: bootstrap over vehicles. What a step is worth: points more than the row above, or points that "
        "all steps have more than all but this one, by the same vehicles on both sides."
    )
