"""Export to ONNX: the same features without torch, graphs without weights, int8, and the gate that refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from support.command_line import Run
from support.tiny_model import picture, write_model
from vreid.data.augment import TestTransform
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference import onnx_export, onnx_graph
from vreid.inference.embedder import load_model
from vreid.inference.onnx_backend import OnnxBackend
from vreid.inference.onnx_export import export_onnx
from vreid.inference.parity import Tolerance, measure, random_images
from vreid.models.reid_model import ModelConfig, build_from
from vreid.models.weights import load_weights, save_half, save_weights
from vreid.retrieval.features import FeatureSet
from vreid.training.extract import export_half
from vreid.workflow import extract

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra model is not installed")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread", "quick_world")


@pytest.fixture
def quick_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smooth pictures in the place of simulated vehicles, which take a world."""
    monkeypatch.setattr(onnx_export, "simulated_images", pictures)


def pictures(count: int) -> list[np.ndarray]:
    return [picture(40 + 7 * (seed % 9), 40 + 11 * (seed % 7), seed) for seed in range(count)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", temperatures={"color": 2.0}, licence="MIT")


@pytest.fixture(scope="module")
def exported(file: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "simulated_images", pictures)
        return export_onnx(file, file.with_name("full.onnx"), facts={"card": "# A card"}).path


def test_features_and_attributes_are_the_model_s(file: Path, exported: Path) -> None:
    images = pictures(5)
    ours, theirs = load_model(exported), load_model(file, backend="torch")
    assert (ours.hash, ours.dimensions, ours.made_by) == (theirs.hash, theirs.dimensions, theirs.made_by)
    assert (ours.embed(images) * theirs.embed(images)).sum(axis=1).min() > 0.999  # torch may compute in bfloat16
    for one, other in zip(ours.attributes(images), theirs.attributes(images), strict=True):
        assert set(one) == set(other) == {"color", "orientation"}
        assert one["color"].confidence == pytest.approx(other["color"].confidence, abs=0.02)
    assert ours.backend.facts.licence == "MIT" and ours.backend.facts.card == "# A card"


def test_any_program_can_run_the_file(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported))
    assert [one.name for one in session.get_outputs()] == ["feature", "neck", "color", "orientation"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    images = np.stack([picture(61, 33, seed) for seed in range(3)])
    unit = session.run(["feature"], {"images": images})[0]
    expected = load_model(exported, views=("original",)).embed(images)
    np.testing.assert_allclose((unit * expected).sum(axis=1), 1, atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["vreid"])["opset"] == 18
    onnx.checker.check_model(str(exported))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_graph_resizes_as_pillow_does(interpolation: str) -> None:
    prepare = onnx_graph.Preprocessing(TestTransform(64, 96, interpolation))
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    rng = np.random.default_rng(0)
    for height, width in ((64, 96), (1, 1), (97, 33), (33, 97), (300, 211), (300, 290), (70, 100), (200, 33)):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = prepare.resize(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
        expected = np.asarray(Image.fromarray(image).resize((96, 64), filters[interpolation])).astype(np.float32)
        assert np.abs(found - expected).max() <= 1, (height, width)
        assert (found != expected).mean() < 0.06, (height, width)  # sums of exactly half a level


def test_a_graph_takes_its_weights_from_the_file_beside_it(tmp_path: Path, file: Path) -> None:
    half = tmp_path / "m.safetensors"
    save_half(half, *load_weights(file))
    made = export_onnx(half, tmp_path / "m.onnx", graph_only=True)
    whole = export_onnx(half, tmp_path / "whole.onnx").path
    assert made.path.stat().st_size < half.stat().st_size / 2
    images = pictures(4)
    for model in (load_model(half), load_model(tmp_path / "m.onnx")):
        assert model.backend.name == "onnxruntime"
        np.testing.assert_allclose(model.embed(images), load_model(whole).embed(images), atol=1e-5)
    assert load_model(half, backend="torch").hash == load_model(half).hash

    with pytest.raises(InputError, match=r"takes its weights from .*n\.safetensors; give that file"):
        export_onnx(half, tmp_path / "n.onnx", graph_only=True)
    with pytest.raises(InputError, match="holds its own weights"):
        export_onnx(half, tmp_path / "m.onnx", graph_only=True, int8=True)
    write_model(half, seed=1)
    assert load_model(half).backend.name == "torch"  # the graph is of other weights
    with pytest.raises(InputError, match=r"m\.safetensors has others"):
        load_model(tmp_path / "m.onnx")


def test_broken_preprocessing_is_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(onnx_graph.Preprocessing):
        """Blue and red exchanged."""

        def forward(self, images_NHW3):
            return super().forward(images_NHW3.flip(3))

    monkeypatch.setattr(onnx_graph, "Preprocessing", Swapped)
    with pytest.raises(
        InputError, match=r"differs from the model: the cosine of the features of noise .* below 0\.9999"
    ):
        export_onnx(file, tmp_path / "broken.onnx")
    assert not list(tmp_path.iterdir())


def test_a_change_of_map_is_refused(exported: Path, file: Path, tiny_world: Path) -> None:
    from vreid.data.open import open_dataset
    from vreid.training.validation import Validation

    validation = Validation.of(open_dataset(tiny_world, labels="auto"))
    first, other = OnnxBackend(exported), load_model(file, backend="torch").backend
    same = measure(other, first, list(random_images()), Tolerance(0.99, 0.05), validation)
    assert same.mean_ap is not None and "mAP" in str(same)
    real = first.run
    first.run = lambda images, heads=False: real(images[:, :, ::2])  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"mAP on .* instead of"):
        measure(other, first, [], Tolerance(0.99, 0.0), validation)


def test_eight_bits_are_another_model(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "INT8", Tolerance(0.5, 1.0))  # a network of eight channels loses more than others
    made = export_onnx(file, tmp_path / "i.onnx", int8=True)
    model = load_model(made.path)
    assert model.hash != load_model(file).hash and model.backend.facts.threshold is None
    assert 0.5 < made.parity.cosine < 0.99999
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(made.path).graph.node}
    monkeypatch.setattr(onnx_export, "INT8", Tolerance(0.99999, 0.01))
    with pytest.raises(InputError, match=r"below 0\.99999"):
        export_onnx(file, tmp_path / "refused.onnx", int8=True)
    assert not (tmp_path / "refused.onnx").exists()


