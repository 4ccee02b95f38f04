"""Extraction: row order, views, resuming after a kill, and models that must not be mixed."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vreid.data.augment import TestTransform
from vreid.data.dataset import fingerprint
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import write_json
from vreid.models import ReidModel, build, save_weights
from vreid.retrieval import feature_shards
from vreid.retrieval.features import FeatureSet
from vreid.training import feature_job
from vreid.training.extract import extract, load_trained, model_hash

ROOT = Path(__file__).parents[2]
TRANSFORM = TestTransform(height=32, width=32)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:02d}.png" for i in range(23)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(path)
    return Records.of(path=paths, camera=["c1"] * 23)


@pytest.fixture(scope="module")
def model() -> ReidModel:
    torch.manual_seed(0)
    made = build("resnet10_ibn_a_tiny", 5)
    for _ in range(3):  # running statistics unlike those of a fresh model
        made(torch.randn(8, 3, 32, 32))
    return made


def run(model: ReidModel, records: Records, **options: object) -> FeatureSet:
    return extract(model, records, **{"transform": TRANSFORM, "precision": "float32", **options})  # type: ignore[arg-type]


def test_features_are_the_normalised_sum_of_raw_views(model: ReidModel, records: Records) -> None:
    found = run(model, records)
    pictures = torch.stack([TRANSFORM.prepare(Image.open(path).convert("RGB")) for path in records.path])
    images = TRANSFORM.finish(pictures)
    with torch.inference_mode():
        both = model.eval()(images) + model(images.flip(-1))
    np.testing.assert_allclose(found.features, torch.nn.functional.normalize(both).numpy(), atol=2e-5)
    assert found.normalised and found.views == ("original", "flip") and found.records == records
    assert found.model == model_hash(model, TRANSFORM)
    raw = run(model, records, normalise=False)
    np.testing.assert_allclose(raw.features, both.numpy(), rtol=1e-3, atol=1e-4)
    assert not raw.normalised
    only = run(model, records, views=("original",))
    assert not np.allclose(only.features, found.features, atol=1e-3)


def test_batch_size_and_order_do_not_change_a_feature(model: ReidModel, records: Records) -> None:
    whole = run(model, records)
    for batch_size in (1, 7, 64):
        np.testing.assert_allclose(run(model, records, batch_size=batch_size).features, whole.features, atol=2e-5)
    order = np.random.default_rng(1).permutation(len(records))
    shuffled = run(model, records[order], batch_size=5, workers=2)
    np.testing.assert_allclose(shuffled.features, whole.features[order], atol=2e-5)
    assert shuffled.records == records[order]
    assert len(run(model, records[:0])) == 0


def test_extraction_runs_in_bfloat16(model: ReidModel, records: Records) -> None:
    close = run(model, records, precision="bfloat16")
    similarity = (close.features * run(model, records).features).sum(1)
    assert close.features.dtype == np.float32 and similarity.min() > 0.99


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from vreid.models import build
from vreid.progress import Progress
from vreid.retrieval import feature_shards
from vreid.training import extract
state, records, transform = pickle.loads(Path(sys.argv[1]).read_bytes())
model = build("resnet10_ibn_a_tiny", 5)
model.load_state_dict(state)
feature_shards.SHARD = 4
class Dies(Progress):
    images = 0
    def advance(self, steps, text=""):
        self.images += steps
        if self.images > 12:
            os.kill(os.getpid(), signal.SIGKILL)
settings = {"transform": transform, "batch_size": 3, "precision": "float32"}
extract.extract(model, records, **settings, out=sys.argv[2], progress=Dies())
"""


