"""Models: shapes, keys, initial values, IBN and GeM by hand, weight files that fit or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from vreid.errors import InputError
from vreid.models import (
    IBN,
    TRUNKS,
    GeM,
    ReidModel,
    TrainOutputs,
    build,
    build_trunk,
    load_strict,
    load_weights,
    save_weights,
    weights_hash,
)

TINY = "resnet10_ibn_a_tiny"


def test_ibn_by_hand() -> None:
    layer = IBN(3)  # floor(3 / 2) = 1 instance channel, 2 batch channels
    with torch.no_grad():
        layer.IN.weight.fill_(2.0)
        layer.IN.bias.fill_(1.0)
    x = torch.tensor([[[[0.0, 2.0]], [[0.0, 4.0]], [[1.0, 1.0]]], [[[5.0, 5.0]], [[8.0, 4.0]], [[3.0, 3.0]]]])
    y = layer(x)
    # Instance channel: image 0 has mean 1, variance 1; image 1 is constant and becomes the shift.
    torch.testing.assert_close(y[:, 0, 0], torch.tensor([[-1.0, 3.0], [1.0, 1.0]]), rtol=1e-4, atol=1e-4)
    # Batch channels: mean 4, variance 8; mean 2, variance 1.
    root = 8**0.5
    torch.testing.assert_close(y[:, 1, 0] * root, torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(y[:, 2, 0], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.BN.running_mean, torch.tensor([0.4, 0.2]))


def test_ibn_in_evaluation_still_normalises_each_image_and_keeps_the_layout() -> None:
    layer = IBN(8).eval()
    x = torch.randn(4, 8, 5, 5) * torch.tensor([1.0, 5.0, 0.1, 3.0]).view(4, 1, 1, 1)
    y = layer(x)
    torch.testing.assert_close(y[:, :4].mean((2, 3)), torch.zeros(4, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y[:, 4:], x[:, 4:] / (1 + 1e-5) ** 0.5)  # fresh running statistics: 0 and 1
    last = layer(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last) and y.is_contiguous()
    torch.testing.assert_close(last, y, rtol=1e-5, atol=1e-5)


def published_keys(blocks: list[int], *, bottleneck: bool, ibn: bool) -> set[str]:
    """State keys of the IBN-Net release's ResNets, written down from methods 2.2."""
    keys = {"conv1.weight"} | {f"bn1.{x}" for x in ("weight", "bias", "running_mean", "running_var")}
    for stage, count in enumerate(blocks, start=1):
        for index in range(count):
            block = f"layer{stage}.{index}"
            for number in (1, 2, 3) if bottleneck else (1, 2):
                keys.add(f"{block}.conv{number}.weight")
                halves = ibn and number == 1 and stage <= 3
                for part in ("IN.", "BN.") if halves else ("",):
                    keys |= {f"{block}.bn{number}.{part}{x}" for x in ("weight", "bias")}
                    if part != "IN.":
                        keys |= {f"{block}.bn{number}.{part}{x}" for x in ("running_mean", "running_var")}
            if index == 0 and (stage > 1 or bottleneck):
                keys.add(f"{block}.downsample.0.weight")
                keys |= {f"{block}.downsample.1.{x}" for x in ("weight", "bias", "running_mean", "running_var")}
    return keys


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck", "dimensions"),
    [
        ("resnet18_ibn_a", [2, 2, 2, 2], False, 512),
        ("resnet34_ibn_a", [3, 4, 6, 3], False, 512),
        ("resnet50", [3, 4, 6, 3], True, 2048),
        ("resnet50_ibn_a", [3, 4, 6, 3], True, 2048),
        ("resnet101_ibn_a", [3, 4, 23, 3], True, 2048),
        ("resnext101_ibn_a", [3, 4, 23, 3], True, 2048),
    ],
)
def test_trunks_have_the_published_keys_and_last_stride_one(
    name: str, blocks: list[int], bottleneck: bool, dimensions: int
) -> None:
    with torch.device("meta"):
        trunk = build_trunk(name)
        maps = trunk(torch.zeros(1, 3, 256, 128))
    assert maps.shape == (1, dimensions, 16, 8)  # stride 16
    keys = {key for key in trunk.state_dict() if not key.endswith("num_batches_tracked")}
    assert keys == published_keys(blocks, bottleneck=bottleneck, ibn=name.endswith("ibn_a"))
    dilations = {m.dilation for m in trunk.modules() if isinstance(m, nn.Conv2d)}
    assert dilations == {(1, 1)}


