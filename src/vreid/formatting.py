"""Format numbers, times and text for messages, notes and reports."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta

_NO_DATE_BEFORE = 1e8
"""Times below this (about three years after 1970) are seconds since an unknown start, not dates."""


def percent(share: float | None) -> str:
    """Format a share as percent with one decimal, without the sign: 0.4567 -> "45.7"; "-" for None and NaN."""
    return "\N{EN DASH}" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def duration(seconds: float) -> str:
    """Format a duration: 7.25 -> "7.2 s", 95 -> "1 min 35 s", 7260 -> "2 h 1 min", 3600 -> "1 h"."""
    if seconds < 0:
        return "\N{MINUS SIGN}" + duration(-seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 60:
        return f"{whole} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def bytes_in_words(count: float) -> str:
    """Format a number of bytes in decimal units.

    Example:
        >>> bytes_in_words(51_200_000_000), bytes_in_words(920)
        ('51.2 GB', '920 bytes')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    unit, units = "kB", iter(("MB", "GB", "TB"))
    count /= 1000
    while count >= 999.5 and (larger := next(units, None)):
        count, unit = count / 1000, larger
    return f"{count:,.{max(0, 3 - len(str(int(count))))}f} {unit}"


def clock(seconds: float, *, date: bool = False) -> str:
    """Format a time of day in UTC, or the time since the start if undated; "" for NaN."""
    if math.isnan(seconds):
        return ""
    if seconds < _NO_DATE_BEFORE:
        return str(timedelta(seconds=round(seconds)))
    try:
        moment = datetime.fromtimestamp(round(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s"
    return moment.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun: (1, "query", "queries") -> "1 query"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """Escape control characters in `text`, so that no name can control a terminal or reorder a line.

    Line ends, tabs and the joiners that some scripts need (U+200C, U+200D) are kept.

    Example:
        >>> print(printable("a\\x1b[2J.jpg"))
        a\\x1b[2J.jpg
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _steers(character) else character for character in text)


def printable_json(text: str) -> str:
    """Escape the same characters in the strings of a JSON text; its value does not change."""
    if text.isascii():  # json.dumps has escaped what needs it, but for DEL
        return text.replace("\x7f", "\\u007f")
    return "".join("".join(map(_unit, _units(one))) if _steers(one) else one for one in text)


def _unit(code: bytes) -> str:
    return f"\\u{int.from_bytes(code, 'big'):04x}"


def _units(character: str) -> list[bytes]:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [encoded[start : start + 2] for start in range(0, len(encoded), 2)]


def _steers(character: str) -> bool:
    return character not in "\n\t\u200c\u200d" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
