"""The demo as configuration: which world, which recipe, which post-processing on top of what."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vreid.retrieval.postprocessing.camera_statistics import CameraMean
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.retrieval.postprocessing.tracklet_features import Tracklets


def ladder() -> tuple[tuple[str, str, PostProcessing], ...]:
    """The demo's rows, each one step on top of the row before it: (name, what it adds, post-processing).

    The steps and their constants are DMT's (`vreid.retrieval.postprocessing`), re-ranking at tracklet level.
    """
    plain = PostProcessing()
    camera = replace(plain, camera_mean=CameraMean())
    tracklet = replace(camera, tracklets=Tracklets())
    reranked = replace(tracklet, reranking=ReRanking(k1=7, k2=2, lambda_=0.6))
    verified = replace(reranked, exclude_same_camera=True)
    return (
        ("plain", "Euclidean distance of the model's features.", plain),
        ("+ camera mean", "Each camera's mean feature is taken off: what all its pictures share is its own.", camera),
        ("+ tracklet mean", "The pictures of one passage are searched as one, by their mean feature.", tracklet),
        ("+ re-ranking", "Distances are mixed with how many nearest neighbours two vehicles share.", reranked),
        ("+ camera verification", "A vehicle is looked for in other cameras only.", verified),
    )


@dataclass(frozen=True)
class DemoConfig:
    """What `vreid demo` does: simulate `preset` with `seed`, train `recipe` on both of its domains, judge `rows`.

    Recipe `small` starts from the shipped trunk, `small_random` from random weights.
    """

    preset: str = "demo"
    seed: int = 0
    recipe: str = "small"
    overrides: dict[str, str] = field(default_factory=dict)
    rows: tuple[tuple[str, str, PostProcessing], ...] = field(default_factory=ladder)
