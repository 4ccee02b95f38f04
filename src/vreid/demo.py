"""Demonstration on simulated data: simulate, search with the default model, train, adapt, evaluate, HTML report.

Finished stages are stored, so an interrupted demo continues and ends with the same numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vreid.adaptation.adapt import FACTS as ADAPTED
from vreid.adaptation.adapt import target_images
from vreid.adaptation.adapt_config import PRESETS
from vreid.adaptation.repeated import adapt
from vreid.data.dataset import Dataset, join
from vreid.data.doctor import examine
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.diagnostics.baselines import hsv_histogram, random_vectors
from vreid.diagnostics.slices import ALL, NEW, SEEN
from vreid.files import parse_errors, read_json, write_json
from vreid.locks import locking
from vreid.models.weights import load_weights
from vreid.progress import Stopwatch
from vreid.progress_bars import ProgressBars
from vreid.recipes import recipe
from vreid.recipes.demo import DemoConfig
from vreid.report.contents import SIMULATED_NOTICE, MapRoad, Report, ResultRow, Site
from vreid.report.page import write_report
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval_run import RetrievalRun
from vreid.simulator.city.presets import SIMULATOR_VERSION, preset_named
from vreid.simulator.formats.layouts import CITYFLOW
from vreid.simulator.formats.write import simulate
from vreid.training.metrics_log import read_metrics
from vreid.training.model_file import DEFAULT
from vreid.training.supervised import train
from vreid.workflow import extract


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo: paths of report and summary, evaluated rows, baselines, and findings of the data check."""

    report: Path
    summary: Path
    rows: Sequence[ResultRow]
    baselines: Sequence[ResultRow]
    findings: Sequence[Finding]
    seconds: dict[str, float]


@locking("out")
def run_demo(config: DemoConfig, out: Path | str, *, device: str = "cpu", bars: ProgressBars) -> DemoResult:
    """Run every stage of `config` into the folder `out`; write `report.html` and `summary.json` there.

    Raises:
        InputError: `out` holds the demo of another configuration, or cannot be written.
    """
    training, preset = recipe(config.recipe, config.overrides), preset_named(config.preset)  # first: they may be wrong
    out = Path(out)
    world = out / "data"
    watch = Stopwatch(out / "seconds.json")
    if config.preset == "demo":
        bars.note("Simulate, train, adapt, search, report: about five minutes on two cores. Resumable if interrupted.")
    with watch.stage("simulate"):
        simulation = simulate(world, preset=preset, seed=config.seed, progress=bars)
    real = open_dataset(world / CITYFLOW.real, labels="auto")
    dataset = join(real, open_dataset((world / CITYFLOW.synthetic).parent))
    with watch.stage("default model"):
        ready = extract(DEFAULT, real, out / "default-features", device=device, progress=bars)
        shown = ready.evaluate()
        bars.note(f"The default model, which has never seen this city: {_found(shown)}.")
    with watch.stage("check"):
        findings = examine(dataset, progress=bars)
    bars.note(f"Initial weights: {training.model.initialisation}.")
    with watch.stage("train"):
        model = train(training, dataset.train, out=out / "run", device=device, resume=True, progress=bars)
    with watch.stage("extract"):
        search = extract(out / "run", real, out / "features", device=device, progress=bars)
    with watch.stage("adapt"):
        once = replace(PRESETS["auto"], repeats=1)
        adapt(out / "run", target_images(real), once, out=out / "adapted", device=device, resume=True, progress=bars)
        adapted = extract(out / "adapted", real, out / "adapted-features", device=device, progress=bars)
    with watch.stage("rank"):
        plain, *steps = config.rows
        with parse_errors(out / "adapted" / ADAPTED):
            outcome = _adaptation(read_json(out / "adapted" / ADAPTED))
        rows = search.result_rows([plain]) + adapted.result_rows([("+ adaptation", outcome, PostProcessing()), *steps])
        baselines = _baselines(search, ready, config, bars)
        ranking = adapted.rank(steps[-1][2], top_k=len(adapted.gallery))
    seconds, about = watch.seconds, load_weights(model)[1]
    sites, roads = city_map(world)
    report = Report(
        title=f"Vehicle re-identification: {real.name}, simulated",
        notice=SIMULATED_NOTICE,
        summary=_introduction(dataset, rows),
        facts=_facts(dataset, search, simulation.content_hash, about),
        rows=rows,
        baselines=baselines,
        ranking=ranking,
        ranking_name=rows[-1].name,
        training=read_metrics(out / "run" / "metrics.jsonl"),
        sites=sites,
        roads=roads,
        stages=seconds,
        commands=COMMANDS,
    )
    with watch.stage("report"):
        write_report(report, out / "report.html")
    summary = out / "summary.json"
    write_json(summary, _summary(rows, baselines, seconds, about["initialisation"]))
    return DemoResult(out / "report.html", summary, rows, baselines, findings, seconds)


def _found(metrics: Mapping[str, Metrics]) -> str:
    """Format rank-1 for all queries and for those of the new cameras."""
    new = f" ({100 * metrics[NEW].rank1:.0f} % at the new cameras)" if NEW in metrics else ""
    return f"the first hit is right for {100 * metrics[ALL].rank1:.0f} % of the queries{new}"


