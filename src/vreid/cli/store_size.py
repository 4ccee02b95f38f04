"""Command `store size`: what N tracklets take."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated

import typer

from vreid.cli.options import Json, print_json
from vreid.console import echo
from vreid.errors import InputError


def size_command(
    tracklets: Annotated[str, typer.Argument(metavar="N", help="Number of tracklets, for example 1e7.")],
    dimensions: Annotated[int, typer.Option(help="Numbers of a feature.")] = 1280,
    crops: Annotated[int, typer.Option(help="Crops that are kept of a tracklet.")] = 3,
    crop_bytes: Annotated[int, typer.Option(help="Bytes of a crop.")] = 3400,
    images: Annotated[int, typer.Option(help="Images of a tracklet that go through the network.")] = 3,
    images_per_second: Annotated[
        float, typer.Option(help="Images a second of one device; default: a CPU core with the model in the package.")
    ] = 125.0,
    price_hour: Annotated[float, typer.Option(help="Price of an hour of that device.")] = 0.1,
    memory_price: Annotated[float, typer.Option(help="Price of a GiB of memory for a month.")] = 3.0,
    disk_price: Annotated[float, typer.Option(help="Price of a GiB of disk for a month.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Estimate disk, memory, index, extraction hours and cost of N tracklets (docs/guides/scaling.md)."""
    from vreid.formatting import bytes_in_words
    from vreid.store.sizing import INDEXES, SizeInputs, estimate

    try:
        number = float(tracklets)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise InputError(f"{tracklets}: is not a number of tracklets; write for example 1e7.")
    count = int(number)
    inputs = SizeInputs(
        count, dimensions, crops, crop_bytes, images, images_per_second, price_hour, memory_price, disk_price
    )
    found = estimate(inputs)
    if as_json:
        print_json({"inputs": asdict(inputs), **asdict(found)})
        return
    echo(f"{count:,} tracklets, {dimensions:,} numbers a feature, {crops} crops of {crop_bytes:,} bytes")
    echo(f"  store on disk      {bytes_in_words(found.store_disk)}")
    echo(f"  its memory         {bytes_in_words(found.store_memory)}, exact search")
    for name, size in found.features.items():
        echo(f"  features {name:9} {bytes_in_words(size)}")
    for name, size in found.indexes.items():
        disk = f" and {bytes_in_words(found.diskann_disk)} of SSD" if name == "diskann" else ""
        kind = "exact" if INDEXES[name].exact else "approximate"
        echo(f"  index {name:12} {bytes_in_words(size)} of memory{disk}, {kind}: {INDEXES[name].formula}")
    echo(f"  extraction         {found.extraction_hours:,.1f} hours of one device, cost {found.extraction_cost:,.2f}")
    echo(f"  a month            {found.store_month:,.2f} for memory and disk of the store")
