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
    """Render a template of this folder with `values`; `style` is the style sheet shared by all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("vreid", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, duration=duration, clock=clock)
    style = Markup(loader.get_source(environment, "page.css")[0])
    environment.globals.update(plural=plural, security=Markup(SECURITY), style=style)
    page = environment.get_template(template).render(**values)
    return page.encode("utf-8", "replace").decode("utf-8")  # file names may hold bytes that are not text
