"""Report on pseudo labels: numbers against hand-computed values, selected clusters, and the page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.adaptation.evidence import num_pairs, pair_agreement, pair_scores
from vreid.adaptation.pseudo import PseudoLabels, cluster_means, pseudo_labels
from vreid.adaptation.pseudo_label_report import (
    PseudoReport,
    examine_pseudo_labels,
    neighbouring_labels,
    render_pseudo_report,
    write_pseudo_report,
)
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet

# cluster 0: tracklets a (camera 1), b (camera 1) and c (camera 2); cluster 1: d and half of e; noise: the rest of e, f
LABELS = [0, 0, 0, 0, 1, 1, 1, -1, -1]
CAMERA = ["1", "1", "1", "2", "3", "3", "4", "4", "4"]
TRACKLET = ["a", "a", "b", "c", "d", "d", "e", "e", "f"]
VEHICLE = ["v", "v", "w", "v", "x", "x", "y", "y", "x"]


def labelled(labels: list[int], eps: float = 0.5, **columns: list[str] | None) -> PseudoLabels:
    given = {"camera": CAMERA, "tracklet": TRACKLET, **columns}
    records = Records.of(path=[f"{i}.jpg" for i in range(len(labels))], **given)
    return PseudoLabels(np.array(labels), eps, 2, 5, ("eps 0.5: chosen.",), records, np.zeros((0, 0), np.float32))


@pytest.fixture
def examined() -> PseudoReport:
    others = [labelled([0, 0, 1, 1, 2, 2, 2, -1, -1], 0.4), labelled([0] * 9, 0.6)]
    return examine_pseudo_labels(labelled(LABELS), others=others, identity=Labels.of(VEHICLE))


def test_numbers_without_labels(examined: PseudoReport) -> None:
    one = -(3 / 4 * math.log2(3 / 4) + 1 / 4 * math.log2(1 / 4))
    two = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert examined.camera_entropy == pytest.approx([one, two])
    assert examined.doubled == pytest.approx([2 / 3, 0])  # a and b share camera 1
    assert examined.consistency == pytest.approx((1 + 1 + 1 / 2) / 3)  # a, d, e; b, c and f have one image
    assert examined.stability == pytest.approx([(2 / 4 + 4 / 9) / 2, (3 / 3 + 3 / 9) / 2])
    assert examined.doubt == pytest.approx([2 / 3, 1 / 3])


def test_agreement_is_the_adjusted_rand_index_with_noise_apart(examined: PseudoReport) -> None:
    # of 36 pairs LABELS joins 9, the tighter labels 5, both 5
    by_chance = 9 * 5 / 36
    assert examined.agreement[0.4] == pytest.approx((5 - by_chance) / ((9 + 5) / 2 - by_chance))
    assert examined.agreement[0.6] == pytest.approx(0)


def test_numbers_with_known_vehicles(examined: PseudoReport) -> None:
    assert examined.purity == pytest.approx([3 / 4, 2 / 3])
    truth = examined.truth
    assert truth["purity"] == pytest.approx(5 / 7)
    # pairs: clusters join 6 + 3, vehicles v 3, x 3, y 1; both v 3 and x 1
    assert (truth["pair precision"], truth["pair recall"]) == pytest.approx((4 / 9, 4 / 7))
    # of two cameras: clusters join 3 + 2, vehicles v 2, x 2; both v 2
    assert (truth["pair precision, two cameras"], truth["pair recall, two cameras"]) == pytest.approx((2 / 5, 2 / 4))
    vehicles, clusters, shared = (3, 1, 2, 1), (4, 3), (3, 1, 2, 1)  # of the seven images of clusters

    def entropy(counts: tuple[int, ...]) -> float:
        return -sum(count / 7 * math.log(count / 7) for count in counts)

    mutual = entropy(vehicles) + entropy(clusters) - entropy(shared)
    assert truth["NMI"] == pytest.approx(2 * mutual / (entropy(vehicles) + entropy(clusters)))


def test_shown_clusters(examined: PseudoReport) -> None:
    assert (examined.largest, examined.purest, examined.most_doubtful) == ([0, 1], [0, 1], [0, 1])
    unknown = examine_pseudo_labels(examined.pseudo)
    assert unknown.truth == {} and np.isnan(unknown.purity).all() and np.isnan(unknown.stability).all()
    assert unknown.purest == [1, 0]  # lowest doubt if no vehicle is known


def test_without_clusters_tracklets_or_cameras() -> None:
    empty = examine_pseudo_labels(labelled([-1] * 9), others=[labelled(LABELS)], identity=Labels.of(VEHICLE))
    assert empty.largest == [] and empty.truth == {} and empty.consistency == 0
    bare = examine_pseudo_labels(labelled(LABELS, camera=None, tracklet=None), others=[labelled([-1] * 9)])
    assert math.isnan(bare.consistency)
    assert bare.doubled.tolist() == bare.camera_entropy.tolist() == bare.stability.tolist() == [0, 0]
    for report in (empty, bare):
        assert "Pseudo labels" in render_pseudo_report(report)


def test_labels_of_other_images_are_rejected() -> None:
    pseudo = labelled(LABELS)
    with pytest.raises(InputError, match="8 identities for 9 images"):
        examine_pseudo_labels(pseudo, identity=Labels.of(VEHICLE[:8]))
    shorter = PseudoLabels(pseudo.labels[:3], 0.5, 2, 5, (), pseudo.records[:3], pseudo.centres)
    with pytest.raises(InputError, match="3 other labels for 9 images"):
        examine_pseudo_labels(pseudo, others=[shorter])


def test_pairs_by_hand() -> None:
    labels, other = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 1, 1])
    camera = np.array([0, 1, 1, 0, 0, 0])
    assert num_pairs(labels) == 4 and num_pairs(labels, camera=camera) == 2
    assert pair_agreement(labels, other) == pytest.approx(2 * 2 / (4 + 7))
    assert pair_scores(labels, other) == pytest.approx((2 / 4, 2 / 7))
    assert pair_scores(labels, np.array([0, 0, -1, 1, 1, 1])) == pytest.approx((1, 2 / 4))
    assert all(math.isnan(value) for value in pair_scores(np.full(3, -1), np.full(3, -1)))
    assert math.isnan(pair_agreement(np.full(3, -1), np.array([0, 1, 2])))


def test_neighbouring_labels_change_only_eps() -> None:
    random = np.random.default_rng(0)
    features_ND = np.repeat(np.eye(4), 8, axis=0) + 0.1 * random.normal(size=(32, 4))
    records = Records.of(path=[f"{i}" for i in range(32)], camera=["1", "2"] * 16)
    features = FeatureSet(features_ND.astype(np.float32), records)
    config = PseudoConfig(camera="none", k1=7, k2=2, min_samples=3)
    pseudo = pseudo_labels(features, config)
    around = neighbouring_labels(features, pseudo, config)
    assert [other.eps for other in around] == pytest.approx([0.5, 0.6])
    assert {(other.k1, other.min_samples) for other in around} == {(7, 3)}
    report = examine_pseudo_labels(pseudo, others=around)
    assert pseudo.clusters == 4 and report.stability.min() == 1 and min(report.agreement.values()) == 1
    assert cluster_means(features.features, pseudo.labels).shape == (4, 4)


def test_the_page_shows_images_of_each_kind(tmp_path: Path) -> None:
    for number in range(8):  # the last is missing
        Image.new("RGB", (30, 20), (20 * number, 90, 90)).save(tmp_path / f"{number}.jpg")
    records = Records.of(path=[tmp_path / f"{i}.jpg" for i in range(9)], camera=["<1>", *CAMERA[1:]], tracklet=TRACKLET)
    pseudo = PseudoLabels(np.array([0, 0, 0, 0, 1, 1, 1, 1, 1]), 0.5, 2, 5, ("a < b",), records, np.zeros((0, 0)))
    report = examine_pseudo_labels(pseudo, others=[pseudo], identity=Labels.of(VEHICLE))
    write_pseudo_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 3 * 8 and page.count("no image</span>") == 3
    assert "&lt;1&gt;" in page and "a &lt; b" in page and "<1>" not in page
    assert "Most doubtful" in page and "Purest" in page and "adjusted Rand index 1.00" in page
    assert "src=" in page and "://" not in page and "<script" not in page
    assert "Least in doubt" in render_pseudo_report(examine_pseudo_labels(pseudo))
