"""Scene groups on real camera numbers: which cameras are kept apart, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    CAMERA_LESS,
    Distances,
    FeatureSet,
    PostProcessing,
    Ranking,
    SceneGroups,
    ensemble,
    evaluate_distances,
    exclude_other_scenes,
    rank,
)

NEW = ("#41", "#42", "#43", "#44", "#45", "#46")


def images(*cameras: str, **columns: list[str]) -> Records:
    return Records.of(path=[f"{number}.jpg" for number in range(len(cameras))], camera=list(cameras), **columns)


def split(sides: tuple[Records, Records], groups: SceneGroups) -> tuple[list[bool], str]:
    """Whether each pair is removed, row by row, and the note."""
    query, gallery = sides
    plain = Distances.from_matrix(np.ones((len(query), len(gallery))), query, gallery)
    found = exclude_other_scenes(plain, groups)
    (note,) = found.notes
    return np.isinf(found.matrix()).ravel().tolist(), note


@pytest.mark.parametrize("spelled", ["c{:03d}", "{}", "{:04d}", "C{}", "S06_c{:03d}"])
def test_the_preset_dmt_keeps_cameras_41_to_46_apart_however_they_are_spelled(spelled: str) -> None:
    groups = PostProcessing.parse("dmt").scene_groups
    assert groups == SceneGroups((NEW, ("*",))) == PostProcessing.parse("dmt-images").scene_groups
    names = [spelled.format(number) for number in (7, 40, 41, 46, 47)]
    codes = groups.of(images(*names), images(*names))[0]
    assert codes.tolist() == [1, 1, 0, 0, 1]


def test_the_papers_text_is_the_code_without_the_step() -> None:
    code, paper = PostProcessing.parse("dmt"), PostProcessing.parse("dmt-paper")
    assert replace(code, scene_groups=None) == paper != code


def test_cameras_that_training_does_not_know_are_a_group_of_their_own() -> None:
    training = images("c001", "c002", "c003", "c004", "c041", identity=["1", "1", "2", "2", "3"])
    training = training.with_(domain=["real"] * 4 + ["synthetic"])  # whose cameras are of another place
    groups = SceneGroups.from_labels(training)
    assert groups.cameras == (("c001", "c002"), ("c003", "c004"), ("*",))
    removed, note = split((images("c001", "c041"), images("c002", "c003", "c042", "c041", "")), groups)
    assert removed == [False, True, True, True, False, True, True, False, False, False]
    assert note == (
        "scene-groups: 5 of 10 pairs of images are excluded, between the groups c001, c002 | c003 | "
        "not named: c041, c042."
    )


@pytest.mark.parametrize(
    ("names", "training"),
    [
        (("c001", "c002"), ("c001", "c002")),  # VeRi: one place
        (("c041", "c042"), ("c001", "c002")),  # a Split-Test of cameras that training does not know
    ],
)
def test_a_test_inside_one_group_is_searched_unrestricted_with_a_note(names, training) -> None:
    groups = SceneGroups.from_labels(images(*training, identity=["1", "1"]))
    removed, note = split((images(*names), images(*names)), groups)
    assert not any(removed) and note.startswith("scene-groups: all images are of one group (")
    assert ", ".join(names) in note and note.endswith("so nothing is excluded.")


def test_true_matches_that_are_removed_are_counted() -> None:
    query = images("c041", "c007", identity=["1", "2"])
    gallery = images("c007", "c007", "c041", identity=["1", "2", "9"])
    removed, note = split((query, gallery), SceneGroups((NEW, ("*",))))
    assert sum(removed) == 3
    assert note.endswith(" 1 of them show the same vehicle, so vehicles do travel between these groups.")


def test_another_spelling_of_a_training_camera_is_no_unknown_camera() -> None:
    groups = SceneGroups.from_labels(images("c001", "c002", identity=["1", "1"]))
    with pytest.raises(InputError, match="camera 1 of the images looks like c001 of the groups; use one spelling"):
        groups.of(images("1"), images("2"))
    with pytest.raises(InputError, match="no gallery image has a camera"):
        groups.of(images("c001"), images(""))


def test_the_column_scene_comes_before_the_labels_of_training_images() -> None:
    training = images("c001", "c002", identity=["1", "1"])
    bare, named = images("c001", "c041"), images("c001", "c041", scene=["s1", "s1"])
    assert SceneGroups.for_images(named, training) == SceneGroups()
    assert SceneGroups.for_images(bare, training) == SceneGroups.from_labels(training)
    assert SceneGroups.for_images(bare, None) == SceneGroups.for_images(bare, training.with_(identity=["", ""]))
    with pytest.raises(InputError, match="give the column `scene`"):
        SceneGroups().of(bare, bare)
    with pytest.raises(InputError, match="no real training image has both"):
        SceneGroups.from_labels(training.with_(domain=["synthetic"] * 2))


def test_notes_reach_metrics_rankings_and_ensembles(tmp_path) -> None:
    rows = images(*["c0", "c1", "c2"] * 4, identity=[str(number // 3) for number in range(12)])
    features = FeatureSet(np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32), rows)
    query, gallery = features[:6], features
    distances = PostProcessing.parse("scene-groups=c0/*").apply(query, gallery)
    joined = ensemble([distances, PostProcessing.parse("rerank=4:2:0.5, scene-groups=c0/*").apply(query, gallery)])
    assert len(distances.notes) == 1 and joined.notes == distances.notes
    metrics = evaluate_distances(distances, CAMERA_LESS)
    assert metrics.as_dict()["notes"] == list(distances.notes) == list(metrics.of(metrics.relevant > 0).notes)
    rank(distances, CAMERA_LESS, 5).save(tmp_path / "r.safetensors")
    distances.save(tmp_path / "d.safetensors")
    assert Ranking.load(tmp_path / "r.safetensors").notes == distances.notes
    assert Distances.load(tmp_path / "d.safetensors").notes == distances.notes
