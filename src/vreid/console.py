"""Text and tables on a terminal; control characters in names are shown as escapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vreid.formatting import printable


def echo(*values: object, sep: str = " ", file: TextIO | None = None) -> None:
    """Print like `print`, with control characters as escapes (see `printable`)."""
    print(printable(sep.join(map(str, values))), file=file)


class Console(rich.console.Console):
    """Rich console for untrusted text: no markup, control characters are escaped."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape the text of a cell before its width is measured."""
        return super().render_str(printable(text), **{**options, "markup": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Escape control characters in all segments, including those of existing `Text`."""
        for segment in super().render(renderable, options):
            clean = segment.control or printable(segment.text) == segment.text
            yield segment if clean else segment._replace(text=printable(segment.text))
