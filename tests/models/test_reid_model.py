"""Models: shapes, keys, initial values, IBN and GeM by hand, and weights files that fit or raise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vreid.errors import InputError
from vreid.models import (
    BACKBONES,
    IBN,
    GeM,
    ReidModel,
    TrainOutputs,
    TransReIDOptions,
    build,
    build_backbone,
    load_strict,
    load_weights,
    save_weights,
    weights_hash,
)
from vreid.models.cnn import SqueezeExcite

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


@pytest.fixture(scope="module")
def on_meta() -> dict[str, nn.Module]:
    """Every backbone of `BACKBONES` on the meta device."""
    with torch.device("meta"):
        return {name: build_backbone(name).eval() for name in BACKBONES}


@pytest.mark.parametrize("name", BACKBONES)
def test_shapes_and_costs_are_those_of_the_table(name: str, on_meta: dict[str, nn.Module]) -> None:
    backbone, line = on_meta[name], BACKBONES[name]
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 256, 256))
    assert round(sum(parameter.numel() for parameter in backbone.parameters()) / 1e6, 1) == line.parameters
    assert round(counter.get_total_flops() / 2e9, 1) == line.cost
    stride = 32 if "densenet" in name or "stride32" in name else 16
    assert maps.shape[1] == backbone.num_features
    assert maps.shape[2:] == (() if "transreid" in name else (256 // stride, 256 // stride))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50", 0),
        ("resnet18_ibn_a", 6),
        ("resnet50_ibn_a", 13),
        ("resnet101_ibn_a", 30),
        ("resnext101_ibn_a", 30),
        ("se_resnet101_ibn_a", 30),
        ("densenet121_ibn_a", 2 + 4 + 8),  # every third of 6, 12 and 24 layers
        ("densenet169_ibn_a", 2 + 4 + 11),
        ("resnest101", 0),
    ],
)
def test_ibn_a_is_placed_as_in_the_papers(name: str, count: int, on_meta: dict[str, nn.Module]) -> None:
    places = [key for key, module in on_meta[name].named_modules() if isinstance(module, IBN)]
    assert len(places) == count
    assert not [key for key in places if key.startswith(("layer4", "bn1", "features.denseblock4", "features.norm"))]
    if "densenet" in name:
        assert places[:3] == [f"features.denseblock{b}.denselayer{n}.norm1" for b, n in ((1, 1), (1, 4), (2, 1))]
    elif places:
        assert all(key.endswith("bn1") for key in places)


def test_ibn_b_is_the_stem_and_the_end_of_two_layers(on_meta: dict[str, nn.Module]) -> None:
    backbone = on_meta["resnet50_ibn_b"]
    places = [key for key, module in backbone.named_modules() if isinstance(module, nn.InstanceNorm2d)]
    assert places == ["bn1", "layer1.2.act3.IN", "layer2.3.act3.IN"]


def test_only_resnest_is_dilated_and_averages_where_it_strides(on_meta: dict[str, nn.Module]) -> None:
    for name in ("resnet50_ibn_a", "resnext101_ibn_a", "se_resnet101_ibn_a"):
        assert {m.dilation for m in on_meta[name].modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
    backbone = on_meta["resnest101"]
    dilated = {
        key: m.dilation for key, m in backbone.named_modules() if isinstance(m, nn.Conv2d) and m.dilation != (1, 1)
    }
    assert dilated == {f"layer4.{block}.conv2.conv": (2, 2) for block in (1, 2)}
    pools = {key: m.stride for key, m in backbone.named_modules() if key.endswith("avd_last")}
    assert pools == {"layer2.0.avd_last": 2, "layer3.0.avd_last": 2, "layer4.0.avd_last": 1}


def test_squeeze_and_excitation_by_hand() -> None:
    layer = SqueezeExcite(2, reduction=2)
    with torch.no_grad():
        layer.fc[0].weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.fc[2].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([[[[0.0, 2.0]], [[3.0, 1.0]]]])  # means 1 and 2, squeezed 3, weights sigmoid(3) and sigmoid(-3)
    expected = x * torch.tensor([3.0, -3.0]).sigmoid().view(1, 2, 1, 1)
    torch.testing.assert_close(layer(x), expected)


def test_densenet_ibn_by_hand() -> None:
    layer = IBN(5, ratio=0.4, batch_first=True, relu=True).eval()  # channels 0-2 by batch, 3-4 by instance
    x = torch.randn(3, 5, 4, 4) * 3 + 1
    y = layer(x)
    torch.testing.assert_close(y[:, :3], (x[:, :3] / (1 + 1e-5) ** 0.5).relu())
    normal = (x[:, 3:] - x[:, 3:].mean((2, 3), keepdim=True)) / x[:, 3:].std((2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(y[:, 3:], normal.relu(), rtol=1e-3, atol=1e-4)
    assert IBN(64, 0.4, batch_first=True).split == [38, 26] and IBN(9).split == [4, 5]


SMALL_VARIANTS = [name for name in BACKBONES if name.endswith(("_small", "_tiny"))]


def test_each_model_of_the_papers_has_a_small_variant() -> None:
    papers = ("resnet50_ibn_a", "resnet101_ibn_a", "resnext101_ibn_a", "se_resnet101_ibn_a", "densenet169_ibn_a")
    assert {f"{name}_small" for name in (*papers, "resnest101", "transreid")} <= set(SMALL_VARIANTS)


@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_small_variants_have_the_blocks_of_the_full_model(name: str, on_meta: dict[str, nn.Module]) -> None:
    def kinds(backbone: nn.Module) -> set[type]:
        return {type(module) for module in backbone.modules()} - {nn.Identity, type(backbone)}

    full = name.replace("_small", "").replace("resnet10_ibn_a_tiny", "resnet18_ibn_a")
    assert kinds(on_meta[full]) - kinds(on_meta[name]) == set()


@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_small_variants_train_and_extract(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_identities=8, transreid=TransReIDOptions((64, 64)) if "transreid" in name else None)
    images, identities = torch.randn(16, 3, 64, 64), torch.arange(16) // 2
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    while len(losses) < 50 and (not losses or losses[-1] > 0.1 * losses[0]):
        outputs = model(images)
        assert isinstance(outputs, TrainOutputs) and outputs.pooled.shape == (16, model.num_features)
        loss = nn.functional.cross_entropy(outputs.logits, identities)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] <= 0.1 * losses[0], losses
    features = model.eval()(images[:3])
    assert features.shape == (3, model.num_features)
    assert not torch.allclose(features.norm(dim=1), torch.ones(3))  # raw, not normalised


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("convnext_atto", 320),  # maps, channels first
        ("timm/swin_tiny_patch4_window7_224", 768),  # maps, channels last
        ("vit_tiny_patch16_224", 192),  # tokens
        ("vit_small_patch14_dinov2", 384),  # 32 x 48 is no multiple of its patch
        ("mobilenetv3_small_050", 1024),  # its pooled feature is longer than its map is deep
        ("timm/resnet18", 512),
    ],
)
def test_networks_of_timm_by_name(name: str, length: int) -> None:
    model = build(name, num_identities=3)
    outputs = model(torch.randn(2, 3, 32, 48))
    assert isinstance(outputs, TrainOutputs)
    assert outputs.pooled.shape == (2, length) and outputs.logits.shape == (2, 3)
    assert model.eval()(torch.randn(2, 3, 32, 48)).shape == (2, length) == (2, model.num_features)
    with pytest.raises(InputError, match="has its own pooling"):
        ReidModel(model.backbone, pooling="gem")


def test_a_network_of_one_image_size_reports_other_sizes() -> None:
    model = build("gmlp_ti16_224").eval()
    with pytest.raises(InputError, match=r"cannot take images of 32 x 48: .*224.*; change their size"):
        model(torch.zeros(1, 3, 32, 48))


def test_neck_and_classifier_are_initialised_as_in_the_papers() -> None:
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
    with pytest.raises(InputError, match="did you mean 'resnet50_ibn_a'"):
        build("resnet50ibn")
    with pytest.raises(InputError, match="did you mean 'densenet169_ibn_a'"):
        build("densenet169_ibn")
    with pytest.raises(InputError, match="did you mean 'convnext_tiny'"):
        build("timm/convnext_tinny")
    with pytest.raises(InputError, match="average or gem"):
        ReidModel(build_backbone(TINY), pooling="max")  # type: ignore[arg-type]


def test_weights_files_round_trip_and_equal_states_have_equal_hashes(tmp_path: Path) -> None:
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


def test_many_wrong_keys_are_counted_and_all_in_the_note() -> None:
    model = build(TINY)
    with pytest.raises(InputError) as caught:
        load_strict(model, {}, "some.safetensors")
    counted = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert f"{len(counted)} missing ({', '.join(counted[:12])}, ...)" in str(caught.value)
    assert set(counted) <= set(caught.value.__notes__[0].splitlines())


def test_pretrained_weights_of_a_vreid_model_drop_the_classifier_only(tmp_path: Path) -> None:
    source = build(TINY, 3)
    save_weights(tmp_path / "m.safetensors", source.state_dict(), {})
    model = build(TINY, 8, tmp_path / "m.safetensors")
    assert weights_hash(model.backbone.state_dict()) == weights_hash(source.backbone.state_dict())
    assert model.classifier is not None and model.classifier.weight.shape == (8, 64)
    with pytest.raises(InputError, match="missing"):
        build("resnet18_ibn_a_small", 8, tmp_path / "m.safetensors")


@pytest.mark.parametrize("wrapped", [False, True])
def test_pretrained_weights_of_a_published_backbone(tmp_path: Path, wrapped: bool) -> None:
    backbone = {k: v for k, v in build_backbone(TINY).state_dict().items() if not k.endswith("num_batches_tracked")}
    published = {**backbone, "fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    content = {"state_dict": {f"module.{k}": v for k, v in published.items()}} if wrapped else published
    torch.save(content, tmp_path / "net.pth")
    model = build(TINY, 4, tmp_path / "net.pth")
    torch.testing.assert_close(model.backbone.state_dict()["conv1.0.weight"], backbone["conv1.0.weight"])
    torch.save({**published, "layer9.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"unexpected \(layer9.weight\)"):
        build(TINY, 4, tmp_path / "other.pth")


def test_files_without_weights_are_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{}")
    (tmp_path / "cut.pth").write_bytes(b"nonsense")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, sentence in (
        ("cut.safetensors", "not a complete safetensors file"),
        ("absent.safetensors", "cannot be read"),
        ("absent.pth", "cannot be read"),
        ("cut.pth", "is a text file, not a file of weights"),
        ("list.pth", "holds a list of 2 values, no weights"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            build(TINY, 2, tmp_path / name)
        assert "\n" not in str(caught.value)
