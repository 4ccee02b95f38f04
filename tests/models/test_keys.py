"""Checkpoints of other toolkits: wrappers, prefixes and unusual contents load; files without weights are reported."""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import pathlib
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from support.command_line import Run, reported
from vreid.errors import InputError
from vreid.models import build
from vreid.models.backbones import build_backbone

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases" / "10_weights"
TINY = "resnet10_ibn_a_tiny"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Backbone weights that differ from those of any other model."""
    torch.manual_seed(7)
    return {
        key: value + torch.randn_like(value).abs() if value.is_floating_point() else value
        for key, value in build_backbone(TINY).state_dict().items()
    }


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def loads(path: Path, state: dict[str, Tensor], tolerance: float = 0) -> None:
    """Assert that a model built with the weights in `path` has exactly this backbone state."""
    own = build(TINY, 3, path).backbone.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            torch.testing.assert_close(own[key], value.float(), rtol=tolerance, atol=tolerance)


class CfgNode(dict):  # type: ignore[type-arg]
    """A dictionary with attributes, as in yacs."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__["__immutable__"] = False


class Settings:
    """Settings as an object."""

    def __init__(self) -> None:
        self.lr = 0.1


class Everything(nn.Module):
    """A network with a backbone, a criterion and other submodules."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone(TINY)


def _optimiser(state: dict[str, Tensor]) -> dict[str, Any]:
    parameters = [nn.Parameter(value.clone()) for value in state.values() if value.is_floating_point()]
    adam = torch.optim.Adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    adam.step()
    return adam.state_dict()


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": _optimiser(s), "loss": 0.3},
    "net": lambda s: {"net": s, "acc": 93.1},
    "nested wrappers": lambda s: {"state_dict": {"model": s}},
    "wrapper of no known name": lambda s: {"generator_7": s, "epoch": torch.tensor(3)},
    "list of models": lambda s: [s, {"lr": 0.1}],
    "data parallel": lambda s: under("module.", s),
    "compiled": lambda s: under("_orig_mod.", s),
    "stacked prefixes": lambda s: {"model": under("module._orig_mod.model.", s)},
    "extractor": lambda s: under("extractor.model.", s),
    "compiled part": lambda s: {
        "state_dict": under("net.", {k.replace("layer1.", "layer1._orig_mod."): v for k, v in s.items()})
    },
    "averaged model": lambda s: {"n_averaged": torch.tensor(5), **under("module.", s)},
    "Lightning": lambda s: {
        "epoch": 3,
        "pytorch-lightning_version": "2.0.1",
        "state_dict": {**under("model.", s), "criterion.weight": torch.ones(3), "train_acc.total": torch.tensor(4)},
        "loops": {},
        "optimizer_states": [_optimiser(s)],
        "hyper_parameters": CfgNode(lr=0.1, backbone="resnet"),
    },
    "criterion beside the keys": lambda s: {
        **s,
        "criterion.centers": torch.ones(3, 64),
        "loss_fn.weight": torch.ones(3),
    },
    "classifier": lambda s: {**s, "classifier.weight": torch.ones(9, 64), "fc.bias": torch.ones(9)},
    "classifier outside the prefix": lambda s: {**under("model.", s), "head.0.weight": torch.ones(9, 64)},
    "moving average beside it": lambda s: {
        "state_dict": s,
        "state_dict_ema": {key: torch.zeros_like(value) for key, value in s.items()},
    },
    "student and teacher": lambda s: {
        **under("student.", s),
        **under("teacher.", {key: torch.zeros_like(value) for key, value in s.items()}),
    },
    "only a moving average": lambda s: {"ema": {"module": s}, "updates": 7},
    "the same weights twice": lambda s: {"model": s, "net": s},
    "half precision": lambda s: {key: value.half() if value.is_floating_point() else value for key, value in s.items()},
    "bfloat16": lambda s: {key: value.bfloat16() if value.is_floating_point() else value for key, value in s.items()},
    "parameters": lambda s: {
        key: nn.Parameter(value) if value.is_floating_point() else value for key, value in s.items()
    },
    "numpy arrays": lambda s: {key: value.numpy() for key, value in s.items()},
    "arrays by columns": lambda s: {key: value.numpy().copy(order="F") for key, value in s.items()},
    "settings of all kinds": lambda s: collections.OrderedDict(
        state_dict=collections.OrderedDict(s),
        args=argparse.Namespace(lr=0.1, out=Path("runs/1"), gpus=[0, 1]),
        cfg=CfgNode(MODEL=CfgNode(NAME="x"), SIZE=(256, 128)),
        settings=Settings(),
        best=np.float64(0.7),
        counts=np.int64(3),
        flag=np.bool_(True),
        history=collections.defaultdict(list, loss=[1.0, 0.5]),
        rng=(random.getstate(), np.random.RandomState(3).get_state(), torch.get_rng_state()),
        where=pathlib.PurePosixPath("a/b"),
        names={"a", "b"},
        numbers=np.arange(5),
        text=np.array(["a", "bc"]),
        objects=np.array([{"a": 1}, None], dtype=object),
        dtype=torch.float16,
        size=torch.Size([3, 4]),
        device=torch.device("cpu"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_checkpoint_loads(form: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(FORMS[form](state), tmp_path / "w.pth")
    loads(tmp_path / "w.pth", state, 1e-2 if form in ("half precision", "bfloat16") else 0)


def test_the_suffix_of_the_file_does_not_matter(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.safetensors")
    loads(tmp_path / "w.safetensors", state)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "w.pth")
    loads(tmp_path / "w.pth", state)
    np.savez_compressed(tmp_path / "w.npz", **{key: value.numpy() for key, value in state.items()})
    loads(tmp_path / "w.npz", state)
    torch.save(
        {"state_dict": state, "args": argparse.Namespace(lr=0.1)},
        tmp_path / "w.bin",
        _use_new_zipfile_serialization=False,
    )
    loads(tmp_path / "w.bin", state)


def test_a_whole_model_under_a_prefix_keeps_its_neck(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build(TINY, 5)
    assert isinstance(source.neck, nn.BatchNorm1d)
    nn.init.normal_(source.neck.running_mean)
    torch.save({"model": under("module.", source.state_dict())}, tmp_path / "w.pth")
    torch.testing.assert_close(
        build(TINY, 3, tmp_path / "w.pth").state_dict()["neck.running_mean"], source.neck.running_mean
    )
    cut = {key: value for key, value in source.state_dict().items() if key != "neck.running_mean"}
    torch.save({"model": cut}, tmp_path / "w.pth")  # never the backbone alone without a word
    with pytest.raises(InputError, match=r"1 missing \(neck.running_mean\)"):
        build(TINY, 3, tmp_path / "w.pth")


def _zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return out.getvalue()


def _tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"))
    return out.getvalue()


NO_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty.pth": (b"", "is an empty file"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n", "is a Git LFS pointer"),
    "page.pth": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "is an HTML page"),
    "page2.pth": (b"\xef\xbb\xbf<HTML lang=en><head>", "is an HTML page"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x92\x01", "is an ONNX model"),
    "onnx.pth": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x92\x01", "is an ONNX model"),
    "w.pth.gz": (gzip.compress(b"weights"), "is gzip-compressed"),
    "w.pth.tar": (_tarred(), "is a tar archive"),
    "zip.pth": (_zipped("weights/w.pth", "README.md"), "is a zip archive"),
    "script.pth": (_zipped("w/data.pkl", "w/code/__torch__.py", "w/constants.pkl"), "is a TorchScript archive"),
    "cut.pth": (_zipped("w/data.pkl")[:30], "is a zip archive that is cut short"),
    "broken.pth": (_zipped("w/data.pkl"), "is damaged"),
    "a.npy": (b"\x93NUMPY\x01\x00", "is a NumPy array"),
    "a.h5": (b"\x89HDF\r\n\x1a\n....", "is an HDF5 file"),
    "j.pth": (b'{"error": "not found"}', "is a JSON file"),
    "i.pth": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is an image"),
    "text.pth": (b"Access denied\n", "is a text file"),
    "zeros.pth": (b"\0" * 999, "is damaged, or of no known format"),
    "plain.pkl": (pickle.dumps({"a": 1}), "is a pickle"),
    "plain0.pkl": (pickle.dumps({"a": [1, 2]}, protocol=0), "is a pickle"),
}


def refused(path: Path) -> str:
    """Return the one-sentence error about a file, without torch's own text and without advice to run its code."""
    with pytest.raises(InputError) as caught:
        build(TINY, 3, path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and sentence.endswith(".")
    assert all(character.isprintable() for character in sentence)
    assert not any(
        word in sentence for word in ("weights_only", "Unpickl", "GLOBAL", "allowlist", "PytorchStreamReader")
    )
    return sentence


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_files_without_weights_are_reported(name: str, tmp_path: Path) -> None:
    content, what = NO_WEIGHTS[name]
    (tmp_path / name).write_bytes(content)
    assert what in refused(tmp_path / name)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "ema": None}, nn.DataParallel, nn.Sequential])
