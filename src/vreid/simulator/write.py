"""Simulate a world into a folder: the numbering of its images, and a folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.files import read_json, write_json, write_text
from vreid.simulator.city import World, plan_world
from vreid.simulator.labels import (
    FOLDERS,
    KEY_PREFIXES,
    REAL_FOLDER,
    SYNTHETIC_FOLDER,
    city_files,
    real_files,
    synthetic_files,
)
from vreid.simulator.presets import SIMULATOR_VERSION, Preset, preset_named
from vreid.simulator.workers import Picture, render_all

SUMMARY = "simulator.json"
"""Written last: a folder that has it is complete."""

T = TypeVar("T")
_UNFINISHED = ".unfinished"
_RAW = "raw"


@dataclass(frozen=True)
class Simulation:
    """A simulated data set on disk: where it lies, what made it, what is in it.

    `counts` has the images of each split, identities, cameras and tracklets; `content_hash` names the bytes of all
    files; `reused` tells that it was there already.
    """

    path: Path
    preset: Preset
    seed: int
    version: int
    counts: dict[str, int]
    content_hash: str
    reused: bool


def simulate(
    out: Path | str,
    *,
    preset: Preset | str,
    seed: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Make the world `seed` of `preset` in the folder `out` (see docs/simulator.md for its files).

    The same preset and seed give the same bytes for any number of `workers` (processes; None: as many as the machine
    has and the preset is worth). `progress(done, total)` counts images. The folder appears whole, by one rename; if it
    already holds this very simulation it is left as it is.

    Example:
        >>> simulate("data/tiny", preset="tiny", seed=1).counts["train"]   # doctest: +SKIP
        48

    Raises:
        InputError: unknown preset, negative seed, or `out` holds something else.
    """
    preset = preset_named(preset) if isinstance(preset, str) else preset
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more.")
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers} is less than 1; give 1 or more.")
    out = Path(out)
    found = _found(out, preset, seed)
    if found is not None:
        return found

    world = plan_world(preset, seed)
    with _folder_in_the_making(out) as folder:
        raw = folder / _RAW
        raw.mkdir()
        pictures = render_all(world, raw, workers, progress or (lambda done, total: None))
        travellers, posed = pictures[: len(world.travellers)], pictures[len(world.travellers) :]
        counts, real_texts, digests = _number_real(world, travellers, raw, folder)
        synthetic_texts, synthetic_digests = _number_synthetic(posed, raw, folder)
        texts = {**real_texts, **synthetic_texts, **city_files(world)}
        for name, text in texts.items():
            write_text(folder / name, text)
            digests[name] = hashlib.sha256(text.encode()).hexdigest()
        digests |= synthetic_digests
        shutil.rmtree(raw)  # also holds the pictures of tracklets that were too short
        counts |= {"synthetic": len(synthetic_digests), "synthetic_identities": len(posed)}
        listing = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
        content_hash = hashlib.sha256(listing.encode()).hexdigest()[:16]
        write_json(folder / SUMMARY, {**_made_by(preset, seed), "counts": counts, "content_hash": content_hash})
    return Simulation(out, preset, seed, SIMULATOR_VERSION, counts, content_hash, reused=False)


def _made_by(preset: Preset, seed: int) -> dict[str, Any]:
    fields = json.loads(json.dumps(asdict(preset)))
    return {"simulator_version": SIMULATOR_VERSION, "seed": seed, "preset": fields}


