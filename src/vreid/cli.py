"""The command line: thin commands over the library. Exit code 0 done, 1 done with findings, 2 wrong input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.data.dataset import Dataset
    from vreid.pipeline import Search
    from vreid.retrieval.metrics import Metrics
    from vreid.retrieval.postprocess import PostProcessing

app = typer.Typer(
    name="vreid",
    help="Vehicle re-identification: where else was this vehicle seen, when, and how sure?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ..., or auto: a GPU where there is one.")]
Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A data set folder, a CSV table, or a folder of images.")
]
LabelTable = Annotated[str, typer.Option("--labels", help="Labels of test images: auto (a ground_truth.csv beside the "
                                         "data, if there is one), none, or a table.")]  # fmt: skip
Features = Annotated[Path, typer.Argument(metavar="FEATURES", help="A folder that `vreid extract` has written.")]
CameraMean = Annotated[bool, typer.Option("--camera-mean", help="Take each camera's mean feature off.")]
Tracklets = Annotated[str, typer.Option(help="Search whole tracklets by their mean or weighted feature; none: images.")]
Rerank = Annotated[str, typer.Option(metavar="K1,K2,LAMBDA", help="k-reciprocal re-ranking, for example 20,6,0.3 for "
                                     "images or 7,2,0.6 for tracklets.")]  # fmt: skip
OtherCameras = Annotated[bool, typer.Option("--exclude-same-camera", help="Search in other cameras only.")]
ProtocolName = Annotated[str, typer.Option("--protocol", help="How rankings are judged: market, ai-city, camera-less, "
                                           "cross-camera; default: as the data set prescribes.")]  # fmt: skip


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="Size of the simulated world.")] = "demo",
    seed: Seed = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Simulate a city, train on it, find vehicles again at cameras never seen, and write a page that shows it all."""
    from vreid.console import Bars
    from vreid.demo import run_demo
    from vreid.recipes.demo import DemoConfig

    config = DemoConfig(preset=preset, seed=seed, overrides=_settings(set_))
    with Bars(quiet=as_json) as bars:
        result = run_demo(config, out, device=_device(device), bars=bars)
    if as_json:
        _print_json(json.loads(result.summary.read_text(encoding="utf-8")))
        return
    _print_rows([(row.name, row.metrics) for row in (*result.baselines, *result.rows)])
    for finding in result.findings:
        print(f"found: {finding.message} {finding.mend}")
    print(f"Simulated data: this shows that the code works, not that it works on roads.\nThe page: {result.report}")


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; it appears whole or not at all.")],
    preset: Annotated[str, typer.Option(help="tiny, demo or city.")] = "demo",
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: as many as there are cores.")] = None,
    as_json: Json = False,
) -> None:
    """Make a simulated city: a CityFlowV2-ReID folder, a VehicleX folder, and the truth about both."""
    from vreid.console import Bars
    from vreid.simulator.write import simulate

    with Bars(quiet=as_json) as bars:
        made = simulate(out, preset=preset, seed=seed, workers=workers, progress=bars.counter("simulate"))
    facts = {"path": str(made.path), "preset": made.preset.name, "seed": made.seed, "simulator_version": made.version,
             "content_hash": made.content_hash, "reused": made.reused, "counts": made.counts}  # fmt: skip
    if as_json:
        _print_json(facts)
    else:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in made.counts.items())
        print(f"{out}: {'was there already' if made.reused else 'made'}: {counts} (content {made.content_hash})")


@app.command()
def sheet(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .jpg or .png picture to write.")],
    kind: Annotated[str, typer.Option(help="domains, lookalikes or closeup.")] = "domains",
    seed: Seed = 0,
) -> None:
    """Draw a contact sheet of what the simulator shows."""
    from vreid.simulator.sheet import contact_sheet

    contact_sheet(out, seed=seed, kind=kind)
    print(out)


@app.command()
def check(source: Source, labels: LabelTable = "auto", as_json: Json = False) -> None:
    """Tell what is wrong with a data set, with the file and the mend. Exit code 1 if anything is."""
    from vreid.console import Bars
    from vreid.data.doctor import examine

    dataset = _open([source], labels)
    with Bars(quiet=as_json) as bars:
        findings = examine(dataset, progress=bars.counter("read images"))
    if as_json:
        _print_json({"dataset": repr(dataset), "notes": dataset.notes, "findings": [f.as_dict() for f in findings]})
    else:
        print(dataset, *(f"note: {note}" for note in dataset.notes), sep="\n")
        for finding in findings:
            print(f"{finding.split}: {finding.check}: {finding.message} {finding.mend}")
        print(f"{len(findings)} findings." if findings else "Nothing is wrong.")
    raise typer.Exit(1 if findings else 0)


