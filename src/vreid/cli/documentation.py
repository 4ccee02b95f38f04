"""Docstrings of steps and recipes, parsed from the source so that help imports neither numpy nor torch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import vreid

_SECTION = re.compile(r"^(?:Args|Attributes|Example|Raises|Returns|Yields):$", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): +(.*)$")


class Documentation(NamedTuple):
    """A parsed docstring.

    Attributes:
        summary: the first paragraph.
        text: everything before the first section, including the summary.
        attributes: descriptions in the Attributes section, by field.
        defaults: defaults of a dataclass's fields in order, as written in the source; "" for a field without.
    """

    summary: str
    text: str
    attributes: Mapping[str, str]
    defaults: Mapping[str, str]

    @property
    def usage(self) -> str:
        """The fields in the syntax of `--post`: "=K1:K2:LAMBDA"; "" if there are none."""
        return "=" * bool(self.defaults) + ":".join(name.rstrip("_").upper() for name in self.defaults)


def documentation(place: str) -> Documentation:
    """Read the docstring of "module:object", a top-level class or function of vreid or of an imported module."""
    module, _, name = place.partition(":")
    if module in sys.modules and (known := sys.modules[module].__file__):
        file = Path(known)
    else:
        file = Path(vreid.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            defaults = {ast.unparse(line.target): _default(line.value) for line in fields}
            return parse(ast.get_docstring(node) or "", defaults if isinstance(node, ast.ClassDef) else {})
    raise LookupError(f"{file} defines no {name}.")


def _default(value: ast.expr | None) -> str:
    """Return the default of a field as source text; `in_range(20, least=1)` has 20."""
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    return ast.unparse(value) if value else ""


def parse(docstring: str, defaults: Mapping[str, str] | None = None) -> Documentation:
    """Parse a docstring without indentation.

    Example:
        >>> parse("One step.\\n\\nAttributes:\\n    a, b: two\\n        numbers").attributes
        {'a': 'two numbers', 'b': 'two numbers'}
    """
    text = docstring[: found.start()] if (found := _SECTION.search(docstring)) else docstring
    attributes: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        if entry := _ENTRY.match(line):
            names = entry[1].split(", ")
            attributes |= dict.fromkeys(names, entry[2])
        elif line.startswith("     "):
            attributes |= {name: f"{attributes[name]} {line.strip()}" for name in names}
        elif line:
            break
    summary = " ".join(text.partition("\n\n")[0].split())
    return Documentation(summary, text.strip(), attributes, defaults or {})
