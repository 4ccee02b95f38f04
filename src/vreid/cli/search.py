"""Commands rank and evaluate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vreid.cli.open_set import LeaveOut, OpenSetOption, ThresholdFile, evaluate_open_set
from vreid.cli.options import (
    AllFeatures,
    By,
    FusionName,
    Json,
    Post,
    ProtocolName,
    RecordTable,
    Seed,
    Weights,
    evaluate_variants,
    json_row,
    load_retrieval_run,
    post_processing,
    print_json,
    print_notes,
    print_rows,
    print_slices,
)
from vreid.console import echo
from vreid.errors import InputError


def rank_command(
    features: AllFeatures,
    out: Annotated[Path, typer.Option(help="File of the ranked lists to write: .csv or .safetensors.")],
    top_k: Annotated[int, typer.Option(help="Length of each list in images.")] = 100,
    steps: Post = "",
    per_tracklet: Annotated[
        bool,
        typer.Option("--per-tracklet", help="Write one list per query tracklet, by the mean distance of its images."),
    ] = False,
    protocol: ProtocolName = "",
    records: RecordTable = None,
    threshold: ThresholdFile = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Write the nearest gallery images of each query with key, tracklet, camera, time and box."""
    from vreid.retrieval.evaluation.calibration import Threshold, decide

    decider = Threshold.load(threshold) if threshold else None
    if decider and per_tracklet:
        raise InputError(f"--threshold {threshold}: is calibrated on distances of single images; omit --per-tracklet.")
    post = post_processing(steps)
    search = load_retrieval_run(features, records, protocol, weights, fusion)
    ranking = search.rank(post, top_k, per_tracklet=per_tracklet)
    decisions = decide(ranking, decider) if decider else None
    ranking.save(out, decisions.names if decisions else None)
    obeyed = replace(search.protocol, repeats=0).description  # a ranking draws no galleries
    facts: dict[str, Any] = {"out": str(out), "ranking": repr(ranking), "protocol": obeyed, "notes": ranking.notes}
    facts |= {"decisions": decisions.as_dict()} if decisions else {}
    if as_json:
        print_json(facts)
    else:
        echo(f"{obeyed}\n{out}: {ranking}" + (f"\n{decisions}" if decisions else ""))
        print_notes([ranking])


def evaluate_command(
    features: AllFeatures,
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    by: By = "",
    open_set: OpenSetOption = False,
    leave_out: LeaveOut = 0,
    seed: Seed = 0,
    threshold: ThresholdFile = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Evaluate features: mAP, mAP@K, CMC and mINP, for all queries and for seen and new cameras.

    With re-ranking, the result without it is shown too. --by evaluates slices. --open-set, --leave-out or --threshold
    evaluate open-set identification instead: FPIR and FNIR, and the errors of a calibrated threshold.
    """
    search = load_retrieval_run(features, records, protocol, weights, fusion)
    post = post_processing(steps).of(search.query)
    if open_set or leave_out or threshold:
        if by:
            raise InputError(f"--by {by}: slices are not available with --open-set; omit one of the two.")
        evaluate_open_set(search, post, leave_out, seed, threshold, as_json)
        return
    rows = evaluate_variants(search, post, by)
    if as_json:
        print_json([json_row(name, parts, search.protocol) for name, parts in rows])
    else:
        echo(search.protocol.description)
        print_slices(rows) if by else print_rows(rows)
