"""`Embedder`: features, distances, decisions and attributes of images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.inference.attribute_heads import Attribute, read_angles, read_classes
from vreid.inference.backend import Backend, BackendName, installed
from vreid.inference.inputs import images_of, is_one
from vreid.inference.onnx_file import graph_of
from vreid.ranges import check_number
from vreid.retrieval.evaluation.calibration import DECISIONS, MATCH, NO_MATCH, Rate
from vreid.retrieval.features import unit_rows
from vreid.training.model_file import DEFAULT, model_file
from vreid.training.views import VIEWS, check_views


@dataclass(frozen=True)
class Comparison:
    """Whether two images show the same vehicle.

    Attributes:
        distance: squared Euclidean distance of the unit features, 0 to 4.
        decision: "MATCH", "UNCERTAIN" or "NO MATCH".
        error: how often such a decision is wrong: of a MATCH the false-match rate (per search among the calibration's
            gallery), of a NO MATCH the miss rate; None for UNCERTAIN.
    """

    distance: float
    decision: str
    error: Rate | None

    def __str__(self) -> str:
        kind = "false-match rate" if self.decision == DECISIONS[MATCH] else "miss rate"
        error = f" ({kind} {self.error})" if self.error else ""
        return f"{self.decision} at distance {self.distance:.3f}{error}"


class Embedder:
    """A trained model that takes images in memory; make one with `load_model`.

    It can be called from several threads at once, is a transformer of scikit-learn (`transform` is `embed`), and a
    function of images (`model(images)` is `model.embed(images)`).

    Args:
        backend: runs the network.
        views: views of an image whose features are summed, "original", or "original" and "flip" (the default, as of
            `vreid extract`: features and thresholds of both are comparable; the original alone is twice as fast).
        batch_size: images that go through the network at once.
    """

    def __init__(self, backend: Backend, views: Sequence[str] = ("original", "flip"), batch_size: int = 32) -> None:
        check_views(views, crops=False)
        check_number("batch_size", batch_size, least=1, whole=True)
        self.backend = backend
        self.views = tuple(views)
        self.batch_size = batch_size

    @property
    def hash(self) -> str:
        """Hash of weights and preprocessing: features of equal hashes are comparable."""
        return self.backend.hash

    @property
    def source(self) -> Path:
        """The model file."""
        return self.backend.source

    @property
    def dimensions(self) -> int:
        """D, the length of a feature."""
        return self.backend.num_features

    @property
    def made_by(self) -> str:
        """The model and the views, as `FeatureSet.made_by` has them."""
        return f"model {self.hash[:16]}, views {'+'.join(self.views)}"

    def __repr__(self) -> str:
        facts = self.backend.facts
        size = f"{facts.height} x {facts.width} -> {self.dimensions}"
        heads = f", attributes {', '.join(facts.heads)}" if facts.heads else ""
        return f"Embedder({self.backend.source}, {size}, {self.backend.name}, views {'+'.join(self.views)}{heads})"

    def embed(self, images: Any, boxes: Any = None) -> NDArray[np.float32]:
        """Compute the features of images, (N, D) float32 with rows of length 1.

        Images are read one at a time and go through the network in batches, so memory is bounded for generators too.

        Args:
            images: a path, a PIL image, a numpy array (H, W, 3) or (N, H, W, 3) of uint8 in RGB (of an OpenCV frame:
                `frame[..., ::-1]`), a torch tensor (3, H, W) or (N, 3, H, W) of uint8 or of floats from 0 to 1, or a
                list or generator of these.
            boxes: parts of the images, x1, y1, x2, y2 in pixels: (N, 4) for one image, which gives N features; for
                several images one entry each, (4,) or (K, 4). Detections of supervision (`.xyxy`) are boxes too.

        Raises:
            InputError: an image cannot be read or is of another kind, or a box lies outside of it; it is named.
        """
        parts = [self.sum_views(batch, self.views) for batch in self._batches(images, boxes)]
        if not parts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return unit_rows(np.concatenate(parts))

    __call__ = embed

    def sum_views(
        self, batch: NDArray[np.uint8], views: Sequence[str], *, unit_views: bool = False
    ) -> NDArray[np.float32]:
        """Sum the raw features (B, D) of views of images (B, H, W, 3) of the model's size."""
        found = [self.backend.run(self._view(batch, view)).features for view in views]
        added: NDArray[np.float32] = np.sum([unit_rows(one) if unit_views else one for one in found], axis=0)
        return added

    def _view(self, batch: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
        return np.ascontiguousarray(batch[:, :, ::-1]) if VIEWS[view].flipped else batch

    def distance(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Compute squared Euclidean distances of unit features, (M, N); of two single images one number, ().

        Args:
            a: M images (see `embed`), or features (M, D) that this model made.
            b: N images or features.

        Raises:
            InputError: see `embed`; or features of another length.
        """
        left, right = (self._features(one) for one in (a, b))
        distances = np.maximum(2 - 2 * left.astype(np.float64) @ right.T.astype(np.float64), 0).astype(np.float32)
        return distances.reshape(()) if _single(a) and _single(b) else distances

    def compare(self, a: Any, b: Any) -> Comparison:
        """Decide whether two images (or features) show the same vehicle.

        Raises:
            InputError: see `distance`; or the model file has no threshold, or one for other views.
        """
        threshold = self.backend.facts.threshold
        if threshold is None:
            raise InputError(
                f"{self.backend.source}: has no threshold of MATCH; calibrate one (`vreid calibrate FEATURES --out "
                "T.json`) and store it in the model (`vreid export MODEL --threshold T.json --out FILE`)."
            )
        threshold.check(features=self.made_by, steps=())
        distances = np.reshape(self.distance(a, b), -1)
        if len(distances) != 1:
            raise InputError(f"compare: takes one image on each side, not {len(distances)} pairs; call distance.")
        code = int(threshold.classify(distances)[0])
        error = {MATCH: threshold.false_match, NO_MATCH: threshold.miss}.get(code)
        return Comparison(float(distances[0]), DECISIONS[code], error)

    def attributes(self, images: Any, boxes: Any = None) -> list[dict[str, Attribute]]:
        """Predict colour, type and orientation of each image, whichever the model has heads for, with confidence.

        Args:
            images, boxes: see `embed`.

        Returns:
            For each image its attributes by name: any of "color", "vehicle_type" and "orientation".

        Raises:
            InputError: see `embed`; or the model has no such heads.
        """
        facts = self.backend.facts
        if not facts.heads:
            raise InputError(
                f"{self.backend.source}: has no heads for attributes; train one with --set heads=color,vehicle_type."
            )
        found: list[dict[str, Attribute]] = []
        for batch in self._batches(images, boxes):
            outputs = self.backend.run(batch, heads=True).heads
            columns = [self._read(name, outputs[name]) for name in facts.heads]
            found += [dict(zip(facts.heads, row, strict=True)) for row in zip(*columns, strict=True)]
        return found

    def describe(self, images: Any, boxes: Any = None) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Compute features (as `embed`) and the outputs (N, K) of each attribute head in one pass.

        The first view gives the outputs, so that it goes through the network once.
        """
        features, heads = [], []
        for batch in self._batches(images, boxes):
            first = self.backend.run(self._view(batch, self.views[0]), heads=True)
            rest = self.sum_views(batch, self.views[1:]) if self.views[1:] else np.float32(0)
            features.append(first.features + rest)
            heads.append(first.heads)
        names = self.backend.facts.heads
        return (
            unit_rows(np.concatenate(features)) if features else np.empty((0, self.dimensions), dtype=np.float32),
            {name: np.concatenate([part[name] for part in heads]) for name in names if heads},
        )

    def head_outputs(self, images: Any, boxes: Any = None) -> dict[str, NDArray[np.float32]]:
        """Compute the outputs (N, K) of each attribute head, by name; see `embed` for the arguments."""
        parts = [self.backend.run(batch, heads=True).heads for batch in self._batches(images, boxes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.backend.facts.heads if parts}

    def fit(self, images: Any, y: Any = None) -> Embedder:
        """Do nothing: the model is trained (scikit-learn)."""
        return self

    def transform(self, images: Any) -> NDArray[np.float32]:
        """Compute the features of images; see `embed`."""
        return self.embed(images)

    def fit_transform(self, images: Any, y: Any = None) -> NDArray[np.float32]:
        """Compute the features of images; see `embed`."""
        return self.embed(images)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the D columns (scikit-learn)."""
        return np.array([f"embedder{number}" for number in range(self.dimensions)], dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings (scikit-learn)."""
        return {"backend": self.backend, "views": self.views, "batch_size": self.batch_size}

    def set_params(self, **params: Any) -> Embedder:
        """Change settings (scikit-learn)."""
        Embedder.__init__(self, **{**self.get_params(), **params})
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        settings: dict[str, Any] = {
            "backend": self.backend.name,
            "views": self.views,
            "batch_size": self.batch_size,
        }
        return partial(load_model, **settings), (self.backend.source,)

    def __sklearn_clone__(self) -> Embedder:
        return Embedder(**self.get_params())  # the network is shared: it does not change

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            requires_fit=False,
        )

    def _features(self, images: Any) -> NDArray[np.float32]:
        """Features of images; those that are given are normalised."""
        if not _is_features(images):
            return self.embed(images)
        given = np.atleast_2d(np.asarray(images, dtype=np.float32))
        if given.shape[1] != self.dimensions:
            raise InputError(
                f"features of {given.shape[1]} dimensions are another model's; this has {self.dimensions}."
            )
        return unit_rows(given)

    def _batches(self, images: Any, boxes: Any) -> Iterator[NDArray[np.uint8]]:
        resized = (self.backend.facts.resize(image) for image in images_of(images, boxes))
        while part := list(islice(resized, self.batch_size)):
            yield np.stack(part)

    def _read(self, name: str, outputs: NDArray[np.float32]) -> list[Attribute]:
        facts = self.backend.facts
        temperature = facts.temperatures.get(name)
        if name in facts.labels:
            return read_classes(outputs, facts.labels[name], temperature)
        if name == "orientation" and facts.heads[name] == 2:
            return read_angles(outputs, temperature)
        return read_classes(outputs, [f"class {number}" for number in range(outputs.shape[1])], temperature)


def load_model(
    source: Path | str = DEFAULT,
    *,
    backend: BackendName = "auto",
    views: Sequence[str] = ("original", "flip"),
    batch_size: int = 32,
    device: str = "cpu",
) -> Embedder:
    """Load a model that embeds images in memory.

    Args:
        source: "default" (the model of the package), a run folder, a .safetensors file, or an .onnx file that
            `vreid export` has written.
        backend: "onnxruntime", "torch", or "auto": onnxruntime for an .onnx file, and for a .safetensors file that has
            its graph beside it ("default" has), where it is installed; else torch.
        views: see `Embedder`.
        batch_size: see `Embedder`.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": a GPU if torch finds one.

    Raises:
        InputError: no such model, or what would run it is not installed.

    Example:
        >>> model = load_model("runs/first")                    # doctest: +SKIP
        >>> model.embed(["a.jpg", "b.jpg"]).shape               # doctest: +SKIP
        (2, 256)
        >>> model.distance("a.jpg", "b.jpg")                    # doctest: +SKIP
        0.31
    """
    return Embedder(load_backend(source, backend, device), views, batch_size)


def load_backend(source: Path | str, backend: BackendName = "auto", device: str = "cpu") -> Backend:
    """Load the network of a model; see `load_model`."""
    if backend not in ("auto", "onnxruntime", "torch"):
        raise InputError(f"backend {backend!r}: is unknown; use auto, onnxruntime or torch.")
    path = model_file(source, onnx=True)
    graph = path if path.suffix == ".onnx" else graph_of(path)
    if graph is not None and backend != "torch" and (installed("onnxruntime") or backend == "onnxruntime"):
        from vreid.inference.onnx_backend import OnnxBackend

        return OnnxBackend(graph, device)
    if path.suffix == ".onnx" and backend == "torch":
        raise InputError(f"{path}: is run by onnxruntime, not torch; give the .safetensors that it was exported from.")
    if path.suffix == ".onnx":
        raise InputError(f"{path}: needs onnxruntime, which is not installed; pip install 'vehicle-reid[model]'.")
    if backend == "onnxruntime":
        raise InputError(f"{path}: holds no ONNX graph; write one with `vreid export {source} --out FILE.onnx`.")
    if not installed("torch"):
        raise InputError(
            f"{path}: needs torch, which is not installed; pip install 'vehicle-reid[train]', or export the model to "
            "ONNX where torch is (`vreid export`)."
        )
    from vreid.environment import resolve_device
    from vreid.inference.torch_backend import TorchBackend
    from vreid.training.extract import load_trained

    return TorchBackend(load_trained(source), resolve_device(device))


def _single(images: Any) -> bool:
    return np.ndim(images) == 1 if _is_features(images) else is_one(images)


def _is_features(images: Any) -> bool:
    """Whether `images` are features: one or two dimensions of floats."""
    if hasattr(images, "detach") or not isinstance(images, np.ndarray):
        return False
    return images.ndim in (1, 2) and images.dtype.kind == "f"
