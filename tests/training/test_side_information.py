"""Side information of TransReID: which camera and view an image is of, from the records to the embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vreid.adaptation.adapt import adapt_once, with_new_cameras
from vreid.adaptation.adapt_config import PRESETS
from vreid.data.augment import TrainTransform
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.models import ModelConfig, TransReID, TransReIDOptions, load_weights
from vreid.progress import Progress
from vreid.training.extract import extract, load_trained, model_hash
from vreid.training.optimiser import OptimiserConfig
from vreid.training.supervised import train
from vreid.training.targets import side_cameras, side_information
from vreid.training.train_config import TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


class Notes(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


OPTIONS = TransReIDOptions(image_size=(32, 32), sie_cameras=3, sie_views=4)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """4 vehicles at three cameras, seen from four sides."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number:02d}.png" for number in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return Records.of(
        path=paths,
        identity=[f"v{number // 3}" for number in range(12)],
        camera=[f"c{number % 3}" for number in range(12)],
        orientation=[90.0 * (number % 4) for number in range(12)],
    )


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        recipe="tiny",
        model=ModelConfig(backbone="transreid_small", transreid=OPTIONS),
        num_identities=4,
        num_instances=3,
        epochs=2,
        transform=TrainTransform(height=32, width=32, pad=0, flip=0.5),
        optimiser=OptimiserConfig(kind="adamw", learning_rate=1e-3),
        precision="float32",
    )


def test_cameras_by_name_and_views_around_the_axes() -> None:
    records = Records.of(
        path=["a", "b", "c", "d"],
        camera=["c2", "c0", "", "c7"],
        orientation=[0.0, 44.0, 100.0, np.nan],
    )
    reported = side_information(OPTIONS, ("c0", "c1", "c2"), records)
    assert reported["camera"].values.tolist() == reported["camera"].mirrored.tolist() == [2, 0, -1, -1]
    assert reported["view"].values.tolist() == [0, 0, 1, -1]
    assert reported["view"].mirrored.tolist() == [0, 0, 3, -1]  # 360, 316 and 260 degrees
    assert side_information(TransReIDOptions(), (), records) == {}


def test_eight_views_are_those_of_veri() -> None:
    from vreid.simulator.formats.layouts import VIEWS, view_number

    degrees = np.arange(0.3, 360, 7)
    bins = side_information(
        TransReIDOptions(sie_views=8), (), Records.of(path=range(len(degrees)), orientation=degrees)
    )
    assert [VIEWS[number] for number in bins["view"].values.tolist()] == [view_number(angle) for angle in degrees]


@pytest.mark.parametrize(("camera", "view", "rows"), [(-1, 2, [2, 6, 10]), (1, -1, [4, 5, 6, 7]), (-1, -1, range(12))])
def test_unknown_cameras_and_views_take_the_mean_embedding(camera: int, view: int, rows: Any) -> None:
    torch.manual_seed(0)
    narrow: Any = {"patch": 16, "stride": 16, "dim": 24, "depth": 1, "heads": 3}
    network, plain = (
        TransReID(OPTIONS, **narrow).eval(),
        TransReID(replace(OPTIONS, sie_cameras=0, sie_views=0), **narrow),
    )
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key != "sie_embed"})
    assert network.sie_embed is not None
    with torch.no_grad():
        plain.pos_embed += OPTIONS.sie_weight * network.sie_embed[list(rows)].mean(dim=0)
    images = torch.randn(1, 3, 32, 32)
    got = network(images, camera=torch.tensor([camera]), view=torch.tensor([view]))
    torch.testing.assert_close(got, plain.eval()(images))


def test_training_uses_side_information_and_the_model_file_records_cameras(
    records: Records, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], list[int]]] = []
    forward = TransReID.forward

    def watched(self: TransReID, images: torch.Tensor, **reported: torch.Tensor) -> torch.Tensor:
        seen.append((reported["camera"].tolist(), reported["view"].tolist()))
        return forward(self, images, **reported)

    monkeypatch.setattr(TransReID, "forward", watched)
    still = replace(config, transform=replace(config.transform, flip=0.0))
    path = train(still, records, out=tmp_path / "run")
    # Each epoch shows all twelve images: cameras 0, 1, 2 and views 0, ..., 3 in all pairs.
    for cameras, views in seen:
        assert sorted(zip(cameras, views, strict=True)) == [(camera, view) for camera in range(3) for view in range(4)]
    assert load_weights(path)[1]["cameras"] == ["c0", "c1", "c2"]
    seen.clear()
    loaded = load_trained(path)
    assert loaded.model.cameras == ("c0", "c1", "c2")
    extract(loaded.model, records, transform=loaded.transform)
    original, flipped = seen
    assert original == ([0, 1, 2] * 4, [0, 1, 2, 3] * 3) and flipped == ([0, 1, 2] * 4, [0, 3, 2, 1] * 3)


def test_features_depend_on_the_camera_that_the_records_name(
    records: Records, config: TrainConfig, tmp_path: Path
) -> None:
    loaded = load_trained(train(replace(config, epochs=1), records, out=tmp_path / "run"))

    def features(camera: str) -> np.ndarray:
        reported = replace(records, camera=Labels.constant(camera or None, len(records)))
        return extract(loaded.model, reported, transform=loaded.transform).features

    assert np.abs(features("c0") - features("c1")).max() > 1e-3
    np.testing.assert_array_equal(features("c7"), features(""))
    before = model_hash(loaded.model, loaded.transform)
    loaded.model.cameras = ("c1", "c0", "c2")
    assert model_hash(loaded.model, loaded.transform) != before


# ---------------------------------------------------------------- other cameras than those of training

