"""The import rules of docs/architecture.md, read from the source: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vreid"
FILES = sorted(SOURCE.rglob("*.py"))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([\w.]+)`")
HEAVY = {"torch", "torchvision", "timm", "matplotlib", "sklearn", "scipy", "PIL", "jinja2", "pandas"}


def layers() -> dict[str, set[str] | None]:
    """What each package may import besides itself, as the page says it, bottom up; None: anything."""
    head, _, *rows = ARCHITECTURE.partition("| package | ")[2].partition("\n\n")[0].splitlines()
    found: dict[str, set[str] | None] = {}
    for row in rows:
        packages, _, permitted = row.strip("|").split("|")
        names = {*NAME.findall(head), *NAME.findall(permitted)}
        found |= dict.fromkeys(NAME.findall(packages), None if "anything" in permitted else names)
    return found


LAYERS = layers()


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(file: Path, *, at_import_time: bool = False) -> set[str]:
    """Modules that `file` imports; with `at_import_time` only those that run when it is imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_time:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                return
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write it out"
            assert all(alias.name != "*" for alias in node.names), f"{file}: import *"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def allowed(name: str, own: str, permitted: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in permitted | {own})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_follow_the_layers(file: Path) -> None:
    name = module_name(file)
    package = name.split(".")[0]
    if not name or package == "__main__":
        return
    assert package in LAYERS, f"{file}: {package} has no place in the layers"
    permitted = LAYERS[package]
    if permitted is None:
        return
    modules = {module_name(other) for other in FILES}
    for target in imports(file):
        if target.startswith("vreid."):
            inner = target.removeprefix("vreid.")
            # `from vreid.data import records` names a module, `from vreid.errors import InputError` a thing in one.
            inner = inner if inner in modules else inner.rpartition(".")[0]
            assert not inner or allowed(inner, package, permitted), f"{file} must not import vreid.{inner}"


def test_layers_stand_bottom_up() -> None:
    order = list(LAYERS)
    assert set(order) == {module_name(file).split(".")[0] for file in FILES} - {"", "__main__"}
    for package, permitted in LAYERS.items():
        whole = {
            name
            for name in permitted or ()
            if package
            not in (
                "errors",
                "names",
                "ranges",
                "files",
                "object_storage",
                "locks",
                "formatting",
                "formats",
                "progress",
            )
        }
        assert whole <= set(order[: order.index(package)]), f"{package} may import what stands above it"


@pytest.mark.parametrize("file", [f for f in FILES if module_name(f).startswith("retrieval")], ids=lambda f: f.name)
def test_retrieval_needs_numpy_and_scipy_only(file: Path) -> None:
    light = {"numpy", "scipy", "vreid", "safetensors", "__future__"}
    for target in imports(file, at_import_time=True):
        top = target.split(".")[0]
        assert top in light or top in sys.stdlib_module_names, f"{file} imports {target}"


def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports.

    Imports inside functions and for type checkers count: whoever reads a file has to follow them too.
    """
    graph = {}
    modules = {module_name(file): file for file in FILES}
    for name, file in modules.items():
        targets = {t.removeprefix("vreid.") for t in imports(file) if t.startswith("vreid.")}
        # `from vreid.report import figures` needs the module figures, not what the package exports.
        parents = {t.rpartition(".")[0] for t in targets if t in modules}
        graph[name] = {t for t in targets - parents if t in modules and t != name}
    return graph


GRAPH = import_graph()


def check_no_circle(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in sorted(graph[name]):
                walk(target, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_no_import_circle() -> None:
    check_no_circle(GRAPH)


@pytest.mark.parametrize("package", sorted({name.split(".")[0] for name in GRAPH if "." in name}))
def test_folders_of_a_package_have_no_import_circle(package: str) -> None:
    """Inside a package, all modules of a folder count as one."""
    graph: dict[str, set[str]] = {}
    for name, targets in GRAPH.items():
        if name.startswith(f"{package}."):
            folders = {target.split(".")[1] for target in targets if target.startswith(f"{package}.")}
            graph.setdefault(name.split(".")[1], set()).update(folders - {name.split(".")[1]})
    check_no_circle(graph)


def test_nearest_neighbours_have_one_entry() -> None:
    """Modules of retrieval/nearest are imported in it, in its own tests and in benchmarks; all others import it."""
    inside = {"src/vreid/retrieval/nearest", "tests/retrieval/nearest"}
    modules = {f"vreid.{name}" for name in GRAPH if name.startswith("retrieval.nearest.")}
    for file in sorted(path for top in ("src", "tests", "studies") for path in (ROOT / top).rglob("*.py")):
        if str(file.parent.relative_to(ROOT)) not in inside:
            assert not imports(file) & modules, f"{file}: import from vreid.retrieval.nearest"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_house_style(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ".cuda(" not in text, f"{file}: a device is an argument"
    if module_name(file) != "console":
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        assert "rich.console" not in text, f"{file}: vreid.console has the console that escapes control characters"
        assert not [c for c in calls if c.func.id == "print"], f"{file}: only vreid.console prints"  # type: ignore[attr-defined]


NAMED_TUPLE = ("_replace", "_asdict", "_fields")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LEVELS = ("cli.", "recipes.", "reproduce.tables.")
"""Where a module may have the name of the library's module that it offers, sets or tabulates."""


