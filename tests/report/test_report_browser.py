"""Pages in a browser: nothing is cut at 1,280 and 375 pixels, nothing is fetched, and screenshots are made."""

from __future__ import annotations

import html as html_text
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.pages import CUT, PARTS, evaluate_made_up, made_report, town
from vreid.diagnostics.diagnosis import BarChart, Curve, Curves, Diagnosis, Part
from vreid.diagnostics.estimates import Estimate
from vreid.report import Report, ResultRow
from vreid.report.page import loss_curves, render

CHROMIUM = Path("/usr/bin/chromium")
WIDTHS = (1280, 375)
MEASURE = """<script>
const wide = [];
for (const table of document.querySelectorAll("table")) {
  const box = table.getBoundingClientRect(), holder = table.parentElement;
  const cut = [...table.querySelectorAll("td, th")].filter(
    cell => !cell.closest(".heat") && cell.scrollWidth > cell.clientWidth + 1);
  if (box.right > innerWidth + 1 || holder.scrollWidth > holder.clientWidth + 1 || cut.length)
    wide.push([table.className, Math.round(box.right), cut.slice(0, 3).map(cell => cell.textContent.trim())]);
}
const methods = [...document.querySelectorAll(".ablation .method th")].map(cell => Math.round(cell.offsetWidth));
parent.postMessage({inner: innerWidth, page: document.documentElement.scrollWidth, wide, methods}, "*");
</script>"""
FRAME = """<!DOCTYPE html><body style="margin: 0">
<script>onmessage = event => document.body.append("MEASURED" + JSON.stringify(event.data) + "MEASURED")</script>
<iframe src="page.html" style="border: 0; display: block; width: {width}px; height: {height}px"></iframe></body>"""
"""A page within a frame: a browser's own window has a least width."""
HEIGHT = 4000

needs_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason="/usr/bin/chromium is not installed")


