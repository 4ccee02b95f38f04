"""Metrics as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from vreid.retrieval.evaluation.metrics import Metrics, interval


def metrics_table(rows: Sequence[tuple[str, Mapping[str, Metrics]]]) -> Table:
    """Build a table for the terminal: one line per row and part of the queries, mAP with its 95 % interval.

    Intervals are bootstrapped over vehicles; all rows have the same protocol. If it draws galleries at random, means
    are followed by the standard deviation over the draws.
    """
    first = next(m for _, parts in rows for m in parts.values())
    full, cut = first.protocol.full_metric, first.protocol.metric if first.protocol.top_k else ""
    caption = f"\N{PLUS-MINUS SIGN}: standard deviation over {len(first.draws)} draws." if first.draws else None
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    at_k = [cut] if cut else []
    columns = ["", "queries of", full, "95 %", *at_k, "rank-1", "rank-5", "mINP", "queries", "skipped"]
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for name, parts in rows:
        for part, m in parts.items():
            low, high = interval(m, "mAP")
            numbers, spread = m.as_dict(), m.spread
            shown = [
                f"{100 * numbers[key]:.1f}" + (f" \N{PLUS-MINUS SIGN} {100 * spread[key]:.1f}" if spread else "")
                for key in (full, *at_k, "rank1", "rank5", "mINP")
            ]
            table.add_row(
                name,
                part,
                shown[0],
                f"{100 * low:.1f}-{100 * high:.1f}",
                *shown[1:],
                f"{m.num_queries:,}",
                f"{m.num_skipped:,}",
            )
            name = ""
    return table
