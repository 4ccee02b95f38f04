"""Extraction, translation, crops, search and adaptation on a device: what the CPU gives, and what waits meanwhile."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.listeners import Notes
from support.pretend_gpu import PretendGpu
from support.tiny_model import TRANSFORM, write_model
from vreid.adaptation.adapt import adapt_once
from vreid.adaptation.adapt_config import PRESETS
from vreid.configuration import plain_values
from vreid.data.augment import TestTransform
from vreid.data.devices import Backoff
from vreid.data.records import Records
from vreid.diagnostics.saliency import activation_maps
from vreid.errors import InputError
from vreid.inference.embedder import load_model
from vreid.models import TransReIDOptions, build, save_weights
from vreid.retrieval import cluster, jaccard_graph, rerank, rerank_top
from vreid.retrieval.nearest import nearest
from vreid.training.crop import CROP_CONFIGS, find_boxes
from vreid.training.extract import TorchExtractor, extract, load_trained
from vreid.training.feature_job import ExtractionSettings
from vreid.training.translate import TranslateConfig
from vreid.training.translate_images import translate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """12 images of 4 vehicles, at three cameras, in four tracklets."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    base = rng.integers(0, 256, (4, 4, 6, 3), dtype=np.uint8)
    paths = [folder / f"{number:02d}.png" for number in range(12)]
    for number, path in enumerate(paths):
        noise = rng.integers(-20, 20, (32, 48, 3))
        large = np.asarray(Image.fromarray(base[number // 3]).resize((48, 32)), dtype=np.int64)
        Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(path)
    return Records.of(
        path=paths,
        camera=[f"c{number % 3}" for number in range(12)],
        tracklet=[f"t{number // 3}" for number in range(12)],
        orientation=[90.0 * (number % 4) for number in range(12)],
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.safetensors", heads=False)


def tolerance(gpu: object) -> float:
    """Largest difference of a feature: a GPU multiplies with 10 bits of mantissa, the pretended one is the CPU."""
    return 1e-5 if isinstance(gpu, PretendGpu) else 1e-2


def test_features_with_flips_are_those_of_the_cpu(gpu: PretendGpu, records: Records, model: Path) -> None:
    made = [
        extract(load_trained(model).model, records, transform=TRANSFORM, batch_size=5, device=device, workers=0, **how)
        for how in ({"precision": "float32"}, {"precision": "float32", "unit_views": True, "views": ("original",)})
        for device in ("cpu", gpu.name)
    ]
    for expected, found in (made[:2], made[2:]):
        np.testing.assert_allclose(found.features, expected.features, atol=tolerance(gpu))


def test_side_information_goes_along(gpu: PretendGpu, records: Records) -> None:
    options = TransReIDOptions(image_size=(32, 48), jpm=True, sie_cameras=3, sie_views=4)
    torch.manual_seed(0)
    network = build("transreid_small", transreid=options)
    network.cameras = ("c0", "c1", "c2")
    expected, found = (
        extract(network, records, transform=TRANSFORM, device=device, workers=0, precision="float32")
        for device in ("cpu", gpu.name)
    )
    np.testing.assert_allclose(found.features, expected.features, atol=tolerance(gpu))


def test_batches_of_an_extraction_are_queued_without_waiting(gpu: PretendGpu, records: Records, model: Path) -> None:
    trained = load_trained(model)
    trained.model.to(gpu.name)
    extractor = TorchExtractor(trained.model, trained.transform, device=gpu.name, workers=0)
    batches = [np.arange(start, start + 3) for start in range(0, 12, 3)]
    before = len(gpu.copies) if isinstance(gpu, PretendGpu) else 0
    with gpu.asynchronous():
        made = list(extractor.features({False: records}, batches, ExtractionSettings(), "bfloat16"))
    assert all(np.isfinite(part).all() for part in made) and len(made) == 4
    if isinstance(gpu, PretendGpu):
        to_host = [copy for copy in gpu.copies[before:] if not copy.to_device]
        assert len(to_host) == 4 and not any(copy.waited for copy in to_host)


def test_extraction_goes_on_with_smaller_batches_and_says_so(
    pretended: PretendGpu, records: Records, model: Path
) -> None:
    trained, notes = load_trained(model), Notes()
    trained.model.to("cuda:0").to(memory_format=torch.channels_last)
    extractor = TorchExtractor(trained.model, trained.transform, device="cuda:0", workers=0, progress=notes)

    def features() -> np.ndarray:
        found = extractor.features({False: records}, [np.arange(12)], ExtractionSettings(batch_size=12), "float32")
        return np.concatenate(list(found))

    expected = features()
    assert notes.notes == []
    pretended.memory = pretended.peak - 1
    np.testing.assert_allclose(features(), expected, atol=1e-6)
    assert notes.notes == ["cuda:0 is out of memory with 12 images at once; it goes on with 6."]


def test_parts_that_fail_are_done_again_at_half_the_size() -> None:
    done, notes = [], []

    def work(part: slice) -> list[int]:
        rows = list(range(part.start, part.stop))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(len(rows))
        return rows

    backoff = Backoff(16, "images", "cuda:0", notes.append)
    assert [row for part in backoff.run(14, work) for row in part] == list(range(14))
    assert done == [3, 3, 3, 3, 2] and backoff.size == 3 and len(notes) == 2
    assert notes[0] == "cuda:0 is out of memory with 14 images at once; it goes on with 7."
    backoff.run(4, work)  # the next batch begins with the size that fits
    assert len(notes) == 2


def test_a_row_that_does_not_fit_is_an_error() -> None:
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match=r"^cuda:0 has too little free memory for one of the images; "):
        Backoff(4, "images", "cuda:0").run(4, work)


def points(count: int = 300, dimensions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, dimensions))[np.arange(count) % 20] + 0.5 * rng.normal(size=(count, dimensions))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return features[:40], features[40:]


def test_search_on_a_device_gives_what_the_cpu_gives(gpu: PretendGpu) -> None:
    query, gallery = points()
    q, g = (torch.from_numpy(side).to(gpu.name) for side in (query, gallery))
    distances, index = nearest(q, g, 7)
    assert distances.device == index.device == q.device
    expected = nearest(query, gallery, 7)
    assert np.array_equal(index.cpu().numpy(), expected[1])
    np.testing.assert_allclose(distances.cpu().numpy(), expected[0], atol=1e-6)
    assert rerank(q, g).device == q.device
    np.testing.assert_allclose(rerank(q, g).cpu().numpy(), rerank(query, gallery), atol=1e-6)
    assert np.array_equal(rerank_top(q, g, 5)[1].cpu().numpy(), rerank_top(query, gallery, 5)[1])
    found, wanted = (cluster(jaccard_graph(side, max_distance=0.6), 0.6, 4) for side in (g, gallery))
    assert np.array_equal(np.asarray(found), np.asarray(wanted))


def test_tiles_of_a_search_shrink_to_the_memory_of_the_device(pretended: PretendGpu) -> None:
    query, gallery = points()
    q, g = (torch.from_numpy(side).to("cuda:0") for side in (query, gallery))
    nearest(q, g, 7)
    pretended.memory = pretended.peak - 1
    assert np.array_equal(nearest(q, g, 7)[1].cpu().numpy(), nearest(query, gallery, 7)[1])


def test_an_embedder_and_activation_maps_on_a_device(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.safetensors")
    here, there = (load_model(path, backend="torch", device=device) for device in ("cpu", gpu.name))
    images = list(records.path[:4])
    np.testing.assert_allclose(there.embed(images), here.embed(images), atol=2e-2)  # numbers of 16 bits on the device
    assert here.head_outputs(images).keys() == there.head_outputs(images).keys()
    maps = [activation_maps(load_trained(path), records[:4], device) for device in ("cpu", gpu.name)]
    np.testing.assert_allclose(maps[1], maps[0], atol=10 * tolerance(gpu))


def test_boxes_of_crops_on_a_device(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.safetensors", heads=False, transform=asdict(TestTransform(128, 128)))
    config = replace(CROP_CONFIGS["voc"], min_area=0.0)
    here, there = (
        find_boxes(path, records[:3], config, device=device, workers=0, precision="float32")
        for device in ("cpu", gpu.name)
    )
    np.testing.assert_allclose(there.box, here.box, atol=1.0)


def test_images_are_translated_on_a_device(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = TranslateConfig(recipe="tiny", size=16, load=16, filters=4, blocks=1, patch_layers=1, metric_stages=2)
    torch.manual_seed(0)
    run.mkdir()
    facts = {"kind": "translation", "config": plain_values(config)}
    save_weights(run / "model.safetensors", config.generator().state_dict(), facts)
    pair = [
        translate(run, records[:2], tmp_path / device[:4], device=device, workers=0) for device in ("cpu", gpu.name)
    ]
    for one, other in zip(*(made.path for made in pair), strict=True):
        one, other = (np.asarray(Image.open(path), dtype=np.int16) for path in (one, other))
        assert np.abs(one - other).mean() < 2  # 16 bits here, and there perhaps not


def test_adaptation_on_a_device(gpu: PretendGpu, records: Records, model: Path, tmp_path: Path) -> None:
    base = PRESETS["auto"]
    config = replace(
        base,
        pseudo=replace(base.pseudo, eps=0.6, k1=3, k2=2, min_samples=2, level="image"),
        epochs=1,
        iterations=1,
        num_identities=2,
        num_instances=2,
        gate=False,
        repeats=1,
    )
    made = adapt_once(model, records, config, out=tmp_path / "adapted", device=gpu.name, workers=0)
    assert load_trained(made).hash != load_trained(model).hash
