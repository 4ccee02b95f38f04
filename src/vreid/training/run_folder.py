"""Run folder of a training: configuration, data, environment, metrics, checkpoints and the trained model.

RUN/config.json          the resolved configuration
RUN/data.json            fingerprint and counts of the training images
RUN/environment.json     versions, revision, device, threads, number type
RUN/metrics.jsonl        one line every few steps and one per epoch
RUN/tensorboard/         the same values for TensorBoard, if enabled
RUN/checkpoints/         the last two checkpoints, named by step
RUN/best.safetensors     weights of the best epoch, if they are kept, until the run is complete
RUN/model.safetensors    the trained model; a run that has it is complete
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import torch

import vreid
from vreid.errors import InputError
from vreid.files import read_json, write_json, writing
from vreid.locks import LOCK, locked
from vreid.progress import Progress
from vreid.training.precision import AS_SET, PrecisionChoice

KEPT_CHECKPOINTS = 2


class RunFolder:
    """One run's folder, new or resumed.

    Args:
        path: the folder; created if it does not exist.
        config, data: plain values of config.json and data.json; a resumed run must have equal ones.
        resume: continue the run in the folder, or start it; without `resume` the folder must be empty.
        tensorboard: also write the lines of metrics.jsonl for TensorBoard.
        writes: hold the folder's lock until `close`, unless the run is complete; False for a process that only reads.

    Raises:
        InUse: another process writes into the folder.
        InputError: the folder holds something and `resume` is off, or it holds another run than the one asked for, or
            TensorBoard is not installed.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        config: dict[str, Any],
        data: dict[str, Any],
        resume: bool,
        tensorboard: bool = False,
        writes: bool = True,
    ) -> None:
        self.path = Path(path)
        self.model = self.path / "model.safetensors"
        self.best = self.path / "best.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.precision_note = ""
        """The number type and the reason for it, in a sentence; "" where the user has set it."""
        self._metrics: IO[bytes] | None = None
        self._board: Any = None
        self._held = ExitStack()
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; name a folder for the run.")
        if writes and not self.model.is_file():  # else there is nothing to write
            self._held.enter_context(locked(self.path))
        try:
            self._new = self._checked(config, data, resume)
            self._board_of = _summary_writer() if tensorboard else None
        except BaseException:
            self.close()
            raise

    def _checked(self, config: dict[str, Any], data: dict[str, Any], resume: bool) -> dict[str, Any] | None:
        """Return the files that describe a new run; None if the folder already holds this run."""
        started = (self.path / "config.json").exists()
        there = {entry.name for entry in self.path.iterdir()} - {LOCK} if self.path.exists() else set[str]()
        if not resume and there:
            raise InputError(f"{self.path}: is not empty; name another folder, or resume the run that lies there.")
        for file in (self.model, self.best, self.metrics):  # opening a pipe would block
            if file.exists() and not file.is_file():
                raise InputError(f"{file}: is no file, but a folder, a pipe or a device; move it away.")
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise InputError(f"{self.checkpoints}: is not a folder; move it away.")
        if started:
            self._require_equal("config.json", config)
            self._require_equal("data.json", data)
        elif {name for name in there if not name.startswith(".")} - {"data.json"}:
            # A run that was killed while starting has only data.json (or a hidden, partial file).
            raise InputError(f"{self.path}: holds no run (no config.json); name the folder of a run.")
        return None if started else {"data.json": data, "config.json": config}

    def begin(self) -> None:
        """Write config.json and data.json of a new run, after its inputs have been checked."""
        for name, value in (self._new or {}).items():
            write_json(self.path / name, value)

    def abandon(self) -> None:
        """Remove the files of a new run that has no checkpoint, so that it can be started again."""
        if self._new is None or self.checkpoint_paths():
            self.close()
            return
        for name in (*self._new, "environment.json", self.metrics.name, self.best.name):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        for folder in (self.checkpoints, self.path):
            with suppress(OSError):  # absent, or holds what is not ours
                folder.rmdir()
            self.close()  # the lock lies in the second

    def _require_equal(self, name: str, asked: dict[str, Any]) -> None:
        stored = read_json(self.path / name)
        differences = sorted(_differences(stored, asked))
        if differences:
            key, before, now = differences[0]
            more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
            raise InputError(
                f"{self.path / name}: the run has {key} = {before} but {now} is asked for{more}; "
                "resume it as it was started, or start another run."
            )

    def environment(self, current: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Return the environment in which the run was started (`current` for a new run); report differences.

        The caller must use the number type of the returned environment.
        """
        file = self.path / "environment.json"
        if not file.exists():
            write_json(file, current)
            if current["precision_reason"] != AS_SET:
                self.precision_note = f"Precision {current['precision']}: {current['precision_reason']}."
            return current
        stored: dict[str, Any] = read_json(file)
        if not isinstance(stored, dict) or stored.get("precision") not in ("float32", "bfloat16"):
            raise InputError(f"{file}: is damaged (no precision); start another run.")
        changed = [
            f"{key} {stored.get(key)} -> {value}"
            for key, value in current.items()
            if not key.startswith("precision") and stored.get(key) != value
        ]
        if stored["precision"] != current["precision"]:
            self.precision_note = f"Precision {stored['precision']}: as at the start of the run."
        if changed:
            progress.note(f"Resumed elsewhere ({', '.join(changed)}): the weights will not be equal to the last bit.")
        return stored

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with writing(self.metrics):
            if self._metrics is None:
                self._metrics = open(self.metrics, "ab")  # noqa: SIM115 (open for the whole run)
            self._metrics.write(json.dumps(line).encode() + b"\n")
            self._metrics.flush()
            if self._board_of is not None:
                self._show(self._board_of, line)

    def _show(self, board_of: Callable[..., Any], line: dict[str, Any]) -> None:
        if self._board is None:  # a resumed run takes back what was shown after its checkpoint
            self._board = board_of(str(self.path / "tensorboard"), purge_step=line["step"])
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)):
                self._board.add_scalar(f"{line['event']}/{name}", value, line["step"])

    def metrics_size(self) -> int:
        """Return the bytes of metrics.jsonl, which a checkpoint stores so that a resumed run repeats no line."""
        if self._metrics is not None:
            with writing(self.metrics):
                os.fsync(self._metrics.fileno())  # a checkpoint must not outlive the lines before it
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def cut_metrics(self, size: int) -> bool:
        """Remove the lines written after a checkpoint; return whether all lines before it exist."""
        there = self.metrics_size()
        with writing(self.metrics):
            if there > size:
                os.truncate(self.metrics, size)
            elif 0 < there < size and not self.metrics.read_bytes().endswith(b"\n"):
                with open(self.metrics, "ab") as file:  # the next line must not continue half a one
                    file.write(b"\n")
        return there >= size

    def close(self) -> None:
        """Close metrics.jsonl and the TensorBoard writer, and release the folder's lock."""
        if self._board is not None:
            self._board.close()
            self._board = None
        if self._metrics is not None:
            with suppress(OSError):  # each line has been flushed, with an error if that failed
                self._metrics.close()
            self._metrics = None
        self._held.close()

    def checkpoint_path(self, step: int) -> Path:
        """Return the path of the checkpoint after `step` steps."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def checkpoint_paths(self) -> list[Path]:
        """Return the existing checkpoints, newest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True)

    def set_aside(self, path: Path) -> Path:
        """Rename an unreadable checkpoint (file or folder) to NAME.broken."""
        aside = path.with_name(path.name + ".broken")
        with writing(path):
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside)
            os.replace(path, aside)
        return aside

    def prune_checkpoints(self) -> None:
        """Remove all but the newest two (the last but one survives a disk that loses the last)."""
        for old in self.checkpoint_paths()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)
        for partial in self.checkpoints.glob(".*.partial"):  # left by a killed process
            partial.unlink(missing_ok=True)


def _summary_writer() -> Callable[..., Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "TensorBoard is not installed; pip install 'vehicle-reid[tensorboard]', or train without it: "
            "metrics.jsonl in the run folder holds the same numbers."
        ) from error
    return SummaryWriter


def environment(device: torch.device, precision: PrecisionChoice, processes: int = 1) -> dict[str, Any]:
    """Describe the environment that affects the exact weights, besides configuration and data."""
    return {
        "vreid": vreid.__version__,
        "revision": revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": precision.dtype,
        "precision_reason": precision.reason,
    }


def revision() -> str | None:
    """Return the git revision of vreid's source tree, with "+" if files are modified; None if installed."""
    root = Path(vreid.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ("git", "--no-optional-locks", "-C", str(root))  # a killed process must not leave the tree's index locked
    try:
        answers = [
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=10)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0].stdout.strip() + ("+" if answers[1].stdout.strip() else "")


def _differences(stored: Any, asked: Any, key: str = "") -> list[tuple[str, str, str]]:
    if isinstance(stored, dict) and isinstance(asked, dict):
        found = []
        for name in {*stored, *asked}:
            found += _differences(stored.get(name), asked.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if stored == asked else [(key, json.dumps(stored), json.dumps(asked))]
