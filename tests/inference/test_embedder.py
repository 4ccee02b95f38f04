"""Embedder: every kind of image gives the same feature; distances, decisions, attributes, threads, scikit-learn."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import vreid
from support.tiny_model import TRANSFORM, picture, write_model
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.embedder import Embedder, load_model
from vreid.retrieval.evaluation.calibration import Rate, Threshold
from vreid.training import model_file
from vreid.training.extract import export_half, extract, load_trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", temperatures={"color": 2.0})


@pytest.fixture(scope="module")
def model(file: Path) -> Embedder:
    return load_model(file)


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return picture(80, 120)


def test_features_are_those_of_extract(model: Embedder, file: Path, frame: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(frame).save(tmp_path / "a.png")
    records = Records.of(path=[str(tmp_path / "a.png")])
    trained = load_trained(file)
    expected = extract(trained.model, records, transform=trained.transform)
    found = model.embed(tmp_path / "a.png")
    np.testing.assert_allclose(found, expected.features, atol=2e-3)  # in bfloat16 on some processors
    assert found.shape == (1, 64) and found.dtype == np.float32
    assert model.hash == expected.model and model.made_by == expected.made_by
    np.testing.assert_allclose(vreid.extract(model, records).features, expected.features, atol=1e-6)


def test_every_kind_of_image_gives_the_same_feature(model: Embedder, frame: np.ndarray, tmp_path: Path) -> None:
    expected = model.embed(frame)
    Image.fromarray(frame).save(tmp_path / "a.png")
    tensor = torch.from_numpy(frame.copy()).permute(2, 0, 1)
    for one in (str(tmp_path / "a.png"), Image.fromarray(frame), tensor, tensor / 255, [frame], iter([frame])):
        np.testing.assert_array_equal(model.embed(one), expected)
    for several in (np.stack([frame] * 3), torch.stack([tensor] * 3), [frame, tensor, tmp_path / "a.png"]):
        np.testing.assert_allclose(model.embed(several), np.repeat(expected, 3, axis=0), atol=1e-3)
    assert model([]).shape == (0, 64)


def test_boxes_are_cut_out_of_one_frame_or_of_each(model: Embedder, frame: np.ndarray) -> None:
    boxes = np.array([[0, 0, 60, 40], [30.2, 10.7, 119, 79.1]])
    cut = [frame[0:40, 0:60], frame[10:80, 30:119]]
    expected = model.embed(cut)
    detections = SimpleNamespace(xyxy=boxes)
    for several in (boxes, boxes.tolist(), torch.from_numpy(boxes), detections):
        np.testing.assert_array_equal(model.embed(frame, several), expected)
    np.testing.assert_array_equal(model.embed([frame, frame], boxes), expected)
    np.testing.assert_array_equal(model.embed([frame, frame], [boxes[:1], detections])[[0, 2]], expected)
    assert model.embed(frame, np.empty((0, 4))).shape == (0, 64)


@pytest.mark.parametrize(
    ("images", "boxes", "sentence"),
    [
        (np.zeros((4, 4), np.uint8), None, "image 1: an array of shape .* give .H, W, 3."),
        (np.zeros((4, 4, 3)), None, "image 1: is of type float64; give uint8"),
        (
            [np.zeros((4, 4, 3), np.uint8), torch.full((3, 4, 4), 7.0)],
            None,
            "image 2: float values must be from 0 to 1",
        ),
        (torch.zeros(4, 4, 3), None, "give .3, H, W."),
        (np.zeros((0, 4, 3), np.uint8), None, "no pixels"),
        ("absent.jpg", None, "absent.jpg: the image is missing"),
        (7, None, "int is no image"),
        (np.zeros((4, 4, 3), np.uint8), [[9, 9, 12, 12]], "image 1: box .* lies outside"),
        (np.zeros((4, 4, 3), np.uint8), [[1, 2, 3]], "rows of four finite numbers"),
        ([np.zeros((4, 4, 3), np.uint8)] * 2, [[0, 0, 2, 2]], "image 2: has no boxes"),
        ([np.zeros((4, 4, 3), np.uint8)], [[0, 0, 2, 2]] * 2, "more than the images"),
    ],
)
def test_what_is_no_image_is_named(model: Embedder, images: object, boxes: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.embed(images, boxes)


def test_a_generator_is_read_a_batch_at_a_time(file: Path, frame: np.ndarray) -> None:
    read = 0
    reads: list[int] = []
    model = load_model(file, batch_size=4, views=("original",))

    def frames() -> Iterator[np.ndarray]:
        nonlocal read
        for number in range(10):
            read += 1
            yield np.roll(frame, number, axis=1)

    run = model.backend.run

    def noted(images: np.ndarray, *, heads: bool = False) -> object:
        reads.append(read)
        return run(images, heads=heads)

    model.backend.run = noted  # type: ignore[method-assign, assignment]
    found = model.embed(frames())
    assert reads == [4, 8, 10] and found.shape == (10, 64)
    with pytest.raises(InputError, match="batch_size"):
        load_model(file, batch_size=0)


def test_distances_are_squared_euclidean(model: Embedder, frame: np.ndarray) -> None:
    others = [picture(50, 70, seed) for seed in (1, 2)]
    features = model.embed([frame, *others])
    expected = ((features[:1, None] - features[None, 1:]) ** 2).sum(axis=2)
    np.testing.assert_allclose(model.distance([frame], others), expected, atol=1e-5)
    np.testing.assert_allclose(model.distance(features[:1], features[1:]), expected, atol=1e-5)
    assert float(model.distance(frame, features[1])) == pytest.approx(float(expected[0, 0]), abs=1e-5)
    assert float(model.distance(frame, frame)) < 1e-5
    with pytest.raises(InputError, match="of 3 dimensions are another model's"):
        model.distance(frame, np.ones(3, np.float32))


def threshold(model: Embedder, **changes: object) -> dict[str, object]:
    rate = Rate(0.01, 0.008, 0.001, 0.02, 500, 100)
    whole = {"match": 0.2, "no_match": 0.5, "false_match": rate, "miss": rate, "confidence": 0.95, "steps": ()}
    whole |= {"features": model.made_by, "protocol": "market", "gallery_images": 1000, **changes}
    return {"kind": "threshold", **asdict(Threshold(**whole))}  # type: ignore[arg-type]


def test_comparing_says_how_often_it_errs(model: Embedder, tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"no threshold of MATCH; calibrate one .*vreid export MODEL --threshold"):
        model.compare(frame, frame)
    sure = load_model(write_model(tmp_path / "t.safetensors", threshold=threshold(model)))
    same = sure.compare(frame, frame)
    assert same.decision == "MATCH" and same.error is not None and same.error.value == 0.008
    assert str(same).startswith("MATCH at distance 0.000 (false-match rate 0.8 %")
    base = np.eye(1, 64, dtype=np.float32)[0]
    near, far = base.copy(), -base
    near[1] = 0.7
    assert sure.compare(base, near).decision == "UNCERTAIN" and sure.compare(base, near).error is None
    assert str(sure.compare(base, far)).startswith("NO MATCH at distance 4.000 (miss rate 0.8 %")
    with pytest.raises(InputError, match="one image on each side, not 2 pairs"):
        sure.compare(frame, [frame, frame])
    one_view = load_model(tmp_path / "t.safetensors", views=("original",))
    with pytest.raises(InputError, match="calibrated on other distances"):
        one_view.compare(frame, frame)


def test_a_threshold_travels_with_the_export_of_its_model(model: Embedder, file: Path, tmp_path: Path) -> None:
    export_half(file, tmp_path / "half.safetensors", {"threshold": threshold(model)})
    half = load_model(tmp_path / "half.safetensors")
    assert half.hash != model.hash and half.compare(picture(40, 60), picture(40, 60)).decision == "MATCH"
    export_half(tmp_path / "half.safetensors", tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors").backend.facts.threshold == half.backend.facts.threshold
    with pytest.raises(InputError, match="calibrated for other features"):
        export_half(tmp_path / "half.safetensors", tmp_path / "x.safetensors", {"threshold": threshold(model)})


def test_attributes_have_names_and_confidence(model: Embedder, frame: np.ndarray, tmp_path: Path) -> None:
    first, second = model.attributes([frame, picture(40, 40, 5)])
    assert set(first) == {"color", "orientation"} == set(second)
    assert first["color"].value in ("blue", "red", "white") and 1 / 3 <= first["color"].confidence < 1
    assert first["color"].calibrated and not first["orientation"].calibrated
    assert isinstance(first["orientation"].value, float) and 0 <= first["orientation"].value < 360
    logits = model.head_outputs(frame)["color"][0].astype(float) / 2.0
    assert first["color"].confidence == pytest.approx(
        np.exp(logits - logits.max()).max() / np.exp(logits - logits.max()).sum()
    )
    plain = load_model(write_model(tmp_path / "p.safetensors", heads=False))
    with pytest.raises(InputError, match="has no heads for attributes"):
        plain.attributes(frame)


def test_several_threads_share_a_model(model: Embedder) -> None:
    images = [picture(40 + seed, 60, seed) for seed in range(8)]
    expected = [model.embed(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(model.embed, images * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(found, one)


def test_scikit_learn_takes_it_as_a_transformer(model: Embedder) -> None:
    from sklearn.base import clone
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    images = [picture(40, 60, seed) for seed in range(6)]
    pipeline = make_pipeline(model, KNeighborsClassifier(1)).fit(images, list("aabbcc"))
    assert pipeline.predict(images[2:4]).tolist() == ["b", "b"]
    copied = clone(pipeline)[0]
    assert copied is not model and copied.backend is model.backend
    np.testing.assert_array_equal(copied.fit(images).transform(images), model.embed(images))
    assert pipeline[:-1].get_feature_names_out().shape == (64,)
    assert model.set_params(batch_size=5).get_params()["batch_size"] == 5


def test_the_repr_is_short(model: Embedder) -> None:
    assert repr(model).endswith(
        "m.safetensors, 32 x 48 -> 64, torch, views original+flip, attributes color, orientation)"
    )
    assert (TRANSFORM.height, TRANSFORM.width) == (32, 48)


def test_a_pickled_model_loads_its_file_again(model: Embedder, frame: np.ndarray) -> None:
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.embed(frame), model.embed(frame))


def test_models_that_are_not_there_are_one_sentence(tmp_path: Path, file: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="holds no ONNX graph; write one with `vreid export"):
        load_model(file, backend="onnxruntime")
    with pytest.raises(InputError, match="is unknown; use auto, onnxruntime or torch"):
        load_model(file, backend="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="show crops"):
        load_model(file, views=("crop",))


def test_the_bundled_model_is_named_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: np.ndarray) -> None:
    monkeypatch.setattr(model_file, "BUNDLED", tmp_path)
    with pytest.raises(InputError, match="default: this build of vreid has no bundled model; give a run folder"):
        load_model()
    write_model(tmp_path / "default.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    assert load_model("default").embed(frame).shape == (1, 64)
    with pytest.raises(InputError, match="default: holds no trained model"):  # a path is a path
        load_model(Path("default"))
