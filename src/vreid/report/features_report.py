"""The report of one retrieval run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vreid.diagnostics.diagnosis import Diagnosis
from vreid.report.contents import SIMULATED_NOTICE, Report, ResultRow
from vreid.retrieval.ranking import Ranking


def features_report(
    facts: Mapping[str, str | int],
    rows: Sequence[ResultRow],
    ranking: Ranking,
    *,
    ranking_name: str,
    training: Sequence[Mapping[str, Any]] | None = None,
    diagnosis: Diagnosis | None = None,
) -> Report:
    """Build the report of one retrieval run.

    Args:
        facts: data set, model and settings of the features.
        rows: plain search, then rows with additional steps; empty if queries have no labels.
        ranking: the ranked lists of the last row.
        ranking_name: name of the last row.
        training: the lines of the model's metrics.jsonl.
        diagnosis: result of `vreid.diagnostics.diagnose.diagnose`.
    """
    simulated = "simulator_version" in facts
    return Report(
        title=f"Vehicle re-identification: {facts.get('data set', 'features')}{', simulated' if simulated else ''}",
        notice=SIMULATED_NOTICE if simulated else "",
        facts=[*((name, str(value)) for name, value in facts.items()), *(("note", note) for note in ranking.notes)],
        rows=rows,
        ranking=ranking,
        ranking_name=ranking_name,
        training=training,
        diagnosis=diagnosis,
    )
