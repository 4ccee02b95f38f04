"""Command ablate: the contribution of each post-processing step."""

from __future__ import annotations

from vreid.cli.options import (
    AllFeatures,
    FusionName,
    Json,
    Post,
    ProtocolName,
    RecordTable,
    Weights,
    load_retrieval_run,
    post_processing,
    print_json,
    print_notes,
    print_table,
)
from vreid.console import echo


def ablate_command(
    features: AllFeatures,
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Measure the contribution of each step of --post: added one by one, and left out of the full list."""
    from rich import box
    from rich.table import Table

    search = load_retrieval_run(features, records, protocol, weights, fusion)
    rows = search.ablate(post_processing(steps).of(search.query))
    if as_json:
        print_json(
            [
                {
                    "kind": row.kind,
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
    echo(search.protocol.description)
    table = Table("", search.protocol.metric, "95 %", "rank-1", "change", "95 %", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.kind != row.kind:
            table.add_section()
        low, high = (100 * value for value in row.interval)
        change = ("", "")
        if row.change is not None and row.change_interval is not None:
            least, most = (100 * value for value in row.change_interval)
            change = f"{100 * row.change:+.1f}", f"{least:+.1f} to {most:+.1f}"
        table.add_row(
            row.name, f"{100 * row.value:.1f}", f"{low:.1f}-{high:.1f}", f"{100 * row.metrics.rank1:.1f}", *change
        )
    print_table(table, width=200)
    print_notes(row.metrics for row in rows)
    echo(
        "Intervals: bootstrap over vehicles. Change: points gained over the row above, or lost when the step is left "
        "out of the full list; paired over the same vehicles."
    )
