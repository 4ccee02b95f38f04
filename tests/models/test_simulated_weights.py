"""Simulated weights: compact files, shipped files of each backbone, model.weights=simulated, the pretraining world."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.command_line import Run
from vreid.configuration import plain_values
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.files import read_json, read_tensors, write_tensors
from vreid.models import BACKBONES, ModelConfig, TransReIDOptions, build, build_from, load_weights
from vreid.models.published import SIMULATED, SIMULATED_VERSION, located, simulated_weights
from vreid.models.weights import save_compact
from vreid.recipes import recipe
from vreid.recipes.demo import DemoConfig
from vreid.recipes.pretrain import EPOCHS, WORLD, pretrain
from vreid.reproduce.stages import Model, SimulatedWorld
from vreid.simulator import simulate
from vreid.simulator.city.presets import PRESETS, PRETRAINING_SEED, check_seed
from vreid.training.supervised import train

SHIPPED = simulated_weights()

pytestmark = pytest.mark.usefixtures("one_thread")

# ---------------------------------------------------------------- compact files


def test_a_compact_file_by_hand(tmp_path: Path) -> None:
    """Row 1 has scale 127 / 127, row 2 is all zero, row 3 has scale 0.0254 / 127 = 0.0002."""
    state = {
        "a": torch.tensor([[127.0, -3.4], [0.0, 0.0], [0.0254, -0.01]]),
        "half": torch.tensor([1.0, -0.3333]),
        "tiny": torch.tensor([1e-7, 2.0]),
        "counter": torch.tensor(7),
    }
    save_compact(tmp_path / "c.safetensors", state, {"kind": "start"})
    stored, _ = read_tensors(tmp_path / "c.safetensors", "torch")
    assert stored["a"].tolist() == [[127, -3], [0, 0], [127, -50]] and stored["a"].dtype == torch.int8
    assert stored["scales"].tolist() == pytest.approx([1, 0, 0.0002])
    assert stored["half"].dtype == torch.float16 and stored["tiny"].dtype == torch.float32
    read, facts = load_weights(tmp_path / "c.safetensors")
    assert facts["kind"] == "start" and read.keys() == {"a", "half", "tiny"}
    assert {value.dtype for value in read.values()} == {torch.float32}
    torch.testing.assert_close(read["a"], torch.tensor([[127.0, -3.0], [0.0, 0.0], [0.0254, -0.01]]))
    torch.testing.assert_close(read["half"], state["half"], rtol=1e-3, atol=0)
    assert torch.equal(read["tiny"], state["tiny"])


def test_the_error_of_a_compact_weight_is_at_most_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {"b.weight": torch.randn(5, 3, 2, 2) * torch.logspace(-6, 3, 5).view(-1, 1, 1, 1), "a": torch.randn(4, 7)}
    save_compact(tmp_path / "c.safetensors", state, {})
    read, _ = load_weights(tmp_path / "c.safetensors")
    for name, value in state.items():
        step = value.flatten(1).abs().amax(1) / 127
        assert bool(((read[name] - value).flatten(1).abs().amax(1) <= 0.5001 * step).all())


def test_scales_that_do_not_fit_are_reported(tmp_path: Path) -> None:
    save_compact(tmp_path / "c.safetensors", {"a": torch.ones(3, 2)}, {})
    tensors, facts = read_tensors(tmp_path / "c.safetensors", "torch")
    for name, wrong in (("cut", {**tensors, "scales": torch.ones(2)}), ("none", {"a": tensors["a"]})):
        write_tensors(tmp_path / f"{name}.safetensors", wrong, facts, "torch")
        with pytest.raises(InputError, match=rf"{name}\.safetensors: .*it again"):
            load_weights(tmp_path / f"{name}.safetensors")


# ---------------------------------------------------------------- what is shipped


def test_every_small_variant_has_shipped_weights_of_limited_size() -> None:
    assert set(SHIPPED) == {name for name in BACKBONES if name.endswith(("_small", "_tiny"))}
    assert sum(path.stat().st_size for path in SHIPPED.values()) <= 12_000_000


@pytest.mark.parametrize("backbone", SHIPPED)
def test_shipped_weights_fit_their_backbone_and_record_their_origin(backbone: str) -> None:
    model = build(backbone, weights=SIMULATED)  # strict: a missing or unexpected key raises
    state, facts = load_weights(SHIPPED[backbone])
    weight = max(state, key=lambda name: state[name].numel())
    if weight != "pos_embed":
        assert torch.equal(model.backbone.state_dict()[weight], state[weight])
    assert (facts["kind"], facts["backbone"], facts["recipe"]) == ("start", backbone, "pretrain")
    assert facts["world seed"] == PRETRAINING_SEED and facts["preset"] == WORLD.name
    assert facts.get("epochs", EPOCHS) == EPOCHS  # the same budget for all; two files are older than the entry
    assert facts["model"] == json.loads(json.dumps(plain_values(pretrain(backbone).model)))
    features = model.eval()(torch.randn(2, 3, 64, 64))
    assert bool(torch.isfinite(features).all()) and not torch.allclose(features[0], features[1])


def test_position_embeddings_of_a_shipped_transformer_are_resized() -> None:
    options = TransReIDOptions(image_size=(96, 128), sie_cameras=3)
    model = build_from(ModelConfig("transreid_small", weights=SIMULATED, transreid=options), 5)
    assert model.backbone.pos_embed.shape == (1, 1 + 9 * 12, 192)
    assert model.backbone.sie_embed.shape == (3, 1, 192)


def test_the_error_for_a_backbone_without_simulated_weights_suggests_a_fix() -> None:
    with pytest.raises(
        InputError, match=r"resnet50_ibn_a has no simulated weights; .* train from random weights .recipe small_random"
    ):
        build("resnet50_ibn_a", weights=SIMULATED)
    with pytest.raises(InputError, match="This model has no simulated weights"):
        located(SIMULATED)


def test_the_description_of_the_initialisation(tmp_path: Path) -> None:
    name = "resnet50_ibn_a_small"
    digest = hashlib.sha256(SHIPPED[name].read_bytes()).hexdigest()[:16]
    assert (
        ModelConfig(name, weights=SIMULATED).initialisation == f"simulated start v{SIMULATED_VERSION} (sha256 {digest})"
    )
    assert ModelConfig(name).initialisation == "random"
    file = tmp_path / "resnet18_ibn_a-2f571257.pth"
    file.write_bytes(b"x")
    assert (
        ModelConfig(weights=str(file)).initialisation
        == f"published {file.name} (sha256 {hashlib.sha256(b'x').hexdigest()[:16]})"
    )
    own = file.rename(tmp_path / "own.pth")
    assert ModelConfig(weights=str(own)).initialisation.startswith("own.pth (sha256 2d711642b726b044")
    with pytest.raises(InputError, match=r"gone\.pth"):
        _ = ModelConfig(weights=str(tmp_path / "gone.pth")).initialisation


def test_vreid_weights_list_shows_simulated_weights(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("weights list --json").out) if row["address"] == SIMULATED}
    assert rows.keys() == SHIPPED.keys() and all(row["here"] for row in rows.values())
    path = SHIPPED["transreid_small"]
    assert rows["transreid_small"]["stored"] == str(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(rows["transreid_small"]["sha256"])
    assert "model.weights=simulated" in run("weights list").out


@pytest.mark.parametrize(
    ("option", "weights"), [("", SIMULATED), ("--start random", ""), ("--start simulated", SIMULATED)]
)
def test_the_demo_uses_simulated_or_random_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, weights: str
) -> None:
    asked: list[str] = []

    def stop(config: DemoConfig, out: Path, **_: object) -> None:
        asked.append(recipe(config.recipe, config.overrides).model.weights)
        raise InputError("enough.")

    monkeypatch.setattr("vreid.demo.run_demo", stop)
    assert run(f"demo --out {tmp_path}/d --preset tiny {option}").code == 2
    assert asked == [weights]


def test_a_run_and_its_model_record_their_initialisation(tiny_world: Path, tmp_path: Path) -> None:
    """A weights file that changes before a resume raises, since the run began with other weights."""
    backbone = "resnet50_ibn_a_small"
    records = open_dataset(tiny_world / "AIC21_Track2_ReID").train
    settings = {"epochs": "1", "num_identities": "4", "transform.height": "32", "transform.width": "32"}
    config = recipe("small", {**settings, "model.backbone": backbone})
    said = config.model.initialisation
    model = train(config, records, out=tmp_path / "a")
    assert load_weights(model)[1]["initialisation"] == said and said.startswith("simulated start v")
    assert read_json(tmp_path / "a/data.json")["initialisation"] == said
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(SHIPPED[backbone].read_bytes())
    named = recipe("small", {**settings, "model.backbone": backbone, "model.weights": str(copy)})
    same = load_weights(train(named, records, out=tmp_path / "b"))[0]
    assert all(torch.equal(value, same[name]) for name, value in load_weights(model)[0].items())
    build(backbone, weights=copy)
    save_compact(copy, build(backbone).backbone.state_dict(), {})
    with pytest.raises(InputError, match=r"data\.json: the run has initialisation"):
        train(named, records, out=tmp_path / "b", resume=True)
    random = recipe("small_random", {**settings, "model.backbone": backbone})
    assert load_weights(train(random, records, out=tmp_path / "c"))[1]["initialisation"] == "random"


def test_the_hash_of_a_stage_covers_the_contents_of_the_weights_file() -> None:
    plain = Model(SimulatedWorld("tiny", 1), ("real",), recipe("small_random"))
    started = replace(plain, training=replace(plain.training, model=replace(plain.training.model, weights=SIMULATED)))
    path = SHIPPED["resnet18_ibn_a_small"]
    by_path = replace(
        started, training=replace(started.training, model=replace(started.training.model, weights=str(path)))
    )
    assert started.settings == by_path.settings != plain.settings
    with pytest.raises(InputError, match="seed 424242 is"):
        SimulatedWorld(WORLD, PRETRAINING_SEED)


# ---------------------------------------------------------------- the world


def test_the_pretraining_seed_is_reserved(tmp_path: Path) -> None:
    for seed in (PRETRAINING_SEED, -1):
        with pytest.raises(InputError, match=f"seed {seed} is"):
            simulate(tmp_path / "w", preset="tiny", seed=seed)
    assert not (tmp_path / "w").exists()
    check_seed(PRETRAINING_SEED, WORLD)
    check_seed(0, "demo")
    assert WORLD.name not in PRESETS


def test_the_pretraining_world_has_no_night() -> None:
    assert {scene.scenario for scene in WORLD.scenes} == {"day_a", "day_b", "day_c", "day_d"}
    assert WORLD.new_scene is None
    assert all(preset.new_scene and preset.new_scene.scenario == "night" for preset in PRESETS.values())