def test_no_two_modules_share_a_name() -> None:
    places: dict[tuple[str, str], list[str]] = {}
    for file in FILES:
        name = module_name(file)
        level = next((level for level in LEVELS if name.startswith(level)), "library")
        if file.stem != "__init__":
            places.setdefault((level, file.stem), []).append(name)
    assert not [names for names in places.values() if len(names) > 1]


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(module_name(file))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_tests_mirror_the_source() -> None:
    """A folder with tests stands for the package of that path."""
    for file in TESTS:
        folder = file.parent.relative_to(ROOT / "tests")
        if file.name.startswith("test_"):
            assert (SOURCE / folder / "__init__.py").is_file(), f"{file}: there is no package vreid/{folder}"


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_tests_import_no_other_test(file: Path) -> None:
    """Worlds and helpers that several tests share stand in tests/support; slow oracles in tests/oracles."""
    shared = {"support", "oracles", "soak"}
    for target in imports(file, at_import_time=True):
        top = target.split(".")[0]
        if top not in shared | set(sys.stdlib_module_names):
            assert not top.startswith("test_"), f"{file} imports the test file {top}"
            assert importlib.util.find_spec(top), f"{file} imports {top}, which is neither installed nor in {shared}"


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_tests_use_public_names(file: Path) -> None:
    """No private name of vreid is imported, read or patched; what a test needs to reach is public."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [name for target in imports(file) for name in target.split(".") if target.startswith("vreid.")]
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vreid")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            names.append(node.attr)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr"):
            patched = [part.value for part in node.args[:2] if isinstance(part, ast.Constant)]
            names += [name for value in patched for name in str(value).split(".")]
    private = [name for name in names if re.match("_[^_]", name) and name not in NAMED_TUPLE]
    assert not private, f"{file} uses {private}: give the module a public name for it"


def test_both_papers_can_be_read_in_an_hour() -> None:
    section = ARCHITECTURE.partition("## Read it in an hour")[2].partition("\n## ")[0]
    names = re.findall(r"^\| `([\w/.]+)` \|", section, re.MULTILINE)
    assert len(names) == 9
    for name in names:
        assert (SOURCE / name).is_file(), f"the page names {name}"


def test_the_walk_of_the_architecture_page_leads_through_the_imports() -> None:
    """Each file is imported by one before it, and none imports an entry of the walk: nothing climbs back."""
    section = ARCHITECTURE.partition("## From a folder to mAP")[2].partition("\n## ")[0]
    walk = re.findall(r"^\| `([\w/.]+)` \|", section, re.MULTILINE)
    entries = {"data/open.py", "workflow.py"}
    assert len(walk) == len(set(walk)) <= 12 and entries < set(walk)
    doors = {"vreid." + name.removesuffix(".py").replace("/", ".") for name in entries}
    seen: set[str] = set()
    for name in walk:
        module = "vreid." + name.removesuffix(".py").replace("/", ".")
        assert name in entries or module in seen, f"nothing before {name} on the walk imports it"
        found = imports(SOURCE / name)
        assert not found & doors, f"{name} imports {found & doors}"
        seen |= found


def test_import_vreid_is_light() -> None:
    code = f"import sys, vreid; print(sorted(set(sys.modules) & {HEAVY!r}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "src"}, cwd=ROOT
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_command_line_starts_without_heavy_libraries() -> None:
    code = f"import sys, vreid.cli; print(sorted(set(sys.modules) & {HEAVY | {'numpy'}!r}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "src"}, cwd=ROOT
    )
    assert result.stdout.strip() == "[]", result.stderr
