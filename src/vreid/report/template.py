"""Rendering of the page templates in this folder, with autoescaping."""

from __future__ import annotations

from typing import Any

from vreid.formatting import clock, duration, percent, plural

SECURITY = (
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)
"""Content security policy of every page: no scripts, no network; images and styles only inline."""


def fill(template: str, **values: Any) -> str:
    """Render a template with `values`; `style` is the style sheet shared by all pages."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("vreid.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, duration=duration, clock=clock)
    style = Markup((folder / "page.css").read_text(encoding="utf-8"))
    environment.globals.update(plural=plural, security=Markup(SECURITY), style=style)
    page = environment.from_string((folder / template).read_text(encoding="utf-8")).render(**values)
    return page.encode("utf-8", "replace").decode("utf-8")  # file names may hold bytes that are not text
