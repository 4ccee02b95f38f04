"""Command report: the HTML report of features, with `--diagnose` the full diagnosis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.extras import require_extras
from vreid.cli.options import (
    Device,
    Features,
    Json,
    LabelTable,
    Post,
    ProtocolName,
    RecordTable,
    Seed,
    load_retrieval_run,
    open_source,
    post_processing,
    print_json,
    resolve,
)
from vreid.console import echo
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.diagnostics.diagnosis import Diagnosis
    from vreid.retrieval.features import Sides
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

_DIAGNOSE = "With --diagnose: "


def report_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="Run folder of the model; adds its loss curves.")] = None,
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose",
            help="Diagnose the features: camera gap, shortcuts, slices, gallery size, open set, ...",
        ),
    ] = False,
    model: Annotated[str | None, typer.Option(help=f"{_DIAGNOSE}the model, for saliency maps.")] = None,
    data: Annotated[
        Path | None, typer.Option(help=f"{_DIAGNOSE}the data set with its training images, for the leak check.")
    ] = None,
    labels: LabelTable = "auto",
    validation: Annotated[
        Path | None, typer.Option(help=f"{_DIAGNOSE}validation features to calibrate a threshold on.")
    ] = None,
    without_background: Annotated[
        Path | None, typer.Option(help=f"{_DIAGNOSE}features of the same world rendered without background.")
    ] = None,
    without_plates: Annotated[
        Path | None, typer.Option(help=f"{_DIAGNOSE}features of the same world rendered without number plates.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML report: metrics, curves, rank lists, worst errors; with --diagnose their causes."""
    require_extras("report", *(("adapt",) if diagnose else ()), *(("train",) if model else ()))
    post, search = post_processing(steps), load_retrieval_run(features, records, protocol)
    renderings = {"without background": without_background, "without plates": without_plates}
    diagnosis = None
    if diagnose:
        diagnosis = _diagnose(search, post, model, validation, renderings, data, labels, seed, device, as_json)
    elif any((model, data, validation, *renderings.values())):
        raise InputError(
            "--model, --data, --validation, --without-background and --without-plates need --diagnose; add it."
        )
    search.report(out, post, run=run, diagnosis=diagnosis)
    if as_json:
        print_json({"out": str(out), "diagnosis": diagnosis and diagnosis.as_dict()})
        return
    for part in diagnosis.parts if diagnosis else ():
        echo(f"{'WARNING: ' if part.warning else ''}{part.name}: {part.sentence}")
    echo(f"Report: {out}")


def _diagnose(
    search: RetrievalRun,
    post: PostProcessing,
    model: str | None,
    validation: Path | None,
    renderings: dict[str, Path | None],
    data: Path | None,
    labels: str,
    seed: int,
    device: str,
    quiet: bool,
) -> Diagnosis:
    from vreid.diagnostics.diagnose import diagnose
    from vreid.progress_bars import ProgressBars

    def sides(folder: Path) -> Sides:
        other = load_retrieval_run(folder, None, "")
        return other.query, other.gallery

    trained = None
    if model:
        from vreid.training.extract import load_trained

        trained = load_trained(model)
    with ProgressBars(quiet=quiet) as bars:
        return diagnose(
            (search.query, search.gallery),
            search.protocol,
            post,
            dataset=open_source(data, labels) if data else None,
            model=trained,
            validation=sides(validation) if validation else None,
            renderings={name: sides(folder) for name, folder in renderings.items() if folder},
            device=resolve(device) if trained else "cpu",
            seed=seed,
            progress=bars,
        )
