"""Simulate a world into a folder, atomically."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vreid.configuration import plain_values
from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json, write_text, writing
from vreid.locks import LOCK, locked
from vreid.progress import Progress
from vreid.simulator.city.plan import World
from vreid.simulator.city.presets import SIMULATOR_VERSION, Preset, check_seed, preset_named
from vreid.simulator.formats.label_files import (
    FOLDERS,
    GROUND_TRUTH_COLUMNS,
    KEY_PREFIXES,
    SYNTHETIC_COLUMNS,
    city_files,
    table,
)
from vreid.simulator.formats.layouts import CITYFLOW, Layout, Rows, layout_named
from vreid.simulator.formats.workers import RenderedImage, render_all

SUMMARY = "simulator.json"
"""Metadata file, written last: it marks a complete folder."""

T = TypeVar("T")
_UNFINISHED = ".unfinished"
_RAW = "raw"


@dataclass(frozen=True)
class Simulation:
    """A simulated data set on disk: path, provenance and contents.

    `counts` has the images of each split, identities, cameras and tracklets; `content_hash` names the bytes of all
    files; `reused` means that it existed already.
    """

    path: Path
    preset: Preset
    layout: str
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
    layout: str = CITYFLOW.name,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the world `seed` of `preset` into the folder `out`, in the format of a data set.

    `layout` is the format (`formats.layouts.LAYOUTS`); the same seed in another layout is another world, so that
    results in two layouts are independent. Preset, layout and seed determine all bytes, for any number of `workers`
    (processes; None: chosen for the machine and the preset). `progress` counts images. The folder is created
    atomically; if it already holds the same simulation, it is reused. See docs/guides/simulator.md.

    Example:
        >>> simulate("data/tiny", preset="tiny", seed=1).counts["train"]   # doctest: +SKIP
        48

    Raises:
        InputError: preset or layout is unknown, the layout does not support the preset, the seed is negative or
            reserved for pretraining, or `out` holds something else.
    """
    preset = preset_named(preset) if isinstance(preset, str) else preset
    form = layout_named(layout)
    check_seed(seed, preset)
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers} is less than 1; give 1 or more.")
    out = Path(out)
    found = _found(out, preset, form, seed)
    if found is not None:
        return found

    world = form.plan(preset, seed)
    with _folder_in_the_making(out, form) as folder:
        raw = folder / _RAW
        raw.mkdir()
        rendered = render_all(world, raw, workers, progress)
        travellers, posed = rendered[: len(world.travellers)], rendered[len(world.travellers) :]
        counts, real_texts, digests = _place_real(form, world, travellers, raw, folder)
        synthetic_texts, synthetic_digests = _place_synthetic(form, posed, raw, folder)
        texts = {**real_texts, **synthetic_texts, **city_files(world)}
        for name, text in texts.items():
            write_text(folder / name, text)
            digests[name] = hashlib.sha256(text.encode()).hexdigest()
        digests |= synthetic_digests
        shutil.rmtree(raw)  # also holds the images of tracklets that were too short
        counts |= {"synthetic": len(synthetic_digests), "synthetic_identities": len(posed)}
        listing = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
        content_hash = hashlib.sha256(listing.encode()).hexdigest()[:16]
        made_by = _made_by(preset, form, seed)
        write_json(folder / SUMMARY, {**made_by, "counts": counts, "content_hash": content_hash})
    return Simulation(out, preset, form.name, seed, SIMULATOR_VERSION, counts, content_hash, reused=False)


def _made_by(preset: Preset, layout: Layout, seed: int) -> dict[str, Any]:
    fields = plain_values(preset)
    return {"simulator_version": SIMULATOR_VERSION, "seed": seed, "layout": layout.name, "preset": fields}


