"""The README tells the truth: its Python blocks and its `vreid` lines run, at the smallest size."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
LINES = [
    line.split(" #")[0] for line in re.findall(r"^    (vreid .*?)$", README.replace("\\\n", " "), flags=re.MULTILINE)
]
REAL = [line for line in LINES if "AIC21" in line]
"""Lines on folders that nobody can ship: their recipe and files are checked, not run."""
SMALLEST = {"epochs": "1", "num_identities": "4", "transform.height": "32", "transform.width": "32"}


def somebodys_features(folder: Path) -> None:
    """Files of another program: ten queries of one camera, fifty gallery images of another, ten vehicles."""
    features = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    identity, camera = np.arange(60) % 10, np.repeat([0, 1], [10, 50])
    np.save(folder / "features.npy", features)
    np.save(folder / "query.npy", features[:10])
    np.save(folder / "gallery.npy", features[10:])
    np.savez(
        folder / "labels.npz",
        query_identity=identity[:10],
        gallery_identity=identity[10:],
        query_camera=camera[:10],
        gallery_camera=camera[10:],
    )
    rows = [f"{row}.jpg,{identity[row]},{camera[row]},{'query' if row < 10 else 'gallery'}" for row in range(60)]
    (folder / "images.csv").write_text("\n".join(["path,identity,camera,split", *rows]))


def test_the_readme_has_what_is_tried_here() -> None:
    assert len(BLOCKS) >= 2
    assert len(LINES) - len(REAL) >= 11
    assert len(REAL) == 1


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    somebodys_features(tmp_path)
    for name in ("left.jpg", "right.jpg"):
        Image.new("RGB", (90, 60), "red").save(tmp_path / name)
    settings = ", ".join(f"{key!r}: {value!r}" for key, value in SMALLEST.items())
    block = block.replace('preset="demo"', 'preset="tiny"').replace(
        'train("small", data, "town-run")', f'train("small", data, "town-run", settings={{{settings}}})'
    )
    namespace: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), namespace)
    written = all((tmp_path / name).is_file() for name in ("ranking.csv", "report.html"))
    assert written or {"distances", "features"} & namespace.keys()


def test_vreid_lines_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    somebodys_features(tmp_path)
    for line in LINES:
        if line in REAL:
            continue
        words = shlex.split(line.replace("--preset demo", "--preset tiny"))
        if words[1] == "train":
            words += [word for key, value in SMALLEST.items() for word in ("--set", f"{key}={value}")]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code, (line, capsys.readouterr())
    assert {"city", "run", "features", "ranking.csv", "report.html", "track2.txt"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_lines_for_real_folders_name_a_recipe_that_exists() -> None:
    from vreid.recipes import recipe

    words = shlex.split(REAL[0])
    settings = dict(words[i + 1].split("=") for i, word in enumerate(words) if word == "--set")
    assert recipe(words[2], settings).model.weights == "resnet50_ibn_a-d9d0bb7b.pth"


def test_the_tree_names_every_package() -> None:
    packages = {path.name for path in (ROOT / "src" / "vreid").iterdir() if (path / "__init__.py").exists()}
    named = set(re.findall(r"^      (\w+)/ ", README, flags=re.MULTILINE))
    assert named == packages


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
