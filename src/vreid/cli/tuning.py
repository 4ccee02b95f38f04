"""`vreid evaluate --tune`: parameters chosen on validation features that share nothing with the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.options import load_search
from vreid.console import say
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.pipeline import Search
    from vreid.retrieval.evaluation.tuning import Tuning
    from vreid.retrieval.postprocessing.pipeline import PostProcessing

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


def tuned(search: Search, post: PostProcessing, folders: list[Path], protocol: str, quiet: bool) -> Tuning:
    """The best parameters on the features in `folders`."""
    from vreid.console import ProgressBars
    from vreid.retrieval.evaluation.tuning import check_apart, tune

    if search.others:
        raise InputError("--tune: takes the features of one model; tune each member by itself.")
    found = []
    for folder in folders:
        other = load_search(folder, None, protocol)
        try:
            check_apart(
                (other.query, other.gallery),
                (search.query, search.gallery),
                same_source=_source(other) == _source(search),
            )
        except InputError as error:
            raise InputError(f"--tune {folder}: {error}") from None
        found.append(((other.query, other.gallery), other.protocol))
    with ProgressBars(quiet=quiet) as bars:
        return tune(post, found, progress=bars.counter("tune"))


def _source(search: Search) -> tuple[str | int | None, ...]:
    """What data set features are of; simulated ones are of one where layout and seed are the same."""
    return tuple(search.facts.get(fact) for fact in ("data set", "layout", "seed"))


def print_gain(search: Search, given: PostProcessing, best: PostProcessing) -> None:
    """One line: what tuning is worth on the test."""
    from vreid.retrieval.evaluation.tuning import gain
    from vreid.retrieval.postprocessing.pipeline import judge

    before, after = (judge(search.query, search.gallery, post, search.protocol) for post in (given, best))
    value, low, high = (100 * number for number in gain(before, after))
    say(
        f"Tuning is worth {value:+.1f} points of {search.protocol.metric} here, 95 % {low:+.1f} to {high:+.1f} "
        "(paired, bootstrap over vehicles)."
    )
