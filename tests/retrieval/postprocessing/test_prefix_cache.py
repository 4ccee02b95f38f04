"""The list of actions of a post-processing, and the cache of what lists that start alike have in common."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from support.feature_world import world
from vreid.errors import InputError
from vreid.retrieval import Bias, Norm, PostProcessing
from vreid.retrieval.postprocessing.ensemble import Fusion
from vreid.retrieval.postprocessing.pipeline import plan, search_all, search_each
from vreid.retrieval.postprocessing.prefix_cache import Action, Prefix, PrefixCache
from vreid.retrieval.postprocessing.state import normalisation_step
from vreid.retrieval.postprocessing.steps import STEPS, Step

SIDES = world(vehicles=8, frames=4, dimensions=12)
OTHER = tuple(
    replace(other, records=side.records)
    for other, side in zip(world(seed=1, vehicles=8, frames=4, dimensions=6), SIDES, strict=True)
)


def names(post):
    return [action.run.__name__.removesuffix("_step") for action in plan(post)]


def biased(text, camera, orientation):
    return replace(
        PostProcessing.parse(text),
        camera_bias=Bias(0.1, camera, OTHER),
        orientation_bias=Bias(0.05, orientation, OTHER),
    )


def test_actions_run_in_the_order_of_the_list():
    text = "camera-whitening=0.18:0.5, tracklets, own-tracklet, gallery-expansion, query-expansion, rerank, "
    post = biased(text + "transit-times, other-cameras, scene-groups", "after", "before")
    assert names(post) == [
        "normalisation",
        "camera_whitening",
        "tracklet",
        "own_tracklet",
        "gallery_expansion",
        "query_expansion",
        "bias_before_reranking",
        "reranking",
        "mean_with_plain",
        "bias",
        "transit_times",
        "camera_verification",
        "scene_groups",
    ]
    assert names(PostProcessing()) == ["normalisation"]
    assert names(PostProcessing.parse("camera-whitening=0.18")) == ["normalisation", "camera_whitening"]
    assert names(biased("", "before", "before")) == ["normalisation", "bias", "bias"]  # nothing to stand before


def test_the_same_post_processing_gives_the_same_actions():
    """Prefixes are compared by value: a share of whitening, or a weight at the end, does not change what is before."""
    half, quarter = (plan(PostProcessing.parse(f"camera-whitening=0.18:{share}, rerank")) for share in (0.5, 0.25))
    assert half[:3] == quarter[:3] and half[3] != quarter[3]
    assert plan(biased("rerank", "after", "before")) == plan(biased("rerank", "after", "before"))


POSTS = [
    PostProcessing(),
    PostProcessing.parse("camera-whitening=0.18:0.5, tracklets=weighted:raw, rerank=7:2:0.6, other-cameras"),
    PostProcessing.parse("camera-whitening=0.18:0.25, tracklets=weighted:raw, rerank=7:2:0.6"),
    PostProcessing.parse("camera-mean, tracklets=per-query"),
    biased("camera-whitening=0.18:0.5, tracklets, rerank=7:2:0.6", "after", "before"),
    biased("camera-whitening=0.18:0.5, tracklets, rerank=7:2:0.6", "after", "after"),
    biased("tracklets", "before", "after"),
    PostProcessing(),
]


@pytest.mark.parametrize("members", [[SIDES], [SIDES, OTHER]])
def test_together_each_post_processing_is_as_it_is_alone(members):
    fusion = Fusion(tuple(range(1, len(members) + 1)))
    for post, found in zip(POSTS, search_each(members, POSTS, fusion), strict=True):
        alone = search_all(members, post, fusion)
        assert np.array_equal(found.matrix(), alone.matrix())
        blocks = zip(found.image_blocks(), alone.image_blocks(), strict=True)
        assert all(np.array_equal(one, other) for (_, one), (_, other) in blocks)
        assert (found.steps, found.notes, found.transductive) == (alone.steps, alone.notes, alone.transductive)


def test_the_features_of_a_bias_are_read_once_for_all_models(tmp_path, monkeypatch):
    for name, side in zip(("query", "gallery"), OTHER, strict=True):
        side.save(tmp_path / f"{name}.safetensors")
    read = []
    original = Bias.sides
    monkeypatch.setattr(Bias, "sides", lambda self, *records: read.append(self.features) or original(self, *records))
    post = PostProcessing.parse(f"rerank=5:2:0.4, camera-bias=0.1:after:{tmp_path}")
    list(search_each([SIDES, OTHER], [post, replace(post, exclude_same_camera=True)]))
    assert read == [str(tmp_path)]


def counted(made):
    """Actions that note what they make; each state is another object."""

    def run(state, config):
        state = replace(state)
        made.append((config, weakref.ref(state)))
        return state

    return run


def test_states_are_computed_once_and_dropped_after_the_last_use():
    made = []
    run = counted(made)
    start = Action(normalisation_step, Norm())
    a, b, c, d = (Action(run, name) for name in "abcd")
    prefixes = [Prefix(0, (start, *actions)) for actions in ((a, b), (a, c), (a, b, d), (a, b))]
    asked = []
    cache = PrefixCache(lambda model: asked.append(model) or SIDES, prefixes)

    def alive():
        return {name for name, state in made if state() is not None}

    for prefix, names_made, kept in zip(prefixes, ("ab", "abc", "abcd", "abcd"), ("ab", "b", "b", ""), strict=True):
        cache.take(prefix)
        assert "".join(name for name, _ in made) == names_made
        assert alive() == set(kept)
    assert asked == [0]


def test_another_step_is_another_row(monkeypatch):
    """The list can be extended where it stands: a step's function gets the state and its configuration."""

    def nearer(state, config):
        return replace(state, made=replace(state.distances, notes=(f"nearer: {config}",)))

    monkeypatch.setitem(STEPS, "other-cameras", Step("exclude_same_camera", None, nearer))
    assert search_all([SIDES], PostProcessing.parse("other-cameras")).notes == ("nearer: True",)


def test_sides_that_cannot_be_compared():
    query, gallery = SIDES
    with pytest.raises(InputError, match="dimensions"):
        PostProcessing().apply(query, OTHER[1])
    with pytest.raises(InputError, match="gallery of model 2: row 1 is"):
        search_all([SIDES, (query, gallery[::-1])], PostProcessing())
