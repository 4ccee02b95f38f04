"""Build the documentation site: stage the pages, generate the references, run zensical strictly, check every link.

    python docs/build_site.py

Pages are staged in build/docs: the README as the home page, docs/, the changelog, and what is made from the program:
the command line reference, and the tutorial with its output. A link to another file of the repository leads to a copy.
The site is written to site/; it loads nothing from elsewhere and needs no server. Exits 1 if anything is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STAGE = ROOT / "build" / "docs"
SITE = ROOT / "site"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages in the repository's root and their places in the site."""
TUTORIAL = "guides/first_steps.py"
LINK = re.compile(r"(?<=\]\()(?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?(?=\))")


def stage() -> None:
    """Copy all pages to `STAGE` with their links rewritten, and add the generated ones."""
    shutil.rmtree(STAGE, ignore_errors=True)
    places = {ROOT / source: STAGE / target for source, target in PAGES.items()}
    for path in sorted(DOCS.rglob("*")):
        if path.is_file() and path.suffix in (".md", ".css", ".jpg", ".png", ".svg"):
            places[path] = STAGE / path.relative_to(DOCS)
    places[DOCS / TUTORIAL] = (STAGE / TUTORIAL).with_suffix(".md")
    for source, target in places.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(relinked(source.read_text(encoding="utf-8"), source, target, places), encoding="utf-8")
        elif source.suffix == ".py":
            target.write_text(relinked(executed(source, target), source, target, places), encoding="utf-8")
        else:
            shutil.copyfile(source, target)
    for name, text in (("cli", command_line()), ("names", names())):
        (STAGE / "reference" / f"{name}.md").write_text(text, encoding="utf-8")


def relinked(text: str, source: Path, target: Path, places: Mapping[Path, Path]) -> str:
    """`text` with its links to files changed from the repository's layout to that of the site."""

    def moved(link: re.Match[str]) -> str:
        wanted = (source.parent / link["target"]).resolve()
        if urlsplit(link["target"]).scheme or not wanted.is_file():
            return link[0]  # elsewhere, or missing: the strict build names it
        place = places.get(wanted)
        if place is None:
            place = STAGE / "files" / wanted.relative_to(ROOT)
            place = place if place.suffix in (".csv", ".png", ".jpg") else place.with_name(place.name + ".txt")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted, place)
        return Path(os.path.relpath(place, target.parent)).as_posix() + (link["anchor"] or "")

    return LINK.sub(moved, text)


def executed(notebook: Path, target: Path) -> str:
    """A percent-format notebook as Markdown, with what its cells print and draw; pictures are put beside `target`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    namespace: dict[str, Any] = {"__name__": "__main__"}
    pieces: list[str] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for kind, text in cells(notebook.read_text(encoding="utf-8")):
            if kind == "markdown":
                pieces.append(text)
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(text, str(notebook), "exec"), namespace)
            pieces.append(f"```python\n{text}\n```")
            if printed.getvalue():
                pieces.append(f"```text\n{printed.getvalue().rstrip()}\n```")
            for number in plt.get_fignums():
                picture = target.with_name(f"{target.stem}_{len(pieces)}.png")
                plt.figure(number).savefig(picture, dpi=120)
                plt.close(number)
                pieces.append(f"![What the cell draws]({picture.name})")
    return "\n\n".join(pieces) + "\n"


def cells(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of each cell of a percent-format notebook; kind is "markdown" or "code"."""
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
        else:
            yield "code", body.strip()


