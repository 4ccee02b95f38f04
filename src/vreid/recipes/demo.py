"""Configuration of the demo: simulated world, training recipe, post-processing steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vreid.retrieval.postprocessing.camera_statistics import CameraMean
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.retrieval.postprocessing.tracklet_features import Tracklets


def demo_rows() -> tuple[tuple[str, str, PostProcessing], ...]:
    """Return the demo's rows, each with one step more than the row before: (name, description, post-processing).

    The steps and their constants are DMT's (`vreid.retrieval.postprocessing`), re-ranking at tracklet level.
    """
    plain = PostProcessing()
    camera = replace(plain, camera_mean=CameraMean())
    tracklet = replace(camera, tracklets=Tracklets())
    reranked = replace(tracklet, reranking=ReRanking(k1=7, k2=2, lambda_=0.6))
    verified = replace(reranked, exclude_same_camera=True)
    return (
        ("plain", "Euclidean distance of the model's features.", plain),
        ("+ camera mean", "The mean feature of each camera is subtracted from its features.", camera),
        ("+ tracklet mean", "The features of each tracklet are replaced by their mean.", tracklet),
        ("+ re-ranking", "Distances are combined with the Jaccard distance of k-reciprocal neighbours.", reranked),
        ("+ camera verification", "Gallery images of the query's camera are excluded.", verified),
    )


@dataclass(frozen=True)
class DemoConfig:
    """Configuration of `vreid demo`: simulate `preset` with `seed`, train `recipe` on both domains, evaluate `rows`.

    Recipe `small` uses the shipped pretrained weights, `small_random` random weights.
    """

    preset: str = "demo"
    seed: int = 0
    recipe: str = "small"
    overrides: dict[str, str] = field(default_factory=dict)
    rows: tuple[tuple[str, str, PostProcessing], ...] = field(default_factory=demo_rows)