def browse(*options: str, folder: Path) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'browser'}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What real pages bring: long descriptions, many cameras, large counts, skipped queries."""
    folder = tmp_path_factory.mktemp("wide")
    report = made_report(folder)
    (folder / "many").mkdir()
    query, gallery = town(folder / "many", identities=2, cameras=30)
    metrics, ranking = evaluate_made_up(query, gallery, 2, 0.1, CUT)
    long = (
        "Adapted to the test's own images without labels, from 1,234 clusters; refused, so this is the model before. "
    )
    counted = {part: replace(m, num_queries=11_579, num_skipped=1_234) for part, m in metrics.items()}
    rows = [*report.rows, ResultRow("+ camera verification and more", 3 * long, counted)]
    return replace(
        report, rows=rows, ranking=ranking, facts=[("initialisation", "simulated start v1 " + 8 * "0123abcd")]
    )


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["made", "wide"])
def test_no_table_is_cut(wide_report: Report, tmp_path: Path, width: int, which: str) -> None:
    html = render(wide_report if which == "wide" else made_report(tmp_path))
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", html)  # so that the script may measure
    (tmp_path / "page.html").write_text(without_policy.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, height=HEIGHT), encoding="utf-8")
    dom = browse("--virtual-time-budget=10000", "--dump-dom", f"file://{tmp_path}/frame.html", folder=tmp_path)
    found = json.loads(html_text.unescape(dom.split("MEASURED")[-2]))
    assert found["inner"] == width
    assert found["wide"] == [] and found["page"] <= width
    assert min(found["methods"]) >= 0.8 * min(width, 960)  # the method and its description have the whole line


@needs_browser
def test_screenshots_at_both_widths(wide_report: Report, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(wide_report), encoding="utf-8")
    for width in WIDTHS:
        (tmp_path / "frame.html").write_text(FRAME.format(width=width, height=HEIGHT), encoding="utf-8")
        file = tmp_path / f"page-{width}.png"
        browse(f"--window-size=1400,{HEIGHT}", f"--screenshot={file}", f"file://{tmp_path}/frame.html", folder=tmp_path)
        with Image.open(file) as shot:
            pixels = np.asarray(shot.convert("L").crop((0, 0, width, HEIGHT)))
        assert pixels.std() > 10  # something is drawn
        assert (pixels[:, -4:] == pixels[0, -1]).all()  # and nothing in the right margin


def test_every_page_has_a_content_security_policy(tmp_path: Path) -> None:
    head = render(made_report(tmp_path)).partition("</head>")[0]
    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;' in head
    templates = Path(__file__).parents[2] / "src/vreid/report"
    assert "{{ security }}" in (templates / "base.html").read_text(encoding="utf-8").partition("</head>")[0]
    for template in ("page.html", "findings.html", "pseudo.html", "search.html", "trips.html"):
        text = (templates / template).read_text(encoding="utf-8")
        assert text.startswith('{% extends "base.html" %}') and "block security" not in text


def test_notes_stand_only_where_they_apply(tmp_path: Path) -> None:
    report = made_report(tmp_path)
    whole = render(report)
    assert "<b>Transductive</b> rows" in whole and "+2: two more" in whole and "time (UTC)" in whole
    assert "are skipped" not in whole  # none is
    one = render(replace(report, rows=report.rows[:1], baselines=(), ranking=None))
    for note in (
        "<b>Transductive</b> rows",
        "adds one step to the row above",
        "may differ by chance",
        "Shown are the first row",
    ):
        assert note not in one
    single = {PARTS[0]: replace(report.rows[0].metrics[PARTS[0]], num_skipped=3)}
    few = render(replace(report, rows=[replace(report.rows[0], metrics=single)], baselines=(), ranking=None))
    assert "gap between the groups" not in few and "are skipped" in few
    ranking = report.ranking
    assert ranking is not None
    bare = replace(ranking, query=_bare(ranking.query), gallery=_bare(ranking.gallery))
    plain = render(replace(report, ranking=bare))
    assert "+2: two more" not in plain and "time (UTC)" not in plain and "look-alike" not in plain


def _bare(records):  # type: ignore[no-untyped-def]
    unknown = [""] * len(records)
    return records.with_(tracklet=unknown, time=np.full(len(records), np.nan), color=unknown, vehicle_type=unknown)


def test_a_chart_needs_two_points(tmp_path: Path) -> None:
    report = made_report(tmp_path)
    line = {"event": "step", "step": 1, "epoch": 1, "loss": 3.0}
    assert loss_curves([line])[0] == {} and list(loss_curves([line, {**line, "step": 2}])[0]) == ["loss"]
    assert 'id="training"' not in render(replace(report, training=[line]))
    only = {PARTS[0]: report.rows[0].metrics[PARTS[0]]}
    page = render(replace(report, rows=[replace(report.rows[0], metrics=only)], baselines=()))
    assert "<b>Results by step.</b>" not in page and "Cumulative matching characteristic" in page
    number = Estimate(0.5, 0.4, 0.6, 10)
    for chart, figures in (
        (BarChart({"": {"one": number}}, "share"), 0),
        (BarChart({"": {"one": number, "two": number}}, "share"), 1),
        (Curves((Curve("all", (10,), (number,)),), "size", "mAP"), 0),
    ):
        shown = render(Report("x", diagnosis=Diagnosis([Part("gap", "A sentence", {}, chart=chart)])))
        assert shown.count('<figure class="single">') == figures


def test_validation_is_no_loss_curve() -> None:
    lines = [{"event": "validation", "epoch": n, "step": n, "mAP": 0.1 * n} for n in (1, 2)]
    assert loss_curves(lines) == ({}, "epoch")
    epochs = [{"event": "epoch", "epoch": n, "step": n, "loss": 1.0} for n in (1, 2)]
    assert list(loss_curves([*lines, *epochs])[0]) == ["loss"]
