"""Whether an exported model gives the features of the original: the gate of `vreid export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import read_image
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.backend import Backend
from vreid.inference.embedder import Embedder
from vreid.inference.extraction import EmbedderExtractor
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.features import unit_rows
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.training.feature_job import FeatureJob
from vreid.training.validation import Validation

SIZES = ((31, 47), (64, 64), (97, 33), (33, 97), (300, 211), (480, 640))
"""Height and width of the random images: larger, smaller and much narrower than any model's input."""
SEED = 20_26


@dataclass(frozen=True)
class Tolerance:
    """What an export may change.

    Attributes:
        cosine: least cosine of the features of one image.
        mean_ap: greatest change of mAP on the validation set.
    """

    cosine: float
    mean_ap: float


FLOAT32 = Tolerance(0.9999, 0.001)
INT8 = Tolerance(0.99, 0.01)


@dataclass(frozen=True)
class Parity:
    """How near an exported model is to the original.

    Attributes:
        images: number of images compared.
        cosine: the least cosine of their features.
        mean_ap: mAP of the original and of the export on the validation set, where there was one.
    """

    images: int
    cosine: float
    mean_ap: tuple[float, float] | None = None

    def __str__(self) -> str:
        words = f"cosines of at least {self.cosine:.6f} on {self.images} images"
        if self.mean_ap:
            words += f"; mAP {100 * self.mean_ap[0]:.2f} before, {100 * self.mean_ap[1]:.2f} after"
        return words


def random_images(seed: int = SEED) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images of noise in many sizes, all black and all white ones; with their names."""
    rng = np.random.default_rng(seed)
    for height, width in SIZES:
        yield f"noise of {width} x {height}", rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for level in (0, 255):
        yield f"all of level {level}", np.full((80, 60, 3), level, dtype=np.uint8)


def simulated_images(count: int) -> list[NDArray[np.uint8]]:
    """Crops of simulated vehicles, `count` of them evenly over a small world."""
    from vreid.data.open import open_dataset
    from vreid.simulator.formats.write import simulate

    with TemporaryDirectory() as folder:
        world = simulate(Path(folder) / "world", preset="tiny", seed=SEED, workers=1).path
        dataset = open_dataset(world)
        records = Records.concat([dataset.train, dataset.query, dataset.gallery])
        chosen = np.unique(np.linspace(0, len(records) - 1, count).astype(int))
        return [np.asarray(read_image(records.path[row])) for row in chosen]


def measure(
    original: Backend,
    exported: Backend,
    images: Sequence[tuple[str, NDArray[np.uint8]]],
    tolerance: Tolerance,
    validation: Validation | None = None,
) -> Parity:
    """Compare two forms of one model; images (H, W, 3) of any size come with their names.

    The original sees them resized by Pillow; the export resizes them itself.

    Raises:
        InputError: they differ by more than the tolerance; the image or the mAP is named.
    """
    worst = 1.0
    for name, image in images:
        resized = original.facts.resize(Image.fromarray(image))
        left = original.run(resized[None]).features
        right = exported.run(image[None]).features
        cosine = float((unit_rows(left).astype(np.float64) * unit_rows(right)).sum())
        if not cosine >= tolerance.cosine:
            raise InputError(
                f"{exported.source}: the export differs from the model: the cosine of the features of {name} is "
                f"{cosine:.6f}, below {tolerance.cosine}; nothing was written."
            )
        worst = min(worst, cosine)
    if validation is None:
        return Parity(len(images), worst)
    before, after = (_mean_ap(backend, validation) for backend in (original, exported))
    if not abs(after - before) <= tolerance.mean_ap:
        raise InputError(
            f"{exported.source}: the export differs from the model: mAP on {validation.name} is {100 * after:.2f} "
            f"instead of {100 * before:.2f}, more than {100 * tolerance.mean_ap:g} points away; nothing was written."
        )
    return Parity(len(images), worst, (before, after))


def _mean_ap(backend: Backend, validation: Validation) -> float:
    embedder = Embedder(backend)
    extractor = EmbedderExtractor(embedder)
    query, gallery = (FeatureJob(side, extractor).run() for side in (validation.query, validation.gallery))
    return evaluate_retrieval(query, gallery, PostProcessing(), validation.protocol).mAP
