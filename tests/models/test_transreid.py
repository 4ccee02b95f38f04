"""TransReID: patches, position embeddings, side information, jigsaw patches, stochastic depth, use in `ReidModel`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from vreid.data.augment import TrainTransform
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.models import ModelConfig, ReidModel, TrainOutputs, TransReID, TransReIDOptions, build, build_from
from vreid.models.transreid import rearrange, resize_positions
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig

NARROW = {"dim": 24, "depth": 3, "heads": 2}


def backbone(**options: object) -> TransReID:
    return TransReID(TransReIDOptions(image_size=(64, 64), **options), **NARROW).eval()  # type: ignore[arg-type]


def test_transreid_has_the_papers_numbers() -> None:
    with torch.device("meta"):
        network = build("transreid").backbone
    assert isinstance(network, TransReID)
    assert network.grid == (18, 18) and network.pos_embed.shape == (1, 325, 768)
    assert len(network.blocks) == 12 and network.sie_embed is None
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.blocks]
    assert rates == pytest.approx([0.1 * index / 11 for index in range(12)])
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 25 and {norm.eps for norm in norms} == {1e-6}
    assert all(module.p == 0 for module in network.modules() if isinstance(module, nn.Dropout))
    assert network.blocks[0].attn.num_heads == 12


def test_patches_overlap() -> None:
    network = backbone()
    assert network.grid == (4, 4)  # (64 - 16) // 14 + 1
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, :, 14:16] = 1.0  # seen by the first and by the second column of patches
    seen = network.patch_embed["proj"](images) - network.patch_embed["proj"](torch.zeros_like(images))
    assert (seen.abs().amax((0, 1, 2)) > 0).tolist() == [True, True, False, False]


def test_rearrange_by_hand() -> None:
    # 1 ... 8, shift 5: 5 6 7 8 1 2 3 4; two pieces: 5 6 7 8 | 1 2 3 4; taken in turn.
    patches = torch.arange(1, 9).view(1, 8, 1)
    assert rearrange(patches, 5, 2).flatten().tolist() == [5, 1, 6, 2, 7, 3, 8, 4]
    # 1 ... 5, shift 2: 2 3 4 5 1, the second-last again: 2 3 4 | 5 1 5.
    assert rearrange(patches[:, :5], 2, 2).flatten().tolist() == [2, 5, 3, 1, 4, 5]
    assert rearrange(patches, 1, 1).flatten().tolist() == list(range(1, 9))


@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_rearrange_keeps_every_patch(count: int, groups: int, data: st.DataObject) -> None:
    shift = data.draw(st.integers(1, count))
    patches = torch.stack((torch.arange(count), torch.arange(count) + 100))[..., None]
    if count == 1 and groups > 1:
        return  # there is no second-last patch to repeat
    got = rearrange(patches, shift, groups)
    assert set(got[0].flatten().tolist()) == set(range(count))
    assert got.shape[1] % groups == 0 and got.shape[1] - count < groups
    assert torch.equal(got[1], got[0] + 100)


def test_local_features_see_the_class_token_and_their_quarter() -> None:
    network = backbone(jpm=True, jpm_shift=3)
    images = torch.randn(2, 3, 64, 64)
    tokens = network.patch_embed["proj"](images).flatten(2).transpose(1, 2)
    tokens = torch.cat((network.cls_token.expand(2, -1, -1), tokens), 1) + network.pos_embed
    tokens = network.blocks[1](network.blocks[0](tokens))
    order = [3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 8, 16, 9, 1, 10, 2]  # 3 ... 10 | 11 ... 16 1 2, taken in turn
    expected = [network.norm(network.blocks[2](tokens))[:, 0]]
    for quarter in range(4):
        part = tokens[:, [0, *order[4 * quarter : 4 * quarter + 4]]]
        expected.append(network.local_norm(network.local_block(part))[:, 0])
    torch.testing.assert_close(network(images), torch.stack(expected, 1))


def test_the_local_block_is_initialised_as_a_copy() -> None:
    network = backbone(jpm=True)
    for (name, first), second in zip(
        network.blocks[-1].named_parameters(), network.local_block.parameters(), strict=True
    ):
        assert torch.equal(first, second) and first is not second, name


def test_model_with_jigsaw_patches() -> None:
    model = ReidModel(backbone(jpm=True), num_identities=6)
    outputs = model.train()(torch.randn(4, 3, 64, 64))
    assert isinstance(outputs, TrainOutputs)
    assert outputs.logits.shape == (4, 6) and outputs.pooled.shape == (4, 24)
    assert [one.shape for one in outputs.local_logits] == [(4, 6)] * 4
    assert [one.shape for one in outputs.local_pooled] == [(4, 24)] * 4
    classifiers = [model.classifier, *model.local_classifiers]
    necks = [model.neck, *model.local_necks]
    assert len({id(part) for part in classifiers + necks}) == 10
    assert all(not neck.bias.requires_grad and neck.weight.requires_grad for neck in necks)  # type: ignore[union-attr]
    terms = [functional.cross_entropy(one, torch.arange(4)) for one in (outputs.logits, *outputs.local_logits)]
    (0.5 * terms[0] + 0.5 * torch.stack(terms[1:]).mean()).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if p.requires_grad)


def test_features_are_float32_under_autocast() -> None:
    model = ReidModel(backbone(jpm=True), num_identities=6).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.randn(4, 3, 64, 64))
    assert {one.dtype for one in (outputs.pooled, *outputs.local_pooled)} == {torch.float32}


def test_evaluation_concatenates_the_global_and_a_quarter_of_each_local_feature() -> None:
    model = ReidModel(backbone(jpm=True)).eval()
    for number, neck in enumerate((model.neck, *model.local_necks)):
        neck.running_mean.fill_(float(number))  # type: ignore[union-attr, operator]
    images = torch.randn(2, 3, 64, 64)
    parts, scale = model.backbone(images), (1 + 1e-5) ** 0.5
    feature = model(images)
    assert feature.shape == (2, 120) and model.num_features == 120
    torch.testing.assert_close(feature[:, :24], parts[:, 0] / scale)
    torch.testing.assert_close(feature[:, 72:96], (parts[:, 3] - 3) / scale / 4)


def test_position_embeddings_are_resized_bilinearly_except_the_class_token() -> None:
    rows = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])  # a 2 x 3 grid
    positions = torch.cat((torch.tensor([9.0]), rows.flatten())).view(1, 7, 1)
    got = resize_positions(positions, (2, 3), (4, 3)).flatten()
    assert got[0] == 9
    # Rows of the new grid lie at 0 (held), 0.25, 0.75, 1 (held) between the old two.
    by_hand = torch.tensor([[0.0, 1, 2], [0.75, 1.75, 2.75], [2.25, 3.25, 4.25], [3, 4, 5]])
    torch.testing.assert_close(got[1:].view(4, 3), by_hand)
    assert resize_positions(positions, (2, 3), (2, 3)) is positions


def test_images_of_other_sizes_are_accepted() -> None:
    network = backbone()
    assert network(torch.zeros(1, 3, 92, 64)).shape == (1, 24)
    same = TransReID(TransReIDOptions(image_size=(92, 64)), **NARROW).eval()  # type: ignore[arg-type]
    same.load_state_dict({**network.state_dict(), "pos_embed": resize_positions(network.pos_embed, (4, 4), (6, 4))})
    images = torch.randn(2, 3, 92, 64)
    torch.testing.assert_close(network(images), same(images))


@pytest.mark.parametrize(
    ("cameras", "views", "rows", "row"), [(3, 2, 6, 2 * 2 + 1), (3, 0, 3, 2), (0, 2, 2, 1), (3, 1, 3, 2), (1, 2, 2, 1)]
)
def test_side_information_is_one_row_for_each_camera_and_view(cameras: int, views: int, rows: int, row: int) -> None:
    network = backbone(sie_cameras=cameras, sie_views=views, sie_weight=2.0)
    assert network.sie_embed is not None and network.sie_embed.shape == (rows, 1, 24)
    images = torch.randn(1, 3, 64, 64)
    got = network(images, camera=torch.tensor([2]), view=torch.tensor([1]))
    plain = backbone()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key != "sie_embed"})
    with torch.no_grad():
        plain.pos_embed += 2.0 * network.sie_embed[row]  # added to every token, the class token too
    torch.testing.assert_close(got, plain(images))
    assert not torch.allclose(got, network(images, camera=torch.tensor([0]), view=torch.tensor([0])))


def test_side_information_has_spread_002_and_needs_labels() -> None:
    network = TransReID(TransReIDOptions(sie_cameras=300), depth=1)
    assert float(network.sie_embed.detach().std()) == pytest.approx(0.02, rel=0.03)  # type: ignore[union-attr]
    assert backbone(sie_cameras=1, sie_views=1).sie_embed is None
    with pytest.raises(InputError, match="sie_cameras is 3, but the images have no known camera"):
        backbone(sie_cameras=3)(torch.zeros(1, 3, 64, 64))


def test_wrong_options_raise() -> None:
    with pytest.raises(InputError, match="jpm_shift is 17; give a number from 1 to 16"):
        backbone(jpm=True, jpm_shift=17)
    with pytest.raises(InputError, match="image_size is 8 x 64"):
        TransReID(TransReIDOptions(image_size=(8, 64)))
    with pytest.raises(InputError, match="backbone is resnet18; remove them or choose among transreid"):
        build("resnet18", transreid=TransReIDOptions(jpm=True))
    with pytest.raises(InputError, match="has its own pooling"):
        build("transreid_small", pooling="gem")


def test_configurations_round_trip_through_json() -> None:
    config = ModelConfig(backbone="transreid_small", transreid=TransReIDOptions(image_size=(64, 80), jpm=True))
    plain = asdict(config)
    plain["transreid"]["image_size"] = [64, 80]
    assert ModelConfig.of(plain) == config
    assert ModelConfig.of({"backbone": "resnet18", "pooling": "gem"}) == ModelConfig("resnet18", pooling="gem")
    assert build_from(config, 3).state_dict()["backbone.pos_embed"].shape == (1, 1 + 6 * 7, 192)


def test_a_run_with_drop_path_and_jigsaw_resumes_to_identical_weights(tmp_path: Path) -> None:
    rng, paths = np.random.default_rng(0), []
    for index in range(16):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(paths[-1])
    records = Records.of(path=paths, image_key=range(16), identity=[f"v{index // 4}" for index in range(16)])
    config = TrainConfig(
        recipe="resumed",
        model=ModelConfig("transreid_small", transreid=TransReIDOptions(image_size=(32, 32), jpm=True, jpm_shift=2)),
        num_identities=2,
        num_instances=4,
        epochs=2,
        transform=TrainTransform(height=32, width=32, pad=2),
        precision="float32",
    )
    whole = train(config, records, out=tmp_path / "whole", workers=0)
    model = train(config, records, out=tmp_path / "again", workers=0)
    model.unlink()
    newest = max((tmp_path / "again/checkpoints").iterdir())
    newest.unlink()  # back to the end of the first epoch
    train(config, records, out=tmp_path / "again", workers=0, resume=True)
    resumed = load_file(model)
    assert [key for key, value in load_file(whole).items() if not torch.equal(value, resumed[key])] == []
