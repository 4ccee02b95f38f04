"""Style transfer: each term by hand, who moves when, resume to the last bit, translated folders read as variants."""

from __future__ import annotations

import json
import math
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from support.command_line import Run
from support.tiny_translation import TINY_TRANSLATION
from vreid.configuration import plain_values
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.data.sampling import PairedSampler
from vreid.errors import InputError
from vreid.files import read_json
from vreid.losses.translation import Embeddings, adversarial_loss, negative_pairs, self_similarity_loss, siamese_loss
from vreid.models.spgan import Discriminator, Generator, ImagePool, RepeatedPixels, SiameseNet
from vreid.progress import Progress
from vreid.recipes.spgan import TRANSLATIONS, translation
from vreid.training import translate_images
from vreid.training.translate import TranslateConfig, Translation, train_translation
from vreid.training.translate_images import translate

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, Records]:
    """A VehicleX folder of 5 reddish images of several sizes, and 6 bluish real images."""
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(0)
    made: dict[str, list[Path]] = {"synthetic/sys_image_train": [], "real": []}
    for name, paths in made.items():
        (folder / name).mkdir(parents=True)
        for number in range(5 if "synthetic" in name else 6):
            values = rng.integers(0, 256, (24 + number, 40 - number, 3), dtype=np.uint8)
            values[..., 2 if "synthetic" in name else 0] = 10
            paths.append(folder / name / f"{number:05d}_c001_{number}.jpg")
            Image.fromarray(values).save(paths[-1])
    synthetic = open_dataset(folder / "synthetic").train
    return synthetic, Records.of(path=made["real"])


def loop(config: TranslateConfig, path: Path | None = None) -> Translation:
    torch.manual_seed(0)
    run = SimpleNamespace(path=path)
    return Translation(config, 2, (), run, torch.device("cpu"), "float32", Progress())  # type: ignore[arg-type]


def images(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * (high - low) + low


def weights(module: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in module.parameters()])


# ---------------------------------------------------------------- networks, pool, terms


def test_networks_have_the_papers_sizes() -> None:
    generator = Generator()
    residual, ends = 9 * 2 * 9 * 256**2, 49 * 3 * 64 * 2 + 3
    assert sum(w.numel() for w in generator.parameters()) == residual + ends + 2 * 9 * (64 * 128 + 128 * 256)
    assert not [name for name, w in generator.named_parameters() if w.ndim == 1 and w.numel() > 3]  # no bias, no affine
    for repeat in (False, True):
        assert Generator(2, 1, repeat=repeat)(torch.zeros(2, 3, 20, 36)).shape == (2, 3, 20, 36)
    assert float(Generator(2, 1)(torch.randn(1, 3, 16, 16)).detach().abs().max()) <= 1
    assert RepeatedPixels()(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]
    seen = images(1, -1, 1)
    first = Generator(2, 1, masked=True)(seen)  # grey, by the sigmoid of -2
    torch.testing.assert_close(first, seen / (1 + math.exp(-2)))
    widths = [layer.out_channels for layer in Discriminator().layers if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]
    assert Discriminator(2)(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    siamese = SiameseNet()
    assert [layer.weight.shape for layer in siamese.layers if isinstance(layer, nn.Linear)] == [(128, 4096), (64, 128)]
    assert siamese.eval()(torch.randn(2, 3, 256, 256)).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_the_pool_by_hand() -> None:
    def shades(made: Tensor) -> list[float]:
        return made[:, 0, 0, 0].tolist()

    made = torch.arange(1.0, 7.0).view(6, 1, 1, 1).expand(6, 3, 4, 4)
    pool = ImagePool(2, 4)
    assert shades(pool.exchange(made[:2], [0.0, 0.9])) == [1, 2]  # it fills, whatever the draws
    assert shades(pool.exchange(made[2:5], [0.1, 0.7, 0.3])) == [1, 4, 2]  # slot 0, none, slot 1
    assert shades(pool.images) == [3, 5]
    again = ImagePool(2, 4)
    again.load_state_dict(pool.state_dict())
    assert shades(again.exchange(made[5:], [0.49])) == [5]
    assert shades(ImagePool(0, 4).exchange(made, [0.0] * 6)) == [1, 2, 3, 4, 5, 6]


def test_contrastive_terms_by_hand() -> None:
    east, north, west = (torch.tensor([each]) for each in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]))
    root = math.sqrt(2)
    assert float(negative_pairs(east, north)) == pytest.approx((2 - root) ** 2)
    assert float(negative_pairs(east, west)) == 0
    assert float(negative_pairs(torch.cat([east, north]), east)) == pytest.approx(4)  # the one without partner is out
    of = Embeddings(east, north, north, west)  # pos 2 and 2; neg(a as b, b) 4; neg(b as a, a) 0; neg(a, b)
    assert float(self_similarity_loss(of)) == pytest.approx((2 + 2 + 0.5 * (4 + 0)) / 4)
    assert float(siamese_loss(of)) == pytest.approx((2 + 2 + 2 * (2 - root) ** 2) / 3)
    assert float(self_similarity_loss(of, margin=1.0)) == pytest.approx((2 + 2 + 0.5 * (1 + 0)) / 4)
    same = east.clone().requires_grad_()
    negative_pairs(same, east).backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(same.grad).all())  # type: ignore[union-attr]
    assert float(adversarial_loss(torch.tensor([[1.0, -1.0]]), real=False)) == 1
    assert float(adversarial_loss(torch.tensor([[1.0, -1.0]]), real=True)) == 2


