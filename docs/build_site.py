"""Build the documentation site: stage the pages, generate the references, run zensical strictly, check every link.

    python docs/build_site.py

Pages are staged in build/docs: the README as the home page, docs/, the changelog, and generated pages: the command line
reference, the names of steps, protocols and recipes, and the tutorial with its output. Links to other files of the
repository lead to copies. The site is written to site/; it loads nothing from the network and needs no server. Exits 1
if a page or link is broken.
"""

from __future__ import annotations

import contextlib
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
"""Pages in the root of the repository -> their paths in the site."""
TUTORIAL = "guides/first_steps.py"
LINK = re.compile(r"(?<=\]\()(?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?(?=\))")


def stage() -> None:
    """Copy all pages to `STAGE` with rewritten links, and add the generated ones."""
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
    for name, text in (("cli", command_line()), ("names", names_reference())):
        (STAGE / "reference" / f"{name}.md").write_text(text, encoding="utf-8")


def relinked(text: str, source: Path, target: Path, places: Mapping[Path, Path]) -> str:
    """Rewrite links to files from the layout of the repository to that of the site."""

    def moved(link: re.Match[str]) -> str:
        wanted = (source.parent / link["target"]).resolve()
        if urlsplit(link["target"]).scheme or not wanted.is_file():
            return link[0]  # external, or missing, which the strict build reports
        place = places.get(wanted)
        if place is None:
            place = STAGE / "files" / wanted.relative_to(ROOT)
            place = place if place.suffix in (".csv", ".png", ".jpg") else place.with_name(place.name + ".txt")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted, place)
        return Path(os.path.relpath(place, target.parent)).as_posix() + (link["anchor"] or "")

    return LINK.sub(moved, text)


def executed(notebook: Path, target: Path) -> str:
    """Run a percent-format notebook and convert it to Markdown with its output; figures are saved next to `target`."""
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
                pieces.append(f"![Figure of the cell]({picture.name})")
    return "\n\n".join(pieces) + "\n"


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of each cell of a percent-format notebook; kind is "markdown" or "code"."""
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
        else:
            yield "code", body.strip()


def command_line() -> str:
    """Generate the reference of all `vreid` commands as Markdown."""
    import typer

    from vreid.cli import app

    out = ["# Command line", "All commands with their arguments and options, as in `vreid COMMAND --help`."]
    for name, command in commands("vreid", typer.main.get_command(app)):
        out += [f"## {name}", " ".join((command.help or "").split("\n\n")[0].split())]
        rest = (command.help or "").split("\n\n")[1:]
        out += [" ".join(paragraph.split()) for paragraph in rest]
        rows = [parameter(p) for p in command.params if not p.hidden and p.name != "help"]
        if rows:
            arguments = [p.metavar or p.name.upper() for p in command.params if not p.opts[0].startswith("-")]
            out += [f"    {' '.join([name, '[OPTIONS]', *arguments])}"]
            out += [table("option", "description", "default", rows=rows)]
    return "\n\n".join(out) + "\n"


def names_reference() -> str:
    """Generate the reference of steps, presets, protocols and recipes as Markdown, as in `vreid show`."""
    from vreid import names
    from vreid.cli.documentation import documentation
    from vreid.cli.show import meaning

    def rows(kind: str, listed: Iterable[str]) -> list[tuple[str, str]]:
        return [(f"`{name}`", escaped(meaning(kind, name, listed))) for name in listed]

    steps = []
    for name, place in names.STEPS.items():
        found = documentation(place)
        values = ", ".join(f"`{key}={value}`" for key, value in found.defaults.items())
        steps.append((f"`{name}`", values, escaped(found.summary)))
    presets = [(f"`{name}`", f"`{meaning('step-presets', name, ())}`") for name in names.STEP_PRESETS]
    return "\n\n".join(
        [
            "# Names",
            "Names that commands and functions accept; `vreid show KIND NAME` lists the settings behind a name.",
            "## Post-processing steps",
            "For `--post` and `PostProcessing.parse`, in the order in which they run.",
            table("step", "values and defaults", "description", rows=steps),
            "## Presets of post-processing",
            "Published settings of several steps, for `--post`.",
            table("name", "steps", rows=presets),
            "## Protocols",
            "For `--protocol`: what a [protocol](glossary.md#protocol) removes, counts and divides by.",
            table("protocol", "rules", rows=rows("protocols", names.PROTOCOLS)),
            "## Recipes",
            "For `vreid train` and `recipe`.",
            table("recipe", "description", rows=rows("recipes", names.RECIPES)),
            "",
        ]
    )


def table(*head: str, rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield all commands below a group, depth first, with their full names."""
    for word, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(f"{name} {word}", child)
        elif not child.hidden:
            yield f"{name} {word}", child


def parameter(param: Any) -> tuple[str, str, str]:
    """Format an option: name with metavariable, help, default."""
    option = param.opts[0].startswith("-")
    flag = option and param.is_flag
    names = ", ".join([*param.opts, *param.secondary_opts]) if option else param.metavar or param.name.upper()
    names += "" if flag or not option else f" {param.metavar or param.name.upper()}"
    default = "required" if param.required else "" if flag or param.default in (None, "", ()) else f"`{param.default}`"
    help_text = " ".join((param.help or "").split())
    return f"`{names}`", escaped(help_text), default


def escaped(text: str) -> str:
    """Escape Markdown, except for code between backquotes."""
    return re.sub(r"(`[^`]*`)|([\\*_<>\[\]#])", lambda found: found[1] or "\\" + found[2], text)


class Page(HTMLParser):
    """Anchors and links of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect ids and links."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Find links in the HTML files below `site` to missing files or anchors, as "PAGE: LINK"."""
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