def _found(out: Path, preset: Preset, layout: Layout, seed: int) -> Simulation | None:
    """Return the simulation in `out` if it is the wanted one, None if `out` does not exist; raise otherwise."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    advice = "choose another folder or remove this one"
    if not (out / SUMMARY).is_file():
        raise InputError(f"{out}: exists and holds no simulation; {advice}.")
    summary = read_json(out / SUMMARY)
    wanted = _made_by(preset, layout, seed)
    before_layouts = {"layout": CITYFLOW.name}
    for name, value in wanted.items():
        if not isinstance(summary, dict) or (before_layouts | summary).get(name) != value:
            raise InputError(f"{out}: holds another simulation (its {name} differs); {advice}.")
    with parse_errors(out / SUMMARY):
        counts, content_hash = dict(summary["counts"]), str(summary["content_hash"])
    for split, folder in layout.image_folders().items():
        files = sum(entry.name.endswith(".jpg") for entry in os.scandir(out / folder)) if (out / folder).is_dir() else 0
        if files != counts.get(split):
            raise InputError(f"{out / folder}: has {files} images instead of {counts.get(split)}; {advice}.")
    return Simulation(out, preset, layout.name, seed, SIMULATOR_VERSION, counts, content_hash, reused=True)


@contextmanager
def _folder_in_the_making(out: Path, layout: Layout) -> Iterator[Path]:
    """Yield the folder OUT.partial, which becomes `out` in one rename on success and is removed on any error.

    Leftovers of a killed run, recognised by a marker file, are removed first. A link to a folder is followed.
    """
    absolute = Path(os.path.realpath(out))
    folder = absolute.with_name(absolute.name + ".partial")
    mark = folder / _UNFINISHED
    with writing(out):
        if absolute.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    with locked(folder, shown=out), writing(out):
        left = [entry for entry in folder.iterdir() if entry.name != LOCK]
        if left and not mark.exists():
            raise InputError(f"{folder}: exists and was not created by a simulation; rename or remove it.")
        for entry in left:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if absolute.exists():
            absolute.rmdir()
        try:
            mark.touch()
            for name in layout.image_folders().values():
                (folder / name).mkdir(parents=True)
            yield folder
            mark.unlink()
            folder.rename(absolute)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # on success it is no longer there


def _place_real(
    layout: Layout, world: World, rendered: Sequence[Sequence[RenderedImage]], raw: Path, folder: Path
) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """Name the real-like images and move them to their folders; return counts, label files and digests.

    If images are numbered, query images, gallery images and test tracks are in random order, so that numbers do not
    reveal identities; if they are named, lists are sorted by name.
    """
    splits, tracks = _choose_queries(layout, world, rendered)
    name_of = layout.image_file_name
    if name_of is None:
        for name in ("query", "gallery"):
            splits[name] = _shuffled(world.seed, name, splits[name])
        tracks["test"] = _shuffled(world.seed, "tracks", tracks["test"])
    else:
        for images in splits.values():
            images.sort(key=lambda image: name_of(image.row))
    for name, tracklets in tracks.items():
        for line, tracklet in enumerate(tracklets):
            for image in tracklet:
                image.row["tracklet"] = layout.track_name(name, line, image.row)

    digests: dict[str, str] = {}
    rows: Rows = {split: [] for split in splits}
    folders = layout.image_folders()
    for split, images in splits.items():
        for number, image in enumerate(images, start=1):
            file = name_of(image.row) if name_of else f"{number:06d}.jpg"
            path = f"{folders[split]}/{file}"
            twice = split == "query" and layout.queries_stay
            key = file.removesuffix(".jpg")
            if twice or name_of is None:
                key = f"{KEY_PREFIXES[split]}/{key}"
            image.row.update(split=split, path=path, file=file, image_key=key)
            if twice:
                shutil.copyfile(raw / image.file, folder / path)
            else:
                (raw / image.file).rename(folder / path)
            digests[path] = image.digest
            rows[split].append(dict(image.row))

    # An image that is a query and stays in the gallery comes last as what it is there.
    listed = {
        name: [[image.row for image in tracklet if image.row["split"] != "query"] for tracklet in tracklets]
        for name, tracklets in tracks.items()
    }
    counts = {split: len(images) for split, images in splits.items()}
    counts["train_identities"] = len({row["identity"] for row in rows["train"]})
    counts["test_identities"] = len({row["identity"] for row in rows["query"] + rows["gallery"]})
    counts["cameras"] = len({row["camera"] for split in rows.values() for row in split})
    counts["tracklets"] = sum(len(tracklets) for tracklets in tracks.values())
    truth = table(GROUND_TRUTH_COLUMNS, [row for split in FOLDERS for row in rows[split]])
    return counts, {**layout.files(rows, listed, world), "ground_truth.csv": truth}, digests


def _choose_queries(
    layout: Layout, world: World, rendered: Sequence[Sequence[RenderedImage]]
) -> tuple[dict[str, list[RenderedImage]], dict[str, list[list[RenderedImage]]]]:
    """Return the images of each split and the tracklets of "train" and "test", queries included.

    A query is one image of each test (identity, camera) whose identity was seen by another camera too; the rest of its
    tracklet is in the gallery, so a test tracklet with one image is dropped unless queries stay in the gallery.
    """
    least = {"train": 1, "test": 1 if layout.queries_stay else 2}
    splits: dict[str, list[RenderedImage]] = {split: [] for split in FOLDERS}
    tracks: dict[str, list[list[RenderedImage]]] = {"train": [], "test": []}
    for traveller, made in zip(world.travellers, rendered, strict=True):
        passes = [[p for p in made if p.pass_index == number] for number in range(len(traveller.passes))]
        tracklets = [tracklet for tracklet in passes if len(tracklet) >= least[traveller.split]]
        tracks[traveller.split] += tracklets
        for tracklet in tracklets:
            if traveller.split == "train":
                splits["train"] += tracklet
                continue
            rng = generator(world.seed, "query", *traveller.key, tracklet[0].pass_index)
            query = int(rng.integers(len(tracklet))) if len(tracklets) > 1 else None
            for place, image in enumerate(tracklet):
                if place == query:
                    splits["query"].append(image)
                if place != query or layout.queries_stay:
                    splits["gallery"].append(image)
    return splits, tracks


def _shuffled(seed: int, name: str, things: list[T]) -> list[T]:
    return [things[i] for i in generator(seed, "order", name).permutation(len(things))]


def _place_synthetic(
    layout: Layout, rendered: Sequence[Sequence[RenderedImage]], raw: Path, folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Move the synthetic images to their folders; return label files and digests."""
    rows, digests = [], {}
    for image in (image for made in rendered for image in made):
        path = f"{layout.synthetic}/{image.row['file']}"
        (raw / image.file).rename(folder / path)
        digests[path] = image.digest
        rows.append(image.row | {"path": path})
    return {**layout.synthetic_files(rows), "synthetic.csv": table(SYNTHETIC_COLUMNS, rows)}, digests
