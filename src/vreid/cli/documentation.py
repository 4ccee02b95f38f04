"""What docstrings say of steps and recipes, read from the source: help needs neither numpy nor torch for it."""

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
    """A docstring in parts.

    Attributes:
        summary: its first paragraph.
        text: all before the first section, the summary too.
        attributes: what the Attributes section says of each field.
        defaults: of the fields of a dataclass, in their order, as the source writes them; "" where there is none.
    """

    summary: str
    text: str
    attributes: Mapping[str, str]
    defaults: Mapping[str, str]

    @property
    def usage(self) -> str:
        """The fields as `--post` writes them: "=K1:K2:LAMBDA"; "" if there are none."""
        return "=" * bool(self.defaults) + ":".join(name.rstrip("_").upper() for name in self.defaults)


def documentation(place: str) -> Documentation:
    """Read "module:object", a class or function at the top of a module of vreid, or of one that is imported already."""
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
    """The default of a field; `in_range(20, least=1)` has 20."""
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    return ast.unparse(value) if value else ""


def parse(docstring: str, defaults: Mapping[str, str] | None = None) -> Documentation:
    """The parts of a clean docstring.

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
