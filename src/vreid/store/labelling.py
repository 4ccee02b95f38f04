"""Questions about pairs of tracklets whose answers give the share of wrong matches of this site.

Pairs are contests (`vreid.store.relative_distance`) that would be a MATCH or UNCERTAIN. They are divided by relative
distance into strata; a stratum gets questions by the number of its pairs times the standard deviation of the answer to
be expected there (Neyman, JRSS 1934), and pairs of MATCH, whose share of wrong ones is what is stated, most. Answers
are weighted by the pairs that they stand for, so the share is that of all pairs, not of those that were asked.

Answers are documents "answers/A|B" with A before B: {"same": true, false or null (unsure)}.

Shapes: P pairs, S strata.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import parse_errors, reading
from vreid.formats.facts import fact
from vreid.store.confidence import (
    DOUBTFUL,
    TARGETS,
    FalseMatchCurve,
    OperatingPoint,
    SearchThreshold,
)
from vreid.store.interface import VectorStore
from vreid.store.relative_distance import FEWEST, WINDOW, Contests, TrackletTable, hold_contests

ANSWERS = "answers/"
"""Prefix of the documents of answers."""
TRIP_LINKS = "trip_links/"
"""Prefix of the documents of links of trips that were confirmed."""
ANSWER_WORDS = {"y": True, "n": False, "u": None, "yes": True, "no": False, "unsure": None}
"""Answers as they are typed and stand in CSV files."""
COLUMNS = ("first", "second", "answer")
"""Columns of a CSV of answers."""

_STRATA = 4  # of MATCH, and as many of UNCERTAIN
_OF_MATCHES = 0.7  # share of the questions about pairs of MATCH
_FLOOR = 0.02  # least probability of a wrong pair that questions are planned with
_DRAWS = 4_000  # of the shares of the strata for an interval
_PRIOR = (0.15, 0.85)  # wrong and right pairs in a stratum before any answer, chosen for the coverage of intervals
_WIDEN = 1.2  # pairs up to this factor above the distance of NO MATCH are asked too


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of tracklets, by ascending relative distance.

    Attributes:
        first, second: (P,) ids, the first before the second.
        relative: (P,) relative distances.
        doubt: (P,) probability that the pair is wrong, estimated without labels.
        match: a pair up to this relative distance is a MATCH.
    """

    first: NDArray[np.object_]
    second: NDArray[np.object_]
    relative: NDArray[np.float64]
    doubt: NDArray[np.float64]
    match: float

    def __len__(self) -> int:
        return len(self.first)

    @property
    def keys(self) -> list[str]:
        """Key of the answer to each pair."""
        return [ANSWERS + f"{one}|{other}" for one, other in zip(self.first, self.second, strict=True)]

    @property
    def stratum(self) -> NDArray[np.intp]:
        """(P,) stratum of each pair: parts of equal size of the MATCHes, then of the others."""
        matches = int(np.searchsorted(self.relative, self.match, side="right"))
        parts = [np.array_split(np.arange(matches), _STRATA), np.array_split(np.arange(matches, len(self)), _STRATA)]
        filled = [rows for half in parts for rows in half if len(rows)]
        return np.repeat(np.arange(len(filled)), [len(rows) for rows in filled])


def pairs_of(table: TrackletTable, contests: Contests, threshold: OperatingPoint | None = None) -> Pairs:
    """Return the pairs that would be a MATCH or UNCERTAIN under `threshold` (None: as estimated without labels)."""
    curve = FalseMatchCurve.of(contests.relative)
    point = threshold or curve.point()
    relative = contests.relative[:, 0]
    asked = np.flatnonzero(relative <= _WIDEN * point.no_match)
    order = asked[np.argsort(relative[asked], kind="stable")]
    ids = np.stack([table.id[contests.query[order]], table.id[contests.hit[order]]], axis=1).astype(str)
    ids.sort(axis=1)
    _, once = np.unique(ids, axis=0, return_index=True)
    once.sort()
    order, ids = order[once], ids[once].astype(object)
    return Pairs(ids[:, 0], ids[:, 1], relative[order], doubts(curve, relative[order]), point.match)