def test_a_pickled_module_is_reported_and_not_built(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    torch.save(wrap(Everything()), tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "holds a pickled module" in sentence and "state_dict()" in sentence


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1, 2], "a list of 2 values"),
        ({}, "an empty dictionary"),
        ({"epoch": 3, "lr": 0.1}, r"a dictionary \(epoch, lr\)"),
        ("text", "text"),
        (Settings(), r"an object of class \S*test_keys.Settings"),
        (torch.ones(3), "missing"),
        ({"conv9.weight": torch.ones(3)}, r"unexpected \(conv9.weight\)"),
    ],
)
def test_other_contents_are_reported(content: Any, what: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=what):
        build(TINY, 3, tmp_path / "w.pth")
    refused(tmp_path / "w.pth")


def test_unusable_values_are_reported(state: dict[str, Tensor], tmp_path: Path) -> None:
    key = "layer1.0.conv1.weight"
    for value, what in (
        (state[key].fill_diagonal_(float("nan")) if state[key].ndim == 2 else state[key] * float("nan"), "not finite"),
        (state[key].to(torch.int8), "of type int8"),
        (state[key].to(torch.complex64), "of type complex64"),
        (state[key].to_sparse(), "quantised or sparse"),
        (state[key].to("meta"), "without values"),
    ):
        torch.save({**state, key: value}, tmp_path / "w.pth")
        sentence = refused(tmp_path / "w.pth")
        assert key in sentence and what in sentence


