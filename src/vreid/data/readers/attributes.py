"""Vehicle attributes in label files: colour, type, and the names behind their numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from vreid.data.readers.common import Listing, quoted

COLORS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black", "purple", "pink")
"""VeRi's ten colours in VeRi's order, then the two that only VehicleX has; VeRi counts them from 1."""
VEHICLE_TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate", "sportscar", "rv")
"""VeRi's nine types in VeRi's order, then the two that only VehicleX has; VeRi counts them from 1."""

Described = Sequence[tuple[int, Mapping[str, str]]]
"""Item number (1-based, 0: none) and attributes of each image."""


def number_in(item: Mapping[str, str], name: str, listing: Listing, number: int) -> float:
    """Return an attribute of Item `number` as a finite number; NaN if absent, NaN and a finding if invalid."""
    text = item.get(name)
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        listing.wrong(number, f"{name} {quoted(text)} is not a number", "correct it")
        return math.nan
    return value


def color_and_type(
    images: Described,
    listing: Listing,
    notes: list[str],
    *,
    colors: Mapping[int, str],
    types: Mapping[int, str],
    base: int | None = None,
) -> tuple[list[str], list[str]]:
    """Map colorID and typeID of each image to names; "" where absent, "" and a finding where invalid.

    Args:
        images: Items of the images.
        listing: the label file.
        notes: a note is appended if the numbering had to be guessed.
        colors, types: number -> name, numbered from `base`, or from 0 if `base` is None.
        base: first number of both; None infers it from all numbers together (both use the same), or assumes 0 if
            they do not decide it.
    """
    numbers = [number for number, _ in images]
    columns = {
        name: [number_in(item, name, listing, number) for number, item in images] for name in ("colorID", "typeID")
    }
    names = {"colorID": colors, "typeID": types}
    zeros = _places(columns, {name: 0 for name in names})
    beyond = _places(columns, {name: len(names[name]) for name in names}) if base is None else []
    if zeros and (base or beyond):
        (wrong, row), *_ = zeros if base or len(zeros) <= len(beyond) else beyond  # the rarer ones
        against = f"this data set numbers colours and types from {base}"
        if not base:
            other, place = (beyond if (wrong, row) in zeros else zeros)[0]
            item = f"{listing.unit} {numbers[place]}"
            against = f"{other} is {columns[other][place]:g} in {item}, and both use the same numbering"
        listing.wrong(
            numbers[row],
            f"{wrong} is {columns[wrong][row]:g}, but {against}",
            "correct the numbers",
            "colour/type numbering",
        )
        return [""] * len(images), [""] * len(images)
    guessed = base is None and not zeros and not beyond
    if guessed and any(value == value for values in columns.values() for value in values):
        notes.append("colour and type numbers may start at 0 or 1; 0 is assumed.")
    shift = 1 if beyond else 0
    named = [
        _named(columns[name], numbers, name, {number + shift: text for number, text in names[name].items()}, listing)
        for name in columns
    ]
    return named[0], named[1]


def _places(columns: Mapping[str, Sequence[float]], wanted: Mapping[str, float]) -> list[tuple[str, int]]:
    """Positions (column, row) of the values equal to `wanted` of their column."""
    return [
        (name, row) for name, values in columns.items() for row, value in enumerate(values) if value == wanted[name]
    ]


def _named(
    values: Sequence[float], numbers: Sequence[int], name: str, names: Mapping[int, str], listing: Listing
) -> list[str]:
    by_value: dict[float, str] = dict(names)  # type: ignore[arg-type]  # 3 == 3.0
    for value, number in zip(values, numbers, strict=True):
        if value == value and value not in by_value:
            listing.wrong(
                number,
                f"{name} {value:g} is not between {min(names)} and {max(names)}",
                "correct it",
                "label out of range",
            )
    return [by_value.get(value, "") for value in values]


def contradictions(matches: Sequence[re.Match[str]], images: Described, listing: Listing) -> list[str]:
    """Report Items whose vehicleID or cameraID differ from the file name (groups 1 and 2), which takes precedence."""
    wrong = [
        match[0]
        for match, (_, item) in zip(matches, images, strict=True)
        if any(
            (reported := _digits(item.get(name, ""))) and reported != _digits(match[group])
            for name, group in (("vehicleID", 1), ("cameraID", 2))
        )
    ]
    if not wrong:
        return []
    counted = f"{len(wrong):,} of {len(matches):,} images, first {wrong[0]}"
    return [
        f"{listing.path.name} contradicts the vehicle or camera in the file name; the file name is used: {counted}."
    ]


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text).lstrip("0")
