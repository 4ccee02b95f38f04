"""Command tune: parameters chosen on validation features that share nothing with the test."""

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
    json_row,
    load_search,
    post_processing,
    print_json,
    print_rows,
    with_and_without,
)
from vreid.console import say


def tune_command(
    features: Features,
    validation: Annotated[
        list[Path],
        typer.Option(
            "--on",
            metavar="FEATURES",
            help="Validation features to choose on; several: on their mean. An error if they share vehicles or images "
            "with the test.",
        ),
    ],
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    as_json: Json = False,
) -> None:
    """Choose the parameters of --post on validation features, then evaluate FEATURES with them."""
    from vreid.console import ProgressBars
    from vreid.retrieval.evaluation.tuning import gain

    search = load_search(features, records, protocol)
    given = post_processing(steps).of(search.query)
    others = [load_search(folder, None, protocol) for folder in validation]
    with ProgressBars(quiet=as_json) as bars:
        tuning = search.tune(given, others, progress=bars)
    best = tuning.best.post
    rows = with_and_without(search, best)
    if as_json:
        print_json([json_row(name, parts, search.protocol) for name, parts in rows])
        return
    value, low, high = (100 * number for number in gain(search.evaluate(given).overall, search.evaluate(best).overall))
    say(f"{tuning}.")
    say(
        f"Tuning is worth {value:+.1f} points of {search.protocol.metric} here, 95 % {low:+.1f} to {high:+.1f} "
        "(paired, bootstrap over vehicles)."
    )
    say(search.protocol.description)
    print_rows(rows)
