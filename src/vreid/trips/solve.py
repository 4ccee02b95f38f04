"""Link the tracklets of a site into trips.

Shapes: N tracklets, E links, C cameras.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.formatting import duration, plural
from vreid.progress import Progress, job
from vreid.ranges import check_settings, in_range
from vreid.trips.assignment import NONE, assign
from vreid.trips.candidate_links import Appearances, CandidateLinks
from vreid.trips.clock_symmetry import clock_offsets
from vreid.trips.confirmations import CERTAIN, Confirmations, Pair
from vreid.trips.link_inference import PASSES, LinkInference
from vreid.trips.link_learning import Sample
from vreid.trips.link_model import IMPOSSIBLE, LinkModel
from vreid.trips.probability import marginals
from vreid.trips.tables import TimedTracklets, joined_rows
from vreid.trips.time_evidence import WARNING, times_are_informative
from vreid.trips.time_windows import TimeWindow, most_within, time_windows
from vreid.trips.transit import network_times
from vreid.trips.trip_joins import Chains, join_candidates

_MARGIN = 1.5  # longest gaps before and after the core of a window
_BLOCK = 8192  # tracklets whose features are projected at a time
_COST = 0.25  # of linking a tracklet, in those of learning from it
_LONG = 120.0  # seconds
_SAMPLE = 10_000  # tracklets that give the principal directions
_LONGEST_FOR_CLOCKS = 1800.0  # seconds


@dataclass(frozen=True)
class TripConfig:
    """Settings of linking.

    Attributes:
        longest_gap: longest time in seconds between two tracklets of a link; what is seen later is another vehicle.
        longest_stop: a link that takes this many seconds longer than 95 % of the drives between its cameras ends the
            trip: the vehicle has parked, and goes on in a new trip.
        longest_pause: longest time in seconds between two trips of a vehicle; pauses from `longest_stop` on are looked
            for once trips are linked. 0: none is.
        overlap: seconds for which two cameras may see a vehicle at once.
        least_probability: a link is made if it is more probable than this (and wins against those that exclude it).
        find_clocks: estimate and correct clocks that are off.
        largest_offset: largest clock error in seconds.
        learn_on: number of tracklets, at most, from which the model is learned.
        candidates: maximum number of successors that are considered for a tracklet.
        window: number of tracklets whose links are decided at a time, with those around them; more where so many pass
            within some longest gaps. Memory grows with it.
        dimensions: features of more dimensions are projected onto so many principal directions.
    """

    longest_gap: float = in_range(3600.0, above=0, most=86400)
    longest_stop: float = in_range(600.0, above=0, most=86400)
    longest_pause: float = in_range(86400.0, least=0, most=604800)
    overlap: float = in_range(0.0, least=0, most=600)
    least_probability: float = in_range(0.4, above=0, below=1)
    find_clocks: bool = True
    largest_offset: float = in_range(300.0, least=0, most=3600)
    learn_on: int = in_range(20_000, least=100)
    candidates: int = in_range(24, least=1)
    window: int = in_range(50_000, least=1)
    dimensions: int = in_range(128, least=2)

    def __post_init__(self) -> None:
        check_settings(self, "trips: ")


@dataclass(frozen=True, eq=False)
class Trips:
    """Tracklets linked into trips.

    Attributes:
        table: N tracklets, by their clocks as given.
        corrected: (N, 2) start and end in seconds, with clock errors removed.
        trip: (N,) number of the trip, from 1 in the order of their starts.
        order: (N,) place in the trip, from 1.
        vehicle: (N,) number of the vehicle: trips between which it parked belong together.
        previous: (N,) row of the tracklet before, of the same vehicle; -1: none.
        probability: (N,) of the link from `previous`, or that it is the same vehicle after a pause; NaN without one.
        parked: (N,) whether the vehicle parked since `previous`, so that a new trip starts here.
        links: (E,) all candidates, in rows of the table, with `link_probability` (E,) and `link_parked` (E,).
        offsets: (C,) seconds that each clock is ahead, which are subtracted in `corrected`.
        model: what was learned.
        warnings: sentences on what is wrong with the data.
    """

    table: TimedTracklets
    corrected: NDArray[np.float64]
    trip: NDArray[np.int64]
    order: NDArray[np.int64]
    vehicle: NDArray[np.int64]
    previous: NDArray[np.int64]
    probability: NDArray[np.float64]
    parked: NDArray[np.bool_]
    links: CandidateLinks
    link_probability: NDArray[np.float64]
    link_parked: NDArray[np.bool_]
    offsets: NDArray[np.float64]
    model: LinkModel
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.trip.max())

    def __repr__(self) -> str:
        return f"Trips: {len(self):,} trips of {len(self.table):,} tracklets, {int(self.linked.sum()):,} links"

    @property
    def linked(self) -> NDArray[np.bool_]:
        """(N,) whether a tracklet follows another one of its trip."""
        return (self.previous >= 0) & ~self.parked

    @property
    def expected_links(self) -> float:
        """Expected number of links inside trips."""
        return float(self.link_probability[~self.link_parked].sum())


def link_trips(
    table: TimedTracklets,
    config: TripConfig | None = None,
    *,
    confirmed: Collection[Pair] = (),
    rejected: Collection[Pair] = (),
    progress: Progress | None = None,
) -> Trips:
    """Link tracklets into trips without labels.

    Args:
        table: tracklets of all cameras.
        config: settings.
        confirmed: pairs (earlier, later) of ids that are one vehicle, the later the next that was seen of it.
        rejected: pairs of ids that are not one vehicle; no trip and no vehicle holds both.
        progress: listener.

    Raises:
        InputError: an unknown id, or confirmed pairs that contradict each other or the times.
    """
    config = config or TripConfig()
    answers = Confirmations.of(table, confirmed, rejected)
    basis = principal_directions(table.vector, config.dimensions)
    offsets = _offsets(table, basis, config)
    start, end = (times - offsets[table.camera.codes] for times in (table.start, table.end))
    order = np.lexsort((np.arange(len(table)), end, start))
    blocks = (order[at : at + _BLOCK] for at in range(0, len(order), _BLOCK))
    vector = joined_rows(reduced(table.vector[rows], basis) for rows in blocks)
    ordered = TimedTracklets(table.id[order], table.camera[order], start[order], end[order], vector, table.positions)
    answers = answers.moved(order, ordered, config.overlap)
    sample = Sample.of(ordered, config.learn_on)
    begun = time.perf_counter()
    inference = LinkInference.learn(
        sample, answers.within(sample.rows), config.longest_gap, config.overlap, config.candidates
    )
    windows = _windows(ordered, config)
    _estimate((time.perf_counter() - begun) / len(sample.rows), len(table), windows, progress)
    with job(progress, "linking tracklets", PASSES * sum(map(len, windows))) as listener:
        links, odds = linked_by_window(inference, ordered, answers, windows, listener)
        probability, successor = _solve(ordered.id, links, odds, config, answers.rejected, windows)
    model = inference.model
    parked = model.parked(ordered, links.first, links.second, config.longest_stop)
    made = _Made.of(links, probability, successor, parked), _joins(ordered, successor, model, config, answers)
    corrected = np.stack([start, end], axis=1)
    trips = _trips(table, corrected, order, links, probability, made, parked, offsets, model)
    if times_are_informative(ordered, config.longest_gap, config.overlap):
        return trips
    return replace(trips, warnings=(WARNING,))


def _offsets(table: TimedTracklets, basis: NDArray[np.float32] | None, config: TripConfig) -> NDArray[np.float64]:
    if not config.find_clocks or not config.largest_offset:
        return np.zeros(table.cameras)
    part = table[: config.learn_on]
    part = replace(part, vector=reduced(part.vector, basis))
    longest = min(config.longest_gap, _LONGEST_FOR_CLOCKS)
    return clock_offsets(Appearances.of(part), longest, config.largest_offset, Progress())


def principal_directions(vector: NDArray[np.float32], dimensions: int) -> NDArray[np.float32] | None:
    """Return the first principal directions (D, `dimensions`) of features (N, D); None if D is no larger."""
    if vector.shape[1] <= dimensions:
        return None
    rows = np.unique(np.linspace(0, len(vector) - 1, min(len(vector), _SAMPLE)).astype(np.int64))
    sample = vector[rows].astype(np.float64)
    return np.asarray(np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :dimensions], dtype=np.float32)


def reduced(vector: NDArray[np.float32], basis: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Project (N, D) features onto principal directions and normalise; without directions they stay."""
    if basis is None:
        return vector
    short = vector @ basis
    return np.asarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _estimate(of_learning: float, count: int, windows: Sequence[TimeWindow], progress: Progress | None) -> None:
    """Say how long linking takes, if it is minutes, from the seconds that learning took for a tracklet."""
    seconds = _COST * of_learning * sum(map(len, windows))
    if progress and seconds > _LONG:
        progress.note(
            f"Linking {count:,} tracklets in {plural(len(windows), 'window')} takes about {duration(seconds)}."
        )


