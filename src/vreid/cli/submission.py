"""Command group `submission`: write, check and score AI City Challenge submissions (track2.txt)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid import names
from vreid.cli.options import (
    AllFeatures,
    FusionName,
    Json,
    LabelTable,
    Post,
    RecordTable,
    Weights,
    json_row,
    load_retrieval_run,
    open_sources,
    post_processing,
    print_json,
    print_notes,
)
from vreid.cli.show import WithSteps
from vreid.console import echo
from vreid.errors import named
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.data.dataset import Dataset
    from vreid.data.protocols import Protocol
    from vreid.retrieval.evaluation.metrics import Metrics

app = typer.Typer(help="Write, check and score AI City Challenge submissions (track2.txt).", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A track2.txt in any of the common formats.")]
Data = Annotated[Path, typer.Option(metavar="SOURCE", help="The data set, or a table of its query and gallery images.")]


@app.command(cls=WithSteps)
def write(
    features: AllFeatures,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("track2.txt"),
    steps: Post = "",
    records: RecordTable = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Write the numbers of the 100 nearest gallery images of each query. Labels of test images are not used."""
    from vreid.retrieval.io.submission import SUBMISSION, write_submission

    post = post_processing(steps)
    search = replace(load_retrieval_run(features, records, "", weights, fusion), protocol=SUBMISSION)
    ranking = search.rank(post)
    write_submission(ranking, out)
    if as_json:
        print_json({"out": str(out), "ranking": repr(ranking), "notes": ranking.notes})
    else:
        echo(f"{out}: {ranking}")
        print_notes([ranking])


@app.command()
def check(file: File, data: Data, as_json: Json = False) -> None:
    """List problems of a submission with line and suggested fix. Exits 1 if any are found."""
    from vreid.retrieval.io.submission import check_submission

    dataset = _opened(data, "none")
    findings = check_submission(file, dataset.query, dataset.gallery)
    if as_json:
        print_json({"file": str(file), "findings": [asdict(finding) for finding in findings]})
    else:
        echo(*findings, f"{plural(len(findings), 'problem')} found." if findings else "No problems found.", sep="\n")
    raise typer.Exit(1 if findings else 0)


@app.command()
def score(
    file: File,
    data: Data,
    labels: LabelTable = "auto",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME", help=f"Evaluation protocol; it must rank images. One of {', '.join(names.PROTOCOLS)}."
        ),
    ] = "ai-city",
    as_json: Json = False,
) -> None:
    """Score a submission on test images with known vehicles: mAP@100 and CMC under the protocol.

    Also prints mAP@100 with the other normaliser: min(relevant, 100) or all relevant images.
    """
    from vreid.data.protocols import PROTOCOLS
    from vreid.diagnostics.slices import camera_parts
    from vreid.retrieval.evaluation.metrics import interval
    from vreid.retrieval.io.submission import LENGTH, score_submission

    chosen = named("protocol", PROTOCOLS, protocol)
    dataset = _opened(data, labels)
    chosen = replace(chosen, top_k=chosen.top_k or LENGTH).with_junk_of(dataset.protocol)
    swapped = replace(chosen, normaliser="total" if chosen.normaliser == "min" else "min")
    divisors = {"total": "all relevant", "min": f"min(relevant, {chosen.top_k})"}
    masks = camera_parts(dataset.train, dataset.query)

    def scored(by: Protocol) -> dict[str, Metrics]:
        metrics = score_submission(file, dataset.query, dataset.gallery, by)
        return {part: metrics.of(mask) for part, mask in masks.items() if (metrics.relevant[mask] > 0).any()}

    parts, other = scored(chosen), scored(swapped)
    divided = f"divided by {divisors[swapped.normaliser]}"
    if as_json:
        print_json([json_row("as submitted", parts, chosen), json_row(f"as submitted, {divided}", other, swapped)])
        return
    echo(chosen.description)
    for part, metrics in parts.items():
        low, high = interval(metrics, chosen.metric)
        first = metrics.cmc[[0, 4, 9]].tolist()
        echo(
            f"{f'{part}: ' if len(parts) > 1 else ''}{chosen.metric} {100 * (metrics.mAP_at_k or 0):.2f} "
            f"(95 % {100 * low:.1f}-{100 * high:.1f}), {divided} {100 * (other[part].mAP_at_k or 0):.2f}, "
            f"rank-1 {100 * first[0]:.2f}, rank-5 {100 * first[1]:.2f}, rank-10 {100 * first[2]:.2f} "
            f"({metrics.num_queries:,} queries; {metrics.num_skipped:,} skipped, without a match)"
        )


def _opened(source: Path, labels: str) -> Dataset:
    """Open the data set; the images of a table need not exist."""
    from vreid.data.readers.image_table import SUFFIXES, read_table

    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return read_table(source, require_images=False)
    return open_sources([source], labels)