def test_published_shapes() -> None:
    with torch.device("meta"):
        state = build_trunk("resnet50_ibn_a").state_dict()
        wide = build_trunk("resnext101_ibn_a").state_dict()
    assert state["layer3.0.bn1.IN.weight"].shape == (128,)
    assert state["layer3.0.bn1.BN.running_var"].shape == (128,)
    assert state["layer4.0.bn1.weight"].shape == (512,)
    assert wide["layer1.0.conv2.weight"].shape == (128, 4, 3, 3)  # floor(64 * 4 / 64) * 32 wide, 32 groups


@pytest.mark.parametrize("name", [name for name in TRUNKS if "small" in name or "tiny" in name])
def test_small_trunks_train_and_extract(name: str) -> None:
    model = build(name, num_identities=5)
    outputs = model(torch.randn(2, 3, 64, 64))
    assert isinstance(outputs, TrainOutputs)
    assert outputs.logits.shape == (2, 5) and outputs.pooled.shape == (2, model.num_features)
    features = model.eval()(torch.randn(3, 3, 64, 64))
    assert features.shape == (3, model.num_features)
    assert not torch.allclose(features.norm(dim=1), torch.ones(3))  # raw, not normalised


def test_neck_and_classifier_start_as_the_papers_say() -> None:
    model = build("resnet18", num_identities=1000)
    assert isinstance(model.neck, nn.BatchNorm1d) and model.classifier is not None
    assert not model.neck.bias.requires_grad and model.neck.weight.requires_grad
    assert bool((model.neck.bias == 0).all()) and bool((model.neck.weight == 1).all())
    assert model.classifier.bias is None
    assert float(model.classifier.weight.detach().std()) == pytest.approx(0.001, rel=0.02)


def test_triplet_feature_is_before_and_class_feature_after_the_neck() -> None:
    model = build(TINY, num_identities=4)
    images = torch.randn(6, 3, 32, 32)
    logits, pooled = model(images)[:2]
    normalised = (pooled - pooled.mean(0)) / (pooled.var(0, correction=0) + 1e-5).sqrt()
    assert model.classifier is not None
    torch.testing.assert_close(logits, normalised @ model.classifier.weight.T, rtol=1e-3, atol=1e-4)


def test_a_model_without_identities_only_extracts() -> None:
    model = build(TINY)
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    with pytest.raises(RuntimeError, match="num_identities"):
        model.train()(torch.zeros(2, 3, 32, 32))


def test_without_neck_the_feature_is_the_pooled_map() -> None:
    model = build(TINY, neck=False).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), model.backbone(images).mean((2, 3)))


def test_gem_acts() -> None:
    maps = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(GeM(p=1.0)(maps), maps.mean((2, 3)))
    torch.testing.assert_close(GeM(p=200.0)(maps), maps.amax((2, 3)), rtol=0.03, atol=0)
    by_hand = (torch.tensor([1.0, 8.0]).mean()) ** (1 / 3)
    torch.testing.assert_close(GeM()(torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)), by_hand.view(1, 1))
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    model = build(TINY, pooling="gem").eval()
    three = model(images)
    with torch.no_grad():
        model.pool.p.fill_(1.0)  # type: ignore[union-attr, operator]
    assert not torch.allclose(model(images), three)
    assert any(parameter is model.pool.p for parameter in model.parameters())


