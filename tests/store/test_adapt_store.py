"""Features of a store by another model, and adaptation to its cameras."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support.simulated_site import simulated_site
from vreid.errors import InputError
from vreid.files import write_json
from vreid.inference.embedder import Embedder
from vreid.store.adapt_store import adapt_store, embed_store, write_crops
from vreid.store.engines import open_vectors
from vreid.store.interface import TrackletBatch
from vreid.store.labelling import answered_pairs, put_answer
from vreid.store.store import MODEL


class ColorModel:
    """An embedder whose feature is the mean colour of an image."""

    def __init__(self, name: str) -> None:
        self.made_by = f"model {name}"
        self.hash = name * 8
        self.dimensions = 4

    def embed(self, images: Any) -> NDArray[np.float32]:
        means = np.array([[*np.asarray(image).mean(axis=(0, 1)), 255.0] for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 40, 10)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    batch = simulated_site(vehicles=12, jpeg=jpeg()).batch
    store = open_vectors(tmp_path / "site", dimensions=batch.vector.shape[1], model="old", create=True)
    store.upsert(batch)
    store.put_document(MODEL, {"source": "default", "made_by": "old"})
    store.put_document("camera/c0", {"name": "c0"})
    put_answer(store, "c0/0001", "c1/0001", same=True)
    store.close()
    return tmp_path / "site"


def everything(folder: Path) -> tuple[TrackletBatch, dict[str, Any], str]:
    store = open_vectors(folder, read_only=True)
    (batch,) = store.scan(limit=10_000, crops=True)
    found = batch, store.documents(), store.model
    store.close()
    return found


def test_a_store_takes_the_features_of_another_model_and_keeps_the_rest(folder: Path) -> None:
    before, _, _ = everything(folder)
    model = folder / "models" / "new.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"")
    assert embed_store(folder, cast(Embedder, ColorModel("a")), model) == len(before)
    after, documents, made_by = everything(folder)
    assert made_by == "model a"
    assert documents[MODEL] == {"source": "models/new.safetensors", "made_by": "model a"}
    assert documents["camera/c0"] == {"name": "c0"}
    assert after.vector.shape == (len(before), 4)
    assert [list(after.id), list(after.camera), list(after.start)] == [
        list(before.id),
        list(before.camera),
        list(before.start),
    ]
    for one, other in zip(before.crops or (), after.crops or (), strict=True):
        assert [(crop.jpeg, crop.quality) for crop in one] == [(crop.jpeg, crop.quality) for crop in other]
        np.testing.assert_allclose(other[0].vector, other[1].vector)
    store = open_vectors(folder, read_only=True)
    assert len(answered_pairs(store)) == 1
    assert not list(folder.glob(".*embedding*"))


def test_killed_while_embedding_the_store_is_the_old_one(folder: Path) -> None:
    class Killed(ColorModel):
        def embed(self, images: Any) -> NDArray[np.float32]:
            raise KeyboardInterrupt

    before, documents, _ = everything(folder)
    with pytest.raises(KeyboardInterrupt):
        embed_store(folder, cast(Embedder, Killed("a")), "default")
    after, same, made_by = everything(folder)
    assert made_by == "old"
    assert same == documents
    np.testing.assert_array_equal(before.vector, after.vector)


def test_a_store_that_changed_meanwhile_is_kept(folder: Path) -> None:
    class Writes(ColorModel):
        def embed(self, images: Any) -> NDArray[np.float32]:
            store = open_vectors(folder)
            store.delete(ids=["c0/0001", "c1/0001", "c2/0001", "c3/0001"])
            store.close()
            return super().embed(images)

    with pytest.raises(InputError, match="was changed while"):
        embed_store(folder, cast(Embedder, Writes("a")), "default")
    assert everything(folder)[2] == "old"


def test_crops_are_written_with_camera_tracklet_and_time(folder: Path, tmp_path: Path) -> None:
    store = open_vectors(folder, read_only=True)
    records = write_crops(store, tmp_path / "crops")
    batch, _, _ = everything(folder)
    assert len(records) == 2 * len(batch)
    assert records.tracklet.values[::2].tolist() == list(batch.id)
    assert records.camera.values[0] == batch.camera[0]
    np.testing.assert_allclose(records.time[::2], batch.start / 1000)
    assert Path(records.path[0]).read_bytes() == jpeg()


@pytest.mark.parametrize("decision", ["ACCEPT", "REJECT", "NOT ENOUGH EVIDENCE"])
def test_the_store_takes_an_adapted_model_only_if_the_gate_accepts_it(
    folder: Path, decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from vreid.adaptation import repeated

    def adapt(model: Any, images: Any, config: Any, *, out: Path, **_: Any) -> Path:
        assert (model, len(images)) == ("default", 72)
        write_json(out / "pseudo.json", {"verdict": {"decision": decision, "reason": "Because."}})
        (out / "model.safetensors").write_bytes(b"weights")
        return out / "model.safetensors"

    monkeypatch.setattr(repeated, "adapt", adapt)
    monkeypatch.setattr("vreid.store.adapt_store.load_model", lambda *_, **__: ColorModel("b"))
    found = adapt_store(folder)
    assert (found.decision, found.reason) == (decision, "Because.")
    if decision == "ACCEPT":
        assert found.model == folder / "models" / "adapted-bbbbbbbb.safetensors"
        assert everything(folder)[2] == "model b"
        assert everything(folder)[1][MODEL]["source"] == "models/adapted-bbbbbbbb.safetensors"
    else:
        assert found.model is None
        assert everything(folder)[2] == "old"
        assert "unchanged" in found.next_step
    assert not list(folder.glob(".adaptation*"))


def test_a_model_that_did_not_change_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from vreid.adaptation import repeated

    def adapt(model: Any, images: Any, config: Any, *, out: Path, **_: Any) -> Path:
        write_json(out / "pseudo.json", {"clusters": 0})  # no verdict: there was nothing to compare
        return out / "model.safetensors"

    same = ColorModel("b")
    same.made_by = "old"
    monkeypatch.setattr(repeated, "adapt", adapt)
    monkeypatch.setattr("vreid.store.adapt_store.load_model", lambda *_, **__: same)
    found = adapt_store(folder)
    assert (found.decision, found.model) == ("NOT ENOUGH EVIDENCE", None)
    assert everything(folder)[2] == "old" and not (folder / "models").exists()


def test_a_store_without_tracklets_cannot_be_adapted(tmp_path: Path) -> None:
    open_vectors(tmp_path / "site", dimensions=4, model="old", create=True).close()
    with pytest.raises(InputError, match="holds no tracklets"):
        adapt_store(tmp_path / "site")


def test_servers_are_not_embedded_again() -> None:
    with pytest.raises(InputError, match="only embedded stores"):
        embed_store("http://localhost:19530", cast(Embedder, SimpleNamespace()), "default")
