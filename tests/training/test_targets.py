"""What outputs are to say: classes without gaps, who counts, orientation bins and mirror images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.losses import NO_LABEL
from vreid.training.targets import (
    POSITIVES,
    LabelConfig,
    batch_labels,
    labelled,
    make_targets,
    mirrored_orientation,
    orientation_bins,
)

NAN = float("nan")


@pytest.fixture
def records() -> Records:
    """Two real vehicles (one with a colour, as VeRi's have) and two synthetic ones with every label but one type."""
    return Records.of(
        path=[f"{number}.jpg" for number in range(8)],
        identity=["r2", "r2", "r9", "r9", "s1", "s1", "s5", "s5"],
        camera=["c1", "c2", "c1", "", "x", "x", "y", "y"],
        domain=["real"] * 4 + ["synthetic"] * 4,
        color=["red", "red", "", "", "blue", "blue", "white", "white"],
        vehicle_type=["", "", "", "", "suv", "suv", "", "bus"],
        orientation=[NAN, NAN, NAN, 200, 10, 100, 350, 60],
    )


def test_bins_by_hand() -> None:
    angles = [0, 59.9, 60, 60.1, 120, 300, 359.9, NAN]
    assert orientation_bins(angles, 6).tolist() == [0, 0, 1, 1, 2, 5, 5, NO_LABEL]
    # The code of StRDAN: <= 60 is 0, <= 120 is 1, ..., > 300 is 5.
    assert orientation_bins(angles, 6, "right").tolist() == [0, 0, 0, 1, 1, 4, 5, NO_LABEL]
    assert orientation_bins([0, 9.9, 10, 355], 36).tolist() == [0, 0, 1, 35]


@given(st.floats(0, 360, exclude_max=True, width=32), st.integers(2, 72), st.sampled_from(["left", "right"]))
def test_every_angle_has_a_bin_that_holds_it(angle: float, bins: int, edges: str) -> None:
    number = int(orientation_bins([angle], bins, edges)[0])  # type: ignore[arg-type]
    assert 0 <= number < bins
    assert number * 360 / bins - 1e-3 <= angle <= (number + 1) * 360 / bins + 1e-3


def test_mirror_images_exchange_left_and_right() -> None:
    angles = np.array([0, 90, 180, 270, 10.5, NAN], dtype=np.float32)
    np.testing.assert_array_equal(mirrored_orientation(angles), np.array([0, 270, 180, 90, 349.5, NAN], np.float32))


class Turned:
    """Random numbers of a seed, but the first one drawn is the orientation."""

    def __init__(self, orientation: float) -> None:
        self._rng, self._first = np.random.default_rng(5), orientation

    def __getattr__(self, name: str) -> object:
        return getattr(self._rng, name)

    def uniform(self, *arguments: object) -> object:
        drawn = self._rng.uniform(*arguments)  # type: ignore[call-overload]
        if self._first is None:
            return drawn
        drawn, self._first = self._first, None  # type: ignore[assignment]
        return drawn


@pytest.mark.parametrize(("kind", "orientation"), [("pickup", 35.0), ("truck", 110.0)])
def test_the_simulators_mirror_image_is_the_vehicle_at_the_mirrored_label(kind: str, orientation: float) -> None:
    """The convention of the labels: of all angles, the image flipped looks most like (360 - theta) mod 360."""
    from vreid.simulator.render.synthetic import shoot_synthetic
    from vreid.simulator.vehicle.vehicles import VehicleSpec, build_vehicle

    vehicle = build_vehicle(VehicleSpec(kind, "red", 1, 4), plate=False)

    def picture(angle: float) -> NDArray[np.float32]:
        shot = shoot_synthetic(vehicle, Turned(angle), longest_side=64, background=False)  # type: ignore[arg-type]
        assert shot.orientation == angle
        mask = np.abs(shot.image.astype(np.float32) - shot.image[0, 0]).max(axis=2) > 12
        canvas = np.zeros((64, 64), dtype=np.float32)
        rows, columns = ((64 - side) // 2 for side in mask.shape)
        canvas[rows : rows + mask.shape[0], columns : columns + mask.shape[1]] = mask
        return canvas

    flipped = picture(orientation)[:, ::-1]
    label = float(mirrored_orientation(np.float32([orientation]))[0])
    others = [orientation, 180 - orientation, 180 + orientation]
    differences = [float(np.abs(picture(angle % 360) - flipped).mean()) for angle in (label, *others)]
    assert differences[0] < 0.03 and differences[0] < 0.5 * min(differences[1:])


def test_identities_are_numbered_over_both_domains_or_the_real_ones(records: Records) -> None:
    everything = make_targets(records, "identity", (), LabelConfig(), flips=True)
    assert everything["identity"].values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert everything["identity"].outputs == 4
    real = make_targets(records, "identity", (), LabelConfig(identity_on="real"), flips=True)
    assert real["identity"].values.tolist() == [0, 0, 1, 1, *[NO_LABEL] * 4] and real["identity"].outputs == 2
    assert real[POSITIVES].values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # the triplet loss takes them all
    with pytest.raises(InputError, match=r"labels\.identity_on is real, but all training images are synthetic"):
        make_targets(records[4:], "identity", (), LabelConfig(identity_on="real"), flips=True)


def test_attributes_count_by_domain_or_by_label(records: Records) -> None:
    heads = ("domain", "color", "vehicle_type")
    by_domain = make_targets(records, "identity", heads, LabelConfig(), flips=False)  # type: ignore[arg-type]
    assert by_domain["domain"].values.tolist() == [0] * 4 + [1] * 4
    assert by_domain["color"].values.tolist() == [*[NO_LABEL] * 4, 0, 0, 1, 1]
    assert by_domain["vehicle_type"].values.tolist() == [*[NO_LABEL] * 4, 1, 1, NO_LABEL, 0]
    by_label = make_targets(records, "identity", ("color",), LabelConfig(attributes_on="labelled"), flips=False)
    assert by_label["color"].values.tolist() == [1, 1, NO_LABEL, NO_LABEL, 0, 0, 2, 2]
    assert by_label["color"].outputs == 3


def test_bins_that_only_mirror_images_show_are_classes_where_images_are_flipped(records: Records) -> None:
    # Synthetic angles 10, 100, 350, 60 lie in bins 0, 1, 5, 1; mirrored 350, 260, 10, 300 in 5, 4, 0, 5.
    still = make_targets(records, "identity", ("orientation",), LabelConfig(), flips=False)["orientation"]
    assert still.outputs == 3 and still.values[4:].tolist() == [0, 1, 2, 1]
    flips = make_targets(records, "identity", ("orientation",), LabelConfig(), flips=True)["orientation"]
    assert flips.outputs == 4 and flips.values[4:].tolist() == [0, 1, 3, 1]
    assert flips.mirrored.tolist() == [*[NO_LABEL] * 4, 3, 2, 0, 3]


def test_circular_targets_are_degrees(records: Records) -> None:
    circle = LabelConfig(orientation="circle")
    target = make_targets(records, "identity", ("orientation",), circle, flips=True)["orientation"]
    assert target.outputs == 2
    np.testing.assert_array_equal(target.values.numpy(), np.float32([NAN] * 4 + [10, 100, 350, 60]))
    np.testing.assert_array_equal(target.mirrored.numpy(), np.float32([NAN] * 4 + [350, 260, 10, 300]))


def test_a_batch_takes_the_mirror_images_label_where_the_image_was_flipped(records: Records) -> None:
    targets = make_targets(records, "identity", ("orientation",), LabelConfig(), flips=True)
    rows, flipped = np.array([4, 4, 6, 0]), np.array([False, True, True, True])
    labels = batch_labels(targets, rows, flipped, torch.device("cpu"))
    assert labels["orientation"].tolist() == [0, 3, 0, NO_LABEL]
    assert labels["identity"].tolist() == labels[POSITIVES].tolist() == [2, 2, 3, 0]


def test_camera_and_orientation_as_targets(records: Records) -> None:
    known = labelled(records, "camera")
    assert len(known) == 7
    assert make_targets(known, "camera", (), LabelConfig(), flips=True)["camera"].values.tolist() == [
        0,
        1,
        0,
        2,
        2,
        3,
        3,
    ]
    with pytest.raises(InputError, match="have the same camera; training needs two or more"):
        make_targets(known[:1], "camera", (), LabelConfig(), flips=True)
    angles = labelled(records, "orientation")
    target = make_targets(angles, "orientation", (), LabelConfig(bins=36), flips=False)["orientation"]
    assert len(angles) == 5 and target.outputs == 5  # real images count: only heads are masked
    assert target.values.tolist() == [3, 0, 2, 4, 1]


@pytest.mark.parametrize(
    ("rows", "head", "config", "sentence"),
    [
        (slice(4), "domain", LabelConfig(), "head domain needs real and synthetic"),
        (slice(4), "color", LabelConfig(), "no synthetic training image has that label, set labels.attributes_on"),
        (slice(2, 4), "color", LabelConfig(attributes_on="labelled"), "no training image has that label, or remove it"),
        (slice(2), "color", LabelConfig(attributes_on="labelled"), "head color needs two or more classes"),
        (slice(2), "orientation", LabelConfig(orientation="circle"), "head orientation has no labels"),
    ],
)
def test_a_head_without_labels_raises(
    records: Records, rows: slice, head: str, config: LabelConfig, sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_targets(records[rows], "identity", (head,), config, flips=True)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("target", "fix"), [("identity", "needs labels"), ("camera", "add camera labels")])
def test_images_without_the_target_raise(target: str, fix: str) -> None:
    with pytest.raises(InputError, match=f"no training image with a known {target}; .*{fix}"):
        labelled(Records.of(path=["a.jpg"]), target)  # type: ignore[arg-type]
