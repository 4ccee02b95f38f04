"""Post-processing in words, and what holds for every step: permutations, block sizes, steps that are off."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.feature_world import world
from vreid.errors import InputError
from vreid.retrieval import (
    Bias,
    CameraMean,
    CameraWhitening,
    Distances,
    Expansion,
    Norm,
    OwnTracklet,
    PostProcessing,
    ReRanking,
    SceneGroups,
    Tracklets,
    TransitTimes,
)
from vreid.retrieval.postprocessing.jaccard import CONVENTIONS
from vreid.retrieval.postprocessing.steps import ADDED, PRESETS, STEPS

# --- words ------------------------------------------------------------------------------------------------------------

positive = st.floats(0, 1e6, exclude_min=True)
few = st.integers(1, 99)
names = st.text(st.characters(exclude_characters=",:+/ ", exclude_categories=("Z", "C")), min_size=1, max_size=6)
CONFIGS = {
    "norm": st.just(Norm("unit")),
    "camera_mean": st.builds(CameraMean, st.floats(-2, 2), few),
    "camera_whitening": st.builds(CameraWhitening, positive, st.floats(0, 1, exclude_min=True), few),
    "tracklets": st.builds(
        Tracklets, st.sampled_from(["mean", "weighted"]), st.sampled_from(["unit", "raw"]), st.floats(0, 4), positive
    ),
    "own_tracklet": st.builds(OwnTracklet, st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True)),
    "gallery_expansion": st.builds(Expansion, few, st.floats(0, 9), st.sampled_from(["any", "other"])),
    "query_expansion": st.builds(Expansion, few, st.floats(0, 9), st.sampled_from(["any", "other"])),
    "reranking": st.builds(ReRanking, few, few, st.floats(0, 1), st.sampled_from(sorted(CONVENTIONS))),
    "camera_bias": st.builds(Bias, positive, st.sampled_from(["after", "before"]), names),
    "orientation_bias": st.builds(
        Bias, positive, st.sampled_from(["after", "before"]), st.just("C:folder/of features")
    ),
    "transit_times": st.builds(TransitTimes, positive, few),
    "exclude_same_camera": st.just(True),
    "scene_groups": st.lists(names, max_size=5, unique=True).map(
        lambda cameras: SceneGroups((tuple(cameras[:2]), tuple(cameras[2:])) if len(cameras) > 2 else ())
    ),
}


@st.composite
def posts(draw):
    """Any post-processing; mean and whitening exclude each other."""
    on = draw(st.sets(st.sampled_from(sorted(CONFIGS))))
    if {"camera_mean", "camera_whitening"} <= on:
        on.remove("camera_mean")
    return PostProcessing(**{name: draw(CONFIGS[name]) for name in sorted(on)})


@settings(max_examples=150)
@given(posts(), st.randoms())
def test_parse_reads_what_describe_writes_in_any_order(post, random):
    assert PostProcessing.parse(post.describe()) == post
    steps = list(post.steps)
    random.shuffle(steps)
    again = PostProcessing.parse(" ,".join(steps))
    assert again == post
    assert again.describe() == post.describe()


@pytest.mark.parametrize(
    ("text", "post"),
    [
        ("", PostProcessing()),
        ("plain search", PostProcessing()),
        ("tracklets", PostProcessing(tracklets=Tracklets("mean"))),
        ("rerank", PostProcessing(reranking=ReRanking(20, 6, 0.3))),
        ("rerank=7:2", PostProcessing(reranking=ReRanking(7, 2, 0.3))),
        (" other-cameras , camera-mean = 0.5 ", PostProcessing(camera_mean=CameraMean(0.5), exclude_same_camera=True)),
        ("query-expansion=3:0", PostProcessing(query_expansion=Expansion(3, 0))),
        ("scene-groups=a+b/c", PostProcessing(scene_groups=SceneGroups((("a", "b"), ("c",))))),
        ("camera-bias=0.1:before:C:cam", PostProcessing(camera_bias=Bias(0.1, "before", "C:cam"))),
        (
            "dmt-2020, other-cameras",
            PostProcessing(
                tracklets=Tracklets("mean", "raw"), reranking=ReRanking(7, 2, 0.6, "dmt-2020"), exclude_same_camera=True
            ),
        ),
    ],
)
def test_step_descriptions_by_hand(text, post):
    assert PostProcessing.parse(text) == post


def test_steps_are_written_in_the_order_in_which_they_run():
    assert PostProcessing.parse("other-cameras, rerank=7:2:0.6, tracklets, camera-whitening=0.18:0.5").describe() == (
        "camera-whitening=0.18:0.5, tracklets=mean, rerank=7:2:0.6, other-cameras"
    )
    assert [*(step.field for step in STEPS.values()), ADDED] == [field.name for field in fields(PostProcessing)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera-men", "step 'camera-men': is unknown; did you mean camera-mean"),
        ("reranking=7:2:0.6", "did you mean rerank"),
        ("xyz", "is unknown; use some of norm, camera-mean, camera-whitening, tracklets"),
        ("rerank=7,2,0.6", r"step '2': is unknown; write the values of a step between colons, as in rerank=7:2:0.6"),
        ("rerank, rerank=7:2:0.6", "step rerank: occurs twice"),
        ("dmt, other-cameras", "step other-cameras: occurs twice"),
        ("camera-mean, camera-whitening", "includes camera mean subtraction"),
        ("rerank=7:two", "k2 is 'two'; write rerank=K1:K2:LAMBDA"),
        ("rerank=7:2:0.6:1", "neighbours is '1'; choose one of zhong, openunreid, dmt-2020"),
        ("rerank=", "has no value; write rerank=K1:K2:LAMBDA"),
        ("rerank=0", "step rerank=0: re-ranking: k1 is 0"),
        ("other-cameras=yes", "takes no values"),
        ("norm=long", "norm: kind is 'long'; use one of unit, raw"),
        ("norm=raw, camera-whitening", "camera-whitening L2-normalises features, .* add norm=unit"),
        ("norm=raw, query-expansion", "query-expansion L2-normalises"),
        ("norm=raw, gallery-expansion", "gallery-expansion L2-normalises"),
        ("norm=raw, own-tracklet", "own-tracklet L2-normalises"),
        ("norm=raw, tracklets", "tracklets=mean:unit L2-normalises .* use tracklets=mean:raw, or add norm=unit"),
        ("tracklets=median", "feature is 'median'; use one of mean, weighted, per-query"),
        ("tracklets=mean:round", "norm is 'round'; use one of unit, raw"),
        ("tracklets=weighted:raw:0.6:0", "epsilon is 0"),
        ("tracklets=weighted:raw:nan", "threshold is nan"),
        ("camera-whitening=0.18:2", "share is 2"),
        ("camera-mean=nan", "alpha is nan"),
        ("query-expansion=0", "neighbours is 0"),
        ("gallery-expansion=3:-1", "alpha is -1"),
        ("query-expansion=3:0:same", "cameras is 'same'; use one of any, other"),
        ("own-tracklet=0", "share is 0"),
        ("own-tracklet=0.5:1.5", "ratio is 1.5"),
        ("transit-times=0", "weight is 0"),
        ("transit-times=0.1:0", "rounds is 0"),
        ("camera-bias=0.1", "needs the features of a camera or orientation model; write WEIGHT:after:FOLDER"),
        ("camera-bias=-1:after:x", "weight is -1"),
        ("camera-bias=1:later:x", "when is 'later'"),
        ("scene-groups=a+b/a", "camera a is named twice"),
        ("scene-groups=a//b", "has no name"),
    ],
)
def test_invalid_steps_are_rejected_with_a_fix(text, message):
    with pytest.raises(InputError, match=message):
        PostProcessing.parse(text)


def test_presets_describe_themselves():
    described = {name: PostProcessing.parse(name).describe() for name in PRESETS}
    assert described == {name: text or "plain search" for name, text in PRESETS.items()} | {"plain": "plain search"}


# --- what holds for every step ----------------------------------------------------------------------------------------


def scenic(features):
    """A scene for each image (the third camera is alone), and times that are near where features are."""
    scene = ["far" if camera == "c2" else "near" for camera in features.records.camera.values]
    time = 1000 * features.features[:, -1].astype(float) + 1000
    return replace(features, records=features.records.with_(scene=scene, time=time))


SIDES = tuple(scenic(side) for side in world(vehicles=8, frames=4, dimensions=12))
GLANCES = tuple(
    replace(glance, records=side.records)
    for glance, side in zip(world(seed=1, vehicles=8, frames=4, dimensions=6), SIDES, strict=True)
)
ALL = {
    "camera-mean": "camera-mean",
    "camera-whitening": "camera-whitening=0.18:0.5",
    "tracklets": "tracklets=weighted",
    "own-tracklet": "own-tracklet=0.5:1",
    "gallery-expansion": "gallery-expansion=3:3:other",
    "query-expansion": "query-expansion=3:0",
    "rerank": "rerank=5:2:0.4",
    "transit-times": "transit-times",
    "other-cameras": "other-cameras",
    "scene-groups": "scene-groups",
}
BIASES = {"camera_bias": Bias(0.1, "after", GLANCES), "orientation_bias": Bias(0.05, "before", GLANCES)}


@st.composite
def runnable(draw):
    """Post-processings of the steps above, biases included."""
    on = draw(st.sets(st.sampled_from(sorted(ALL))))
    post = PostProcessing.parse(", ".join(ALL[name] for name in on - {"camera-mean"}))
    if "camera-mean" in on and not post.camera_whitening:
        post = replace(post, camera_mean=CameraMean())
    return replace(post, **{name: BIASES[name] for name in draw(st.sets(st.sampled_from(sorted(BIASES))))})


def images(distances):
    return np.concatenate([block for _, block in distances.image_blocks()])


@settings(max_examples=40)
@given(runnable(), st.integers(0, 2**32 - 1))
def test_permuting_the_gallery_permutes_the_result(post, seed):
    order = np.random.default_rng(seed).permutation(len(SIDES[1]))
    there = images(post.apply(SIDES[0], SIDES[1][order]))
    assert there == pytest.approx(images(post.apply(*SIDES))[:, order], abs=2e-5)


@settings(max_examples=40)
@given(runnable(), st.integers(1, 30))
def test_block_size_never_matters_and_distances_come_again(post, rows):
    distances = post.apply(*SIDES)
    blocks = np.concatenate([block for _, block in distances.blocks(rows)])
    assert np.array_equal(blocks, distances.matrix())
    assert not np.isnan(blocks).any()
    assert distances.steps == post.steps
    assert distances.transductive == post.transductive


@settings(max_examples=40)
@given(runnable())
def test_inductive_steps_are_independent_of_the_other_queries(post):
    if not post.transductive_reasons:
        query, gallery = SIDES
        alone = post.apply(query[3], gallery).matrix()[0]
        assert alone == pytest.approx(post.apply(query, gallery).matrix()[3], abs=1e-6)


def test_every_step_changes_something_and_none_is_plain_search():
    plain = images(Distances.of(*SIDES))
    assert np.array_equal(images(PostProcessing.parse("").apply(*SIDES)), plain)
    for text in [*ALL.values(), "tracklets=per-query", "tracklets=mean:raw"]:
        assert not np.array_equal(images(PostProcessing.parse(text).apply(*SIDES)), plain), text
    for name, bias in BIASES.items():
        assert not np.array_equal(images(PostProcessing(**{name: bias}).apply(*SIDES)), plain)


def test_a_shared_share_is_the_mean_of_whitened_and_plain():
    steps = "tracklets=weighted:raw, rerank=5:2:0.4, other-cameras"
    plain = PostProcessing.parse(steps)
    whitened = replace(plain, camera_whitening=CameraWhitening(0.2))
    mixed = replace(plain, camera_whitening=CameraWhitening(0.2, share=0.25)).apply(*SIDES)
    expected = 0.25 * whitened.apply(*SIDES).matrix() + 0.75 * plain.apply(*SIDES).matrix()
    assert mixed.matrix() == pytest.approx(expected, abs=1e-6)
    frames = [
        np.concatenate([tile for _, tile in d.frames.tiles()])
        for d in (mixed, whitened.apply(*SIDES), plain.apply(*SIDES))
    ]
    assert frames[0] == pytest.approx(0.25 * frames[1] + 0.75 * frames[2], abs=1e-6)


def test_steps_without_their_columns_are_reported():
    query, gallery = (replace(s, records=s.records.with_(scene=[""] * len(s), tracklet=[""] * len(s))) for s in SIDES)
    with pytest.raises(InputError, match="no gallery image has a tracklet"):
        PostProcessing.parse("tracklets=per-query").apply(query, gallery)
    with pytest.raises(InputError, match="fewer than two cameras have gallery images with known time"):
        timeless = replace(gallery, records=gallery.records.with_(time=[np.nan] * len(gallery)))
        PostProcessing.parse("transit-times").apply(query, timeless)
    with pytest.raises(InputError, match="no query image has a scene group; give the column `scene`"):
        PostProcessing.parse("scene-groups").apply(query, gallery)
    with pytest.raises(InputError, match="name the cameras as in the data"):
        PostProcessing.parse("scene-groups=x/y").apply(query, gallery)


def test_the_page_about_steps_tells_their_values_defaults_and_presets():
    page = (Path(__file__).parents[3] / "docs" / "guides" / "postprocessing.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(STEPS)
    for (name, values, defaults), step in zip(rows, STEPS.values(), strict=True):
        if step.config is not None:
            assert values == ":".join(field.name.rstrip("_").upper() for field in fields(step.config)), name
        if step.config not in (None, Bias, SceneGroups):
            written = PostProcessing(**{step.field: step.config()})
            assert PostProcessing.parse(f"{name.strip('`')}={defaults}") == written
    for name, text in PRESETS.items():
        if not name.startswith("plain"):
            assert f"`{name}`" in page
            assert PostProcessing.parse(name) == PostProcessing.parse(text)
    assert PRESETS["dmt"] in page and PRESETS["dmt-paper"] in page