@app.command("train")
def train_command(
    recipe_name: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe; an unknown one lists them.")],
    data: Annotated[list[Path], typer.Option(help="Data set to train on; give it again to train on several together.")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, to the same weights.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model by a recipe into a run folder; killed at any moment, it goes on with --resume."""
    from vreid.console import Bars
    from vreid.recipes import recipe
    from vreid.training.supervised import train

    config = recipe(recipe_name, _settings(set_))
    dataset = _open(data, "none")
    with Bars(quiet=as_json) as bars:
        model = train(config, dataset.train, out=out, device=_device(device),
                      resume=resume, progress=bars)  # fmt: skip
    _print_json({"model": str(model)}) if as_json else print(f"The model: {model}")


@app.command("extract")
def extract_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the features; an interrupted extraction in it goes on.")],
    views: Annotated[str, typer.Option(help="Views of a picture that are added up.")] = "original,flip",
    labels: LabelTable = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Turn the query and gallery pictures of a data set into features."""
    from vreid.console import Bars
    from vreid.pipeline import extract_dataset

    dataset = _open([source], labels)
    with Bars(quiet=as_json) as bars:
        chosen = tuple(view for view in views.split(",") if view)
        search = extract_dataset(model, dataset, out, views=chosen, device=_device(device), progress=bars)
    facts = {"query": repr(search.query), "gallery": repr(search.gallery), "out": str(out)}
    _print_json(facts) if as_json else print(*facts.values(), sep="\n")


@app.command("rank")
def rank_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="Ranked lists: a .csv table, or .safetensors.")],
    top_k: Annotated[int, typer.Option(help="Length of each list.")] = 100,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
    as_json: Json = False,
) -> None:
    """Write, for each query, where else its vehicle was seen: the nearest gallery pictures with camera and time."""
    from vreid.pipeline import write_ranking

    post = _post(camera_mean, tracklets, rerank, exclude_same_camera)
    ranking = _load(features, protocol).rank(post, top_k)
    write_ranking(ranking, out)
    facts = {"out": str(out), "ranking": repr(ranking)}
    _print_json(facts) if as_json else print(f"{out}: {ranking}")


@app.command("evaluate")
def evaluate_command(
    features: Features,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
    as_json: Json = False,
) -> None:
    """Judge features: mAP, mAP@K, CMC, mINP, by camera novelty; with re-ranking also without it, side by side."""
    search = _load(features, protocol)
    rows = _with_and_without(search, _post(camera_mean, tracklets, rerank, exclude_same_camera))
    if as_json:
        _print_json([
            {"name": name, "parts": {part: {**m.as_dict(), "cmc": m.cmc.tolist()} for part, m in parts.items()}}
            for name, parts in rows
        ])  # fmt: skip
    else:
        print(search.protocol.description)
        _print_rows(rows)


@app.command("report")
def report_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="Run folder of the model, for its loss curves.")] = None,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
) -> None:
    """Write a self-contained page about features: numbers, curves, rank lists, worst errors."""
    from vreid.pipeline import features_report
    from vreid.report.page import write_report

    post = _post(camera_mean, tracklets, rerank, exclude_same_camera)
    write_report(features_report(_load(features, protocol), post, run), out)
    print(f"The page: {out}")


@app.command()
def info(as_json: Json = False) -> None:
    """Tell what is installed and what this machine can do."""
    from vreid.pipeline import environment_facts

    facts = environment_facts()
    _print_json(facts) if as_json else print(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")


def main() -> None:
    """Run the command line; wrong input is one sentence on standard error and exit code 2, never a traceback."""
    try:
        app()
    except InputError as error:
        print(f"vreid: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "timm"):
            raise
        print(f"vreid: this command needs {error.name}; install vehicle-reid[train].", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("vreid: stopped; the same command goes on where it was (train: with --resume).", file=sys.stderr)
        raise
    except OSError as error:
        print(f"vreid: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        raise SystemExit(2) from None


def _settings(pairs: list[str] | None) -> dict[str, str]:
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair}: write KEY=VALUE, for example --set epochs=3.")
        settings[key.strip()] = value.strip()
    return settings


def _device(name: str) -> str:
    from vreid.pipeline import resolve_device

    return resolve_device(name)


def _open(sources: list[Path], labels: str) -> Dataset:
    from vreid.data.dataset import join, open_dataset

    table = {"auto": "auto", "none": None}.get(labels, Path(labels))
    return join(*(open_dataset(source, labels=table) for source in sources))  # type: ignore[arg-type]


def _load(features: Path, protocol: str) -> Search:
    from dataclasses import replace

    from vreid.pipeline import Search
    from vreid.retrieval.protocols import PROTOCOLS

    search = Search.load(features)
    if protocol and protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: is unknown; use one of {', '.join(PROTOCOLS)}.")
    return replace(search, protocol=PROTOCOLS[protocol]) if protocol else search


def _post(camera_mean: bool, tracklets: str, rerank: str, exclude_same_camera: bool) -> PostProcessing:
    from vreid.retrieval.cameras import CameraMean
    from vreid.retrieval.postprocess import PostProcessing
    from vreid.retrieval.rerank import ReRanking

    try:
        k1, k2, lambda_ = rerank.split(",") if rerank else ("0", "0", "0")
        reranking = ReRanking(int(k1), int(k2), float(lambda_)) if rerank else None
    except InputError:
        raise
    except ValueError:
        raise InputError(f"--rerank {rerank}: write K1,K2,LAMBDA, for example 20,6,0.3.") from None
    chosen: Any = None if tracklets == "none" else tracklets
    return PostProcessing(camera_mean=CameraMean() if camera_mean else None, tracklets=chosen, reranking=reranking,
                          exclude_same_camera=exclude_same_camera)  # fmt: skip


def _with_and_without(search: Search, post: PostProcessing) -> list[tuple[str, dict[str, Metrics]]]:
    from dataclasses import replace

    posts = [replace(post, reranking=None), post] if post.reranking else [post]
    return [(row.describe(), search.judge(row)) for row in posts]


def _print_rows(rows: Any) -> None:
    from rich.console import Console

    from vreid.pipeline import metrics_table

    # Where output goes to a file or a pipe there is no width to fit into.
    width = None if sys.stdout.isatty() else 120
    Console(highlight=False, width=width).print(metrics_table(rows))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
