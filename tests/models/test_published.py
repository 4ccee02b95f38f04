"""Published weights: key lists, outputs of the published networks, checkpoints of other toolkits, and errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from oracles.published import BACKBONES, compare, outputs, picture, published_state, shapes
from vreid.errors import InputError
from vreid.models import (
    PUBLISHED,
    ReidModel,
    TransReID,
    TransReIDOptions,
    build,
    build_backbone,
    load_pretrained,
    load_state,
    weights_hash,
)
from vreid.recipes import RECIPES

TINY = "resnet10_ibn_a_tiny"
SMALL_VIT = TransReIDOptions(image_size=(64, 80))  # of the reference outputs: 4 x 5 patches


def on_meta(shape_of: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shape_of.items()}


def test_every_published_file_has_a_list_or_is_torchvisions() -> None:
    assert set(PUBLISHED) == set(BACKBONES.values()) | {"resnet18", "resnet34", "resnet50", "resnet101"}
    for one in PUBLISHED.values():
        assert one.address.startswith("https://") and re.fullmatch(r"[\w-]+-[0-9a-f]{8}\.pth", one.file)


def test_recipes_name_the_file_that_fits_and_prepare_images_as_it_was_trained() -> None:
    named = {name: re.findall(r"model\.weights=(\S+)", make.__doc__ or "") for name, make in RECIPES.items()}
    papers = {name: files for name, files in named.items() if files}
    assert {"resnet50_ibn_a", "se_resnet101_ibn_a", "densenet169_ibn_a", "resnest101", "transreid"} <= set(papers)
    for name, files in papers.items():
        config = RECIPES[name]()
        published = PUBLISHED[config.model.backbone.removesuffix("_stride32")]
        assert files == [published.file], name
        assert (config.transform.mean, config.transform.std) == (published.mean, published.std), name


@pytest.mark.parametrize("listed", BACKBONES)
def test_published_keys_and_shapes_fit_strictly(listed: str) -> None:
    with torch.device("meta"):
        model = build(BACKBONES[listed])
        load_state(model, on_meta(shapes(listed)), listed)  # on meta nothing is copied, everything is compared


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_torchvisions_keys_and_shapes_fit_strictly(name: str) -> None:
    with torch.device("meta"):
        load_state(build(name), getattr(torchvision.models, name)().state_dict(), name)


@pytest.mark.parametrize("listed", [name for name in outputs() if name in BACKBONES])
def test_outputs_equal_those_of_the_published_networks(listed: str) -> None:
    with torch.device("meta"):  # initial values would only be overwritten
        transformer = listed.startswith("vit")
        model = build(BACKBONES[listed], neck=False, transreid=SMALL_VIT if transformer else None).eval()
    model.to_empty(device="cpu")
    load_state(model, published_state(listed), listed)
    with torch.no_grad():
        compare(model(picture(64, 80 if transformer else 64)), outputs()[listed])


def jigsaw() -> ReidModel:
    options = TransReIDOptions(image_size=(64, 64), jpm=True, sie_cameras=3, sie_views=2)
    return ReidModel(TransReID(options, depth=2, mlp_ratio=1.0), num_identities=7).eval()


def test_transreid_checkpoint_with_jigsaw_and_side_information() -> None:
    model, state = jigsaw(), published_state("transreid_jpm_sie")
    own_classifier = model.local_classifiers[2].weight.clone()
    load_state(model, state, "transreid.pth")
    torch.testing.assert_close(model.local_classifiers[2].weight, own_classifier)
    torch.testing.assert_close(model.state_dict()["local_necks.3.weight"], state["bottleneck_4.weight"])
    images, labels = picture(64, 64).repeat(2, 1, 1, 1), {"camera": torch.tensor([2, 0]), "view": torch.tensor([1, 0])}
    with torch.no_grad():
        compare(model(images, **labels), outputs()["transreid_jpm_sie"])
    del state["b2.0.attn.qkv.weight"], state["base.blocks.0.norm1.bias"]
    state["base.blocks.0.attn.extra"] = torch.zeros(1)
    reported = (
        r"a TransReID or DMT checkpoint.*2 missing .*blocks.0.norm1.bias, .*local_block.attn.qkv.weight.*attn.extra"
    )
    with pytest.raises(InputError, match=reported):
        load_state(model, state, "transreid.pth")


def test_a_published_transformer_initialises_the_local_block_and_keeps_camera_embeddings() -> None:
    model = jigsaw()
    table = model.backbone.sie_embed.clone()  # type: ignore[union-attr, operator]
    backbone = published_state("transreid_jpm_sie")
    state = {key.removeprefix("base."): value for key, value in backbone.items() if key.startswith("base.")}
    del state["sie_embed"]
    load_state(model, state, "vit.pth")
    own = model.backbone.state_dict()
    torch.testing.assert_close(own["local_block.mlp.fc1.weight"], state["blocks.1.mlp.fc1.weight"])
    torch.testing.assert_close(own["blocks.1.mlp.fc1.weight"], state["blocks.1.mlp.fc1.weight"])
    torch.testing.assert_close(own["local_norm.bias"], state["norm.bias"])
    torch.testing.assert_close(own["sie_embed"], table)


def test_squeeze_excitation_weights_are_loaded() -> None:
    model = build("se_resnet101_ibn_a_small")
    state = {key: torch.full_like(value, 0.5) for key, value in model.backbone.state_dict().items()}
    state = {**state, "fc.weight": torch.zeros(1000, 384), "fc.bias": torch.zeros(1000)}
    load_state(model, state, "se.pth")
    loaded = [value for key, value in model.backbone.state_dict().items() if ".se.fc." in key]
    assert len(loaded) == 2 * (2 + 2 + 5 + 2) and all(bool((value == 0.5).all()) for value in loaded)
    del state["layer2.0.se.fc.2.weight"]
    with pytest.raises(InputError, match=r"1 missing \(layer2.0.se.fc.2.weight\)"):
        load_state(model, state, "se.pth")


def test_only_the_top_classifier_is_dropped() -> None:
    state = dict(build_backbone(TINY).state_dict())
    load_state(build(TINY), {**state, "classifier.weight": torch.zeros(9, 64), "fc.bias": torch.zeros(9)}, "a.pth")
    for key in ("fc.0.weight", "layer1.0.fc.weight", "head.weight", "fc.weight_v"):
        with pytest.raises(InputError, match=rf"1 unexpected \({key}\)"):
            load_state(build(TINY), {**state, key: torch.zeros(9, 64)}, "a.pth")


def test_batch_norm_style_keys_where_the_network_has_ibn_are_all_reported() -> None:
    with torch.device("meta"), pytest.raises(InputError) as caught:
        load_state(build("resnet50_ibn_a"), torchvision.models.resnet50().state_dict(), "resnet50-19c8e357.pth")
    # 13 blocks with IBN: six tensors each instead of four, and a counter each
    assert "78 missing (layer1.0.bn1.IN.weight" in str(caught.value) and "65 unexpected" in str(caught.value)


def fastreid_state(model: ReidModel) -> dict[str, Tensor]:
    """A state with fast-reid's keys: backbone, heads.bottleneck.0, heads.weight, heads.pool_layer.p, pixel_mean."""
    state = {}
    for key, value in model.state_dict().items():
        state[key.replace("neck.", "heads.bottleneck.0.").replace("pool.p", "heads.pool_layer.p")] = value + 1
    state["heads.weight"] = state.pop("classifier.weight")
    return {**state, "pixel_mean": torch.zeros(1, 3, 1, 1), "pixel_std": torch.ones(1, 3, 1, 1)}


