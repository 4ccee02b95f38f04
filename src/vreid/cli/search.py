"""Commands about features: rank, evaluate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vreid.cli.ablation import Ablate, evaluate_ablation
from vreid.cli.open_set import (
    CalibrateFile,
    Fpir,
    LeaveOut,
    MissRate,
    OpenSetOption,
    ThresholdFile,
    Wanted,
    evaluate_open_set,
)
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
    json_row,
    load_search,
    post_processing,
    print_json,
    print_notes,
    print_rows,
    print_slices,
    with_and_without,
)
from vreid.cli.tuning import Tune, print_gain, tuned
from vreid.console import say
from vreid.errors import InputError


def rank_command(
    features: AllFeatures,
    out: Annotated[Path, typer.Option(help="Ranked lists: a .csv table, or .safetensors.")],
    top_k: Annotated[int, typer.Option(help="Length of each list.")] = 100,
    steps: Post = "",
    per_tracklet: Annotated[
        bool,
        typer.Option(
            "--per-tracklet", help="Write one list for each query tracklet, by the mean distance of its images."
        ),
    ] = False,
    protocol: ProtocolName = "",
    records: RecordTable = None,
    threshold: ThresholdFile = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Write the nearest gallery images of each query, with image key, tracklet, camera, time and box of both."""
    from vreid.retrieval.evaluation.calibration import Threshold, decide

    decider = Threshold.load(threshold) if threshold else None
    if decider and per_tracklet:
        raise InputError(
            f"--threshold {threshold}: is calibrated on the distances of single images; leave --per-tracklet out."
        )
    post = post_processing(steps)
    search = load_search(features, records, protocol, weights, fusion)
    ranking = search.rank(post, top_k, per_tracklet=per_tracklet)
    decisions = decide(ranking, decider) if decider else None
    ranking.save(out, decisions.names if decisions else None)
    obeyed = replace(search.protocol, repeats=0).description  # a ranking draws no galleries
    facts: dict[str, Any] = {"out": str(out), "ranking": repr(ranking), "protocol": obeyed, "notes": ranking.notes}
    facts |= {"decisions": decisions.as_dict()} if decisions else {}
    if as_json:
        print_json(facts)
    else:
        say(f"{obeyed}\n{out}: {ranking}" + (f"\n{decisions}" if decisions else ""))
        print_notes([ranking])


def evaluate_command(
    features: AllFeatures,
    steps: Post = "",
    protocol: ProtocolName = "",
    records: RecordTable = None,
    by: By = "",
    ablate: Ablate = False,
    tune: Tune = None,
    open_set: OpenSetOption = False,
    leave_out: LeaveOut = 0,
    seed: Seed = 0,
    calibrate: CalibrateFile = None,
    fpir: Fpir = 0.01,
    miss_rate: MissRate = 0.05,
    threshold: ThresholdFile = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Judge features: mAP, mAP@K, CMC, mINP, by camera novelty; with re-ranking also without it, side by side.

    With --by the same numbers of each slice, with --ablate what each step of --post is worth, with --tune after its
    parameters were chosen on validation features. With --open-set, how well known vehicles are told from unknown ones.
    """
    search = load_search(features, records, protocol, weights, fusion)
    given = post = post_processing(steps).of(search.query)
    if tune:
        tuning = tuned(search, given, tune, protocol, as_json)
        post = tuning.best.post
        if not as_json:
            say(f"{tuning}.")
            print_gain(search, given, post)
    if ablate:
        if by or open_set or leave_out or calibrate or threshold:
            raise InputError("--ablate: judges whole rankings; give --by and open-set options without it.")
        evaluate_ablation(search, post, as_json)
        return
    if open_set or leave_out or calibrate or threshold:
        if by:
            raise InputError(f"--by {by}: slices are of the numbers without --open-set; give one of the two.")
        wanted = Wanted(leave_out, seed, calibrate, fpir, miss_rate, threshold)
        evaluate_open_set(search, post, wanted, as_json)
        return
    rows = with_and_without(search, post, by)
    if as_json:
        print_json([json_row(name, parts, search.protocol) for name, parts in rows])
    else:
        say(search.protocol.description)
        print_slices(rows) if by else print_rows(rows)