def test_a_killed_extraction_resumes_after_the_finished_shards(
    model: ReidModel, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_shards, "SHARD", 4)
    out, job = tmp_path / "f.safetensors", tmp_path / "job"
    job.write_bytes(pickle.dumps((model.state_dict(), records, TRANSFORM)))
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(job), str(out)],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL and not out.exists()
    parts = sorted(path.name for path in (tmp_path / "f.shards").glob("rows-*"))
    assert parts == [f"rows-{start:012d}.safetensors" for start in (0, 4, 8)]
    gone = records.with_(path=["gone.png"] * 12 + records.path[12:].tolist())
    with pytest.raises(InputError, match="started with other images"):
        run(model, gone, out=out)
    with pytest.raises(InputError, match="started with other views"):
        run(model, records, out=out, views=("original",))
    with pytest.raises(InputError, match="started with other model"):
        run(build("resnet10_ibn_a_tiny", 5), records, out=out)
    with pytest.raises(InputError, match="started with other precision"):
        run(model, records, out=out, precision="bfloat16")
    same = fingerprint(records)
    monkeypatch.setattr(feature_job, "fingerprint", lambda _: same)
    found = run(
        model, gone, out=out, batch_size=3
    )  # the first twelve images are not there, so they were not read again
    again = run(model, records, batch_size=3)
    assert found.features.tobytes() == again.features.tobytes()  # batches do not reach from one shard into the next
    assert FeatureSet.load(out).features.tobytes() == found.features.tobytes()
    assert not (tmp_path / "f.shards").exists()


def test_a_finished_file_is_reused_or_reported(model: ReidModel, records: Records, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    first = run(model, records, out=out)
    before = out.stat().st_mtime_ns
    (tmp_path / "f.shards").mkdir()  # a process was killed right after it had finished
    again = run(model, records, out=out)
    assert not (tmp_path / "f.shards").exists()
    assert again.features.tobytes() == first.features.tobytes() and out.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="features of a model"):
        run(build("resnet10_ibn_a_tiny", 5), records, out=out)
    with pytest.raises(InputError, match="features of a model"):  # same weights, other input size
        run(model, records, out=out, transform=replace(TRANSFORM, height=48))
    with pytest.raises(InputError, match="features of views"):
        run(model, records, out=out, views=("flip",))
    with pytest.raises(InputError, match="other images"):
        run(model, records[:5], out=out)
    assert len(run(model, records[:5], out=out, resume=False)) == 5


def test_unknown_views_and_unreadable_images(model: ReidModel, records: Records, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"View 'mirror' is unknown; choose among original, flip"):
        run(model, records, views=("mirror",))
    with pytest.raises(InputError, match="is unknown"):
        run(model, records, views=())
    with pytest.raises(InputError, match=r"end in \.safetensors"):
        run(model, records, out=tmp_path / "features.npy")
    with pytest.raises(InputError, match=r"missing\.png"):
        run(model, Records.of(path=[tmp_path / "missing.png"]))


def test_features_that_are_not_finite_name_their_image(records: Records) -> None:
    broken = build("resnet10_ibn_a_tiny", 5)
    with torch.no_grad():
        broken.neck.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(InputError, match=r"00\.png .*NaN"):
        run(broken, records)


def test_load_trained_resolves_run_folders_and_files(model: ReidModel, tmp_path: Path) -> None:
    facts = {
        "kind": "model",
        "model": {"backbone": "resnet10_ibn_a_tiny", "pooling": "average", "neck": True, "weights": ""},
        "num_identities": 5,
        "transform": {"height": 32, "width": 48, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    save_weights(tmp_path / "run/model.safetensors", model.state_dict(), facts)
    trained = load_trained(tmp_path / "run")
    assert trained.transform == TestTransform(32, 48, "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert trained.hash == load_trained(tmp_path / "run/model.safetensors").hash == model_hash(model, trained.transform)
    assert not trained.model.training
    torch.testing.assert_close(trained.model.state_dict(), model.state_dict())

    (tmp_path / "begun").mkdir()
    write_json(tmp_path / "begun/config.json", {})
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.pth").touch()
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    save_weights(tmp_path / "cut.safetensors", {"a": torch.zeros(1)}, facts)
    for name, sentence in (
        ("begun", "is not finished"),
        ("empty", "holds no trained model"),
        ("net.pth", "neither a run folder nor"),
        ("absent.safetensors", "cannot be read"),
        ("other.safetensors", "is not a trained model of vreid"),
        ("cut.safetensors", "do not fit this model"),
    ):
        with pytest.raises(InputError, match=sentence):
            load_trained(tmp_path / name)
