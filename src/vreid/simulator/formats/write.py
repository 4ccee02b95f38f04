"""Simulate a world into a folder, atomically."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from vreid.configuration import plain_values
from vreid.data.seeds import generator
from vreid.errors import InputError, named
from vreid.files import write_text
from vreid.progress import Progress
from vreid.simulator.city.plan import World
from vreid.simulator.city.presets import SIMULATOR_VERSION, Preset, check_seed, preset_named
from vreid.simulator.city.traffic import TrafficPreset, traffic_preset_named
from vreid.simulator.city.video_plan import VideoPreset, video_preset_named
from vreid.simulator.formats.label_files import (
    FOLDERS,
    GROUND_TRUTH_COLUMNS,
    KEY_PREFIXES,
    SYNTHETIC_COLUMNS,
    city_files,
    table,
)
from vreid.simulator.formats.layouts import CITYFLOW, LAYOUTS, Layout, Rows
from vreid.simulator.formats.output_folder import Write, find_simulation, folder_in_the_making, write_summary
from vreid.simulator.formats.trip_files import TRIPS, TripWriter
from vreid.simulator.formats.video_files import VIDEOS, VideoWriter
from vreid.simulator.formats.workers import RenderedImage, render_all

T = TypeVar("T")
AnyPreset = Preset | VideoPreset | TrafficPreset
_RAW = "raw"


@dataclass(frozen=True)
class Simulation:
    """A simulated data set on disk: path, provenance and contents.

    `counts` has the images of each split, identities, cameras and tracklets; `content_hash` names the bytes of all
    files; `reused` means that it existed already.
    """

    path: Path
    preset: AnyPreset
    layout: str
    seed: int
    version: int
    counts: dict[str, int]
    content_hash: str
    reused: bool


def simulate(
    out: Path | str,
    *,
    preset: AnyPreset | str,
    seed: int,
    layout: str = CITYFLOW.name,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the world `seed` of `preset` into the folder `out`, in the format of a data set.

    `layout` is the format (`formats.layouts.LAYOUTS`); or "videos": MP4 files with tracker output, whose presets are
    `city.video_plan.VIDEO_PRESETS`; or "trips": images of tracklets of a day of traffic, whose presets are
    `city.traffic.TRAFFIC_PRESETS`. The same seed in another layout is another world, so that results in two layouts
    are independent. Preset, layout and seed determine all bytes, for any number of `workers` (processes; None: chosen
    for the machine and the preset). `progress` counts images. The folder is created atomically; if it already holds the
    same simulation, it is reused. See docs/guides/simulator.md.

    Example:
        >>> simulate("data/tiny", preset="tiny", seed=1).counts["train"]   # doctest: +SKIP
        48

    Raises:
        InputError: preset or layout is unknown, the layout does not support the preset, the seed is negative or
            reserved for pretraining, or `out` holds something else.
    """
    writer = _writer(preset, layout, seed)
    check_seed(seed, writer.preset.name)
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers} is less than 1; give 1 or more.")
    out = Path(out)
    made_by = {
        "simulator_version": SIMULATOR_VERSION,
        "seed": seed,
        "layout": layout,
        "preset": plain_values(writer.preset),
    }
    found = find_simulation(out, made_by, lambda counts: writer.missing(out, counts))
    if found is not None:
        counts, content_hash = found
    else:
        write = writer.planned()
        with folder_in_the_making(out) as folder:
            counts, digests = write(folder, workers, progress)
            content_hash = write_summary(folder, made_by, counts, digests)
    return Simulation(out, writer.preset, layout, seed, SIMULATOR_VERSION, counts, content_hash, found is not None)


def _writer(preset: AnyPreset | str, layout: str, seed: int) -> _ImageWriter | VideoWriter | TripWriter:
    """Return what writes a preset, or that of a name, in a layout."""
    form = named("layout", {**LAYOUTS, VIDEOS: None, TRIPS: None}, layout)
    chosen: AnyPreset
    if not isinstance(preset, str):
        chosen = preset
    elif form:
        chosen = preset_named(preset)
    else:
        chosen = video_preset_named(preset) if layout == VIDEOS else traffic_preset_named(preset)
    if form and isinstance(chosen, Preset):
        return _ImageWriter(chosen, form, seed)
    if layout == VIDEOS and isinstance(chosen, VideoPreset):
        return VideoWriter(chosen, seed)
    if layout == TRIPS and isinstance(chosen, TrafficPreset):
        return TripWriter(chosen, seed)
    raise InputError(f"preset {chosen.name!r} is not one of layout {layout!r}; choose one of the other kind.")


@dataclass(frozen=True)
class _ImageWriter:
    """Writes a world of images in the layout of a published data set."""

    preset: Preset
    layout: Layout
    seed: int

    def missing(self, out: Path, counts: dict[str, int]) -> str | None:
        """Return which image folder of `out` lacks images or has too many; None: none."""
        for split, name in self.layout.image_folders().items():
            place = out / name
            files = sum(entry.name.endswith(".jpg") for entry in os.scandir(place)) if place.is_dir() else 0
            if files != counts.get(split):
                return f"{place}: has {files} images instead of {counts.get(split)}"
        return None

    def planned(self) -> Write:
        """Plan the world; return the function that writes it.

        Raises:
            InputError: the layout does not support the preset.
        """
        return partial(_write_images, self.layout, self.layout.plan(self.preset, self.seed))


def _write_images(
    form: Layout, world: World, folder: Path, workers: int | None, progress: Progress | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Render a world into `folder`; return counts and digests of its files."""
    for name in form.image_folders().values():
        (folder / name).mkdir(parents=True)
    raw = folder / _RAW
    raw.mkdir()
    rendered = render_all(world, raw, workers, progress)
    travellers, posed = rendered[: len(world.travellers)], rendered[len(world.travellers) :]
    counts, real_texts, digests = _place_real(form, world, travellers, raw, folder)
    synthetic_texts, synthetic_digests = _place_synthetic(form, posed, raw, folder)
    for name, text in {**real_texts, **synthetic_texts, **city_files(world)}.items():
        write_text(folder / name, text)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    shutil.rmtree(raw)  # also holds the images of tracklets that were too short
    counts |= {"synthetic": len(synthetic_digests), "synthetic_identities": len(posed)}
    return counts, digests | synthetic_digests


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
