"""Damage a file, or put something else in its place: the command must say so in one sentence, or be right.

A command that ends with exit code 0 must give what it gives without the damage: a wrong number without a word is the
worst that can be.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from soak import children
from soak.jobs import EXTRACT, TRAIN, Counts, Place, contents

Damage = Callable[[Path, Random], None]


def empty(path: Path, rng: Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content)) if content else 0])


def flip_a_bit(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def zeros(path: Path, rng: Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def other_bytes(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(path.stat().st_size))


def web_page(path: Path, rng: Random) -> None:
    path.write_bytes(b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n")


def pointer(path: Path, rng: Random) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n")


def odd_json(path: Path, rng: Random) -> None:
    path.write_bytes(rng.choice([b"[]", b"null", b'"\\u001b[31m"', b"1e999", b"{}", b"[" * 100_000, b'{"a": NaN}']))


def folder(path: Path, rng: Random) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


def pipe(path: Path, rng: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def a_socket(path: Path, rng: Random) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has 108 bytes at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def device(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def circle(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def gone(path: Path, rng: Random) -> None:
    path.unlink()


GROSS: tuple[Damage, ...] = (
    empty,
    zeros,
    other_bytes,
    web_page,
    pointer,
    odd_json,
    folder,
    pipe,
    a_socket,
    device,
    circle,
)
"""No reader can take these for what was there."""
FINE: tuple[Damage, ...] = (flip_a_bit, flip_a_bit, cut)
"""Only a hash tells some of these: safetensors files have one."""


class Case(NamedTuple):
    """Files of a copy of what was made, and the command that meets them.

    Attributes:
        line: with {copy}, {data}.
        files: patterns below the copy.
        damages: what may happen to them.
        sound: whether what the command gives must not change where it ends with exit code 0.
    """

    line: str
    files: tuple[str, ...]
    damages: tuple[Damage, ...]
    sound: bool = True


RESUME = TRAIN.line.replace("{out}", "{copy}/stopped")
CASES = (
    Case(RESUME, ("stopped/checkpoints/*",), (*GROSS, *FINE, gone)),
    Case(RESUME, ("stopped/checkpoints/*",), (*GROSS, *FINE, gone)),
    Case(RESUME, ("stopped/*.json*",), GROSS, sound=False),  # an empty metrics.jsonl is a log that was lost
    Case(
        EXTRACT.line.replace("{run}", "{copy}/run").replace("{out}", "{copy}/new"),
        ("run/*.safetensors",),
        (*GROSS, *FINE),
    ),
    Case("evaluate {copy}/features --json", ("features/*.safetensors",), (*GROSS, *FINE)),
    Case("evaluate {copy}/features --json", ("features/*.json",), GROSS, sound=False),
    Case("rank {copy}/features --out {copy}/new.csv", ("features/*",), GROSS, sound=False),
    Case(
        "report {copy}/features --run {copy}/run --out {copy}/new.html",
        ("run/*.json*", "features/*"),
        GROSS,
        sound=False,
    ),
    Case("check {copy}/data/vehicles.csv", ("data/*",), (*GROSS, *FINE, gone), sound=False),
    Case(
        "extract {copy}/run {copy}/data/vehicles.csv --out {copy}/new", ("data/*",), (*GROSS, *FINE, gone), sound=False
    ),
)


def _given(case: Case, copy: Path, ended: children.Ended) -> object:
    if case.line == RESUME:
        return {name: data for name, data in contents(copy / "stopped").items() if name.endswith((".safetensors", "l"))}
    return contents(copy / "new") if (copy / "new").exists() else ended.out


def _copy(place: Place) -> Path:
    base, copy = place.folder / "base", place.empty("copy")
    if not base.exists():
        shutil.copytree(place.folder / "data", base / "data")
        shutil.copytree(place.run, base / "run")
        shutil.copytree(place.run, base / "stopped")
        (base / "stopped" / "model.safetensors").unlink()
        children.run(place.line(EXTRACT, base / "features"))
    shutil.copytree(base, copy)
    return copy


def round_of(number: int, rng: Random, place: Place, counts: Counts, *, timed: bool) -> None:
    """One damage to one file, and one command."""
    case = CASES[number % len(CASES)]
    copy = _copy(place)
    line = case.line.format(copy=copy, data=place.data)
    wanted = None
    if case.sound:
        wanted = _given(case, copy, children.run(line))
        copy = _copy(place)
    files = sorted(path for pattern in case.files for path in copy.glob(pattern) if path.is_file())
    file, damage = rng.choice(files), rng.choice(case.damages)
    damage(file, rng)
    ended = children.run(line)
    about = f"`{case.line.split(' --')[0]}` with {file.relative_to(copy)} {damage.__name__.replace('_', ' ')}"
    counts.add("damaged files")
    if ended.code in (0, 1) and "Traceback" not in ended.err:
        counts.add("taken")
        if case.sound and _given(case, copy, ended) != wanted:
            counts.problem(number, f"{about}: ends with code {ended.code} in something else, without a word")
    elif wrong := ended.refusal():
        counts.problem(number, f"{about}: {wrong}")
    else:
        counts.add("refused")
