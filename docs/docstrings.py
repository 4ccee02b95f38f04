"""Griffe extension for two deviations of vreid's docstrings from Google style."""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(
    r"^(?P<indent> +)(?P<names>[a-z_]\w*(?:, [a-z_]\w*)+): (?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
)
"""An entry that describes several names at once, with its continuation lines."""


def google_style(text: str) -> str:
    """Rename the section `Example:` to `Examples:`, and split entries into one per name."""

    def one_by_one(entry: re.Match[str]) -> str:
        first, *others = entry["names"].split(", ")
        return "\n".join(
            [f"{entry['indent']}{first}: {entry['text']}"]
            + [f"{entry['indent']}{name}: see `{first}`." for name in others]
        )

    return SHARED.sub(one_by_one, text.replace("Example:\n", "Examples:\n"))


class GoogleStyle(griffe.Extension):
    """Apply `google_style` to every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = google_style(obj.docstring.value)
