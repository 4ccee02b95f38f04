"""Report on the quality of pseudo labels: measurements without and, if identities are known, with labels; images.

Shapes: N images, C clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.adaptation.evidence import pair_scores
from vreid.adaptation.pseudo import PseudoLabels, pseudo_labels
from vreid.data.records import Labels
from vreid.errors import InputError
from vreid.files import write_text
from vreid.retrieval.features import FeatureSet

STEP = 0.05
"""Change of eps for measuring the stability of clusters."""
SHOWN, IMAGES = 4, 9
"""Clusters per section of the page, and images per cluster."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PseudoReport:
    """Quality of C clusters of N images.

    Attributes:
        pseudo: the pseudo labels.
        camera_entropy: (C,) of the cameras of a cluster's images, in bits; 0 is one camera.
        doubled: (C,) share of a cluster's tracklets that have the same camera as another one; a vehicle seldom passes
            a camera twice. 0 where no image has a tracklet.
        stability: (C,) intersection over union with the nearest cluster of other settings, mean over these
            (Hennig 2007); NaN if there are none.
        consistency: share of a tracklet's images that are in its most frequent cluster, mean over tracklets of two
            images or more; NaN without any.
        agreement: adjusted Rand index with the clusters of other settings, by their eps; noise is a cluster each.
        purity: (C,) share of a cluster's images that are of its most frequent vehicle; NaN where no vehicle is known.
        truth: purity, NMI, precision and recall of pairs (of all, and of two cameras); {} where no vehicle is known.
        identity: the vehicles, for the images.
    """

    pseudo: PseudoLabels
    camera_entropy: Numbers
    doubled: Numbers
    stability: Numbers
    consistency: float
    agreement: Mapping[float, float]
    purity: Numbers
    truth: Mapping[str, float]
    identity: Labels | None = None

    @cached_property
    def doubt(self) -> Numbers:
        """(C,) the larger of `doubled` and 1 - `stability`: 0 to 1, high values are doubtful."""
        return np.fmax(self.doubled, 1 - self.stability)

    @property
    def largest(self) -> list[int]:
        """Up to `SHOWN` clusters with the most images."""
        return self._first(-self.pseudo.sizes)

    @property
    def purest(self) -> list[int]:
        """Up to `SHOWN` clusters of the highest purity, or of the lowest `doubt` if no identity is known."""
        return self._first(self.doubt if np.isnan(self.purity).all() else -np.nan_to_num(self.purity))

    @property
    def most_doubtful(self) -> list[int]:
        """Up to `SHOWN` clusters with the highest `doubt`, which does not use identities."""
        return self._first(-self.doubt)

    def _first(self, key: NDArray[np.floating] | NDArray[np.integer]) -> list[int]:
        found: list[int] = np.lexsort((-self.pseudo.sizes, key))[:SHOWN].tolist()
        return found


def examine_pseudo_labels(
    pseudo: PseudoLabels, *, others: Sequence[PseudoLabels] = (), identity: Labels | None = None
) -> PseudoReport:
    """Measure the quality of pseudo labels; known identities are used only for evaluation.

    Args:
        pseudo: the labels in question.
        others: labels of the same images by other settings (see `neighbouring_labels`).
        identity: (N,) the vehicles, where they are known.

    Raises:
        InputError: other labels or identities that are not of the same images.
    """
    for what, given in [
        *(("other labels", len(other.labels)) for other in others),
        *([] if identity is None else [("identities", len(identity))]),
    ]:
        if given != len(pseudo.labels):
            raise InputError(
                f"Pseudo labels: {given:,} {what} for {len(pseudo.labels):,} images; give those of the same images."
            )
    labels, camera, tracklet = pseudo.labels, pseudo.records.camera.codes, pseudo.records.tracklet.codes
    truth = np.full(len(labels), -1) if identity is None else identity.codes
    table = _table(labels, truth)
    counted = table.sum(axis=1)
    purity = np.divide(table.max(axis=1, initial=0), counted, out=np.full(len(counted), np.nan), where=counted > 0)
    return PseudoReport(
        pseudo,
        camera_entropy=_entropy(_table(labels, camera)),
        doubled=_doubled(labels, camera, tracklet),
        stability=np.mean([_best_match(labels, other.labels) for other in others], axis=0)
        if others
        else np.full(pseudo.clusters, np.nan),
        consistency=_consistency(labels, tracklet),
        agreement={other.eps: _adjusted_rand(labels, other.labels) for other in others},
        purity=purity,
        truth=_truth(labels, truth, camera, float(table.max(axis=1, initial=0).sum())) if counted.any() else {},
        identity=identity,
    )


def neighbouring_labels(features: FeatureSet, pseudo: PseudoLabels, config: PseudoConfig) -> list[PseudoLabels]:
    """Cluster the same features with eps smaller and larger by `STEP`, within the valid range."""
    resolved = replace(config, k1=pseudo.k1, min_samples=pseudo.min_samples)
    most = 0.99 - config.cosine_weight
    around = [eps for eps in (pseudo.eps - STEP, pseudo.eps + STEP) if 0 < eps < most]
    return [pseudo_labels(features, replace(resolved, eps=round(eps, 6))) for eps in around]


