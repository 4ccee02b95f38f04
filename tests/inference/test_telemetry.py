"""onnxruntime's usage data: none are collected or sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
SCRIPT = "import vreid, PIL.Image as p; vreid.load_model().embed(p.new('RGB', (60, 40)))"


def test_embedding_leaves_no_usage_data(tmp_path: Path) -> None:
    """onnxruntime keeps what it will send in a data base below the user's cache folder."""
    known = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run([sys.executable, "-c", SCRIPT], env={**known, "HOME": str(tmp_path)}, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_a_setting_of_the_user_is_kept(given: str | None, found: str) -> None:
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    script = "import os, vreid; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    setting = {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run(
        [sys.executable, "-c", script], env=known | setting, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
