"""One process writes into a folder; the second is told who, and a killed one leaves nothing behind that locks."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command_line import SMALLEST, Run, reported, state
from vreid.errors import InputError
from vreid.locks import InUse, locked

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys
from vreid.locks import locked
sys.argv = ["/usr/bin/vreid", "train", "small", "--out", "a folder"]
with locked({folder!r}):
    {inside}
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""


@contextmanager
def held_elsewhere(folder: Path, inside: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock of `folder` until its standard input is closed."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(folder=str(folder), inside=inside)],
        env={"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdin is not None
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def test_a_second_process_gets_an_error_that_names_the_holder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held_elsewhere(run) as child:
        with pytest.raises(InUse) as caught, locked(run):
            pass
        sentence = (
            f"{run}: is in use by process {child.pid} on {socket.gethostname()} since DATE "
            "(`vreid train small --out 'a folder'`); wait until it ends, or name another folder."
        )
        assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", "DATE", str(caught.value)) == sentence
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        assert child.stdout.readline() == "released\n"
        with locked(run):
            pass
    assert not run.exists()


def test_what_a_killed_process_left_is_taken_over_at_once(tmp_path: Path) -> None:
    """Also while a process that it forked (a loader, say) is still there."""
    run = tmp_path / "run"
    with held_elsewhere(run, "import os; child = os.fork()\n    if not child: sys.stdin.read(); os._exit(0)") as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert list(run.iterdir()) == [run / ".vreid.lock"]
        (run / f".model.safetensors.{child.pid}.partial").touch()  # what it was writing
        with locked(run):
            (run / "made").touch()
        assert list(run.iterdir()) == [run / "made"]


def test_a_thread_does_not_share_its_process_s_lock_and_asking_does_not_lose_it(tmp_path: Path) -> None:
    """A POSIX lock ends when its process closes any descriptor of the file."""
    refused: list[InputError] = []

    def second() -> None:
        try:
            with locked(tmp_path):
                pass
        except InUse as error:
            refused.append(error)

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert len(refused) == 1 and f"process {os.getpid()} " in str(refused[0])
        asked = subprocess.run(
            [sys.executable, "-c", HOLDER.format(folder=str(tmp_path), inside="pass")],
            env={"PYTHONPATH": str(ROOT / "src")},
            input="",
            capture_output=True,
            text=True,
        )
        assert "InUse" in asked.stderr and asked.stdout == ""
    assert list(tmp_path.iterdir()) == []


def _count(folder: str, turns: int) -> None:
    for _ in range(turns):
        with locked(folder, wait=True):
            file = Path(folder).parent / "count"
            file.write_text(str(int(file.read_text()) + 1))


def test_processes_that_wait_take_turns(tmp_path: Path) -> None:
    """The folder comes and goes with the lock, so that each waits for a file that is removed under it."""
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_count, args=(str(tmp_path / "lock"), 100)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300"


def test_the_folder_may_be_renamed_or_removed_while_it_is_locked(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b").rename(tmp_path / "a" / "c")
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "c"]
    assert list((tmp_path / "a" / "c").iterdir()) == []
    with locked(tmp_path / "d"):
        shutil.rmtree(tmp_path / "d")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize("make", [pipe, link, Path.mkdir])
def test_something_else_in_the_lock_s_place_is_one_sentence(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / ".vreid.lock")
    with pytest.raises(InputError, match="run"), locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_lock_file_does_not_identify_its_holder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        (tmp_path / ".vreid.lock").write_text("[" * 9000)
        with pytest.raises(InUse, match="is in use by another process; wait"), locked(tmp_path):
            pass


COMMANDS = {
    "simulate {out} --preset tiny --workers 1": "out.partial",
    "data split {world}/AIC21_Track2_ReID --hold-out identities --count 3 --out {out}": "out",
    f"train small --data {{world}} --out {{out}} {SMALLEST}": "out",
    f"train small --data {{world}} --out {{out}} --resume {SMALLEST}": "out",
    "adapt {made}/run {world} --out {out}": "out",
    "adapt {made}/run {world} --out {out} --resume": "out",
    "extract {made}/run {world} --out {out}": "out",
    "data crop {made}/run {world}/AIC21_Track2_ReID --out {out}": "out",
    "demo --out {out}": "out",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_that_write_a_locked_folder_are_rejected(
    line: str, run: Run, made: Path, tiny_world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with held_elsewhere(tmp_path / COMMANDS[line]) as child:
        before = state(tmp_path)
        reported(run(line.format(out=out, made=made, world=tiny_world)), f"is in use by process {child.pid} on ")
        assert state(tmp_path) == before


def test_no_lock_is_left_by_what_has_ended(made: Path) -> None:
    assert not list(made.rglob(".vreid.lock"))