def test_fastreid_checkpoints(tmp_path: Path) -> None:
    source, model = build(TINY, 3, pooling="gem"), build(TINY, 5, pooling="gem")
    torch.save({"model": fastreid_state(source), "iteration": 7}, tmp_path / "model_best.pth")
    load_pretrained(model, tmp_path / "model_best.pth")
    for key, value in source.state_dict().items():
        if key != "classifier.weight":
            torch.testing.assert_close(model.state_dict()[key], value + 1)
    state = {**fastreid_state(source), "backbone.NL_2.0.g.weight": torch.zeros(2)}
    with pytest.raises(InputError, match=r"a fast-reid checkpoint.*1 unexpected \(backbone.NL_2.0.g.weight\)"):
        load_state(model, state, "x.pth")
    with pytest.raises(InputError, match=r"1 unexpected \(pool.p\)"):
        load_state(build(TINY, 5), fastreid_state(source), "x.pth")


def test_torchreid_checkpoints(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in build_backbone(TINY).state_dict().items()}
    head = {"module.classifier.weight": torch.zeros(751, 64), "module.classifier.bias": torch.zeros(751)}
    torch.save({"state_dict": {**state, **head}, "epoch": 60, "rank1": 0.9}, tmp_path / "model.pth.tar-60")
    model = build(TINY, 4, tmp_path / "model.pth.tar-60")
    torch.testing.assert_close(model.backbone.state_dict()["bn1.weight"], state["module.bn1.weight"])
    with pytest.raises(InputError, match=r"unexpected \(fc.0.weight\)"):  # its embedding layer has no place here
        load_state(model, {**build_backbone(TINY).state_dict(), "fc.0.weight": torch.zeros(64, 64)}, "a.pth")


def test_dmt_checkpoints_of_convolutional_networks() -> None:
    source, model = build("resnet18_ibn_a_small", 3), build("resnet18_ibn_a_small", 9)
    state = {
        key.replace("backbone.", "base.").replace("neck.", "bottleneck."): value
        for key, value in source.state_dict().items()
    }
    load_state(model, {**state, "base.fc.weight": torch.zeros(1000, 256), "base.fc.bias": torch.zeros(1000)}, "a.pth")
    assert weights_hash(model.backbone.state_dict()) == weights_hash(source.backbone.state_dict())


def test_a_duplicate_tensor_is_reported() -> None:
    state = fastreid_state(build(TINY, 3))
    with pytest.raises(InputError, match=r"holds neck\.bias twice"):
        load_state(build(TINY, 3), {**state, "neck.bias": torch.zeros(64)}, "a.pth")


def test_a_network_of_timm_loads_timms_weights(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("convnext_atto", num_classes=5)
    torch.save(source.state_dict(), tmp_path / "atto.pth")
    model = build("convnext_atto", 3, tmp_path / "atto.pth").eval()
    with torch.no_grad():
        pooled = source.eval().forward_head(source.forward_features(picture(64, 64)), pre_logits=True)
        torch.testing.assert_close(model.backbone(picture(64, 64)), pooled)
