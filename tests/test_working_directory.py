"""Every command does the same with relative and absolute paths, from any working directory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from support.command_line import SMALLEST, Run
from support.tiny_scale import TINY
from vreid.data.open import open_dataset
from vreid.reproduce.stages import Folders
from vreid.reproduce.tables import scales

REAL, SYNTHETIC = "world/AIC21_Track2_ReID", "world/AIC21_Track2_ReID_Simulation"
COMMANDS = (
    f"check {{in}}/{REAL}",
    f"data split {{in}}/{REAL} --out {{out}}/split",
    "check {out}/split",
    f"train small --data {{in}}/world --out {{out}}/run {SMALLEST} --json",
    f"extract {{out}}/run {{in}}/{REAL} --out {{out}}/features --json",
    "evaluate {out}/features --post other-cameras --json",
    f"evaluate {{out}}/features --post scene-groups=labels:{{in}}/{REAL} --json",
    "rank {out}/features --out {out}/ranked.csv --json",
    "report {out}/features --run {out}/run --out {out}/page.html --json",
    "submission write {out}/features --out {out}/track2.txt --json",
    f"submission check {{out}}/track2.txt --data {{in}}/{REAL}",
    f"submission score {{out}}/track2.txt --data {{in}}/{REAL} --json",
    f"adapt {{out}}/run {{in}}/{REAL} --out {{out}}/adapted --before 0.5 --set epochs=1 --set iterations=1 --json",
    "check {out}/adapted/later.csv",
    "export {out}/run --out {out}/half.safetensors",
    f"table dmt.3 --only 'stage 1' --scale paper --dry-run --data {{in}}/{REAL} --data {{in}}/{SYNTHETIC} "
    "--out {out}/tables",
)


@pytest.mark.usefixtures("one_thread")
def test_every_command_with_relative_and_with_absolute_paths(
    run: Run, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/in").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tiny_world, tmp_path / "here/in/world")
    monkeypatch.setattr(scales, "paper", lambda sources: replace(TINY, data=lambda layout: Folders.of(*sources)))
    places = {
        "here": {"in": "in", "out": "out"},
        "there": {"in": "../here/in", "out": "out"},
        "elsewhere": {"in": str(tmp_path / "here/in"), "out": str(tmp_path / "absolute")},
    }
    codes: dict[str, list[int]] = {}
    for place, paths in places.items():
        monkeypatch.chdir(tmp_path / place)
        codes[place] = []
        for command in COMMANDS:
            done = run(command.format(**paths) + (" --device cpu" if command.startswith(("train", "extract")) else ""))
            assert done.code in (0, 1), (place, command, done.err)
            assert "FAILED" not in done.out and "not there" not in done.out + done.err, (place, command, done.out)
            codes[place].append(done.code)
    assert codes["here"] == codes["there"] == codes["elsewhere"]
    made = [tmp_path / "here/out", tmp_path / "there/out", tmp_path / "absolute"]
    for file in ("run/model.safetensors", "track2.txt", "half.safetensors"):
        assert len({(folder / file).read_bytes() for folder in made}) == 1, file
    for folder in made:  # what was made with relative paths is read from anywhere
        assert all(Path(path).is_file() for path in open_dataset(folder / "adapted/later.csv").gallery.path)
        assert run(f"report {folder}/features --out {tmp_path}/page.html").code == 0
        assert "data:image/jpeg" in (tmp_path / "page.html").read_text(encoding="utf-8")
