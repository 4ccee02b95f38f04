"""A self-contained page that asks whether pairs of tracklets show the same vehicle."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from vreid.files import write_text
from vreid.report.template import fill
from vreid.store.tracklet_rows import decode

if TYPE_CHECKING:
    from vreid.store.store import Store

_SIDE = 160  # height of a crop
_CROPS = 4  # of each tracklet
_SCRIPT = """
const pairs = [...document.querySelectorAll("fieldset")];
const answered = () => pairs.filter(pair => pair.querySelector("input:checked"));
const quoted = text => '"' + text.replaceAll('"', '""') + '"';
const count = () => document.getElementById("count").textContent = answered().length + " of " + pairs.length;
document.addEventListener("change", count);
count();
document.getElementById("save").addEventListener("click", () => {
  const rows = answered().map(pair =>
    [pair.dataset.first, pair.dataset.second, pair.querySelector("input:checked").value].map(quoted).join(","));
  const link = document.createElement("a");
  link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(["first,second,answer", ...rows, ""].join("\\n"));
  link.download = "answers.csv";
  link.click();
});
"""


def write_label_page(store: Store, pairs: Sequence[tuple[str, str]], path: Path) -> None:
    """Write a page with the crops of each pair and buttons; it saves the answers as the CSV of `read_answers`.

    Raises:
        InputError: `path` cannot be written.
    """
    shown = [(first, second, _data(pair_image(store, first, second))) for first, second in pairs]
    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    page = fill("label.html", name=store.where, pairs=shown, script=Markup(_SCRIPT), script_hash=script_hash)
    write_text(path, page)


def pair_image(store: Store, first: str, second: str) -> Image.Image:
    """Draw the best crops of two tracklets, each in a row."""
    rows = []
    for name in (first, second):
        crops = (store.tracklet(name).crops or [[]])[0][:_CROPS]
        images = [decode(crop.jpeg) for crop in crops]
        rows.append([image.resize((max(1, image.width * _SIDE // image.height), _SIDE)) for image in images])
    gap = 8
    width = max(sum(image.width + gap for image in row) for row in rows)
    sheet = Image.new("RGB", (width, 2 * _SIDE + gap), "white")
    for number, row in enumerate(rows):
        left = 0
        for image in row:
            sheet.paste(image, (left, number * (_SIDE + gap)))
            left += image.width + gap
    return sheet


def _data(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