ADAPTATION = replace(
    PRESETS["auto"],
    pseudo=replace(PRESETS["auto"].pseudo, eps=0.89, k1=2, k2=1, level="image", min_samples=1, camera="none"),
    epochs=1,
    iterations=1,
    num_identities=2,
    num_instances=2,
    learning_rate=1e-3,
    gate=False,
)


@pytest.fixture(scope="module")
def trained(records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        recipe="tiny",
        model=ModelConfig(backbone="transreid_small", transreid=OPTIONS),
        num_identities=4,
        num_instances=3,
        epochs=1,
        transform=TrainTransform(height=32, width=32, pad=0),
        optimiser=OptimiserConfig(kind="adamw", learning_rate=1e-3),
        precision="float32",
    )
    return train(config, records, out=tmp_path_factory.mktemp("sie") / "run")


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        (("x0", "x1", "x2"), {-1}),  # as many cameras, but others
        (("x0", "c2"), {-1, 2}),
        (("c2", "c0", "c1", "x"), {2, 0, 1, -1}),
        (("",), {-1}),
    ],
    ids=str,
)
def test_adaptation_matches_cameras_by_name_and_unknown_ones_take_the_mean(
    records: Records,
    trained: Path,
    names: tuple[str, ...],
    codes: set[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Views are not known of the new images either: they take the mean in training as in extraction."""
    target = records.with_(
        camera=[names[number % len(names)] or None for number in range(12)], orientation=[np.nan] * 12
    )
    seen: set[int] = set()
    forward = TransReID.forward

    def watched(self: TransReID, images: torch.Tensor, **reported: torch.Tensor) -> torch.Tensor:
        seen.update(reported["camera"].tolist())
        assert set(reported["view"].tolist()) == {-1}
        return forward(self, images, **reported)

    monkeypatch.setattr(TransReID, "forward", watched)
    notes = Notes()
    adapted = load_trained(adapt_once(trained, target, ADAPTATION, out=tmp_path / "adapted", progress=notes))
    assert seen == codes
    assert adapted.model.cameras == ("c0", "c1", "c2") and adapted.model.backbone.sie_embed.shape == (12, 1, 192)
    known = len([name for name in names if name.startswith("c")])
    assert f"matched by name for {known} of {len([name for name in names if name])} cameras" in " ".join(notes.said)
    assert (tmp_path / "adapted/round-0").exists()


def test_new_cameras_get_embeddings_only_if_asked(records: Records, trained: Path, tmp_path: Path) -> None:
    target = records.with_(camera=[f"c{2 + number % 3}" for number in range(12)])
    asked = replace(ADAPTATION, new_cameras=True)
    adapted = load_trained(adapt_once(trained, target, asked, out=tmp_path / "adapted"))
    assert adapted.model.cameras == ("c0", "c1", "c2", "c3", "c4")
    assert adapted.model.backbone.sie_embed.shape == (20, 1, 192)
    old = load_trained(trained).model.state_dict()
    start, cameras = with_new_cameras(old, ("c0", "c1", "c2"), target)
    table, before = start["backbone.sie_embed"].view(5, 4, -1), old["backbone.sie_embed"].view(3, 4, -1)
    assert cameras == adapted.model.cameras and torch.equal(table[:3], before)
    for row in table[3:]:
        torch.testing.assert_close(row, before.mean(dim=0))


def test_new_cameras_of_a_model_without_embeddings_are_an_error(
    records: Records, config: TrainConfig, tmp_path: Path
) -> None:
    plain = replace(config, model=ModelConfig(backbone="resnet10_ibn_a_tiny"), epochs=1)
    path = train(plain, records, out=tmp_path / "run")
    with pytest.raises(InputError, match="has no camera embeddings"):
        adapt_once(path, records, replace(ADAPTATION, new_cameras=True), out=tmp_path / "adapted")


def test_training_from_a_model_of_other_cameras_matches_them_by_name(
    records: Records, config: TrainConfig, trained: Path, tmp_path: Path
) -> None:
    """Four cameras after three, two of them the same; a rate of nearly 0 leaves the initial embeddings."""
    target = records.with_(camera=[("c2", "d", "c0", "e")[number % 4] for number in range(12)])
    config = replace(
        config,
        epochs=1,
        model=replace(config.model, weights=str(trained), transreid=replace(OPTIONS, sie_cameras=4)),
        optimiser=replace(config.optimiser, learning_rate=1e-12, weight_decay=0.0),
    )
    notes = Notes()
    made = load_trained(train(config, target, out=tmp_path / "run", progress=notes)).model
    assert made.cameras == ("c0", "c2", "d", "e")
    before = load_trained(trained).model.backbone.sie_embed.detach().view(3, 4, -1)
    expected = torch.stack([before[0], before[2], before.mean(dim=0), before.mean(dim=0)])
    torch.testing.assert_close(made.backbone.sie_embed.detach().view(4, 4, -1), expected, rtol=0, atol=1e-6)
    assert any("matched by name for 2 of 4 cameras (c0, c2); d, e take the mean" in note for note in notes.said)


def test_embeddings_without_matching_training_images_raise(
    records: Records, config: TrainConfig, tmp_path: Path
) -> None:
    for options, wrong, sentence in (
        (replace(OPTIONS, sie_cameras=5), records, r"sie_cameras is 5, but .* from 3 known cameras; set it to 3\."),
        (OPTIONS, replace(records, camera=Labels.constant(None, 12)), r"from 0 known cameras; set it to 0\."),
        (
            OPTIONS,
            replace(records, orientation=np.full(12, np.nan, np.float32)),
            r"sie_views is 4, but no .*set it to 0",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            side_cameras(options, wrong)
    several = replace(config, model=replace(config.model, transreid=replace(OPTIONS, sie_cameras=4)))
    with pytest.raises(InputError, match="set it to 3"):
        train(several, records, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
