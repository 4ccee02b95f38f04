"""Commands about features: rank, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid.cli.options import (
    CameraMean,
    Features,
    Json,
    OtherCameras,
    ProtocolName,
    RecordTable,
    Rerank,
    Tracklets,
    load_search,
    post_processing,
    print_json,
    print_rows,
    with_and_without,
)


def rank_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="Ranked lists: a .csv table, or .safetensors.")],
    top_k: Annotated[int, typer.Option(help="Length of each list.")] = 100,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
    records: RecordTable = None,
    as_json: Json = False,
) -> None:
    """Write, for each query, where else its vehicle was seen: the nearest gallery pictures with camera and time."""
    from vreid.pipeline import write_ranking

    post = post_processing(camera_mean, tracklets, rerank, exclude_same_camera)
    search = load_search(features, records, protocol)
    ranking = search.rank(post, top_k)
    write_ranking(ranking, out)
    facts = {"out": str(out), "ranking": repr(ranking), "protocol": search.protocol.description}
    print_json(facts) if as_json else print(f"{search.protocol.description}\n{out}: {ranking}")


def evaluate_command(
    features: Features,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
    records: RecordTable = None,
    as_json: Json = False,
) -> None:
    """Judge features: mAP, mAP@K, CMC, mINP, by camera novelty; with re-ranking also without it, side by side."""
    search = load_search(features, records, protocol)
    rows = with_and_without(search, post_processing(camera_mean, tracklets, rerank, exclude_same_camera))
    if as_json:
        print_json([
            {"name": name, "parts": {part: {**m.as_dict(), "cmc": m.cmc.tolist()} for part, m in parts.items()},
             "protocol": search.protocol.description}
            for name, parts in rows
        ])  # fmt: skip
    else:
        print(search.protocol.description)
        print_rows(rows)


def report_command(
    features: Features,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="Run folder of the model, for its loss curves.")] = None,
    camera_mean: CameraMean = False,
    tracklets: Tracklets = "none",
    rerank: Rerank = "",
    exclude_same_camera: OtherCameras = False,
    protocol: ProtocolName = "",
    records: RecordTable = None,
) -> None:
    """Write a self-contained page about features: numbers, curves, rank lists, worst errors."""
    from vreid.pipeline import features_report
    from vreid.report.page import write_report

    post = post_processing(camera_mean, tracklets, rerank, exclude_same_camera)
    write_report(features_report(load_search(features, records, protocol), post, run), out)
    print(f"The page: {out}")
