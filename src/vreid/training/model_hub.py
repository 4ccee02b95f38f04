"""Models on the Hugging Face Hub: a model file and its card, which names the hash of the file; no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vreid.errors import InputError
from vreid.files import atomic_write, read_facts, reading, write_text

HUB = "hub://"
"""Prefix of a MODEL on the hub: hub://OWNER/NAME, or hub://OWNER/NAME@REVISION."""
MODEL = "model.safetensors"
"""Name of the trained model in a run folder (a run that has it is complete) and in a repository of the hub."""
CARD = "README.md"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_STATED = re.compile(r"^sha256: ([0-9a-f]{64})$", re.MULTILINE)
_SHOWN = ("initialisation", "recipe", "seed", "fingerprint", "target", "heads", "vreid", "revision", "validation")
"""Metadata of a model file that its card lists: where it comes from, and what was measured in training."""


def split_name(model: str) -> tuple[str, str | None]:
    """Split hub://OWNER/NAME@REVISION into the repository and the revision.

    Raises:
        InputError: it has another form.

    Example:
        >>> split_name("hub://town/cars@v2")
        ('town/cars', 'v2')
    """
    name, _, revision = model.removeprefix(HUB).partition("@")
    if not model.startswith(HUB) or not _NAME.fullmatch(name):
        raise InputError(f"{model}: is not a model on the hub; write hub://OWNER/NAME.")
    return name, revision or None


def write_model_folder(source: Path, folder: Path) -> Path:
    """Copy a model file into `folder` as model.safetensors, with its card README.md beside it; return the folder.

    The card is the fact "card" of the file, or one made of its facts, below a header with licence and hash.
    """
    facts = read_facts(source)
    with reading(source):
        content = source.read_bytes()
    with atomic_write(folder / MODEL) as temporary:
        temporary.write_bytes(content)
    write_text(folder / CARD, model_card(facts, hashlib.sha256(content).hexdigest()))
    return folder


def model_card(facts: Mapping[str, Any], digest: str) -> str:
    """Return the card of a model file with these facts and this sha256."""
    licence = facts.get("licence", "") or "other"
    header = ["---", f"license: {licence.lower()}", "library_name: vreid", "tags:", "- vehicle-re-identification"]
    header += ["- image-feature-extraction", f"sha256: {digest}", "---", ""]
    body = facts.get("card") or "\n".join(_body(facts))
    return "\n".join([*header, body.rstrip(), ""])


def _body(facts: Mapping[str, Any]) -> list[str]:
    transform, model = facts.get("transform", {}), facts.get("model", {})
    size = f"{transform.get('height')} x {transform.get('width')}"
    lines = ["# Vehicle re-identification model", "", f"Backbone {model.get('backbone')}, images of {size} pixels.", ""]
    lines += ["    model = vreid.load_model('hub://OWNER/NAME')", "    features = model.embed(images)", ""]
    lines += ["| fact | value |", "|---|---|"]
    return [*lines, *(f"| {name} | {json.dumps(facts[name])} |" for name in _SHOWN if name in facts)]


def verify_card(model: Path) -> None:
    """Check a model file against the hash that the card beside it states; without a card nothing is checked.

    Raises:
        InputError: they differ.
    """
    card = model.with_name(CARD)
    if not card.is_file():
        return
    with reading(card), reading(model):
        stated = _STATED.search(card.read_text(encoding="utf-8", errors="replace"))
        found = hashlib.sha256(model.read_bytes()).hexdigest()
    if stated and stated[1] != found:
        raise InputError(f"{model}: its sha256 is not the one that {CARD} states; download or copy both again.")


def pull_model(model: str, folder: Path | None = None) -> Path:
    """Download hub://OWNER/NAME and return the path of its model file, whose hash its card states.

    Args:
        model: the model on the hub.
        folder: where to store it; None: the cache of huggingface_hub, which offline machines use too.

    Raises:
        InputError: huggingface_hub is not installed, the hub or the model cannot be reached and is not in the cache,
            it holds no model of vreid, or the file is not the one that the card states.
    """
    name, revision = split_name(model)
    hub = _library(model)
    try:
        path = Path(hub.snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=[MODEL, CARD]))
    except Exception as error:  # of the network, the server and the cache, each with classes of its own
        raise InputError(
            f"{model}: cannot be downloaded ({_first_line(error)}); check the name and the network."
        ) from error
    if not (path / MODEL).is_file():
        raise InputError(f"{model}: holds no {MODEL}; name a model that `vreid hub push` has uploaded.")
    if not (path / CARD).is_file() or not _STATED.search((path / CARD).read_text(encoding="utf-8", errors="replace")):
        raise InputError(f"{model}: has no card that states the sha256 of {MODEL}; upload it with `vreid hub push`.")
    verify_card(path / MODEL)
    return path / MODEL


def push_model(source: Path, model: str, *, private: bool = False) -> str:
    """Upload a model file with its card as hub://OWNER/NAME; return the address of the upload.

    Raises:
        InputError: see `pull_model`; or nobody is logged in.
    """
    name, revision = split_name(model)
    hub = _library(model)
    with TemporaryDirectory() as folder:
        write_model_folder(source, Path(folder))
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=name, folder_path=folder, revision=revision, commit_message="Model and card, by vreid"
            )
        except Exception as error:  # as in `pull_model`
            reason = _first_line(error)
            raise InputError(f"{model}: cannot be uploaded ({reason}); log in with `hf auth login`.") from error
    return str(done)


def _library(model: str) -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise InputError(
            f"{model}: needs huggingface_hub, which is not installed; pip install 'vehicle-reid[hub]'."
        ) from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
