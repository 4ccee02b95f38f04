"""The tables of StRDAN: eight cases of labels, and an additional row with the domain head only, on two data sets.

Source: Lee et al., "StRDAN: Synthetic-to-Real Domain Adaptation Network for Vehicle Re-Identification", CVPRW 2020,
Tables 1 to 3. Its figures are with re-ranking; each case is evaluated without and with it. Features are compared
unnormalised, by squared Euclidean distance, as in the authors' code. Case 2 did not converge on CityFlow in the paper,
so there is no figure for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from vreid.data.protocols import AI_CITY, CAMERA_LESS, VERI, Protocol
from vreid.recipes import strdan
from vreid.reproduce.rows import TYPE_1, TYPE_2, AnyRow, Row
from vreid.reproduce.stages import Data, Folders
from vreid.reproduce.tables.scales import Initialisation, Scale
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.simulator.formats.layouts import CITYFLOW2020
from vreid.simulator.formats.layouts import VERI as VERI_LAYOUT

RERANKED = PostProcessing(reranking=ReRanking(k1=20, k2=6, lambda_=0.3))
CITYFLOW_FIGURES = {1: 25.5, 3: 35.2, 4: 38.4, 5: 34.1, 6: 37.5, 7: 35.3, 8: 34.0}
ONE_LABEL_AND_ALL = (2, 3, 4, 8)
"""Cases that are also trained from `Scale.initialisations`."""
VERI_FIGURES = {1: 73.0, 2: 76.1, 3: 74.2, 4: 74.9, 5: 74.7, 6: 75.3, 7: 74.8, 8: 74.6}


def table_1(scale: Scale) -> Iterator[AnyRow]:
    """CityFlow of 2020, whose test has no cameras: mAP@100. A test with cameras is evaluated as in 2021."""
    data = scale.data(CITYFLOW2020.name)
    protocol = AI_CITY if isinstance(data, Folders) and data.cameras else CAMERA_LESS
    yield from _cases(scale, CITYFLOW2020.name, protocol, {n: {"mAP@100": v} for n, v in CITYFLOW_FIGURES.items()})


def table_2(scale: Scale) -> Iterator[AnyRow]:
    """VeRi-776: mAP and mAP@100."""
    both = replace(VERI, top_k=100)
    yield from _cases(scale, VERI_LAYOUT.name, both, {n: {"mAP": v} for n, v in VERI_FIGURES.items()})


def _cases(scale: Scale, layout: str, protocol: Protocol, figures: Mapping[int, dict[str, float]]) -> Iterator[AnyRow]:
    first = Row(
        "case 1: real alone",
        scale.data(layout),
        strdan.case(1, scale.strdan),
        parts=TYPE_1,
        views=("original",),
        normalise=False,
        protocol=protocol,
    )
    domain = replace(first, name="identity + domain", training=strdan.domain_only(scale.strdan), parts=TYPE_2)
    rows: dict[Row, dict[str, float]] = {first: figures[1], domain: {}}
    for number, heads in list(strdan.CASES.items())[1:]:
        labels = " + ".join(head for head in heads if head != "domain")
        row = replace(domain, name=f"case {number}: {labels}", training=strdan.case(number, scale.strdan))
        rows[row] = figures.get(number, {})
    full = row.training
    rows[replace(row, name="case 8, as_paper: batches of (2 + 2) x 4", training=strdan.as_paper(full))] = {}
    rows[replace(row, name="case 8, as_code: identities of real images alone", training=strdan.as_code(full))] = {}
    for row in rows:
        yield replace(row, against="" if row is first else domain.name if row is not domain else first.name)
    yield from _reranked(rows)
    for one in scale.initialisations:
        yield from _initialised(one, layout, protocol, figures)


def _reranked(rows: Mapping[Row, dict[str, float]]) -> Iterator[AnyRow]:
    """The same rows with re-ranking and the paper's figures, each compared with the first."""
    first = next(iter(rows))
    for row, paper in rows.items():
        against = "" if row is first else f"{first.name}, re-ranked"
        yield replace(row, name=f"{row.name}, re-ranked", post=RERANKED, paper=paper, against=against)


def _initialised(
    start: Initialisation, layout: str, protocol: Protocol, figures: Mapping[int, dict[str, float]]
) -> Iterator[AnyRow]:
    """Cases with other initial weights, one label at a time, all with the same number and size of batches.

    Without synthetic images, real ones are therefore seen twice as often; a further row equalises this.
    """
    full, name = start.training, f"{start.name} weights, "
    real = Row(
        f"{name}case 1: real alone",
        start.data(layout),
        strdan.case(1, full),
        parts=TYPE_1,
        views=("original",),
        normalise=False,
        protocol=protocol,
    )
    half = replace(real.training, iterations=(full.iterations or 2) // 2)
    visits = replace(real, name=f"{real.name}, half the batches", training=half, against=real.name)
    # batches of both domains, without heads
    joint = replace(full, recipe="strdan_joint", heads=())
    identity = replace(real, name=f"{name}identity", training=joint, parts=TYPE_2, against=real.name)
    full = replace(full, losses=replace(full.losses, domain=start.domain))
    domain = replace(
        identity, name=f"{name}identity + domain", training=strdan.domain_only(full), against=identity.name
    )
    rows: dict[Row, dict[str, float]] = {real: figures[1], visits: {}, identity: {}, domain: {}}
    for number in ONE_LABEL_AND_ALL:
        labels = " + ".join(head for head in strdan.CASES[number] if head != "domain")
        training = strdan.case(number, full)
        row = replace(domain, name=f"{name}case {number}: {labels}", training=training, against=domain.name)
        rows[row] = figures.get(number, {})
    yield from rows
    yield from _reranked(rows)


_PUBLISHED = {
    **{"FACT": 18.7, "ABLN": 24.9, "OIFE": 48.0, "PROVID": 48.5, "PathLSTM": 58.3, "GSTE": 59.5, "VAMI": 61.3},
    **{"BA": 66.9, "BS": 67.6, "PAMTRI": 71.9, "StRDAN, real": 73.0, "StRDAN, real + synthetic": 76.1},
}
TABLE_3: Mapping[str, dict[str, float]] = {name: {"mAP": value} for name, value in _PUBLISHED.items()}
"""Published figures on VeRi-776."""


def is_veri_776(data: Data) -> bool:
    """Return whether the test is that of VeRi-776, by name and counts.

    Training images are not counted, since copies of the data set differ in them (37,746 to 37,781).
    """
    return isinstance(data, Folders) and data.searched == "VeRi-776" and data.test == (1_678, 11_579, 200)


def table_3(scale: Scale) -> Iterator[AnyRow]:
    """Cases 1 and 2 of Table 2 for comparison with `TABLE_3`, if the data set is VeRi-776."""
    if is_veri_776(scale.data(VERI_LAYOUT.name)):
        for row in table_2(scale):
            if row.name in ("case 1: real alone, re-ranked", "case 2: orientation, re-ranked"):
                yield replace(row, name=f"ours, {row.name}", paper={}, against="")