def command_line() -> str:
    """The reference of all `vreid` commands as Markdown, from the program itself."""
    import typer

    from vreid.cli import app

    out = ["# Command line", "Every command with its arguments and options, as `vreid COMMAND --help` prints them."]
    for name, command in commands("vreid", typer.main.get_command(app)):
        out += [f"## {name}", " ".join((command.help or "").split("\n\n")[0].split())]
        rest = (command.help or "").split("\n\n")[1:]
        out += [" ".join(paragraph.split()) for paragraph in rest]
        rows = [parameter(p) for p in command.params if not p.hidden and p.name != "help"]
        if rows:
            arguments = [p.metavar or p.name.upper() for p in command.params if not p.opts[0].startswith("-")]
            out += [f"    {' '.join([name, '[OPTIONS]', *arguments])}"]
            out += [table("option", "meaning", "default", rows=rows)]
    return "\n\n".join(out) + "\n"


def names() -> str:
    """The names that commands take (steps, published settings, protocols, recipes) as Markdown, from the program."""
    from vreid.data.protocols import PROTOCOLS
    from vreid.recipes import RECIPES
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval.postprocessing.steps import PRESETS, STEPS

    def first_line(thing: Any) -> str:
        """The summary of a docstring."""
        return escaped(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))

    steps = []
    for name, step in STEPS.items():
        values = [f"{f.name}={f.default}" for f in dataclasses.fields(step.config)] if step.config else []
        entry = re.search(rf"^    {step.field}: (.*(?:\n     .*)*)", inspect.getdoc(PostProcessing) or "", re.MULTILINE)
        meaning = escaped(" ".join(entry[1].split())) if entry else first_line(step.config)
        steps.append((f"`{name}`", ", ".join(f"`{value}`" for value in values), meaning))
    settings = [(f"`{name}`", f"`{steps}`") for name, steps in PRESETS.items() if steps]
    protocols = [
        (f"`{name}`", escaped(protocol.description.partition(": ")[2])) for name, protocol in PROTOCOLS.items()
    ]
    recipes = [(f"`{name}`", first_line(getattr(maker, "func", maker))) for name, maker in RECIPES.items()]
    return "\n\n".join(
        [
            "# Names",
            "What commands and functions take by name.",
            "## Post-processing steps",
            "For `--post` and `PostProcessing.parse`, in the order in which they run.",
            table("step", "values and defaults", "meaning", rows=steps),
            "## Published settings",
            "Names that stand for several steps.",
            table("name", "steps", rows=settings),
            "## Protocols",
            "For `--protocol`: what a [protocol](glossary.md#protocol) removes, counts and divides by.",
            table("protocol", "rules", rows=protocols),
            "## Recipes",
            "For `vreid train` and `recipe`.",
            table("recipe", "what it trains", rows=recipes),
            "",
        ]
    )


def table(*head: str, rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All commands below a group, depth first, with their whole names."""
    for word, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(f"{name} {word}", child)
        elif not child.hidden:
            yield f"{name} {word}", child


def parameter(param: Any) -> tuple[str, str, str]:
    """The option with its metavariable, its help, and its default."""
    option = param.opts[0].startswith("-")
    flag = option and param.is_flag
    names = ", ".join([*param.opts, *param.secondary_opts]) if option else param.metavar or param.name.upper()
    names += "" if flag or not option else f" {param.metavar or param.name.upper()}"
    default = "required" if param.required else "" if flag or param.default in (None, "", ()) else f"`{param.default}`"
    help_text = " ".join((param.help or "").split())
    return f"`{names}`", escaped(help_text), default


def escaped(text: str) -> str:
    """Text in which nothing is markup but code between backquotes."""
    return re.sub(r"(`[^`]*`)|([\\*_<>\[\]#])", lambda found: found[1] or "\\" + found[2], text)


class Page(HTMLParser):
    """The anchors of a page and the links that it holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids and links."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Every link of the HTML files below `site` that leads to no file or no anchor there, as "PAGE: LINK"."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else None
            fragment = unquote(parts.fragment)
            if not target.is_file() or (anchors is not None and fragment and fragment not in anchors):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


def main() -> int:
    """Build the site; return the exit code."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT)
    if done.returncode:
        return 1
    broken = broken_links(SITE)
    print("\n".join([*broken, f"{SITE / 'index.html'}: {len(broken)} broken links"]))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