def _found(out: Path, preset: Preset, seed: int) -> Simulation | None:
    """Return the simulation in `out` if it is the wanted one, None if there is nothing, refuse anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    advice = "choose another folder or remove this one"
    if not (out / SUMMARY).is_file():
        raise InputError(f"{out}: exists and holds no simulation; {advice}.")
    summary = read_json(out / SUMMARY)
    wanted = _made_by(preset, seed)
    for name, value in wanted.items():
        if not isinstance(summary, dict) or summary.get(name) != value:
            raise InputError(f"{out}: holds another simulation (its {name} differs); {advice}.")
    counts = summary["counts"]
    for split, folder in _image_folders().items():
        files = sum(entry.name.endswith(".jpg") for entry in os.scandir(out / folder)) if (out / folder).is_dir() else 0
        if files != counts[split]:
            raise InputError(f"{out / folder}: has {files} images instead of {counts[split]}; {advice}.")
    return Simulation(out, preset, seed, SIMULATOR_VERSION, counts, summary["content_hash"], reused=True)


def _image_folders() -> dict[str, str]:
    real = {split: f"{REAL_FOLDER}/{folder}" for split, folder in FOLDERS.items()}
    return {**real, "synthetic": f"{SYNTHETIC_FOLDER}/sys_image_train"}


@contextmanager
def _folder_in_the_making(out: Path) -> Iterator[Path]:
    """Yield the folder OUT.partial, which becomes `out` in one rename on success and is removed on any error.

    What a killed run has left there is removed first; it is known by its mark.
    """
    absolute = Path(os.path.abspath(out))
    folder = absolute.with_name(absolute.name + ".partial")
    mark = folder / _UNFINISHED
    try:
        if folder.exists():
            if not mark.exists() and any(folder.iterdir()):
                raise InputError(f"{folder}: is in the way and was not left by a simulation; rename or remove it.")
            shutil.rmtree(folder)
        if absolute.exists():
            absolute.rmdir()
        folder.mkdir(parents=True)
        mark.touch()
        for name in _image_folders().values():
            (folder / name).mkdir(parents=True)
        yield folder
        mark.unlink()
        folder.rename(absolute)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{out}: cannot be written ({reason}); name a new folder where there is room.") from error
    finally:
        if mark.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _number_real(
    world: World, pictures: Sequence[Sequence[Picture]], raw: Path, folder: Path
) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """Number the real-like images and move them to their places; return counts, label files and digests.

    The order of query images, gallery images and test tracks is drawn by chance, so that no number tells an identity.
    """
    splits, tracks = _choose_queries(world, pictures)
    for name in ("query", "gallery"):
        splits[name] = _shuffled(world.seed, name, splits[name])
    tracks["test"] = _shuffled(world.seed, "tracks", tracks["test"])

    digests: dict[str, str] = {}
    for split, images in splits.items():
        for number, picture in enumerate(images, start=1):
            file = f"{number:06d}.jpg"
            path = f"{REAL_FOLDER}/{FOLDERS[split]}/{file}"
            key = f"{KEY_PREFIXES[split]}/{number:06d}"
            picture.row.update(split=split, path=path, file=file, image_key=key)
            (raw / picture.file).rename(folder / path)
            digests[path] = picture.digest
    for name, tracklets in tracks.items():
        for line, tracklet in enumerate(tracklets):
            for picture in tracklet:
                picture.row["tracklet"] = f"{name}_{line:05d}"

    rows = {split: [picture.row for picture in images] for split, images in splits.items()}
    listed = {
        name: [[picture.row for picture in tracklet if picture.row["split"] != "query"] for tracklet in tracklets]
        for name, tracklets in tracks.items()
    }
    counts = {split: len(images) for split, images in splits.items()}
    counts["train_identities"] = len({row["identity"] for row in rows["train"]})
    counts["test_identities"] = len({row["identity"] for row in rows["query"] + rows["gallery"]})
    counts["cameras"] = len({row["camera"] for split in rows.values() for row in split})
    counts["tracklets"] = sum(len(tracklets) for tracklets in tracks.values())
    return counts, real_files(rows, listed), digests


def _choose_queries(
    world: World, pictures: Sequence[Sequence[Picture]]
) -> tuple[dict[str, list[Picture]], dict[str, list[list[Picture]]]]:
    """Return the images of each split and the tracklets of "train" and "test", queries included.

    A query is one image of each (identity, camera) of the test where the identity was seen by another camera too; the
    rest of its tracklet stays in the gallery, so a test tracklet of one image is dropped.
    """
    splits: dict[str, list[Picture]] = {split: [] for split in FOLDERS}
    tracks: dict[str, list[list[Picture]]] = {"train": [], "test": []}
    for traveller, made in zip(world.travellers, pictures, strict=True):
        passages = [[p for p in made if p.passage == number] for number in range(len(traveller.passages))]
        tracklets = [tracklet for tracklet in passages if len(tracklet) >= (1 if traveller.split == "train" else 2)]
        tracks[traveller.split] += tracklets
        for tracklet in tracklets:
            if traveller.split == "train":
                splits["train"] += tracklet
                continue
            rng = generator(world.seed, "query", *traveller.key, tracklet[0].passage)
            query = int(rng.integers(len(tracklet))) if len(tracklets) > 1 else None
            for place, picture in enumerate(tracklet):
                splits["query" if place == query else "gallery"].append(picture)
    return splits, tracks


def _shuffled(seed: int, name: str, things: list[T]) -> list[T]:
    return [things[i] for i in generator(seed, "order", name).permutation(len(things))]


def _number_synthetic(
    pictures: Sequence[Sequence[Picture]], raw: Path, folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Move the synthetic images to their places; return label files and digests."""
    rows, digests = [], {}
    for picture in (picture for made in pictures for picture in made):
        path = picture.row["path"]
        (raw / picture.file).rename(folder / path)
        digests[path] = picture.digest
        rows.append(picture.row)
    return synthetic_files(rows), digests