def doubts(curve: FalseMatchCurve, relative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that a target at each relative distance is wrong: the slope of the wrong ones' number."""
    if not len(curve.relative):
        return np.ones(len(relative))
    wrong = curve.share * np.arange(1, len(curve.share) + 1)
    ends = np.unique(np.linspace(0, len(wrong) - 1, min(20, len(wrong))).astype(int))
    slope = np.diff(wrong[ends], prepend=0.0) / np.diff(ends, prepend=-1)
    rising = np.maximum.accumulate(np.clip(slope, 0, 1))
    return np.asarray(np.interp(relative, curve.relative[ends], rising))


def choose_pairs(pairs: Pairs, count: int, answered: Mapping[str, bool | None], *, seed: int = 0) -> list[int]:
    """Choose which pairs to ask: rows of `pairs`, so that in each stratum the answered ones are a random sample.

    Args:
        pairs: of the store.
        count: number of answers that are wanted in all, with those that there are.
        answered: answers by key.
        seed: of the order in which pairs of a stratum are asked.

    Returns:
        Rows of pairs without an answer, the strata by turns.
    """
    stratum, done = pairs.stratum, np.array([key in answered for key in pairs.keys], dtype=bool)
    if not len(pairs):
        return []
    order = np.random.default_rng(seed).permutation(len(pairs))
    wanted = _allocation(pairs, stratum, count)
    chosen: list[tuple[float, int]] = []
    for number, want in enumerate(wanted):
        rows = order[stratum[order] == number]
        for place, row in enumerate(rows[:want]):
            if not done[row]:
                chosen.append(((place + 0.5) / want, int(row)))
    return [row for _, row in sorted(chosen)]


def _allocation(pairs: Pairs, stratum: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Number of questions of each stratum."""
    sizes = np.bincount(stratum)
    doubt = np.clip(np.bincount(stratum, weights=pairs.doubt) / sizes, _FLOOR, 1 - _FLOOR)
    matches = np.bincount(stratum, weights=pairs.relative <= pairs.match) > 0
    weight = sizes * np.sqrt(doubt * (1 - doubt))
    for half, share in ((matches, _OF_MATCHES), (~matches, 1 - _OF_MATCHES)):
        if half.any():
            weight[half] *= (share if matches.any() and (~matches).any() else 1.0) / weight[half].sum()
    wanted = np.minimum(np.maximum(np.round(weight * count), 2), sizes)
    return np.asarray(wanted, dtype=np.intp)


@dataclass(frozen=True)
class ShareEstimate:
    """Share of wrong pairs among the MATCHes with its 95 % interval."""

    value: float
    low: float
    high: float
    answers: int


def estimate_share(
    stratum: NDArray[np.intp], wrong: NDArray[np.float64], *, confidence: float = 0.95, seed: int = 0
) -> ShareEstimate:
    """Estimate the share of wrong pairs from a random sample of each stratum.

    The interval is that of the posterior of the strata's shares (beta distributions) weighted by their sizes, of which
    the answered pairs are known.

    Args:
        stratum: (P,) stratum of each pair.
        wrong: (P,) 1 for a wrong pair, 0 for a right one, NaN without an answer.
        confidence: of the interval.
        seed: of the draws from the posterior.
    """
    sizes = np.bincount(stratum)
    known = ~np.isnan(wrong)
    asked = np.bincount(stratum[known], minlength=len(sizes))
    errors = np.bincount(stratum[known], weights=wrong[known], minlength=len(sizes))
    if not known.any():
        return ShareEstimate(0.5, 0.0, 1.0, 0)
    pooled = errors.sum() / asked.sum()
    rates = np.where(asked > 0, errors / np.maximum(asked, 1), pooled)
    rng = np.random.default_rng(seed)
    drawn = rng.beta(errors + _PRIOR[0], asked - errors + _PRIOR[1], size=(_DRAWS, len(sizes)))
    rest = rng.binomial(sizes - asked, drawn)  # wrong ones among the pairs that were not asked
    shares = (errors + rest).sum(axis=1) / sizes.sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    value = float((rates * sizes).sum() / sizes.sum())
    return ShareEstimate(value, min(float(low), value), max(float(high), value), int(known.sum()))


def answered_pairs(vectors: VectorStore) -> dict[str, bool | None]:
    """Return the answers of a store by key.

    Raises:
        InputError: a document is damaged.
    """
    found: dict[str, bool | None] = {}
    for key, document in vectors.documents(ANSWERS).items():
        with parse_errors(key):
            found[key] = fact(document, "same", bool | None)  # type: ignore[arg-type]  # a union is no type
    return found


def put_answer(vectors: VectorStore, first: str, second: str, same: bool | None) -> None:
    """Store the answer to a pair, durable on return."""
    one, other = sorted((first, second))
    vectors.put_document(f"{ANSWERS}{one}|{other}", {"same": same})


def splits(pair: str) -> list[tuple[str, str]]:
    """Return the ways to read "A|B" as two ids: several where an id holds the separator.

    Example:
        >>> splits("north/1|south/2")
        [('north/1', 'south/2')]
    """
    parts = pair.split("|")
    return [("|".join(parts[:at]), "|".join(parts[at:])) for at in range(1, len(parts))]


def forget_pairs(vectors: VectorStore, tracklets: Collection[str]) -> None:
    """Delete every answer and confirmed link about tracklets that were deleted."""
    gone = set(tracklets)
    for prefix in (ANSWERS, TRIP_LINKS):
        for key in vectors.documents(prefix):
            if any(first in gone or second in gone for first, second in splits(key.removeprefix(prefix))):
                vectors.delete_document(key)


def read_answers(path: Path | str) -> list[tuple[str, str, bool | None]]:
    """Read a CSV of answers with the columns first, second and answer (y, n or unsure).

    Raises:
        InputError: a column is missing or a row has another answer.
    """
    answers = []
    with reading(path), open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if missing := set(COLUMNS) - set(rows.fieldnames or ()):
            raise InputError(f"{path}: has no column {sorted(missing)[0]!r}; give the columns {', '.join(COLUMNS)}.")
        for number, row in enumerate(rows, start=2):
            word = (row["answer"] or "").strip().lower()
            if word not in ANSWER_WORDS:
                raise InputError(f"{path}, row {number}: the answer is {word!r}; write y, n or unsure.")
            answers.append((row["first"], row["second"], ANSWER_WORDS[word]))
    return answers


def fit_with_answers(pairs: Pairs, answers: Mapping[str, bool | None], threshold: SearchThreshold) -> SearchThreshold:
    """Fit the threshold for tracklets anew with answers, and state the share of wrong MATCHes with its interval.

    The probability of a wrong pair is that estimated without labels, with its logit corrected by a line that is fitted
    to the answers, weighted by the pairs they stand for; the prior of the correction is none (standard deviations 2 and
    0.5). MATCH then reaches as far as at most the first of `TARGETS` are expected to be wrong.

    Args:
        pairs: of the store.
        answers: by key; unsure ones do not count.
        threshold: estimated without labels.
    """
    wrong = np.array([_wrong(answers.get(key)) for key in pairs.keys])
    known = ~np.isnan(wrong)
    if not known.any():
        return threshold
    doubt = _corrected(pairs, wrong)
    share = np.cumsum(doubt) / np.arange(1, len(pairs) + 1)
    ends = [
        int(np.flatnonzero(share <= limit)[-1]) if (share <= limit).any() else -1 for limit in (TARGETS[0], DOUBTFUL)
    ]
    match, no_match = (float(pairs.relative[end]) if end >= 0 else 0.0 for end in ends)
    matches = pairs.relative <= match
    stratum = np.unique(pairs.stratum[matches], return_inverse=True)[1] if matches.any() else np.empty(0, np.intp)
    point = OperatingPoint(no_match=max(no_match, match))
    if matches.any():
        stated = estimate_share(stratum, wrong[matches])
        point = OperatingPoint(match, point.no_match, stated.value, stated.low, stated.high, int(matches.sum()))
    return replace(threshold, tracklet=point, source="this site, with answers", answers=int(known.sum()))


def _corrected(pairs: Pairs, wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability (P,) of a wrong pair with the correction that the answers give."""
    from scipy.optimize import minimize

    logit = np.log(np.clip(pairs.doubt, 1e-4, 1 - 1e-4))
    logit = logit - np.log1p(-np.exp(logit))
    known = ~np.isnan(wrong)
    stratum = pairs.stratum
    asked = np.bincount(stratum[known], minlength=int(stratum.max()) + 1)
    weight = (np.bincount(stratum) / np.maximum(asked, 1))[stratum[known]]
    weight *= known.sum() / weight.sum()

    def loss(line: NDArray[np.float64]) -> float:
        value = line[0] + np.exp(line[1]) * logit[known]
        fit = weight @ (np.logaddexp(0, value) - wrong[known] * value)
        return float(fit + line[0] ** 2 / 8 + line[1] ** 2 / 0.5)

    offset, slope = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return np.asarray(1 / (1 + np.exp(-(offset + np.exp(slope) * logit))))


def _wrong(same: bool | None) -> float:
    return np.nan if same is None else float(not same)


def questions(vectors: VectorStore, count: int, *, seed: int = 0) -> Sequence[tuple[str, str]]:
    """Return the pairs of a store to ask until it has `count` answers.

    Raises:
        InputError: no tracklet has candidates in another camera.
    """
    table = TrackletTable.load(vectors)
    contests = hold_contests(table)
    if not len(contests):
        raise InputError(
            "the store has no pairs to ask about: tracklets of two cameras are needed, at least "
            f"{FEWEST} of each within {WINDOW / 3600:g} h; ingest more."
        )
    pairs = pairs_of(table, contests)
    rows = choose_pairs(pairs, count, answered_pairs(vectors), seed=seed)
    return [(str(pairs.first[row]), str(pairs.second[row])) for row in rows]
