"""The tables of both papers, each a generator of rows. `TABLES` is the list of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vreid.reproduce.result_lines import Line
from vreid.reproduce.rows import AnyRow, with_seeds
from vreid.reproduce.stages import Folders
from vreid.reproduce.table import Entry, published, tabulate
from vreid.reproduce.tables import dmt, strdan
from vreid.reproduce.tables.scales import Scale
from vreid.reproduce.tables.strdan import is_veri_776
from vreid.simulator.formats.layouts import CITYFLOW, CITYFLOW2020, VERI

NAMES = {CITYFLOW.name: "CityFlowV2-ReID", CITYFLOW2020.name: "CityFlow-ReID", VERI.name: "VeRi-776"}
"""Names of the papers' data sets, by layout."""


@dataclass(frozen=True)
class Table:
    """A paper's table.

    Attributes:
        title: title of the table.
        metric: the paper's metric.
        rows: returns its rows with a single seed.
        seeds: whether each row is repeated with `Scale.seeds` worlds and trainings.
        published: rows that only the paper has.
        layout: the simulator's layout of the paper's data set.
    """

    title: str
    metric: str
    rows: Callable[[Scale], Iterable[AnyRow]]
    seeds: bool = True
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    layout: str = CITYFLOW.name

    def other_data(self, scale: Scale) -> str:
        """Describe how the folders differ from the paper's data set in one sentence; "" if they do not."""
        data, name = scale.data(self.layout), NAMES[self.layout]
        if not isinstance(data, Folders):
            return ""
        veri = self.layout == VERI.name
        if is_veri_776(data) if veri else data.searched.removesuffix(" split") == name:
            return ""
        queries, images, vehicles = data.test
        return (
            f"{self.title}: the paper's figures are for {name}, but the data is {data.searched} ({queries:,} queries, "
            f"{images:,} gallery images of {vehicles:,} known vehicles), so the paper's figures are omitted."
        )

    def seeded(self, scale: Scale, seeds: int | None = None) -> list[AnyRow]:
        """Return its rows with seeds 1, 2, ..., `seeds`; None for the number of the scale and the table."""
        count = seeds or (scale.seeds if self.seeds else 1)
        rows: Iterable[AnyRow] = self.rows(scale)
        if self.other_data(scale):
            rows = (replace(row, paper={}) for row in rows)
        return list(with_seeds(rows, range(1, count + 1)))

    def entries(self, rows: Iterable[AnyRow], lines: Iterable[Line]) -> list[Entry]:
        """Return the published entries, followed by those of the rows."""
        return [*(published(*row) for row in self.published.items()), *tabulate(rows, lines)]


TABLES: Mapping[str, Table] = {
    "dmt.1": Table("DMT, Table 1: training data", "mAP", dmt.table_1),
    "dmt.2": Table("DMT, Table 2: backbones", "mAP", dmt.table_2, seeds=False),
    "dmt.3": Table("DMT, Table 3: two stages", "mAP", dmt.table_3),
    "dmt.4": Table("DMT, Table 4: post-processing", "mAP", dmt.table_4),
    "dmt.5": Table("DMT, Table 5: adaptation and post-processing", "mAP", dmt.table_5),
    "dmt.6": Table("DMT, Table 6: eight models and their ensemble", "mAP", dmt.table_6, seeds=False),
    "strdan.1": Table("StRDAN, Table 1: CityFlow", "mAP@100", strdan.table_1, layout=CITYFLOW2020.name),
    "strdan.2": Table("StRDAN, Table 2: VeRi-776", "mAP", strdan.table_2, layout=VERI.name),
    "strdan.3": Table(
        "StRDAN, Table 3: VeRi-776, published", "mAP", strdan.table_3, published=strdan.TABLE_3, layout=VERI.name
    ),
}
