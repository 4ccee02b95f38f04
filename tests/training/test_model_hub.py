"""Models on the hub, by a local folder in its place: cards, hashes, and what is said without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

import vreid
from support.command_line import Run
from support.tiny_model import picture, write_model
from vreid.errors import InputError
from vreid.training.model_file import model_file
from vreid.training.model_hub import pull_model, push_model, split_name, write_model_folder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of the hub: OWNER/NAME/... with what was uploaded."""
    place = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            (place / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, *, repo_id: str, folder_path: str, **_: object) -> str:
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)
            return f"https://hub.test/{repo_id}"

    def download(name: str, *, local_dir: Path | None, **_: object) -> str:
        if not (place / name).exists():
            raise OSError("we couldn't connect to the hub\nand more")
        if local_dir is None:
            return str(place / name)
        shutil.copytree(place / name, local_dir)
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return place


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = {"licence": "Apache-2.0", "seed": 7, "recipe": "small", "fingerprint": "abc", "revision": "1a2b3c"}
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", **facts)


def test_a_model_comes_back_from_the_hub(run: Run, hub: Path, file: Path, tmp_path: Path) -> None:
    pushed = run(f"hub push {file} hub://town/cars")
    assert (pushed.code, pushed.out) == (0, "https://hub.test/town/cars\n"), pushed.err
    pulled = run(f"hub pull hub://town/cars@v1 --out {tmp_path}/pulled")
    assert pulled.code == 0 and (tmp_path / "pulled/model.safetensors").read_bytes() == file.read_bytes()
    frame = picture(40, 60)
    expected = vreid.load_model(file).embed(frame)
    for model in ("hub://town/cars", tmp_path / "pulled"):
        np.testing.assert_array_equal(vreid.load_model(model).embed(frame), expected)


def test_the_card_states_licence_provenance_and_hash(file: Path, tmp_path: Path) -> None:
    card = (write_model_folder(file, tmp_path / "a") / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: vreid\n")
    assert '| fingerprint | "abc" |' in card and '| revision | "1a2b3c" |' in card and "32 x 48" in card
    given = write_model(tmp_path / "given.safetensors", card="# Ours\n\nBiases: few lorries.")
    card = (write_model_folder(given, tmp_path / "b") / "README.md").read_text(encoding="utf-8")
    assert card.endswith("---\n# Ours\n\nBiases: few lorries.\n") or card.endswith("# Ours\n\nBiases: few lorries.\n")


def test_a_file_with_another_hash_than_its_card_is_refused(hub: Path, file: Path, tmp_path: Path) -> None:
    folder = write_model_folder(file, hub / "town" / "cars")
    write_model(folder / "model.safetensors", seed=1)
    with pytest.raises(InputError, match=r"sha256 is not the one that README\.md states"):
        pull_model("hub://town/cars")
    with pytest.raises(InputError, match=r"sha256 is not the one that README\.md states"):
        model_file(folder)
    (folder / "README.md").write_text("a model", encoding="utf-8")
    with pytest.raises(InputError, match="has no card that states the sha256"):
        pull_model("hub://town/cars")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        pull_model("hub://town/cars")


def test_without_a_network_or_a_name_there_is_one_sentence(
    hub: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"cannot be downloaded \(we couldn't connect to the hub\)"):
        vreid.load_model("hub://town/absent")
    for name in ("hub://cars", "hub://a/b/c", "town/cars"):
        with pytest.raises(InputError, match="write hub://OWNER/NAME"):
            split_name(name)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match=r"cannot be uploaded \(division by zero\); log in"):
        push_model(file, "hub://town/cars")


def test_a_backbone_of_timm_starts_from_its_published_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    from vreid.models import ModelConfig, build_from

    torch.manual_seed(3)
    network = timm.create_model("test_resnet", pretrained=False)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    asked: list[str] = []

    def download(repository: str, file: str) -> str:
        asked.append(repository)
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    config = ModelConfig("timm/test_resnet", weights="hub")
    loaded = build_from(config).backbone.state_dict()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.items())
    assert asked[0].startswith("timm/test_resnet.") and config.initialisation.startswith("weights published by timm")

    def offline(*_: object) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(InputError, match=r"is not cached and cannot be downloaded \(offline\); run it once online"):
        build_from(config)
    with pytest.raises(InputError, match="timm publishes no weights for resnet10_ibn_a_tiny"):
        build_from(ModelConfig("resnet10_ibn_a_tiny", weights="hub"))