def test_damaged_and_foreign_files_are_named(exported: Path, tmp_path: Path) -> None:
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(content)
    with pytest.raises(InputError, match="do not match the hash stored in it"):
        load_model(tmp_path / "damaged.onnx")
    (tmp_path / "foreign.onnx").write_bytes(b"some other program")
    with pytest.raises(InputError, match="was not written by vreid"):
        load_model(tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"is run by onnxruntime, not torch"):
        load_model(exported, backend="torch")
    with pytest.raises(InputError, match=r"ends in \.onnx"):
        export_onnx(exported, tmp_path / "x.pb")


def test_extraction_through_onnx_goes_on_where_it_was(exported: Path, file: Path, tmp_path: Path) -> None:
    paths = []
    for number, image in enumerate(pictures(6)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    records = Records.of(path=paths, box=[[np.nan] * 4] * 5 + [[3, 3, 30, 30]])
    made = extract(exported, records, tmp_path / "f.safetensors", batch_size=4)
    assert (
        extract(load_model(exported), records, tmp_path / "f.safetensors").features.tobytes() == made.features.tobytes()
    )
    torch_made = extract(load_model(file, backend="torch"), records)
    assert made.model == torch_made.model and made.views == ("original", "flip")
    assert (made.features * torch_made.features).sum(axis=1).min() > 0.999
    raw = extract(exported, records, normalise=False, views=("original",))
    assert raw.raw and not raw.normalised


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys({hidden!r}))
import numpy as np, vreid
from vreid.cli import app
model = vreid.load_model({file!r})
assert model.embed(np.zeros((40, 60, 3), np.uint8)).shape == (1, 64)
model.attributes(np.zeros((40, 60, 3), np.uint8))
assert not app(["extract", {file!r}, {world!r}, "--out", {out!r}], standalone_mode=False)
assert not [name for name in sys.modules if name.split(".")[0] in {hidden!r} and sys.modules[name]]
"""


def test_the_extra_model_needs_no_torch(exported: Path, tiny_world: Path, tmp_path: Path) -> None:
    hidden = ("torch", "torchvision", "timm", "onnx", "sklearn", "matplotlib")
    code = WITHOUT_TORCH.format(hidden=hidden, file=str(exported), world=str(tiny_world), out=str(tmp_path / "f"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f" / "query.safetensors").is_file()


BUNDLED = """
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys(("torch", "torchvision", "timm", "onnx")))
from vreid.training import model_file
model_file.BUNDLED = Path({folder!r})
from vreid.cli import app
assert not app(["extract", "default", {world!r}, "--out", {out!r}], standalone_mode=False)
"""


def test_the_bundled_model_extracts_without_torch(file: Path, tiny_world: Path, tmp_path: Path) -> None:
    half = tmp_path / "default.safetensors"
    export_half(file, half)
    export_onnx(half, tmp_path / "default.onnx", graph_only=True)
    code = BUNDLED.format(folder=str(tmp_path), world=str(tiny_world), out=str(tmp_path / "f"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert FeatureSet.load(tmp_path / "f" / "query.safetensors").model == load_model(half, backend="torch").hash


def test_several_threads_share_a_session(exported: Path) -> None:
    model, images = load_model(exported), pictures(8)
    expected = [model.embed(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(model.embed, images * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(found, one)


def test_the_command_writes_both_forms(run: Run, file: Path, tmp_path: Path) -> None:
    out = run(f"export {file} --out {tmp_path}/m.onnx --json")
    assert out.code == 0, out.err
    assert json.loads(out.out)["cosine"] > 0.9999
    out = run(f"export {file} --to safetensors --out {tmp_path}/h.safetensors --licence Apache-2.0")
    assert out.code == 0 and "MB" in out.out
    assert load_weights(tmp_path / "h.safetensors")[1]["licence"] == "Apache-2.0"
    assert "use safetensors or onnx" in run(f"export {file} --out {tmp_path}/m.pt").err
    assert "belong to --to onnx" in run(f"export {file} --out {tmp_path}/h.safetensors --int8").err
    assert "vreid export run --out m.onnx" in run("weights export run --out m.onnx").err


def test_openvino_reads_the_file(exported: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    compiled = openvino.Core().compile_model(str(exported), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = np.stack([picture(61, 33, seed) for seed in range(2)])
    found = compiled({"images": images})["feature"]
    expected = OnnxBackend(exported).unit_features(images)
    assert (found * expected).sum(axis=1).min() > 0.9999


def test_a_file_of_weights_in_another_form_cannot_be_referred_to(file: Path, tmp_path: Path) -> None:
    state, facts = load_weights(file)
    double = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    save_weights(tmp_path / "d.safetensors", double, facts)
    with pytest.raises(InputError, match="in half or single precision"):
        export_onnx(tmp_path / "d.safetensors", tmp_path / "d.onnx", graph_only=True)


@pytest.mark.parametrize(
    ("name", "weights", "pooling"),
    [
        ("densenet169_ibn_a_small", "simulated", "gem"),
        ("resnest101_small", "simulated", "gem"),
        ("se_resnet101_ibn_a_small", "simulated", "average"),
        ("transreid_small", "simulated", "average"),
        ("timm/test_vit", "", "average"),
        ("timm/test_convnext", "", "average"),
    ],
)
def test_every_family_of_networks_can_be_exported(
    name: str, weights: str, pooling: Literal["average", "gem"], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = ModelConfig(name, weights=weights, pooling=pooling)
    facts = {"kind": "model", "num_identities": None, "transform": asdict(TestTransform(48, 80))}
    facts |= {"model": asdict(replace(config, weights=""))}
    save_weights(tmp_path / "m.safetensors", build_from(config).state_dict(), facts)
    made = export_onnx(tmp_path / "m.safetensors", tmp_path / "m.onnx")
    assert made.parity.cosine > 0.9999 and made.parity.images > 30


def test_a_network_that_onnx_cannot_express_is_one_sentence(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Folded(torch.nn.Module):
        """Ends in an operator that ONNX does not have."""

        def forward(self, images):
            return images.float().mT, images.float()

    monkeypatch.setattr(onnx_graph, "GraphModule", lambda trained: Folded())
    with pytest.raises(InputError, match=r"this backbone cannot be written as ONNX \(.*mT"):
        export_onnx(file, tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())