def _windows(table: TimedTracklets, config: TripConfig) -> list[TimeWindow]:
    """Cores are at least twice as large as their margins, so that at most a third of the work is done twice."""
    margin = _MARGIN * config.longest_gap
    size = max(config.window, 2 * most_within(table, 2 * margin))
    return time_windows(table, size, config.longest_gap, margin)


def linked_by_window(
    inference: LinkInference,
    table: TimedTracklets,
    answers: Confirmations,
    windows: Sequence[TimeWindow],
    progress: Progress,
) -> tuple[CandidateLinks, NDArray[np.float64]]:
    """Find the links (E,) of all tracklets and their log-odds, one window at a time.

    A link is taken from the window in whose core it begins, so each is found once.
    """
    parts, odds_of = [], []
    for number, window in enumerate(windows, start=1):
        rows = np.arange(window.around.start, window.around.stop)
        links, odds = inference.links(table[rows], answers.within(rows), progress)
        links = CandidateLinks(links.first + rows[0], links.second + rows[0], links.score)
        own = (links.first >= window.core.start) & (links.first < window.core.stop)
        parts.append(links[own])
        odds_of.append(odds[own])
        if len(windows) > 1:
            progress.log(f"window {number} of {len(windows)}: {window.core.stop:,} of {len(table):,} tracklets")
    return answers.applied(CandidateLinks.join(parts), np.concatenate(odds_of))


