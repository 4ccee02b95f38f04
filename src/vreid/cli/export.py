"""Command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vreid.cli.extras import require_extras
from vreid.cli.options import Json, Model, open_source, print_json
from vreid.console import echo
from vreid.errors import InputError

FORMATS = ("safetensors", "onnx")
"""Values of --to, which are also the endings of --out."""


def export_command(
    model: Model,
    out: Annotated[Path, typer.Option(help="The .safetensors or .onnx file to write.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="safetensors: half precision, a MODEL like any other; onnx: runs without torch. Default: as OUT ends.",
        ),
    ] = "",
    int8: Annotated[bool, typer.Option("--int8", help="ONNX in eight bits, calibrated on simulated images.")] = False,
    graph_only: Annotated[
        bool,
        typer.Option("--graph-only", help="ONNX without weights, which it takes from MODEL, OUT with .safetensors."),
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Compare ONNX with the model on these images too, before it is written."),
    ] = None,
    validate: Annotated[
        Path | None,
        typer.Option(metavar="SOURCE", help="Compare mAP on this labelled data set too, before it is written."),
    ] = None,
    threshold: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Store this threshold of `vreid calibrate`, for `Embedder.compare`."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE", help="Calibrate the confidence of attributes on the test images of this data set."
        ),
    ] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE", help="Store this model card (Markdown).")] = None,
    licence: Annotated[str, typer.Option(help="Store the licence of the weights, for example Apache-2.0.")] = "",
    as_json: Json = False,
) -> None:
    """Write a trained model for another machine: half the bytes, or an ONNX file that runs without torch.

    An ONNX file takes uint8 RGB images of any size; it is compared with the model first and not written if features
    differ (cosine below 0.9999, mAP by more than 0.1 points; int8: 0.99 and 1 point).
    """
    form = to or out.suffix.removeprefix(".")
    if form not in FORMATS:
        raise InputError(f"--to {to or out}: is unknown; use {' or '.join(FORMATS)}, as OUT ends.")
    require_extras("train", *(("export",) if form == "onnx" else ()))
    facts = _facts(threshold, card, licence)
    if calibrate:
        facts["temperatures"] = _temperatures(model, calibrate)
    if form == "safetensors":
        from vreid.training.extract import export_half

        if int8 or graph_only or check or validate:
            raise InputError("--int8, --graph-only, --check and --validate belong to --to onnx; add it.")
        export_half(model, out, facts)
        _print(out, {}, "", as_json)
        return
    from vreid.data.readers.common import IMAGE_SUFFIXES
    from vreid.inference.onnx_export import export_onnx
    from vreid.training.validation import Validation

    made = export_onnx(
        model,
        out,
        int8=int8,
        graph_only=graph_only,
        facts=facts,
        check=[path for path in sorted(check.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES] if check else (),
        validation=Validation.of(open_source(validate, "auto")) if validate else None,
    )
    parity = made.parity
    numbers = {"cosine": parity.cosine, "images": parity.images, "mAP": parity.mean_ap}
    _print(out, numbers, f"; {parity}", as_json)


def _facts(threshold: Path | None, card: Path | None, licence: str) -> dict[str, Any]:
    from vreid.files import read_lines_bounded
    from vreid.retrieval.evaluation.calibration import Threshold

    facts: dict[str, Any] = {"licence": licence} if licence else {}
    if card:
        facts["card"] = read_lines_bounded(card).decode("utf-8", "replace")
    if threshold:
        facts["threshold"] = Threshold.load(threshold).as_dict()
    return facts


def _temperatures(model: str, source: Path) -> dict[str, float]:
    from vreid.data.records import Records
    from vreid.inference.attribute_calibration import attribute_temperatures
    from vreid.inference.embedder import load_model

    dataset = open_source(source, "auto")
    same = dataset.query == dataset.gallery
    records = dataset.query if same else Records.concat([dataset.query, dataset.gallery])
    return attribute_temperatures(load_model(model, backend="torch"), records)


def _print(out: Path, numbers: dict[str, Any], words: str, as_json: bool) -> None:
    size = out.stat().st_size
    print_json({"file": str(out), "bytes": size, **numbers}) if as_json else echo(f"{out}: {size / 1e6:.1f} MB{words}")
