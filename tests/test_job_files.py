"""Job files and commands of the guide to eight GPUs: their syntax, and their commands against the real parser."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from vreid.cli import app

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
SLURM, KUBERNETES = GUIDES / "jobs" / "slurm.sh", GUIDES / "jobs" / "kubernetes.yaml"
TORCHRUN = ["--standalone", "--nproc-per-node", "-m", "vreid"]


def parsed(words: list[str]) -> dict[str, Any]:
    """The parameters of a vreid command, as its parser reads them."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return dict(command.make_context(command.name, list(words)).params)


def split(line: list[str]) -> tuple[int, list[str]]:
    """The number of processes that torchrun starts, and the words of the vreid command."""
    assert line[0] == "torchrun" and [word for word in line[1:6] if not word.isdigit()] == TORCHRUN
    return int(line[3]), line[6:]


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(    |srun )(torchrun|vreid) ", line)]


def expected(params: dict[str, Any], data: str) -> None:
    assert params["tables"] == ["dmt.1", "dmt.2", "dmt.3", "dmt.4", "dmt.5", "dmt.6"]
    assert params["scale"] == "paper" and params["device"] == "cuda"
    assert [str(path) for path in params["data"]] == [
        f"{data}AIC21_Track2_ReID",
        f"{data}AIC21_Track2_ReID_Simulation",
    ]


def test_the_slurm_script(tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    text = SLURM.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", text, re.MULTILINE))
    assert {"nodes", "ntasks", "gpus-per-node", "cpus-per-task", "mem", "time", "requeue"} <= options.keys()
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')  # prints the words that it is given
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for given in ({}, {"DATA": "/my data"}):
        failed = subprocess.run(["bash", SLURM], env=environment | given, capture_output=True, text=True, check=False)
        assert failed.returncode and ("OUT: set OUT" if given else "DATA: set DATA") in failed.stderr
    both = {"DATA": "/my data", "OUT": "/my results"}
    ended = subprocess.run(["bash", SLURM], env=environment | both, capture_output=True, text=True, check=True)
    processes, words = split(ended.stdout.splitlines())
    assert processes == int(options["gpus-per-node"])
    params = parsed(words)
    expected(params, "/my data/")
    assert str(params["out"]) == "/my results"


def test_the_kubernetes_job() -> None:
    job = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job") and job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "OnFailure" and job["spec"]["backoffLimit"] > 0  # it continues after a kill
    (container,) = pod["containers"]
    assert container["image"] and container["resources"]["limits"].keys() == {"cpu", "memory", "nvidia.com/gpu"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts["shared-memory"] == "/dev/shm"
    assert all(isinstance(one["value"], str) for one in container["env"])
    processes, words = split([*container["command"], *container["args"]])
    assert str(processes) == container["resources"]["limits"]["nvidia.com/gpu"]
    params = parsed(words)
    expected(params, f"{mounts['data']}/")
    assert str(params["out"]) == mounts["results"]


def test_the_commands_of_the_guide() -> None:
    found = commands((GUIDES / "eight-gpus.md").read_text())
    assert len(found) == 9
    for line in found:
        parsed(split(line)[1] if line[0] == "torchrun" else line[1:])
    expected(parsed(split(found[0])[1]), "")


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["table", "dmt.1"], "Missing parameter: out"),
        (["extract", "run", "DATA", "--out", "f", "--gpus", "8"], "No such option"),
    ],
)
def test_a_wrong_command_is_found(words: list[str], reported: str) -> None:
    with pytest.raises(Exception, match=reported):
        parsed(words)
