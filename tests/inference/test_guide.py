"""The guide on embedding: its Python blocks run in their order on a tiny model."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from support.tiny_model import picture, write_model
from vreid.inference.embedder import load_model
from vreid.retrieval.evaluation.calibration import Rate, Threshold

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "embedder.md"


@pytest.mark.usefixtures("one_thread")
def test_the_blocks_of_the_guide_run(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the extra adapt is not installed")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    plain = write_model(tmp_path / "plain.safetensors")
    rate = Rate(0.01, 0.008, 0.001, 0.02, 500, 100)
    made_by = load_model(plain).made_by
    threshold = Threshold(0.2, 0.5, rate, rate, 0.95, made_by, (), "market", 1000)
    stored = {"kind": "threshold", **asdict(threshold)}
    calibrated = write_model(tmp_path / "calibrated.safetensors", threshold=stored)
    names = {"MODEL": plain, "CALIBRATED": calibrated, "frame": picture(80, 120)}
    exec(compile("\n".join(blocks), str(GUIDE), "exec"), names)
    assert names["of_video"].shape == (3, 64) and str(names["answer"]).startswith("MATCH")
