"""Progress on a terminal of 80 columns, and where there is no terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOB = """
from vreid.progress_bars import ProgressBars
with ProgressBars() as bars:
    bars.start("train resnet101_ibn_a", 12000, 5000)
    bars.advance(6345, "epoch 120/120, loss 10.1, 12345 img/s")
    bars.log("epoch 119/120: loss 10.123, 12345 images/s, 139.9 GiB, 2 h 3 min left")
    bars.start("extract", 50000)
    bars.advance(12345)
    bars.note("A sentence worth reading.")
"""


def environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**plain, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm"}


def test_progress_is_readable_at_80_columns() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", JOB], stderr=theirs, env=environment()) as job:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
    os.close(ours)
    assert job.returncode == 0
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).replace("\r", "\n").splitlines()
    training, extraction = ([line for line in frames if line.startswith(name)][-1] for name in ("train", "extract"))
    assert max(map(len, frames)) <= 80 and "\N{HORIZONTAL ELLIPSIS}" not in text.decode()
    assert re.search(r"95% .* left epoch 120/120, loss 10.1, 12345 img/s *$", training), training
    assert "12,345/50,000" in extraction and "25%" in extraction
    assert not any(line.startswith("epoch") for line in frames)  # the bar says it
    assert "A sentence worth reading." in frames


def test_without_a_terminal_each_part_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr.splitlines() == [
        "epoch 119/120: loss 10.123, 12345 images/s, 139.9 GiB, 2 h 3 min left",
        "A sentence worth reading.",
    ]