def write_pseudo_report(report: PseudoReport, path: Path | str) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    Raises:
        InputError: `path` cannot be written.
    """
    write_text(path, render_pseudo_report(report))


def render_pseudo_report(report: PseudoReport) -> str:
    """Render the page as text (see `write_pseudo_report`)."""
    from vreid.report.template import fill

    known = bool(report.truth)
    kinds = [
        ("Largest", "", report.largest),
        ("Purest" if known else "Least in doubt", "", report.purest),
        (
            "Most doubtful",
            "Two tracklets of one camera are seldom one vehicle, and a cluster that another eps splits or merges "
            "is unreliable.",
            report.most_doubtful,
        ),
    ]
    return fill(
        "pseudo.html",
        report=report,
        pseudo=report.pseudo,
        kinds=[(title, note, [_shown(report, number) for number in chosen]) for title, note, chosen in kinds],
        most=IMAGES,
    )


def _shown(report: PseudoReport, number: int) -> dict[str, object]:
    """Return the page's values for a cluster: its measurements, and images spread over its cameras and tracklets."""
    from vreid.report.thumbnails import thumbnail

    records = report.pseudo.records
    members = np.flatnonzero(report.pseudo.labels == number)
    members = members[
        np.lexsort((records.frame[members], records.tracklet.codes[members], records.camera.codes[members]))
    ]
    chosen = members[np.unique(np.linspace(0, len(members) - 1, IMAGES).round().astype(int))]
    boxes = [None if np.isnan(records.box[row]).any() else records.box[row].tolist() for row in chosen]
    names = None if report.identity is None else report.identity.values
    return {
        "number": number,
        "size": len(members),
        "cameras": records.camera[members].distinct,
        "entropy": report.camera_entropy[number],
        "doubled": report.doubled[number],
        "stability": report.stability[number],
        "purity": report.purity[number],
        "images": [
            (thumbnail(records.path[row], box), records.camera.values[row], "" if names is None else names[row])
            for row, box in zip(chosen, boxes, strict=True)
        ],
    }


def _table(labels: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count images by cluster and column value (C, K); images with an unknown value are ignored."""
    use = (labels >= 0) & (columns >= 0)
    table = np.zeros((int(labels.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1), dtype=np.int64)
    np.add.at(table, (labels[use], columns[use]), 1)
    return table


def _entropy(table: NDArray[np.int64]) -> Numbers:
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    bits: Numbers = share * np.log2(share, out=np.zeros_like(share), where=share > 0)
    entropy: Numbers = np.abs(bits.sum(axis=1))
    return entropy


def _doubled(labels: NDArray[np.integer], camera: NDArray[np.integer], tracklet: NDArray[np.integer]) -> Numbers:
    use = (labels >= 0) & (camera >= 0) & (tracklet >= 0)
    tracklets = np.unique(np.stack([labels[use], camera[use], tracklet[use]], axis=1), axis=0)
    clusters = int(labels.max(initial=-1)) + 1
    _, place, count = np.unique(tracklets[:, :2], axis=0, return_inverse=True, return_counts=True)
    total = np.bincount(tracklets[:, 0], minlength=clusters)
    doubled = np.bincount(tracklets[:, 0], count[place.ravel()] > 1, minlength=clusters)
    return np.divide(doubled, total, out=np.zeros(clusters), where=total > 0)


def _best_match(labels: NDArray[np.integer], others: NDArray[np.integer]) -> Numbers:
    table = _table(labels, others)
    if not table.shape[1]:
        return np.zeros(len(table))
    size = np.bincount(labels[labels >= 0], minlength=len(table))
    union = size[:, None] + np.bincount(others[others >= 0], minlength=table.shape[1]) - table
    best: Numbers = (table / union).max(axis=1)
    return best


def _consistency(labels: NDArray[np.integer], tracklet: NDArray[np.integer]) -> float:
    size = np.bincount(tracklet[tracklet >= 0])
    most = _table(tracklet, labels).max(axis=1, initial=0)
    return float((most[size > 1] / size[size > 1]).mean()) if (size > 1).any() else float("nan")


def _adjusted_rand(labels: NDArray[np.integer], others: NDArray[np.integer]) -> float:
    from sklearn.metrics import adjusted_rand_score

    alone = [np.where(one < 0, one.max(initial=-1) + 1 + np.arange(len(one)), one) for one in (labels, others)]
    return float(adjusted_rand_score(*alone))


def _truth(
    labels: NDArray[np.integer], truth: NDArray[np.integer], camera: NDArray[np.integer], right: float
) -> dict[str, float]:
    from sklearn.metrics import normalized_mutual_info_score

    use = (labels >= 0) & (truth >= 0)
    precision, recall = pair_scores(labels, truth)
    across_precision, across_recall = pair_scores(labels, truth, camera)
    return {
        "purity": right / int(use.sum()),
        "NMI": float(normalized_mutual_info_score(truth[use], labels[use])),
        "pair precision": precision,
        "pair recall": recall,
        "pair precision, two cameras": across_precision,
        "pair recall, two cameras": across_recall,
    }
