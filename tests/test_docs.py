"""The documentation: links between its pages, the tutorial, and what the site is generated from."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import build_site
import pytest

import vreid

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in build_site.PAGES), *sorted(DOCS.rglob("*.md"))]


def without_code(text: str) -> str:
    """Markdown without fenced and indented blocks and without code spans."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them of the heading's text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", heading)).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", word) for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^()\s#]*)#?([^()\s]*)\)", without_code(page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}#{anchor}"


def test_every_page_has_a_place_in_the_navigation() -> None:
    def places(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [place for value in values for place in places(value)]  # type: ignore[attr-defined]

    found = places(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"])
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    generated = {"reference/cli.md", "reference/names.md", build_site.TUTORIAL.replace(".py", ".md")}
    assert sorted(found) == sorted(pages | generated | set(build_site.PAGES.values()))


def test_the_glossary_is_alphabetical() -> None:
    terms = re.findall(r"^## (.*)$", (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(terms) > 60
    assert terms == sorted(terms, key=lambda term: term.lower().replace("-", " ").replace(",", ""))


def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(DOCS / build_site.TUTORIAL))
    numbers = re.findall(r"^  all cameras +mAP ([\d.]+),", capsys.readouterr().out, re.MULTILINE)
    assert len(numbers) == 2
    assert all(0 < float(number) < 100 for number in numbers)
    assert len(plt.get_fignums()) == 2
    plt.close("all")


def test_the_tutorial_is_read_cell_by_cell() -> None:
    text = "# ---\n# jupyter:\n# ---\n\n# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nx = 1\n# a comment\n"
    assert list(build_site.cells(text)) == [("markdown", "# Title\n\nWords."), ("code", "x = 1\n# a comment")]


def test_the_command_line_reference_has_every_command_and_option() -> None:
    reference = build_site.command_line()
    assert len(re.findall(r"^## vreid ", reference, re.MULTILINE)) >= 20
    evaluate = reference.partition("\n## vreid evaluate\n")[2].partition("\n## ")[0]
    assert "| `--protocol NAME` | " in evaluate
    assert evaluate.count("| required |") == 1
    for row in re.findall(r"^\|.*$", reference, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row


def test_the_page_of_names_has_them_all() -> None:
    from vreid.data.protocols import PROTOCOLS
    from vreid.recipes import RECIPES
    from vreid.retrieval.postprocessing.steps import STEPS

    page = build_site.names_reference()
    assert re.findall(r"^\| `([\w-]+)` \|", page.partition("## Presets")[0], re.MULTILINE) == list(STEPS)
    assert {*PROTOCOLS, *RECIPES} <= set(re.findall(r"^\| `([\w-]+)` \| [^|\s]", page, re.MULTILINE))
    assert "`k1=20`, `k2=6`, `lambda_=0.3`" in page


def test_broken_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="#top"><a href="#bottom"><a href="a/b.html#x"><a href="a/c.html"><img src="no.png">'
        '<a href="https://example.org/"><a href="a/b.html#y%20z">'
    )
    (tmp_path / "a" / "b.html").write_text('<p id="x"><p id="y z"><a href="../index.html#top"><a href="../#middle">')
    assert build_site.broken_links(tmp_path) == [
        "a/b.html: ../#middle",
        "index.html: #bottom",
        "index.html: a/c.html",
        "index.html: no.png",
    ]


def test_docstrings_are_brought_to_the_style_that_the_reference_reads() -> None:
    from docstrings import google_style

    arguments = "        low, high: the interval,\n            in metres.\n        rest: other.\n"
    text = f"Do it.\n\n    Args:\n{arguments}\n    Example:\n        >>> 1\n"
    assert google_style(text).splitlines()[3:] == [
        "        low: the interval,",
        "            in metres.",
        "        high: see `low`.",
        "        rest: other.",
        "",
        "    Examples:",
        "        >>> 1",
    ]


@pytest.mark.parametrize("page", sorted((DOCS / "results").glob("*.md")), ids=lambda page: page.stem)
def test_sections_with_a_table_of_results_link_to_the_glossary(page: Path) -> None:
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        if re.search(r"^\|[-:| ]+\|$", section, re.MULTILINE):
            assert "glossary.md#" in section, section.partition("\n")[0]


def test_the_python_reference_names_the_front_door() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in vreid.__all__ if not name.startswith("_") and f"`vreid.{name}`" not in page] == []