def test_gem_gradient() -> None:
    layer = GeM().double()
    maps = torch.rand(2, 3, 4, 4, dtype=torch.double) + 0.1
    powers = maps.pow(3)  # d/dp (mean x^p)^(1/p) = g (mean(x^p ln x) / (p mean x^p) - ln(mean x^p) / p^2)
    mean, weighted = powers.mean((2, 3)), (powers * maps.log()).mean((2, 3))
    expected = (mean.pow(1 / 3) * (weighted / (3 * mean) - mean.log() / 9)).sum()
    layer(maps).sum().backward()
    assert layer.p.grad is not None
    assert float(layer.p.grad) == pytest.approx(float(expected), rel=1e-4)  # the layer works in float32


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50_ibn_a'"):
        build("resnet50_ibna")
    with pytest.raises(InputError, match="average or gem"):
        ReidModel(build_trunk(TINY), pooling="max")  # type: ignore[arg-type]


def test_weight_files_round_trip_and_equal_states_have_equal_hashes(tmp_path: Path) -> None:
    model = build(TINY, 3)
    save_weights(tmp_path / "a.safetensors", model.state_dict(), {"kind": "model", "identities": ["7", "8"]})
    state, facts = load_weights(tmp_path / "a.safetensors")
    assert facts == {"kind": "model", "identities": ["7", "8"]}
    other = build(TINY, 3)
    assert weights_hash(other.state_dict()) != weights_hash(model.state_dict())
    load_strict(other, state, "a")
    assert weights_hash(other.state_dict()) == weights_hash(model.state_dict()) == weights_hash(state)
    save_weights(tmp_path / "b.safetensors", other.state_dict(), facts)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_hash_does_not_depend_on_memory_layout() -> None:
    model = build(TINY)
    before = weights_hash(model.state_dict())
    assert weights_hash(model.to(memory_format=torch.channels_last).state_dict()) == before


def test_wrong_keys_are_all_reported() -> None:
    model = build(TINY, 3)
    state = model.state_dict()
    state["backbone.layer5.conv.weight"] = state.pop("backbone.layer4.0.conv2.weight")
    state["classifier.weight"] = torch.zeros(9, 64)
    with pytest.raises(InputError) as caught:
        load_strict(model, state, "some.safetensors")
    text = str(caught.value)
    assert text.startswith("some.safetensors")
    assert "1 missing (backbone.layer4.0.conv2.weight)" in text
    assert "1 unexpected (backbone.layer5.conv.weight)" in text
    assert "1 of another shape (classifier.weight (9, 64) for (3, 64))" in text


def test_starting_weights_from_our_model_drop_the_classifier_only(tmp_path: Path) -> None:
    source = build(TINY, 3)
    save_weights(tmp_path / "m.safetensors", source.state_dict(), {})
    model = build(TINY, 8, tmp_path / "m.safetensors")
    assert weights_hash(model.backbone.state_dict()) == weights_hash(source.backbone.state_dict())
    assert model.classifier is not None and model.classifier.weight.shape == (8, 64)
    with pytest.raises(InputError, match="missing"):
        build("resnet18_ibn_a_small", 8, tmp_path / "m.safetensors")


@pytest.mark.parametrize("wrapped", [False, True])
def test_starting_weights_from_a_published_trunk(tmp_path: Path, wrapped: bool) -> None:
    trunk = {k: v for k, v in build_trunk(TINY).state_dict().items() if not k.endswith("num_batches_tracked")}
    published = {**trunk, "fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    content = {"state_dict": {f"module.{k}": v for k, v in published.items()}} if wrapped else published
    torch.save(content, tmp_path / "net.pth")
    model = build(TINY, 4, tmp_path / "net.pth")
    torch.testing.assert_close(model.backbone.state_dict()["conv1.0.weight"], trunk["conv1.0.weight"])
    torch.save({**published, "layer9.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"unexpected \(layer9.weight\)"):
        build(TINY, 4, tmp_path / "other.pth")


def test_files_that_are_no_weights_are_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{}")
    (tmp_path / "cut.pth").write_bytes(b"nonsense")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, sentence in (
        ("cut.safetensors", "not a whole safetensors file"),
        ("absent.safetensors", "cannot be read"),
        ("absent.pth", "cannot be read"),
        ("cut.pth", "not a file of weights"),
        ("list.pth", "no state dict"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            build(TINY, 2, tmp_path / name)
        assert "\n" not in str(caught.value)
