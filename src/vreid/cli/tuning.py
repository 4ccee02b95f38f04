"""Command tune: choose post-processing parameters on validation features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid.cli.options import (
    Features,
    Json,
    Post,
    ProtocolName,
    RecordTable,
    evaluate_variants,
    json_row,
    load_retrieval_run,
    post_processing,
    print_json,
    print_rows,
)
from vreid.console import echo


def tune_command(
    features: Features,
    validation: Annotated[
        list[Path],
        typer.Option(
            "--on",
            metavar="FEATURES",
            help="Validation features; repeat to use the mean over several. They must share no vehicle or image with "
            "the test.",
        ),
    ],
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    as_json: Json = False,
) -> None:
    """Choose the parameters of --post on validation features, then evaluate FEATURES with them."""
    from vreid.progress_bars import ProgressBars
    from vreid.retrieval.evaluation.tuning import gain

    search = load_retrieval_run(features, records, protocol)
    given = post_processing(steps).of(search.query)
    others = [load_retrieval_run(folder, None, protocol) for folder in validation]
    with ProgressBars(quiet=as_json) as bars:
        tuning = search.tune(given, others, progress=bars)
    best = tuning.best.post
    rows = evaluate_variants(search, best)
    if as_json:
        print_json([json_row(name, parts, search.protocol) for name, parts in rows])
        return
    value, low, high = (100 * number for number in gain(search.evaluate(given).overall, search.evaluate(best).overall))
    echo(f"{tuning}.")
    echo(
        f"Tuning changes {search.protocol.metric} by {value:+.1f} points here, 95 % {low:+.1f} to {high:+.1f} "
        "(paired bootstrap over vehicles)."
    )
    echo(search.protocol.description)
    print_rows(rows)