def test_two_networks_that_fit_are_both_reported(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"a": state, "b": {key: value * 2 for key, value in state.items()}}, tmp_path / "w.pth")
    assert "several sets of weights that fit (a, b)" in refused(tmp_path / "w.pth")


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_checkpoint_never_runs(
    new: bool, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import subprocess

    monkeypatch.chdir(tmp_path)
    for function, arguments, name in (
        (os.system, ("touch ran",), ".system"),
        (eval, ("open('ran', 'w')",), "builtins.eval"),
        (exec, ("open('ran', 'w')",), "builtins.exec"),
        (open, ("ran", "w"), "open"),
        (subprocess.call, (["touch", "ran"],), "subprocess.call"),
    ):
        torch.save(
            {"state_dict": state, "x": Malicious(function, *arguments)}, "w.pth", _use_new_zipfile_serialization=new
        )
        assert name in refused(Path("w.pth"))
    # What is merely unknown is neither imported nor called, and the weights beside it load.
    Path("harmful.py").write_text("open('ran', 'w')\ndef run(*_): open('ran', 'w')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import sys

    content = {
        "state_dict": state,
        "x": Malicious(
            Settings,
        ),
    }
    torch.save(content, "w.pth", _use_new_zipfile_serialization=new)
    harmful = Path("w.pth").read_bytes()
    sys.modules.pop("harmful", None)
    assert b"Settings" in harmful
    loads(Path("w.pth"), state)
    assert not Path("ran").exists()


def test_a_small_file_never_takes_much_memory(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**state, "x": torch.zeros(1).expand(10**9)}, tmp_path / "stride.pth")
    assert "bytes of numbers" in refused(tmp_path / "stride.pth")
    torch.save({"a": torch.zeros(10_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as source,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for entry in source.infolist():
            out.writestr(entry.filename, source.read(entry))
    assert "is compressed" in refused(tmp_path / "w.pth")
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(50_000_000, dtype=np.float32))
    assert "bytes of numbers" in refused(tmp_path / "w.npz")


CASE_FILES = {
    "plain.pth": "",
    "net.pth": "",
    "compiled.pth": "",
    "lightning.ckpt": "",
    "whole.pt": "holds a pickled module (vreid.models.reid_model.ReidModel)",
    "lfs.pth": "is a Git LFS pointer",
}


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not here")
@pytest.mark.parametrize("name", CASE_FILES)
def test_field_cases(name: str, run: Run, tiny_world: Path, tmp_path: Path) -> None:
    line = (
        f"train small --data {tiny_world} --out {tmp_path}/run --set model.backbone={TINY} --set epochs=1 --set "
        f"num_identities=4 --set transform.height=32 --set transform.width=32 --set model.weights={CASES / name} --json"
    )
    outcome = run(line)
    if CASE_FILES[name]:
        reported(outcome, CASE_FILES[name])
    else:
        assert outcome.code == 0, outcome.err
        plain = torch.load(CASES / "plain.pth", weights_only=True)
        loads(CASES / name, plain)
