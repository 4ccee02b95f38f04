"""`vreid evaluate --tune`: parameters chosen on validation features that share nothing with the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.options import load_search
from vreid.console import say

if TYPE_CHECKING:
    from vreid.retrieval.evaluation.tuning import Tuning
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

Tune = Annotated[
    list[Path] | None,
    typer.Option(
        "--tune",
        metavar="FEATURES",
        help="Choose the parameters of --post "
        "on these validation features (several: on their mean), then judge; "
        "refused if they share vehicles or pictures.",
    ),
]


def tuned(search: RetrievalRun, post: PostProcessing, folders: list[Path], protocol: str, quiet: bool) -> Tuning:
    """The best parameters on the features in `folders`."""
    from vreid.console import ProgressBars

    validation = [load_search(folder, None, protocol) for folder in folders]
    with ProgressBars(quiet=quiet) as bars:
        return search.tune(post, validation, progress=bars.counter("tune"))


def print_gain(search: RetrievalRun, given: PostProcessing, best: PostProcessing) -> None:
    """One line: what tuning is worth on the test."""
    from vreid.retrieval.evaluation.tuning import gain

    before, after = (search.evaluate(post).overall for post in (given, best))
    value, low, high = (100 * number for number in gain(before, after))
    say(
        f"Tuning is worth {value:+.1f} points of {search.protocol.metric} here, 95 % {low:+.1f} to {high:+.1f} "
        "(paired, bootstrap over vehicles)."
    )
