"""`vreid extract`: options, what it stores with which permissions, what it checks before torch is loaded."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from vreid import __version__
from vreid.object_storage import below, written
from vreid.retrieval.feature_shards import FeatureShards
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval_run import RetrievalRun

ROOT = Path(__file__).parents[2]


@pytest.fixture
def images(tiny_world: Path, tmp_path: Path) -> Path:
    """A folder of eight images without labels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for image in sorted((tiny_world / "AIC21_Track2_ReID/image_test").iterdir())[:8]:
        shutil.copyfile(image, folder / image.name)
    return folder


def test_images_that_are_query_and_gallery_are_stored_once(run: Run, made: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    assert run(f"extract {made}/run {images} --out {out}").code == 0
    assert sorted(os.listdir(out)) == ["features.json", "query.safetensors"]
    search = RetrievalRun.load(out)
    assert search.query is search.gallery and len(search.query) == 8
    assert run(f"rank {out} --out {tmp_path}/ranking.csv").code == 0
    query, gallery = Bias(features=out).sides(search.query.records, search.gallery.records)
    assert np.array_equal(query.features, gallery.features)
    # A folder with both files, as earlier versions wrote it, reads as before.
    shutil.copyfile(out / "query.safetensors", out / "gallery.safetensors")
    facts = json.loads((out / "features.json").read_text())
    del facts["gallery is query"]
    (out / "features.json").write_text(json.dumps(facts))
    assert np.array_equal(RetrievalRun.load(out).gallery.features, search.gallery.features)


@pytest.mark.parametrize("umask", [0o027, 0o002])
def test_file_permissions_follow_the_umask(run: Run, made: Path, images: Path, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for line in (
            f"extract {made}/run {images} --out {tmp_path}/out/features",
            f"rank {tmp_path}/out/features --out {tmp_path}/out/ranking.safetensors",
            f"rank {tmp_path}/out/features --out {tmp_path}/out/ranking.csv",
            f"report {tmp_path}/out/features --out {tmp_path}/out/page.html",
            f"export {made}/run --out {tmp_path}/out/half.safetensors",
        ):
            assert run(line).code == 0
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 6
    wrong = {
        path.name: oct(path.stat().st_mode) for path in files if stat.S_IMODE(path.stat().st_mode) != 0o666 & ~umask
    }
    assert not wrong


def test_batch_size_and_workers_change_nothing_but_rounding(run: Run, made: Path, images: Path, tmp_path: Path) -> None:
    for name, options in (("one", ""), ("two", "--batch-size 3 --workers 1")):
        assert run(f"extract {made}/run {images} --out {tmp_path}/{name} {options}").code == 0
    one, two = (RetrievalRun.load(tmp_path / name).query.features for name in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=0.02)  # bfloat16, where the processor has it
    for option, value in (("--batch-size", 0), ("--workers", -1)):
        outcome = run(f"extract {made}/run {images} --out {tmp_path}/three {option} {value}")
        assert outcome.code == 2 and option in outcome.err and not (tmp_path / "three").exists()


WITHOUT_TORCH = """
import builtins, shlex, sys
importing = builtins.__import__
def without_torch(name, *rest, **options):
    if name.partition(".")[0] == "torch":
        raise ModuleNotFoundError("torch is imported", name="torch")
    return importing(name, *rest, **options)
builtins.__import__ = without_torch  # it is installed, but importing it fails
from vreid.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["vreid", *shlex.split(line)]
    try:
        main()
    except SystemExit as stopped:
        print(f"exit {stopped.code}", file=sys.stderr)
"""


def test_arguments_paths_and_labels_are_checked_before_torch_is_imported(
    made: Path, tiny_world: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("path,identity\nnowhere/1.jpg,4\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("path,identity,camera,split\na.jpg,1\n")
    (tmp_path / "trained.csv").write_text(f"path,identity,split\n{images / os.listdir(images)[0]},1,train\n")
    new, run = tmp_path / "new", made / "run"
    lines = {
        f"extract {run} {images} --out {new} --views sideways": "'sideways' is unknown",
        f"extract {run} {images} --out {new} --views crop": "say where these are",
        f"extract {run} {images} --out {new} --batch-size none": "--batch-size",
        f"extract {run} {tmp_path}/nowhere --out {new}": "nowhere: does not exist",
        f"extract {run} {tmp_path}/table.csv --out {new}": "table.csv",
        f"extract {run} {tmp_path}/trained.csv --out {new}": "has no query images",
        f"extract {run} {tiny_world} --labels {tmp_path}/nowhere.csv --out {new}": "nowhere.csv",
        f"extract {run} {images} --crops {tmp_path}/nowhere.csv --out {new}": "nowhere.csv",
        f"extract {tmp_path}/nowhere {images} --out {new}": "neither a run folder nor",
        f"extract {tmp_path}/nowhere.safetensors {images} --out {new}": "nowhere.safetensors: cannot be read",
        f"extract {tmp_path}/empty {images} --out {new}": "empty: holds no trained model",
        f"extract {run} {images} --out {tmp_path}/labels.csv": "labels.csv: is a file",
        f"train small --data {tmp_path}/nowhere --out {new}": "nowhere: does not exist",
        f"adapt {run} {tmp_path}/nowhere --out {new}": "nowhere: does not exist",
        f"adapt {tmp_path}/nowhere {images} --out {new}": "neither a run folder nor",
        f"extract {run} {images} --out {new}": "needs torch",  # all is well, and here it is imported
    }
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input="\n".join(lines),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    reported = result.stderr.split("exit 2\n")
    assert len(reported) == len(lines) + 1 and reported[-1] == "", result
    for (line, sentence), said in zip(lines.items(), reported, strict=False):
        assert sentence in said, (line, said)
    assert not new.exists()


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert outcome.code == 0 and outcome.out == f"vreid {__version__}\n"
    assert shlex.split(run("info --json").out)[2].rstrip(",") == __version__


def test_sharded_features_are_the_same_here_and_on_object_storage(
    run: Run, made: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    bucket = f"memory://{uuid.uuid4().hex}"
    for image in images.iterdir():
        with written(below(bucket, f"images/{image.name}")) as file:
            shutil.copyfile(image, file)
    assert run(f"extract {made}/run {images} --out {tmp_path}/whole").code == 0
    outcome = run(f"extract {made}/run {images} --out {tmp_path}/shards --sharded --json")
    assert json.loads(outcome.out)["query"].startswith("FeatureShards: 8 x ")
    assert run(f"extract {made}/run {bucket}/images --out {bucket}/features --sharded").code == 0
    whole = RetrievalRun.load(tmp_path / "whole")
    shards = RetrievalRun.load(tmp_path / "shards")
    remote = FeatureShards.open(f"{bucket}/features/query.shards").whole()
    assert (
        shards.query is shards.gallery and shards.facts == whole.facts and shards.query.records == whole.query.records
    )
    for one in (shards.query, remote):
        assert one.features.tobytes() == whole.query.features.tobytes()
    assert remote.records.path[0].startswith(f"{bucket}/images/")
    outcome = run(f"extract {made}/run {images} --out {bucket}/other")
    assert (
        outcome.code == 2 and f"--out {bucket}/other: features on object storage are written in shards" in outcome.err
    )


def test_ray_is_named_where_it_is_missing(run: Run, made: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = run(f"extract {made}/run {images} --out out --ray local")
    assert outcome.code == 2 and "this command needs ray: pip install 'vehicle-reid[ray]'" in outcome.err
    for options, sentence in (("--ray ''", "--ray: the address is empty"), ("--ray-workers 2", "add --ray ADDRESS")):
        outcome = run(f"extract {made}/run {images} --out out {options}")
        assert outcome.code == 2 and sentence in outcome.err
