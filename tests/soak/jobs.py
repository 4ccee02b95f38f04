"""What the campaigns run: small jobs, each with the files that it must end in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from soak import children

KEPT = ("event", "epoch", "step", "loss", "learning_rate")
"""Of a line of metrics.jsonl: what does not depend on the clock."""
SETTINGS = (
    "--set epochs=3 --set num_identities=4 --set num_instances=2 --set transform.height=32 --set transform.width=32 "
    "--set model.backbone=resnet10_ibn_a_tiny --set model.weights= --set precision=float32"
)


class Job(NamedTuple):
    """A `vreid` line that makes the folder {out}, of {data} and of the trained {run}."""

    name: str
    line: str


TRAIN = Job("train", f"train small --data {{data}} --out {{out}} --resume --device cpu {SETTINGS}")
EXTRACT = Job("extract", "extract {run} {data} --out {out} --device cpu")
ADAPT = Job("adapt", "adapt {run} {data} --out {out} --resume --device cpu --set iterations=3 --set epochs=2")
SPLIT = Job("split", "data split {data} --hold-out identities --count 3 --out {out}")
SIMULATE = Job("simulate", "simulate {out} --preset tiny --workers 1")
JOBS = (TRAIN, EXTRACT, ADAPT, SPLIT)


class Reference(NamedTuple):
    """What a job that nothing happens to ends in."""

    files: dict[str, bytes]
    events: int
    seconds: float


class Place:
    """The folder of a campaign: data, a trained model, and the references of jobs, each made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data" / "vehicles.csv"
        self.run = folder / "run"
        self._references: dict[str, Reference] = {}
        if not self.data.exists():
            write_data(folder / "data")
        if not (self.run / "model.safetensors").exists():
            self._clean(TRAIN, self.run)

    def line(self, job: Job, out: Path) -> str:
        """The job's line with its folders."""
        return job.line.format(data=self.data, run=self.run, out=out)

    def reference(self, job: Job) -> Reference:
        """Run a job once without a fault."""
        if job.name not in self._references:
            out = self.empty(f"{job.name}-whole")
            ended = self._clean(job, out)
            self._references[job.name] = Reference(contents(out), ended.events, ended.seconds)
        return self._references[job.name]

    def empty(self, name: str) -> Path:
        """A folder of that name that is not there."""
        for path in (self.folder / name, self.folder / f"{name}.partial"):
            shutil.rmtree(path, ignore_errors=True)
        return self.folder / name

    def _clean(self, job: Job, out: Path) -> children.Ended:
        ended = children.run(self.line(job, out), setting=children.at_event(0, children.die))
        if ended.code != 0:
            raise SystemExit(f"soak: {job.name} fails without a fault: {ended.err}")
        return ended


def write_data(folder: Path) -> None:
    """A table of twelve vehicles at two cameras, half of them to be searched, and their noisy images."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = ["path,identity,camera,tracklet,split"]
    for vehicle in range(12):
        colours = rng.integers(0, 256, (2, 1, 1, 3))
        for shot in range(8):
            image = np.repeat(np.repeat(colours, 16, axis=1), 32, axis=2).reshape(32, 32, 3)
            image = np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
            name = f"{vehicle}_{shot}.png"
            Image.fromarray(image).save(folder / name)
            split = "train" if vehicle < 6 else ("query" if shot == 0 else "gallery")
            rows.append(f"{name},v{vehicle},c{shot % 2},t{vehicle}_{shot % 2},{split}")
    (folder / "vehicles.csv").write_text("\n".join(rows) + "\n")


def contents(folder: Path) -> dict[str, bytes]:
    """All that must not depend on what happened on the way: of metrics.jsonl what no clock decides, no checkpoints."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or "checkpoints" in path.parts:
            continue
        data = path.read_bytes()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in data.splitlines()]
            data = json.dumps([[line.get(key) for key in KEPT] for line in lines]).encode()
        found[name] = data
    return found


def differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """What differs between two folders, one entry a file."""
    names = sorted({*found, *wanted})
    return [
        f"{name} {'differs' if name in found and name in wanted else 'is missing' if name in wanted else 'is left'}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


class Counts:
    """What a campaign has done, and what went wrong."""

    def __init__(self, campaign: str) -> None:
        self.campaign = campaign
        self.counts: dict[str, int] = {}
        self.problems: list[str] = []

    def add(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.counts[what] = self.counts.get(what, 0) + number

    def problem(self, round_: int, text: str) -> None:
        """Something is wrong; `round_` repeats it."""
        self.problems.append(f"{text}  [repeat: python -m soak {self.campaign} --first {round_} --rounds 1]")

    def __str__(self) -> str:
        counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        return f"{self.campaign}: {counted or 'nothing'}; {len(self.problems)} problems"


def chance(seed: int, campaign: str, round_: int) -> Random:
    """The draws of one round, whatever was drawn before."""
    return Random(f"{seed} {campaign} {round_}")
