"""A search result as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from PIL import Image

from vreid.files import write_text
from vreid.inference.inputs import images_of
from vreid.report.template import fill
from vreid.store.search import SearchResult

if TYPE_CHECKING:
    from vreid.store.store import Store

_SIDE = 320


def write_search_page(
    store: Store, result: SearchResult, path: Path, *, query: Any, box: Sequence[float] | None = None
) -> None:
    """Write the query and its hits with their best crops; nothing is loaded from elsewhere.

    Args:
        store: where the hits are.
        result: of `Store.search`.
        path: of the page.
        query, box: as they were given to `Store.search`.

    Raises:
        InputError: `path` cannot be written.
    """
    zone = ZoneInfo(store.time_zone)
    name = str(result.query.get("tracklet") or result.query.get("image"))
    if "tracklet" in result.query:
        image = _data(store.crop(f"{name}#0").jpeg)
    else:
        image = _data(_jpeg(next(images_of(query, None if box is None else [box]))))
    hits = [
        (
            hit,
            _data(store.crop(hit.crop).jpeg),
            "" if hit.start is None else datetime.fromtimestamp(hit.start, zone).strftime("%Y-%m-%d %H:%M:%S"),
        )
        for hit in result.hits
    ]
    camera = result.query.get("camera", "")
    write_text(path, fill("search.html", name=name, camera=camera, image=image, result=result, hits=hits))


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _jpeg(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()
