"""Errors of the system: full disks, closed outputs, ASCII-only terminals."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from support.command_line import SMALLEST, Run, reported, state
from vreid.errors import InputError
from vreid.files import atomic_write, write_json, write_text
from vreid.simulator.render.sheet import SHEETS

# ---------------------------------------------------------------- a full disk


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writing fails half-way, with EFBIG, wherever it is done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pictures(folder: Path) -> Path:
    """A table of twelve vehicles, each seen by two cameras, and their images."""
    rows = ["path,identity,camera,split"]
    for number in range(24):
        Image.new("RGB", (24, 24), (10 * number, 100, 200)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{number // 2},{number % 2},train")
    (folder / "vehicles.csv").write_text("\n".join(rows) + "\n")
    return folder / "vehicles.csv"


WRITERS = {
    "sheet {new}/a.png --kind closeup": "a.png",
    "rank {made}/features --out {new}/a.csv": "a.csv",
    "rank {made}/features --out {new}/a.safetensors": "a.safetensors",
    "report {made}/features --out {new}/a.html": "a.html",
    "submission write {made}/features --out {new}/a.txt": "a.txt",
    "check {table} --page {new}/a.html": "a.html",
    "simulate {new}/a --preset tiny --workers 1": "",
    f"train small --data {{table}} --out {{new}}/a {SMALLEST}": "",
    "extract {made}/run {world} --out {new}/a": "",
    "data split {table} --hold-out identities --count 3 --out {new}/a": "",
}


@pytest.mark.parametrize("size", [40, 300, 1500])
@pytest.mark.parametrize("line", WRITERS)
def test_a_full_disk(
    line: str,
    size: int,
    run: Run,
    sketch: object,
    made: Path,
    tiny_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if line.startswith("data split") and size == 1500:
        pytest.skip("its lists are shorter than that")
    table = pictures(tmp_path)
    new = tmp_path / "new"
    new.mkdir()
    monkeypatch.setitem(SHEETS, "closeup", lambda rng: Image.effect_noise((90, 90), 50))
    if WRITERS[line]:
        (new / WRITERS[line]).write_text("what was there before")
    before = state(tmp_path)
    with full_disk(size):
        outcome = run(line.format(made=made, world=tiny_world, table=table, new=new))
    reported(outcome, f"{new}/a", "(File too large); free some space and run it again.")
    assert state(tmp_path) == before


def test_a_run_stopped_by_a_full_disk_can_be_resumed(run: Run, tmp_path: Path) -> None:
    table = pictures(tmp_path)
    line = f"train small --data {table} --out {tmp_path}/r {SMALLEST}"
    assert run(line).code == 0
    model, metrics = tmp_path / "r" / "model.safetensors", tmp_path / "r" / "metrics.jsonl"
    whole, lines = model.read_bytes(), metrics.read_text()
    model.unlink()
    with full_disk(len(whole) // 2):  # its checkpoint is there, the model no longer fits
        outcome = run(f"{line} --resume")
    reported(
        outcome._replace(err=outcome.err.partition("\n")[2]), "model.safetensors: cannot be written (File too large)"
    )
    assert not list((tmp_path / "r").rglob("*.partial"))
    assert run(f"{line} --resume").code == 0
    assert model.read_bytes() == whole
    assert metrics.read_text() == lines


def test_the_demo_can_be_resumed_after_a_full_disk(run: Run, sketch: object, tmp_path: Path) -> None:
    line = f"demo --out {tmp_path}/demo --preset tiny {SMALLEST}"
    with full_disk(400_000):  # images and features fit, the checkpoint does not
        outcome = run(line)
    assert "\nInitial weights: " in outcome.err, outcome
    reported(
        outcome._replace(err=outcome.err.splitlines(keepends=True)[-1]), f"{tmp_path}/demo/run/", "(File too large)"
    )
    assert not list(tmp_path.rglob("*.partial"))
    assert run(line).code == 0


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_the_last_steps_of_writing_can_fail_too(
    step: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_json(file, 1)

    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match=rf"a.json: cannot be written \({os.strerror(code)}\); "):
        write_json(file, 2)
    assert os.listdir(tmp_path) == ["a.json"]
    assert file.read_text() == "1\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_failed_write_keeps_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "before")
    with pytest.raises(error), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["a.txt"]
    assert file.read_text() == "before"


def test_undecodable_names_survive_json(tmp_path: Path) -> None:
    from vreid.files import read_json

    write_json(tmp_path / "a.json", {"path": "a\udc80b", "street": "Straße"})
    assert read_json(tmp_path / "a.json") == {"path": "a\udc80b", "street": "Straße"}


# ---------------------------------------------------------------- standard output and its encoding


def typed(line: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vreid", *shlex.split(line)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", **options)  # type: ignore[call-overload, no-any-return]


def test_a_closed_pipe(tmp_path: Path) -> None:
    process = typed(f"check {pictures(tmp_path)} --json", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 141)


def test_output_to_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        process = typed(f"check {pictures(tmp_path)}", stdout=full)
        assert process.communicate()[1] == (
            "vreid: the output: cannot be written (No space left on device); free some space and run it again.\n"
        )
    assert process.returncode == 2


def test_output_that_is_closed(tmp_path: Path) -> None:
    line = f"{sys.executable} -m vreid check {pictures(tmp_path)} >&-"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) in [(0, ""), (1, "")]


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    table = pictures(tmp_path)
    street = tmp_path / "Straße.csv"
    table.rename(street)
    street.write_text(street.read_text().replace("\n0.png", "\nstraße.png"), encoding="utf-8")
    (tmp_path / "0.png").rename(tmp_path / "straße.png")
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for line, code in (
        (f"check {street}", {0, 1, 2}),
        (f"check {street} --json", {0, 1, 2}),
        (f"check {tmp_path}/Gäßchen", {2}),
        (f"data split {street} --hold-out identities --count 3 --out {tmp_path}/Gäßchen", {0, 2}),
    ):
        process = typed(line, stdout=subprocess.PIPE, env=ascii_only)
        err = process.communicate()[1]
        assert process.returncode in code
        assert err == "" if process.returncode < 2 else err.startswith("vreid: ") and err.count("\n") == 1, err


# ---------------------------------------------------------------- mistakes of our own


def test_an_internal_error_is_one_sentence_with_a_hint(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*arguments: object) -> None:
        raise ZeroDivisionError("by zero\nindeed")

    monkeypatch.setattr("vreid.retrieval_run.RetrievalRun.evaluate", mistaken)
    with pytest.raises(ZeroDivisionError):
        run(f"evaluate {made}/features")
    monkeypatch.setattr(pytest.MonkeyPatch, "setenv", lambda *arguments: None)
    monkeypatch.delenv("VREID_TRACEBACK")
    outcome = run(f"evaluate {made}/features")
    assert outcome.code == 70
    assert outcome.err == (
        "vreid: internal error (ZeroDivisionError: by zero indeed); set VREID_TRACEBACK=1 and run the same command "
        "again to see the traceback, and please report it.\n"
    )


def test_out_of_memory_is_one_sentence(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):

        def hungry(*arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("vreid.retrieval_run.RetrievalRun.evaluate", hungry)
        reported(run(f"evaluate {made}/features"), "out of memory")
