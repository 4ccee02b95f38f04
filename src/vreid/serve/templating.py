"""Rendering of the templates in templates/, with autoescaping."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vreid.formatting import percent, plural
from vreid.report.template import SECURITY

TEMPLATES = Path(__file__).parent / "templates"

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(percent=percent)
_ENVIRONMENT.globals.update(plural=plural, security=Markup(SECURITY))


def render(template: str, zone: str, **values: Any) -> str:
    """Render a template.

    Besides `values` it has `plural`, the filter `percent`, `security` (policy of pages that are saved), `zone`, and
    `moment(ISO_TIME, date=True)`, which gives a time in that zone.

    Args:
        template: name of its file.
        zone: IANA name of a time zone.
        values: for the template.
    """
    place = ZoneInfo(zone)

    def moment(text: str | None, *, date: bool = True) -> str:
        if text is None:
            return "time unknown"
        return datetime.fromisoformat(text).astimezone(place).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")

    page = _ENVIRONMENT.get_template(template).render(zone=zone, moment=moment, **values)
    return page.encode("utf-8", "replace").decode("utf-8")  # names may hold bytes that are not text