class Shade(nn.Module):
    """scale x + shift: a generator that can be followed by hand."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([scale, shift]))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.values[0] + self.values[1]


def test_cycle_and_identity_terms_by_hand() -> None:
    made = loop(replace(TINY_TRANSLATION, generator_every=1))
    made.learned["to_real"], made.learned["to_synthetic"] = Shade(1, 0.1), Shade(0.5, 0)
    terms = made.step(torch.full((2, 3, 32, 32), 0.4), torch.full((1, 3, 32, 32), -0.2), epoch=0)
    # a 0.4 -> 0.5 -> 0.25; b -0.2 -> -0.1 -> 0.0; a by to_synthetic 0.2; b by to_real -0.1
    assert float(terms["cycle"]) == pytest.approx(10 * (0.15 + 0.2), rel=1e-5)
    assert float(terms["identity"]) == pytest.approx(5 * (0.2 + 0.1), rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(
        sum(float(terms[name]) for name in ("adversarial", "cycle", "identity"))
    )


# ---------------------------------------------------------------- who moves when


def test_generators_are_updated_in_every_second_step_and_the_others_in_each() -> None:
    made = loop(TINY_TRANSLATION)
    a, b = images(2, -1, 0), images(3, 0, 1)
    seen = []
    for epoch in (0, 0, 1, 1):
        before = {
            name: weights(made.learned[name]) for name in ("to_real", "to_synthetic", "judge_a", "judge_b", "siamese")
        }
        terms = made.step(a, b, epoch)
        made.state.total_steps += 1
        seen.append({name for name, was in before.items() if not torch.equal(was, weights(made.learned[name]))})
        assert ("loss" in terms) == ("to_real" in seen[-1])
    judges, generators = {"judge_a", "judge_b"}, {"to_real", "to_synthetic"}
    assert seen == [judges, judges | generators, judges | {"siamese"}, judges | generators | {"siamese"}]
    assert all(weight.grad is None for weight in made.learned.parameters())


def test_the_self_similarity_loss_begins_in_the_third_epoch_and_does_not_update_the_siamese_network() -> None:
    config = replace(TINY_TRANSLATION, generator_every=1, siamese_from=9)

    def moved(epoch: int, other_siamese: bool) -> Tensor:
        made = loop(config)
        made.learned["siamese"].eval()  # without the draws of dropout
        if other_siamese:
            nn.init.normal_(made.learned["siamese"].layers[0].weight)
        before = weights(made.learned["siamese"])
        terms = made.step(images(2, -1, 0), images(3, 0, 1), epoch)
        assert ("keeping" in terms) == (epoch >= 2)
        assert torch.equal(before, weights(made.learned["siamese"]))
        return weights(made.learned["to_real"])

    assert torch.equal(moved(1, False), moved(1, True))
    assert not torch.equal(moved(2, False), moved(2, True))


def test_discriminators_learn_to_separate_real_and_generated_images() -> None:
    made = loop(replace(TINY_TRANSLATION, generator_every=1000, learning_rate=2e-3))
    losses = []
    for _ in range(25):
        losses.append(float(made.step(images(4, -1, -0.5), images(4, 0.5, 1), 0)["judges"]))
        made.state.total_steps += 1
    assert np.mean(losses[-3:]) < 0.2 * losses[0]


def test_every_image_of_the_smaller_domain_is_seen_and_batches_may_be_unequal() -> None:
    sampler = PairedSampler(5, 7, batch_size=2, seed=3)
    seen = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [4, 4, 3] and len(sampler) == 3
        rows = [row for batch in batches for row in batch]
        assert sorted(row for row in rows if row < 5) == [0, 1, 2, 3, 4]
        assert len({row for row in rows if row >= 5}) == 6 and max(rows) < 12
        seen.append(rows)
    assert seen[0] != seen[1]


# ---------------------------------------------------------------- a run


KILLED = """
import pickle, sys
from pathlib import Path
from vreid.training.translate import train_translation
config, synthetic, real = pickle.loads(Path(sys.argv[1]).read_bytes())
train_translation(config, synthetic, real, out=sys.argv[2], resume=True, checkpoint_steps=2, log_steps=1)
"""


@pytest.fixture(scope="module")
def whole(sides: tuple[Records, Records], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of TINY_TRANSLATION from its start to its end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_translation(TINY_TRANSLATION, *sides, out=run, log_steps=1)
    return run


def test_a_run_folder_holds_its_record_and_samples(sides: tuple[Records, Records], whole: Path) -> None:
    assert read_json(whole / "config.json") == plain_values(TINY_TRANSLATION)
    assert read_json(whole / "data.json")["real"]["images"] == 6
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 10))  # 5 images in batches of 2: the last is there
    assert ["loss" in line for line in steps] == [step % 2 == 0 for step in range(1, 10)]
    assert ["siamese" in line for line in steps] == [step > 3 for step in range(1, 10)]
    grids = sorted((whole / "samples").iterdir())
    assert [grid.name for grid in grids] == ["epoch_001.jpg", "epoch_002.jpg", "epoch_003.jpg"]
    assert Image.open(grids[0]).size == (6 * 32, 6 * 32)
    notes: list[str] = []

    class Listener(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    assert (
        train_translation(TINY_TRANSLATION, *sides, out=whole, resume=True, progress=Listener())
        == whole / "model.safetensors"
    )
    assert "nothing is left to train" in notes[0]


def test_a_killed_run_resumes_to_identical_weights(sides: tuple[Records, Records], whole: Path, tmp_path: Path) -> None:
    job, run = tmp_path / "job", tmp_path / "run"
    job.write_bytes(pickle.dumps((TINY_TRANSLATION, *sides)))
    metrics, lines = run / "metrics.jsonl", 0
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(job), str(run)],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    while child.poll() is None and lines < 6:  # in the second epoch, the pools being full
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not (run / "model.safetensors").exists()
    made = load_file(train_translation(TINY_TRANSLATION, *sides, out=run, resume=True, log_steps=1))
    wanted = load_file(whole / "model.safetensors")
    assert made.keys() == wanted.keys() and [name for name in made if not torch.equal(made[name], wanted[name])] == []
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (run, whole)]
    assert [last[0][name] for name in ("loss", "judges")] == pytest.approx(
        [last[1][name] for name in ("loss", "judges")]
    )


def test_wrong_input_is_reported(sides: tuple[Records, Records], whole: Path, tmp_path: Path) -> None:
    synthetic, real = sides
    for images_of, sentence in (
        ((real, synthetic), "give the synthetic ones first"),
        ((synthetic, real[:0]), "from 5 and 0 images; give 1 or more of each"),
    ):
        with pytest.raises(InputError, match=sentence):
            train_translation(TINY_TRANSLATION, *images_of, out=tmp_path / "run")
    with pytest.raises(InputError, match="the run has epochs = 3 but 4 is asked for"):
        train_translation(replace(TINY_TRANSLATION, epochs=4), *sides, out=whole, resume=True)
    with pytest.raises(InputError, match="lower learning_rate"):
        train_translation(replace(TINY_TRANSLATION, learning_rate=1e30), *sides, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for changes, sentence in (
        ({"size": 30}, "multiple of 4"),
        ({"load": 31}, "load is 31"),
        ({"patch_layers": 4}, "patch_layers is 4, too many for size 32"),
        ({"metric_stages": 3}, "metric_stages is 3, too many for size 32"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"generator_every": 0}, "generator_every is 0; give a whole number from 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            replace(TINY_TRANSLATION, **changes)  # type: ignore[arg-type]


def test_recipes() -> None:
    spgan = TRANSLATIONS["spgan"]()
    assert (spgan.load, spgan.size, spgan.filters, spgan.blocks, spgan.epochs, spgan.batch_size) == (
        286,
        256,
        64,
        9,
        20,
        4,
    )
    assert (spgan.cycle, spgan.identity, spgan.keeping, spgan.margin, spgan.learning_rate) == (10, 5, 2, 2, 2e-4)
    assert (spgan.pool, spgan.generator_every, spgan.siamese_from, spgan.keeping_from) == (50, 2, 1, 2)
    assert not spgan.masked and not spgan.repeat  # as published
    assert all(make().recipe == name for name, make in TRANSLATIONS.items())
    assert translation("spgan", {"load": "512"}).load == 512
    with pytest.raises(InputError, match="did you mean 'spgan_small'"):
        translation("spgan_smal")


# ---------------------------------------------------------------- translated images


def test_translations_have_the_names_and_sizes_of_their_originals(
    sides: tuple[Records, Records], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic, _ = sides
    folder = Path(synthetic.path[0]).parent
    started = 0

    def stops(*args: object, **options: object) -> Image.Image:
        nonlocal started
        started += 1
        if started == 4:
            raise KeyboardInterrupt
        return to_pil(*args, **options)  # type: ignore[arg-type]

    to_pil = translate_images.to_pil
    monkeypatch.setattr(translate_images, "to_pil", stops)
    with pytest.raises(KeyboardInterrupt):
        translate(whole, synthetic, folder.parent)
    assert not (folder.parent / "sys_image_train_tr").exists()
    made = translate(whole, synthetic, folder.parent)
    assert started == 6  # three were there; the fourth was tried twice
    there = {path.name: Image.open(path).size for path in (folder.parent / "sys_image_train_tr").glob("*.jpg")}
    assert there == {path.name: Image.open(path).size for path in folder.iterdir()}
    assert set(made.variant.values) == {"translated"} and made.image_key.tolist() == synthetic.image_key.tolist()
    assert open_dataset(f"{folder.parent}@translated").train.with_(path=made.path) == made
    monkeypatch.setattr(translate_images, "to_pil", None)  # a finished folder is not made again
    assert translate(whole, synthetic, folder.parent) == made
    with pytest.raises(InputError, match="of another model or of other images"):
        translate(whole, synthetic[:4], folder.parent)


def test_fine_detail_is_preserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = np.indices((50, 90)).sum(axis=0) % 2 * 130 + 60  # 60 and 190 in turn, which 32 pixels see as grey
    fine[:, 80:] = 250
    Image.fromarray(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8)).save(tmp_path / "fine.png")
    monkeypatch.setattr(translate_images, "load_translator", lambda source: (Shade(1, 20 / 127.5), TINY_TRANSLATION))
    made = translate("any", Records.of(path=[tmp_path / "fine.png"]), tmp_path / "out")
    there = np.asarray(Image.open(made.path[0])).astype(int)
    assert np.abs(there - np.minimum(fine + 20, 255)[..., None]).max() <= 1


def test_of_an_image_with_a_box_the_box_is_translated(
    sides: tuple[Records, Records], whole: Path, tmp_path: Path
) -> None:
    real = sides[1]
    boxed = real[:2].with_(box=[[2, 3, 12.5, 23], [np.nan] * 4])
    made = translate(whole / "model.safetensors", boxed, tmp_path / "out")
    assert [Image.open(path).size for path in made.path] == [(11, 20), Image.open(real.path[1]).size]
    assert bool(np.isnan(made.box).all())
    read = open_dataset(tmp_path / "out" / "translated.csv")
    there = read.gallery
    assert there.path.tolist() == made.path.tolist() and set(there.variant.values) == {"translated"}
    with pytest.raises(InputError, match="two images are boxes in this file"):
        translate(whole, boxed[[0, 0]], tmp_path / "twice")
    with pytest.raises(InputError, match="no images to translate"):
        translate(whole, boxed[:0], tmp_path / "none")


def test_the_command_line_on_the_tiny_world(run: Run, tiny_world: Path, tmp_path: Path) -> None:
    synthetic, real = (tiny_world / f"AIC21_Track2_ReID{end}" for end in ("_Simulation", ""))
    tiny = "size=32 load=32 filters=2 blocks=0 patch_layers=1 metric_stages=1 epochs=1 batch_size=16"
    settings = " ".join(f"--set {setting}" for setting in tiny.split())
    outcome = run(f"data translate train {synthetic} {real} --out {tmp_path}/run {settings}")
    assert outcome.code == 0 and "Translation model: " in outcome.out, outcome
    outcome = run(f"data translate apply {tmp_path}/run {synthetic} --out {tmp_path}/new --json")
    assert outcome.code == 0, outcome
    images = json.loads(outcome.out)["images"]
    read = open_dataset(f"{tmp_path}/new@translated").train
    original = open_dataset(synthetic).train
    assert len(read) == len(original) == images and read.color == original.color