def _baselines(search: RetrievalRun, ready: RetrievalRun, config: DemoConfig, bars: ProgressBars) -> list[ResultRow]:
    """Evaluate chance, a colour histogram without and with all steps of the model, and the default model."""
    chance = search.with_features(random_vectors)
    histogram = search.with_features(lambda records: hsv_histogram(records, bars))
    plain, full = PostProcessing(), config.rows[-1][2]
    return [
        ResultRow("chance", "Random vectors in place of features.", chance.evaluate(plain)),
        ResultRow("HSV histogram", "A 3-D colour histogram of the image's centre.", histogram.evaluate(plain)),
        ResultRow("HSV histogram, all steps", "The same with all post-processing steps.", histogram.evaluate(full)),
        ResultRow("default model", "The model in the package, without training on this city.", ready.evaluate(plain)),
    ]


def _adaptation(facts: dict[str, Any]) -> str:
    """Describe the outcome of the adaptation in a sentence."""
    decision = facts.get("verdict", {})
    clusters = f"Adapted to the test images without labels, from {facts['clusters']:,} clusters"
    if decision.get("decision") == "ACCEPT":
        return f"{clusters}."
    return f"{clusters}; rejected, so the model is unchanged ({decision.get('reason', 'too few clusters')})."


def _summary(
    rows: Sequence[ResultRow], baselines: Sequence[ResultRow], seconds: dict[str, float], initialisation: str
) -> dict[str, Any]:
    def entry(row: ResultRow) -> dict[str, Any]:
        overall = row.metrics[ALL].as_dict()
        return {**overall, "parts": {part: metrics.as_dict() for part, metrics in row.metrics.items()}}

    return {
        "notice": SIMULATED_NOTICE,
        "simulator_version": SIMULATOR_VERSION,
        "initialisation": initialisation,
        "ablation": [{"name": row.name, **entry(row)} for row in rows],
        "baselines": {
            key: entry(row)
            for key, row in zip(
                ("chance", "hsv_histogram", "hsv_histogram_all_steps", "default_model"), baselines, strict=True
            )
        },
        "seconds": seconds,
    }


def _introduction(dataset: Dataset, rows: Sequence[ResultRow]) -> str:
    train, metrics = dataset.train, rows[0].metrics
    text = (
        f"A network was trained on {len(train):,} images of {train.identity.distinct:,} vehicles and evaluated on "
        f"{metrics[ALL].num_queries:,} query images of other vehicles."
    )
    if SEEN in metrics and NEW in metrics:
        text += f" {metrics[NEW].num_queries:,} of the queries come from cameras without training images."
    return text


def _facts(
    dataset: Dataset, search: RetrievalRun, content_hash: str, about: Mapping[str, Any]
) -> list[tuple[str, str]]:
    return [
        ("data set", f"{dataset.name}, simulated (content {content_hash})"),
        *((key.replace("_", " "), str(value)) for key, value in dataset.source.items()),
        ("protocol", search.protocol.description),
        ("model", f"{about['model']['backbone']}, recipe {about['recipe']}, seed {about['seed']}"),
        ("initialisation", about["initialisation"]),
        ("model hash", search.query.model[:16]),
        ("views (summed)", " + ".join(search.query.views)),
    ]


def city_map(world: Path) -> tuple[list[Site], list[MapRoad]]:
    """Read the simulated camera network for the report's map."""
    parts = {"seen": SEEN, "new": NEW}
    with open(world / "cameras.csv", encoding="utf-8", newline="") as file:
        cameras = list(csv.DictReader(file))
    with open(world / "roads.csv", encoding="utf-8", newline="") as file:
        roads = list(csv.DictReader(file))
    sites = {c["camera"]: Site(c["camera"], float(c["x"]), float(c["y"]), parts.get(c["part"], "")) for c in cameras}
    for road in roads:
        for end in ("start", "end"):
            name = road[end]
            sites.setdefault(name, Site(name, float(road[f"{end}_x"]), float(road[f"{end}_y"]), has_camera=False))
    return list(sites.values()), [MapRoad(r["start"], r["end"], float(r["mean_time"])) for r in roads]


COMMANDS = (
    ("Check a data set first", ["vreid check DATA"]),
    (
        "The same on real folders (CityFlowV2-ReID and VehicleX as distributed)",
        [
            "vreid train resnet50_ibn_a --data AIC21_Track2_ReID --data AIC21_Track2_ReID_Simulation --out RUN",
            "vreid extract RUN AIC21_Track2_ReID --out FEATURES",
            "vreid rank FEATURES --out ranking.csv --post camera-mean,rerank=20:6:0.3,other-cameras",
        ],
    ),
    (
        "On your own images (a CSV with the columns path, identity, camera, split)",
        [
            "vreid check vehicles.csv",
            "vreid train small --data vehicles.csv --out RUN",
            "vreid extract RUN vehicles.csv --out FEATURES",
            "vreid evaluate FEATURES",
            "vreid report FEATURES --out report.html",
        ],
    ),
)
