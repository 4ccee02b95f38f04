"""`vreid report`: the page about features, with `--diagnose` looked at from every side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.extras import needs
from vreid.cli.options import (
    Device,
    Features,
    Json,
    LabelTable,
    Post,
    ProtocolName,
    RecordTable,
    Seed,
    load_search,
    open_source,
    post_processing,
    print_json,
    resolve,
)
from vreid.console import say
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.diagnostics.diagnosis import Diagnosis
    from vreid.retrieval.features import Sides
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

_OF = "With --diagnose: "


def report_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="Run folder of the model, for its loss curves.")] = None,
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose",
            help="Look at the features from every side: camera gap, shortcuts, slices, gallery size, open set, ...",
        ),
    ] = False,
    model: Annotated[Path | None, typer.Option(help=f"{_OF}the model, to see where it looks.")] = None,
    data: Annotated[
        Path | None, typer.Option(help=f"{_OF}the data set with its training images, to look for leaks.")
    ] = None,
    labels: LabelTable = "auto",
    validation: Annotated[Path | None, typer.Option(help=f"{_OF}features to calibrate a threshold on.")] = None,
    without_background: Annotated[
        Path | None, typer.Option(help=f"{_OF}features of the same world rendered without background.")
    ] = None,
    without_plates: Annotated[Path | None, typer.Option(help=f"{_OF}the same without number plates.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a self-contained page about features: numbers, curves, rank lists, worst errors; --diagnose says why."""
    needs("report", *(("adapt",) if diagnose else ()), *(("train",) if model else ()))
    post, search = post_processing(steps), load_search(features, records, protocol)
    renderings = {"without background": without_background, "without plates": without_plates}
    found = None
    if diagnose:
        found = _diagnosed(search, post, model, validation, renderings, data, labels, seed, device, as_json)
    elif any((model, data, validation, *renderings.values())):
        raise InputError(
            "--model, --data, --validation, --without-background and --without-plates belong to --diagnose; add it."
        )
    search.report(out, post, run=run, diagnosis=found)
    if as_json:
        print_json({"out": str(out), "diagnosis": found and found.as_dict()})
        return
    for part in found.parts if found else ():
        say(f"{'LOOK AT THIS: ' if part.warning else ''}{part.name}: {part.sentence}")
    say(f"The page: {out}")


def _diagnosed(
    search: RetrievalRun,
    post: PostProcessing,
    model: Path | None,
    validation: Path | None,
    renderings: dict[str, Path | None],
    data: Path | None,
    labels: str,
    seed: int,
    device: str,
    quiet: bool,
) -> Diagnosis:
    from vreid.console import ProgressBars
    from vreid.diagnostics.diagnose import diagnose

    def sides(folder: Path) -> Sides:
        other = load_search(folder, None, "")
        return other.query, other.gallery

    trained = None
    if model:
        from vreid.training.extract import load_model

        trained = load_model(model)
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
