"""A served store with the tracklets of the tiny simulated world."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vreid import Store
from vreid.data.open import open_dataset
from vreid.store.confidence import THRESHOLD, OperatingPoint, SearchThreshold

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from vreid.serve.app import create_app
from vreid.serve.settings import ServeConfig

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def made_store(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store; treat it as read-only."""
    folder = tmp_path_factory.mktemp("serve")
    images = open_dataset(tiny_world, labels="auto").gallery
    rows = [
        f"{Path(image).resolve()},{camera},{camera}/{tracklet},{time:.3f}"
        for image, camera, tracklet, time in zip(
            images.path, images.camera.values, images.tracklet.values, images.time, strict=True
        )
    ]
    table = folder / "crops.csv"
    table.write_text("\n".join(["path,camera,tracklet,time", *rows]), encoding="utf-8")
    with Store.open(folder / "site", create=True) as store:
        store.ingest(table)
        point = OperatingPoint(match=0.8, no_match=1.1, false_match_share=0.01, matches=20)
        threshold = SearchThreshold(point, point, "this site, without labels", store.vectors.model, len(store))
        store.vectors.put_document(THRESHOLD, threshold.as_dict())
    return folder / "site"


@pytest.fixture
def site(made_store: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may change."""
    return Path(shutil.copytree(made_store, tmp_path / "site"))


@pytest.fixture
def serve(site: Path) -> Iterator[Serve]:
    """Serves the store with the given settings."""
    with ExitStack() as stack:

        def served(**settings: object) -> TestClient:
            app = create_app(Store.open(site), ServeConfig(**settings))  # type: ignore[arg-type]
            return stack.enter_context(TestClient(app, base_url="http://localhost"))

        yield served


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


@pytest.fixture
def name(client: TestClient) -> str:
    """Id of a tracklet of the store."""
    found: str = client.get("/api/v1/tracklets", params={"limit": 1}).json()["tracklets"][0]["id"]
    return found


@pytest.fixture
def jpeg(client: TestClient, name: str) -> bytes:
    """Image of a vehicle of the store."""
    return client.get(f"/api/v1/crops/0/{name}").content
