"""Side information of TransReID: which camera and view a picture is of, from the records to the embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vreid.data.augment import TrainTransform
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.models import ModelConfig, TransReID, TransReIDOptions, load_weights
from vreid.training.config import TrainConfig
from vreid.training.extract import extract, load_model, model_hash
from vreid.training.optimiser import OptimiserConfig
from vreid.training.supervised import train
from vreid.training.targets import side_cameras, side_information

pytestmark = pytest.mark.usefixtures("one_thread")

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
    told = side_information(OPTIONS, ("c0", "c1", "c2"), records)
    assert told["camera"].values.tolist() == told["camera"].mirrored.tolist() == [2, 0, -1, -1]
    assert told["view"].values.tolist() == [0, 0, 1, -1]
    assert told["view"].mirrored.tolist() == [0, 0, 3, -1]  # 360, 316 and 260 degrees
    assert side_information(TransReIDOptions(), (), records) == {}


def test_eight_views_are_those_of_veri() -> None:
    from vreid.simulator.layouts import VIEWS, _view

    degrees = np.arange(0.3, 360, 7)
    bins = side_information(
        TransReIDOptions(sie_views=8), (), Records.of(path=range(len(degrees)), orientation=degrees)
    )
    assert [VIEWS[number] for number in bins["view"].values.tolist()] == [_view(angle) for angle in degrees]


@pytest.mark.parametrize(("camera", "view", "rows"), [(-1, 2, [2, 6, 10]), (1, -1, [4, 5, 6, 7]), (-1, -1, range(12))])
def test_what_is_unknown_has_the_mean_of_the_embeddings(camera: int, view: int, rows: Any) -> None:
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


def test_training_tells_the_network_and_the_model_file_knows_the_cameras(
    records: Records, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], list[int]]] = []
    forward = TransReID.forward

    def watched(self: TransReID, images: torch.Tensor, **told: torch.Tensor) -> torch.Tensor:
        seen.append((told["camera"].tolist(), told["view"].tolist()))
        return forward(self, images, **told)

    monkeypatch.setattr(TransReID, "forward", watched)
    still = replace(config, transform=replace(config.transform, flip=0.0))
    path = train(still, records, out=tmp_path / "run")
    # Each epoch shows all twelve pictures: cameras 0, 1, 2 and views 0, ..., 3 in all pairs.
    for cameras, views in seen:
        assert sorted(zip(cameras, views, strict=True)) == [(camera, view) for camera in range(3) for view in range(4)]
    assert load_weights(path)[1]["cameras"] == ["c0", "c1", "c2"]
    seen.clear()
    loaded = load_model(path)
    assert loaded.model.cameras == ("c0", "c1", "c2")
    extract(loaded.model, records, transform=loaded.transform)
    original, flipped = seen
    assert original == ([0, 1, 2] * 4, [0, 1, 2, 3] * 3) and flipped == ([0, 1, 2] * 4, [0, 3, 2, 1] * 3)


def test_features_depend_on_the_camera_that_the_records_name(
    records: Records, config: TrainConfig, tmp_path: Path
) -> None:
    loaded = load_model(train(replace(config, epochs=1), records, out=tmp_path / "run"))

    def features(camera: str) -> np.ndarray:
        told = replace(records, camera=Labels.constant(camera or None, len(records)))
        return extract(loaded.model, told, transform=loaded.transform).features

    assert np.abs(features("c0") - features("c1")).max() > 1e-3
    np.testing.assert_array_equal(features("c7"), features(""))
    before = model_hash(loaded.model, loaded.transform)
    loaded.model.cameras = ("c1", "c0", "c2")
    assert model_hash(loaded.model, loaded.transform) != before


def test_embeddings_that_the_training_images_cannot_fill_are_refused(
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