def marginals_by_window(
    links: CandidateLinks, odds: NDArray[np.float64], windows: Sequence[TimeWindow]
) -> NDArray[np.float64]:
    """Compute the probability (E,) of each link under all assignments of the tracklets around its window."""
    out = np.empty(len(links))
    for window in windows:
        around, core = (
            slice(*np.searchsorted(links.first, [rows.start, rows.stop])) for rows in (window.around, window.core)
        )
        first, second = (ends[around] - window.around.start for ends in (links.first, links.second))
        count = max(len(window), int(second.max(initial=0)) + 1)  # a confirmed link may lead beyond the window
        found = marginals(first, second, odds[around], count).link
        out[core] = found[core.start - around.start : core.stop - around.start]
    return out


def _solve(
    names: NDArray[np.object_],
    links: CandidateLinks,
    odds: NDArray[np.float64],
    config: TripConfig,
    rejected: NDArray[np.int64],
    windows: Sequence[TimeWindow],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the links' probabilities and the successors; where a vehicle holds a rejected pair, it is cut and all is
    solved again.

    Args:
        names: (N,) ids of what is linked.
        links, odds: candidates and their log-odds.
        config: settings.
        rejected: (R, 2) rows that are different vehicles, the earlier first.
        windows: of the rows.
    """
    odds = odds.copy()
    while True:
        probability = marginals_by_window(links, odds, windows)
        successor = assign(links.first, links.second, probability - config.least_probability, len(names))
        cut = _links_to_cut(names, links, probability, odds, successor, rejected)
        if not len(cut):
            return probability, successor
        odds[cut] = IMPOSSIBLE


def _links_to_cut(
    names: NDArray[np.object_],
    links: CandidateLinks,
    probability: NDArray[np.float64],
    odds: NDArray[np.float64],
    successor: NDArray[np.int32],
    rejected: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the least probable link, that is not confirmed, between each rejected pair in one vehicle."""
    if not len(rejected):
        return np.empty(0, dtype=np.int64)
    made = np.flatnonzero(successor[links.first] == links.second)
    link_after = dict(zip(links.first[made].tolist(), made.tolist(), strict=True))
    cut = set()
    for first, second in rejected.tolist():
        path, row = [], first
        while row in link_after and row != second:
            path.append(link_after[row])
            row = int(successor[row])
        if row != second:
            continue
        free = [link for link in path if odds[link] < CERTAIN]
        if not free:
            raise InputError(
                f"tracklets {names[first]} and {names[second]} are rejected, but the confirmed pairs make them "
                "one vehicle; remove one of the answers."
            )
        cut.add(min(free, key=lambda link: (probability[link], link)))
    return np.array(sorted(cut), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Made:
    """K links that are made: rows of both tracklets, probability, whether the vehicle parked between them."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    probability: NDArray[np.float64]
    parked: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        links: CandidateLinks,
        probability: NDArray[np.float64],
        successor: NDArray[np.int32],
        parked: NDArray[np.bool_],
    ) -> _Made:
        chosen = np.flatnonzero(successor[links.first] == links.second)
        first, second = (side[chosen].astype(np.int64) for side in (links.first, links.second))
        return cls(first, second, probability[chosen], parked[chosen])


def _joins(
    table: TimedTracklets,
    successor: NDArray[np.int32],
    model: LinkModel,
    config: TripConfig,
    answers: Confirmations,
) -> _Made:
    """Join the chains of successors (N,) that are one vehicle with a pause between them."""
    chains = Chains.of(table, successor)
    way = network_times(model.routes).reshape(table.cameras, table.cameras)
    joins, odds = join_candidates(table, chains, way, config.longest_stop, config.longest_pause)
    rejected = np.unique(np.sort(chains.row[answers.rejected], axis=1), axis=0)
    everything = slice(0, len(chains))
    found = _solve(table.id[chains.first], joins, odds, config, rejected, [TimeWindow(everything, everything)])
    made = _Made.of(joins, *found, np.ones(len(joins), dtype=bool))
    return replace(made, first=chains.last[made.first], second=chains.first[made.second])


def _trips(
    table: TimedTracklets,
    corrected: NDArray[np.float64],
    order: NDArray[np.int64],
    links: CandidateLinks,
    link_probability: NDArray[np.float64],
    made: Sequence[_Made],
    parked: NDArray[np.bool_],
    offsets: NDArray[np.float64],
    model: LinkModel,
) -> Trips:
    """Number trips and vehicles, and return to the rows of the table as given."""
    count = len(table)
    previous = np.full(count, NONE, dtype=np.int64)
    probability, after_parking = np.full(count, np.nan), np.zeros(count, dtype=bool)
    for part in made:
        previous[part.second] = part.first
        probability[part.second] = part.probability
        after_parking[part.second] = part.parked
    trip, place, vehicle = (np.zeros(count, dtype=np.int64) for _ in range(3))
    trips = vehicles = 0
    for row in range(count):  # predecessors have smaller rows
        before = previous[row]
        if before == NONE:
            vehicles += 1
            vehicle[row] = vehicles
        else:
            vehicle[row] = vehicle[before]
        if before == NONE or after_parking[row]:
            trips += 1
            trip[row], place[row] = trips, 1
        else:
            trip[row], place[row] = trip[before], place[before] + 1
    back = np.empty(count, dtype=np.int64)
    back[order] = np.arange(count)
    of_previous = previous[back]
    return Trips(
        table=table,
        corrected=corrected,
        trip=trip[back],
        order=place[back],
        vehicle=vehicle[back],
        previous=np.where(of_previous >= 0, order[of_previous], NONE),
        probability=probability[back],
        parked=after_parking[back],
        links=CandidateLinks(order[links.first].astype(np.int32), order[links.second].astype(np.int32), links.score),
        link_probability=link_probability,
        link_parked=parked,
        offsets=offsets,
        model=model,
    )
