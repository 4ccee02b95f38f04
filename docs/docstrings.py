"""Extension of the reference's parser for the two ways in which our docstrings differ from Google's style."""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(
    r"^(?P<indent> +)(?P<names>[a-z_]\w*(?:, [a-z_]\w*)+): (?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
)
"""An entry of a section that describes several names at once, with its continuation lines."""


def google_style(text: str) -> str:
    """A docstring whose section `Example:` is called `Examples:`, and whose entries describe one name each."""

    def one_by_one(entry: re.Match[str]) -> str:
        first, *others = entry["names"].split(", ")
        return "\n".join(
            [f"{entry['indent']}{first}: {entry['text']}"]
            + [f"{entry['indent']}{name}: see `{first}`." for name in others]
        )

    return SHARED.sub(one_by_one, text.replace("Example:\n", "Examples:\n"))


class GoogleStyle(griffe.Extension):
    """Apply `google_style` to every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = google_style(obj.docstring.value)
