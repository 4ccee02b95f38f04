"""vreid: a toolkit for vehicle re-identification, from images of vehicles to "the same vehicle, seen where and when".

Everything below is imported on first use, so that `import vreid` loads neither numpy nor torch.

Example:
    >>> import vreid
    >>> data = vreid.open_dataset("vehicles.csv")                # doctest: +SKIP
    >>> model = vreid.train("small", data, "run")                # doctest: +SKIP
    >>> run = vreid.extract(model, data, "features")             # doctest: +SKIP
    >>> print(run.evaluate("tracklets, rerank=7:2:0.6"))         # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vreid.data.open import open_dataset
    from vreid.inference.embedder import Embedder, load_model
    from vreid.recipes import recipe
    from vreid.retrieval.evaluation.plain_arrays import evaluate, evaluate_features
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval.postprocessing.reranking import rerank
    from vreid.retrieval.ranking import rank
    from vreid.retrieval_run import RetrievalRun
    from vreid.simulator.formats.write import simulate
    from vreid.store.store import Store
    from vreid.workflow import adapt, extract, train

__all__ = [
    "Embedder",
    "PostProcessing",
    "RetrievalRun",
    "Store",
    "adapt",
    "evaluate",
    "evaluate_features",
    "extract",
    "load_model",
    "open_dataset",
    "rank",
    "recipe",
    "rerank",
    "simulate",
    "train",
]

__version__ = "0.2.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.32 on, onnxruntime sends usage data unless it finds this

_PLACES = {
    "Embedder": "inference.embedder",
    "PostProcessing": "retrieval.postprocessing.pipeline",
    "RetrievalRun": "retrieval_run",
    "Store": "store.store",
    "adapt": "workflow",
    "evaluate": "retrieval.evaluation.plain_arrays",
    "evaluate_features": "retrieval.evaluation.plain_arrays",
    "extract": "workflow",
    "load_model": "inference.embedder",
    "open_dataset": "data.open",
    "rank": "retrieval.ranking",
    "recipe": "recipes",
    "rerank": "retrieval.postprocessing.reranking",
    "simulate": "simulator.formats.write",
    "train": "workflow",
}
"""The module of each name that is imported on first use."""


if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'vreid' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"vreid.{_PLACES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
