"""The page on adding to vreid is done to a copy of the package, and what it says to try is tried."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guides" / "extending.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^(?:new `(?P<new>[^`]+)`|in `(?P<file>[^`]+)` after `(?P<line>[^`]+)`|(?P<try>try))"
    r"\n\n```python\n(?P<code>.*?)```$",
    flags=re.DOTALL | re.MULTILINE,
)
SECTIONS = {text.split("\n", 1)[0]: text for text in PAGE.split("\n## ")[1:]}


def steps(text: str) -> Iterator[re.Match[str]]:
    found = list(STEP.finditer(text))
    assert text.count("```python") == len(found), "a block of the page is introduced in other words"
    yield from found


def test_the_page_has_its_sections() -> None:
    sections = ["Without a fork: a plugin", "A data set", "A loss", "A backbone", "A post-processing step"]
    assert list(SECTIONS) == sections
    assert all(sum(step["try"] is not None for step in steps(text)) == 1 for text in SECTIONS.values())


@pytest.mark.parametrize("section", SECTIONS)
def test_examples_of_the_page_work(section: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "vreid", tmp_path / "src" / "vreid", ignore=shutil.ignore_patterns("__pycache__"))
    for step in steps(SECTIONS[section]):
        if step["new"]:
            (tmp_path / step["new"]).write_text(step["code"], encoding="utf-8")
        elif step["file"]:
            path = tmp_path / step["file"]
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            assert lines.count(step["line"] + "\n") == 1, f"{step['file']} has not one line {step['line']!r}"
            place = lines.index(step["line"] + "\n") + 1
            path.write_text("".join([*lines[:place], step["code"], *lines[place:]]), encoding="utf-8")
        else:
            command = [sys.executable, "-c", step["code"]]
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env={"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
