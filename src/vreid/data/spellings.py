"""Normalise labels and integers as exporters write them: "1.0" for 1, "nan" for none, 2^64-1 for -1, "c001" vs "C1".

Whole numbers are read from their digits and never pass through a float, which holds those below 2^53 only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import JUNK_NAME, Labels, Records
from vreid.errors import InputError

NO_LABEL = frozenset({"nan", "none", "null", "<na>", "nat"})
"""What exporters write into a cell that is empty (in any capitals)."""
UNTRACKED = 2**64 - 1
"""-1 as an unsigned number of 64 bits: DeepStream's id of an object that is not tracked."""

_EXACT = 2**53  # a float holds all whole numbers up to here
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d+", re.ASCII)
_PREFIXES = {
    "camera": re.compile(r"(?<![^ ])(camera|cam|c) ?(?=\d)"),
    "identity": re.compile(r"^(vehicle|veh|car|vid|pid|id|v) ?(?=\d+$)"),
}
_WORDS = {"camera": "cameras", "identity": "identities"}


def whole_number(text: str) -> int:
    """Return the whole number that `text` writes ("7", "7.0", "7.000e+00"), exactly; -1 for `UNTRACKED`.

    Raises:
        ValueError: it is no whole number, or may have lost digits: written as a float above 2^53, or in a scientific
            notation that leaves digits out ("1.23457e+06"). The text says which, as a clause.

    Example:
        >>> whole_number("4873372822379954177"), whole_number("2.0"), whole_number("18446744073709551615")
        (4873372822379954177, 2, -1)
    """
    if _DIGITS.fullmatch(text) and len(text) <= 40:
        value = int(text)
        return -1 if value == UNTRACKED else value
    match = _NUMBER.fullmatch(text)
    number = Decimal(text) if match and len(text) <= 400 else Decimal("NaN")
    if not number.is_finite() or number.adjusted() > 40 or number != number.to_integral_value():
        raise ValueError("is not a whole number")
    if float(number) == float(UNTRACKED):
        return -1
    exponent = number.as_tuple().exponent
    if abs(number) > _EXACT or (isinstance(exponent, int) and exponent > 0 and number):
        raise ValueError("is rounded and may have lost digits")
    return int(number)


def largest_exact(array: NDArray[np.floating]) -> int:
    """Largest whole number up to which an array of floats holds all: 2^53 in float64, 2^24 in float32."""
    return int(2 ** (np.finfo(array.dtype).nmant + 1))


def plain_labels(values: Sequence[str], column: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Spell the labels of one column as `Labels` expects them.

    "-1" and `UNTRACKED` are none (for an identity: junk), cells that say `NO_LABEL` are empty. A column of nothing but
    numbers is one of whole numbers: "1.0" is "1", and negative ones are none. All else stays as it is.

    Args:
        values: (N,) cells, stripped of blanks.
        column: name of the column of `Records`.

    Returns:
        labels (N,), and place and fault (a clause) of each number that is wrong among whole ones or lost digits; its
        label is empty.

    Example:
        >>> plain_labels(["1.0", "-1.0", "nan", "2"], "identity")
        (['1', 'junk', '', '2'], [])
    """
    none = JUNK_NAME if column == "identity" else ""
    out = [
        "" if value.lower() in NO_LABEL else none if value in ("-1", "-1.0", str(UNTRACKED)) else value
        for value in values
    ]
    spelled = {value for value in out if value and value != JUNK_NAME}
    if not spelled or not all(map(_NUMBER.fullmatch, spelled)):
        return out, []
    plain: dict[str, str] = {}
    faults: dict[str, str] = {}
    for text in spelled:
        try:
            number = whole_number(text)
        except ValueError as error:
            faults[text] = str(error)
        else:
            plain[text] = none if number < 0 else text if _DIGITS.fullmatch(text) else str(number)
    if not plain and not any("lost" in fault for fault in faults.values()):  # names that look like numbers: 1.1, 1.2
        return out, []
    wrong = [(place, faults[value]) for place, value in enumerate(out) if value in faults]
    return [value if value == JUNK_NAME else plain.get(value, "") for value in out], wrong


@lru_cache(maxsize=1 << 18)
def spelling(name: str, column: str) -> str:
    """Return the canonical form of a name, equal for all its spellings.

    Capitals, blanks, "_", "-" and "/" are one, zeros in front of a number and the ".0" of a float do not count, nor do
    "c", "cam" and "camera" before the number of a camera ("vehicle", "id", ... before that of a vehicle). Zeros inside
    a vehicle's name of letters and digits, a plate say, do count.

    Example:
        >>> [spelling(name, "camera") for name in ("c001", "C1", "Camera 1", "1.0")]
        ['1', '1', '1', '1']
    """
    plain = re.sub(r"[\s_/\\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
    plain = re.sub(r"(?<=\d)\.0+$", "", plain) if _NUMBER.fullmatch(plain) else plain
    if column in _PREFIXES:
        plain = _PREFIXES[column].sub("", plain)
    if column == "identity" and not plain.isdigit():
        return plain
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def check_spellings(query: Records, gallery: Records) -> None:
    """Raise if a camera or an identity is spelled in two ways in query and gallery.

    Same-camera removal and the count of matches would quietly be wrong; which names mean the same is not guessed.

    Raises:
        InputError: both spellings are named, each with an image.
    """
    for column, word in _WORDS.items():
        first: dict[str, tuple[str, str, str]] = {}  # spelling -> name, image, side
        for side, records in (("query", query), ("gallery", gallery)):
            labels: Labels = getattr(records, column)
            codes, images = np.unique(labels.codes, return_index=True)
            for code, image in zip(codes.tolist(), images.tolist(), strict=True):
                if code < 0:
                    continue
                name = str(labels.names[code])
                known, path, of = first.setdefault(spelling(name, column), (name, str(records.path[image]), side))
                if known != name:
                    raise InputError(
                        f"{records.path[image]} ({side}): {column} {name!r} and {known!r} of {path} ({of}) look like "
                        f"spellings of one name; spell {word} the same way in query and gallery."
                    )
