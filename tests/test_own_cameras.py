"""The tutorial on own cameras: its commands and Python run in their order, on the smallest simulated videos."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from vreid.cli import main
from vreid.data.cameras import read_cameras

PAGE = (Path(__file__).parents[1] / "docs" / "guides" / "own_cameras.md").read_text(encoding="utf-8")
SMALLEST = shlex.split(
    "--device cpu --set epochs=1 --set iterations=1 --set repeats=1 --set num_identities=2 --set num_instances=2"
)
STEPS = re.findall(r"^    (vreid [^\n]*)$|^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def answer_pairs(folder: Path) -> None:
    """Write answers.csv, as a browser saves it, from the truth."""
    from vreid import Store
    from vreid.store.labelling import questions

    with open(folder / "city" / "truth.csv", newline="") as file:
        vehicle = {row["tracklet"]: row["vehicle"] for row in csv.DictReader(file)}
    with Store.open(folder / "site", read_only=True) as store:
        pairs = questions(store.vectors, 10, seed=0)
    lines = [f"{a},{b},{'yes' if vehicle[a] == vehicle[b] else 'no'}\n" for a, b in pairs]
    (folder / "answers.csv").write_text("first,second,answer\n" + "".join(lines))


def test_the_tutorial_runs(
    videos_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    shutil.copytree(videos_world, tmp_path / "city")
    monkeypatch.chdir(tmp_path)
    printed = {}
    for line, block in STEPS:
        if block:
            exec(compile(block, "own_cameras.md", "exec"), {})
            printed[block] = capsys.readouterr().out
            continue
        if "--answers" in line:
            answer_pairs(tmp_path)
        words = shlex.split(line.replace("--layout videos", "--layout videos --preset tiny"))
        monkeypatch.setattr(sys, "argv", words + (SMALLEST if words[1] == "adapt" else []))
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert not stopped.value.code, (line, captured)
        printed[line] = captured.out
    assert len(STEPS) >= 12
    assert "15 tracklets" in printed["vreid store info site"]
    assert "c003/1" in printed["vreid search site c001/3"]
    assert (tmp_path / "hits.html").stat().st_size > 10_000
    (told,) = (text for step, text in printed.items() if step.startswith("import csv"))
    right, asked = (int(number) for number in re.findall(r"\d+", told)[:2])
    assert asked >= 12 and right >= 0.5 * asked


def test_its_table_of_cameras_is_read(tmp_path: Path) -> None:
    (table,) = re.findall(r"^    (camera,file,[^\n]*)\n    ([^\n]*)$", PAGE, flags=re.MULTILINE)
    path = tmp_path / "cameras.csv"
    path.write_text("\n".join(table) + "\n")
    north = read_cameras(path)["north"]
    assert (north.start, north.frame_rate, north.offset, north.heading) == (1_777_611_600.0, 25.0, -1.5, 180.0)
