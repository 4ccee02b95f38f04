"""Metrics of an evaluation: mAP, mAP@K, CMC and mINP, with their conditions and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.retrieval.evaluation.bootstrap import CONFIDENCE, RESAMPLES, mean_interval

if TYPE_CHECKING:
    from vreid.retrieval.distances import Distances

CMC_LENGTH = 50


@dataclass(frozen=True, eq=False)
class Metrics:
    """Metrics of one evaluation, with their conditions and the values per query.

    If the protocol draws several galleries, metrics are means over the draws, values per query are means over the draws
    with this query, and `draws` holds the metrics of each draw.

    Attributes:
        protocol: the protocol; "units" below are what it ranks, images or tracklets.
        mAP: mean over queries of the average precision over the full list, 0 to 1.
        mAP_at_k: the same over the first `protocol.top_k` ranks; None if the protocol does not truncate rankings.
        mINP: mean of number of positives / rank of the last positive.
        cmc: (50,) share of queries with a hit within the first 1, 2, ... units.
        num_queries: number of evaluated queries.
        num_skipped: number of queries without a positive in the gallery, excluded from the means.
        average_precision, average_precision_at_k, inverse_negative_penalty: (Q,) per query, NaN if skipped.
        first_hit: (Q,) rank of the first hit from 1; 0 if there is none.
        relevant: (Q,) number of positives; 0 if skipped, -1 if the image was drawn into the gallery.
        identity: (Q,) identity code of each query, for intervals; None if unknown.
        steps, reranked, transductive, notes: see `Distances`; None if unknown.
        draws: metrics of each drawn gallery, with values per query for the same Q images; () without draws.
    """

    protocol: Protocol
    mAP: float
    mAP_at_k: float | None
    mINP: float
    cmc: NDArray[np.float64]
    num_queries: int
    num_skipped: int
    average_precision: NDArray[np.float64]
    average_precision_at_k: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    first_hit: NDArray[np.float64]
    relevant: NDArray[np.int64]
    identity: NDArray[np.integer] | None = None
    steps: tuple[str, ...] = ()
    reranked: bool | None = None
    transductive: bool | None = None
    notes: tuple[str, ...] = ()
    draws: tuple[Metrics, ...] = ()

    @property
    def rank1(self) -> float:
        """Share of queries whose first candidate is a hit."""
        return float(self.cmc[0])

    @property
    def spread(self) -> dict[str, float]:
        """Standard deviation of each metric over the draws, 0 for a single draw; {} without draws."""
        if not self.draws:
            return {}
        numbers = [draw._means() for draw in self.draws]
        degree = min(1, len(numbers) - 1)
        return {name: float(np.std([of_draw[name] for of_draw in numbers], ddof=degree)) for name in numbers[0]}

    def _means(self) -> dict[str, float]:
        cut = {} if self.mAP_at_k is None else {self.protocol.metric: self.mAP_at_k}
        ranks = {f"rank{rank}": float(self.cmc[rank - 1]) for rank in (1, 5, 10)}
        return {self.protocol.full_metric: self.mAP, **cut, **ranks, "mINP": self.mINP}

    def of(self, queries: NDArray[np.bool_]) -> Metrics:
        """Return the metrics of the queries in the mask `queries` (Q,), with the whole gallery.

        Drawn galleries without an evaluated query among them are ignored.

        Raises:
            InputError: none of them has a positive.
        """
        if self.draws:
            evaluated = [draw for draw in self.draws if (draw.relevant[queries] > 0).any()]
            return mean_over_draws([draw.of(queries) for draw in evaluated or self.draws], self.protocol)
        part = summary(
            self.protocol,
            self.average_precision[queries],
            self.average_precision_at_k[queries],
            self.inverse_negative_penalty[queries],
            self.first_hit[queries],
            self.relevant[queries],
            None if self.identity is None else self.identity[queries],
        )
        return part.described_as(self)

    def described_as(self, made: Metrics | Distances) -> Metrics:
        """Copy the description of the distances (steps, re-ranking, transductive, notes) from `made`."""
        return replace(self, steps=made.steps, reranked=made.reranked, transductive=made.transductive, notes=made.notes)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values; names show truncation at K and trapezoidal summation."""
        protocol = self.protocol
        draws = {"repeats": len(self.draws), "seed": protocol.seed, "spread": self.spread} if self.draws else {}
        tracks = {"tracklet_distance": protocol.tracklet_distance} if protocol.unit == "tracklet" else {}
        return {
            **self._means(),
            "num_queries": self.num_queries,
            "num_skipped": self.num_skipped,
            "protocol": protocol.name,
            "exclude": protocol.exclude,
            "normaliser": protocol.normaliser,
            "average_precision": protocol.average_precision,
            "unit": protocol.unit,
            **tracks,
            **draws,
            "steps": list(self.steps),
            "reranked": self.reranked,
            "transductive": self.transductive,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        queries = f"{self.num_queries:,} queries, {self.num_skipped:,} without a positive skipped"
        return f"{self.numbers} ({queries}; {self.conditions})"

    __repr__ = __str__

    @property
    def numbers(self) -> str:
        """The metrics in percent, as text."""
        cut = "" if self.mAP_at_k is None else f", {self.protocol.metric} {100 * self.mAP_at_k:.1f}"
        return (
            f"{self.protocol.full_metric} {100 * self.mAP:.1f}{cut}, rank-1 {100 * self.rank1:.1f}, "
            f"mINP {100 * self.mINP:.1f}"
        )

    @property
    def conditions(self) -> str:
        """The conditions of the metrics as text: protocol, draws, re-ranking, transductive or not."""
        protocol = self.protocol
        facts = [f"protocol {protocol.name}"]
        if protocol.top_k is not None:
            facts.append(f"normaliser {protocol.normaliser}")
        if protocol.unit == "tracklet":
            facts.append(f"tracklets by {protocol.tracklet_distance}")
        if self.draws:
            rank1 = 100 * self.spread["rank1"]
            facts.append(f"mean of {len(self.draws)} drawn galleries, rank-1 \N{PLUS-MINUS SIGN} {rank1:.1f}")
        if self.reranked is not None:
            facts.append(f"{'with' if self.reranked else 'without'} re-ranking")
        if self.transductive is not None:
            facts.append(f"{'' if self.transductive else 'not '}transductive")
        return "; ".join(facts)


def summary(
    protocol: Protocol,
    precision: NDArray[np.float64],
    precision_at_k: NDArray[np.float64],
    penalty: NDArray[np.float64],
    first_hit: NDArray[np.float64],
    relevant: NDArray[np.int64],
    identity: NDArray[np.integer] | None = None,
) -> Metrics:
    """Average the values of Q queries; see `Metrics` for their meaning.

    Raises:
        InputError: no query has a positive.
    """
    evaluated = relevant > 0
    if not evaluated.any():
        raise InputError(
            f"none of the {len(relevant):,} queries has a positive in the gallery under protocol {protocol.name}; "
            "check identities and cameras of both sides."
        )
    hits = first_hit[evaluated]
    return Metrics(
        protocol=protocol,
        mAP=float(precision[evaluated].mean()),
        mAP_at_k=None if protocol.top_k is None else float(precision_at_k[evaluated].mean()),
        mINP=float(penalty[evaluated].mean()),
        cmc=np.array([((hits > 0) & (hits <= k)).mean() for k in range(1, CMC_LENGTH + 1)]),
        num_queries=int(evaluated.sum()),
        num_skipped=int((relevant == 0).sum()),
        average_precision=precision,
        average_precision_at_k=precision_at_k,
        inverse_negative_penalty=penalty,
        first_hit=first_hit,
        relevant=relevant,
        identity=identity,
    )


def mean_over_draws(draws: Sequence[Metrics], protocol: Protocol) -> Metrics:
    """Average the metrics of the drawn galleries, all on the same Q images; counts are rounded means."""
    evaluated = np.stack([draw.relevant > 0 for draw in draws])
    count = evaluated.sum(axis=0)

    def per_query(name: str) -> NDArray[np.float64]:
        total = np.where(evaluated, [getattr(draw, name) for draw in draws], 0).sum(axis=0)
        mean: NDArray[np.float64] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        return mean

    return replace(
        draws[0],
        protocol=protocol,
        mAP=float(np.mean([draw.mAP for draw in draws])),
        mAP_at_k=None if protocol.top_k is None else float(np.mean([draw.mAP_at_k for draw in draws])),
        mINP=float(np.mean([draw.mINP for draw in draws])),
        cmc=np.mean([draw.cmc for draw in draws], axis=0),
        num_queries=round(np.mean([draw.num_queries for draw in draws])),
        num_skipped=round(np.mean([draw.num_skipped for draw in draws])),
        average_precision=per_query("average_precision"),
        average_precision_at_k=per_query("average_precision_at_k"),
        inverse_negative_penalty=per_query("inverse_negative_penalty"),
        first_hit=np.nan_to_num(per_query("first_hit")),
        relevant=np.max([draw.relevant for draw in draws], axis=0),
        draws=tuple(draws),
    )


def interval(
    metrics: Metrics,
    name: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Compute the bootstrap interval (percentile method) of a mean over queries, resampling vehicles.

    Vehicles are drawn with all their queries, because these are correlated. If `metrics.identity` is None, single
    queries are drawn, and the interval is too narrow if vehicles have several queries. An image that is a query of
    several drawn galleries is drawn with all its values.

    Args:
        metrics: metrics with values per query.
        name: "mAP", "mAP@K" (as in `metrics.protocol.metric`), "rank1" or "mINP".
        seed: equal seeds give equal intervals.
        resamples: number of resamples.
        confidence: confidence level.

    Raises:
        InputError: the name is unknown, or a number is out of range.
    """
    values: dict[str, Callable[[Metrics], NDArray[np.float64]]] = {
        "mAP": lambda m: m.average_precision,
        metrics.protocol.full_metric: lambda m: m.average_precision,
        metrics.protocol.metric: lambda m: m.average_precision if m.mAP_at_k is None else m.average_precision_at_k,
        "rank1": lambda m: (m.first_hit == 1).astype(np.float64),
        "mINP": lambda m: m.inverse_negative_penalty,
    }
    if name not in values:
        raise InputError(f"interval: there is no metric {name!r}; use one of {', '.join(values)}.")
    draws = metrics.draws or (metrics,)
    total = np.sum([np.where(draw.relevant > 0, values[name](draw), 0) for draw in draws], axis=0)
    count = np.sum([draw.relevant > 0 for draw in draws], axis=0)
    evaluated = count > 0
    total, count = total[evaluated], count[evaluated]
    if metrics.identity is not None:
        _, vehicle = np.unique(metrics.identity[evaluated], return_inverse=True)
        total, count = np.bincount(vehicle, total), np.bincount(vehicle, count)
    low, high = mean_interval(total, count, seed=seed, resamples=resamples, confidence=confidence)
    return float(low), float(high)
