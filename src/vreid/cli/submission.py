"""`vreid submission`: write, check and score files for the AI City Challenge (track2.txt)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.options import (
    AllFeatures,
    FusionName,
    Json,
    LabelTable,
    Post,
    RecordTable,
    Weights,
    load_search,
    open_sources,
    post_processing,
    print_json,
    print_notes,
    protocol_named,
)

if TYPE_CHECKING:
    from vreid.data.dataset import Dataset

app = typer.Typer(help="Submissions to the AI City Challenge (track2.txt).", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A track2.txt, in any of the forms in circulation.")]
Data = Annotated[Path, typer.Option(metavar="SOURCE", help="The data set, or a table of its query and gallery images.")]


@app.command()
def write(
    features: AllFeatures,
    out: Annotated[Path, typer.Option(help="The file.")] = Path("track2.txt"),
    steps: Post = "",
    records: RecordTable = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Write for each query the numbers of the 100 nearest gallery images; labels of test images are not looked at."""
    from vreid.retrieval.submission import SUBMISSION, write_submission

    post = post_processing(steps)
    search = replace(load_search(features, records, "", weights, fusion), protocol=SUBMISSION)
    ranking = search.rank(post)
    write_submission(ranking, out)
    if as_json:
        print_json({"out": str(out), "ranking": repr(ranking), "notes": ranking.notes})
    else:
        print(f"{out}: {ranking}")
        print_notes([ranking])


@app.command()
def check(file: File, data: Data, as_json: Json = False) -> None:
    """Tell what is wrong with a submission, with the line and the mend. Exit code 1 if anything is."""
    from vreid.retrieval.submission import check_submission

    dataset = _opened(data, "none")
    findings = check_submission(file, dataset.query, dataset.gallery)
    if as_json:
        print_json({"file": str(file), "findings": [asdict(finding) for finding in findings]})
    else:
        print(*findings, f"{len(findings)} findings." if findings else "Nothing is wrong.", sep="\n")
    raise typer.Exit(1 if findings else 0)


@app.command()
def score(
    file: File,
    data: Data,
    labels: LabelTable = "auto",
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help="How it is judged: ai-city, camera-less or any other that judges images."),
    ] = "ai-city",
    as_json: Json = False,
) -> None:
    """Judge a submission where the vehicles of the test images are known: mAP@100 in both readings, and CMC."""
    from vreid.retrieval.metrics import interval
    from vreid.retrieval.submission import LENGTH, score_submission

    chosen = protocol_named(protocol)
    chosen = replace(chosen, top_k=chosen.top_k or LENGTH)
    dataset = _opened(data, labels)
    total, least = (
        score_submission(file, dataset.query, dataset.gallery, replace(chosen, normaliser=normaliser))
        for normaliser in ("total", "min")
    )
    metric, first = chosen.metric, total.cmc[[0, 4, 9]].tolist()
    low, high = interval(total, metric)
    if as_json:
        print_json(
            {
                "file": str(file),
                "protocol": protocol,
                metric: total.mAP_at_k,
                f"{metric} interval": [low, high],
                f"{metric} divided by min(relevant, {chosen.top_k})": least.mAP_at_k,
                "cmc": total.cmc.tolist(),
                "num_queries": total.num_queries,
                "num_skipped": total.num_skipped,
            }
        )
        return
    print(total.protocol.description)
    print(
        f"{metric} {100 * (total.mAP_at_k or 0):.2f} (95 % {100 * low:.1f}-{100 * high:.1f}), divided by "
        f"min(relevant, {chosen.top_k}) {100 * (least.mAP_at_k or 0):.2f}, "
        f"rank-1 {100 * first[0]:.2f}, rank-5 {100 * first[1]:.2f}, rank-10 {100 * first[2]:.2f} "
        f"({total.num_queries:,} queries, {total.num_skipped:,} without a mate skipped)"
    )


def _opened(source: Path, labels: str) -> Dataset:
    """The data set; the pictures of a table need not be there."""
    from vreid.data.readers.table import SUFFIXES, read_table

    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return read_table(source, pictures=False)
    return open_sources([source], labels)
