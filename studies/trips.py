"""Measure trips on simulated cities: against appearance alone and greedy linking, under stress, and their counts.

    python studies/trips.py [--out runs/trips] [--parts cities,stress,drawn,times,counts,fresh] [--picture FILE.svg]

The parts drawn, times, counts and fresh need no rendered city if the noise of drawn features is given (--noise 1.93).
Three cities are rendered and their tracklets stored with the bundled model (about 200 CPU seconds each, made once). The
settings of the methods that are compared are chosen on the other two cities. Other cities have features that are drawn
instead: a vehicle's look, which it shares with others in part, and noise for each tracklet, so much that the nearest
tracklet of another camera is the same vehicle as often as in the rendered city "a". The larger ones are for the
counts; those of the part fresh were drawn after the counts were changed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.console import echo
from vreid.data.cameras import read_cameras
from vreid.files import write_text
from vreid.progress import Progress
from vreid.simulator import simulate
from vreid.simulator.city.observation import ObservedTracklets, observe
from vreid.simulator.city.traffic import STRESSES, TRAFFIC_PRESETS, Traffic, TrafficPreset, stressed
from vreid.simulator.formats.trip_files import planned_traffic, tracklet_names, truth_tables
from vreid.store.engines import open_vectors
from vreid.store.ingest import IngestReport
from vreid.store.sources import read_source
from vreid.store.store import Store
from vreid.trips.assignment import NONE, assign, assign_greedily
from vreid.trips.candidate_links import Appearances, candidate_links
from vreid.trips.count_agreement import LEAST_COUNT
from vreid.trips.evaluation import MetricEstimate, TripMetrics, evaluate_trips, idf1_difference
from vreid.trips.labelled_tracklets import Identity
from vreid.trips.link_learning import Sample, learn
from vreid.trips.link_model import LinkModel
from vreid.trips.probability import expected_calibration_error, reliability_table
from vreid.trips.solve import TripConfig, Trips, link_trips, principal_directions, reduced
from vreid.trips.tables import TimedTracklets, table_of_batches
from vreid.trips.time_evidence import times_are_informative
from vreid.trips.trip_tables import write_trips

SMALL, MEDIUM = TRAFFIC_PRESETS["small"], TRAFFIC_PRESETS["medium"]
CITIES: dict[str, tuple[int, TrafficPreset]] = {
    "a": (301, replace(SMALL, name="a")),
    "b": (302, replace(SMALL, name="b", cameras=8, vehicles=420, hours=(6, 14), shared_peak=False, clock_error=3.0)),
    "c": (303, replace(SMALL, name="c", cameras=18, vehicles=280, hours=(5, 21), wrong_clocks=1, wrong_clock=45.0)),
}
WHITE_VANS = (301, replace(SMALL, name="white_vans", vehicles=220, white_vans=True))
DRAWN: dict[str, tuple[int, TrafficPreset]] = {
    "g": (501, replace(CITIES["a"][1], name="g")),
    "h": (502, replace(CITIES["b"][1], name="h")),
    "i": (503, replace(CITIES["c"][1], name="i")),
}
LARGER: dict[str, tuple[int, TrafficPreset]] = {
    "j": (601, replace(MEDIUM, name="j")),
    "k": (602, replace(MEDIUM, name="k", cameras=16, vehicles=4000, shared_peak=False)),
    "l": (603, replace(MEDIUM, name="l", cameras=32, vehicles=3500, clock_error=3.0)),
}
FRESH: dict[str, tuple[int, TrafficPreset]] = {
    "n": (631, replace(LARGER["j"][1], name="n")),
    "o": (632, replace(LARGER["k"][1], name="o")),
    "p": (633, replace(LARGER["l"][1], name="p")),
}
IDENTITIES: tuple[Identity, ...] = ("trip", "vehicle")
SIMILARITIES = tuple(np.round(np.arange(0.1, 0.96, 0.05), 2).tolist())
PAUSES = (300.0, 600.0, 1200.0, 3600.0)
"""Seconds without a tracklet that end a trip, for methods that know vehicles but no trips."""
NOISES = (1.0, 1.5, 1.75, 2.0, 2.5)
DIMENSIONS, GROUPS = 128, 150

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class City:
    """Tracklets of a simulated city and the folder with their truth."""

    name: str
    table: TimedTracklets
    truth: Path

    def evaluated(self, vehicle: Ints, trip: Ints, out: Path, identity: Identity, resamples: int = 1000) -> TripMetrics:
        """Evaluate the vehicle and the trip (N,) of each tracklet."""
        write_chains(self.table, vehicle, trip, out)
        return self.metrics(out, identity, resamples)

    def metrics(self, out: Path, identity: Identity, resamples: int = 1000) -> TripMetrics:
        """Evaluate the trips in a folder."""
        return evaluate_trips(out / "trips.csv", self.truth / "truth.csv", identity=identity, resamples=resamples)


def rendered_city(seed: int, preset: TrafficPreset, out: Path) -> City:
    """Render a city and store its tracklets, unless that was done before."""
    folder, store = out / "cities" / preset.name, out / "stores" / preset.name
    made = simulate(folder, preset=preset, seed=seed, layout="trips")
    with Store.open(store, create=True) as opened:
        if len(opened) < made.counts["tracklets"]:
            report = IngestReport()
            opened.ingest(read_source(folder, on_finding=report.on_finding), report=report)
    positions = {
        name: (one.latitude, one.longitude)
        for name, one in read_cameras(folder / "cameras.csv").items()
        if one.latitude is not None and one.longitude is not None
    }
    with closing(open_vectors(store, read_only=True)) as engine:
        return City(preset.name, table_of_batches(engine.scan(), positions), folder)


def write_truth(traffic: Traffic, tracklets: ObservedTracklets, kept: Iterable[int], folder: Path) -> Path:
    """Write the truth of the tracklets `kept` of a day that is not rendered."""
    for name, text in truth_tables(traffic, tracklets, recorded=dict.fromkeys(kept, True)).items():
        write_text(folder / name, text)
    return folder


def seen_otherwise(city: City, seed: int, preset: TrafficPreset, stress: str, out: Path) -> City:
    """Return a city under a stress that changes what is recorded but not how it looks, with the stored features.

    The simulator draws which camera is dead, or has a wrong clock, and that may be one that sees few vehicles; here it
    is the busiest one.
    """
    before, after = planned_traffic(preset, seed), planned_traffic(stressed(preset, stress), seed)
    one = observe(before)
    two = one
    busiest = int(np.bincount(one.camera).argmax())
    if after.preset.dead_cameras:
        two = replace(two, dead=np.arange(preset.cameras) == busiest)
    elif after.preset.wrong_clocks:
        late = after.preset.wrong_clock * (two.camera == busiest)
        two = replace(two, observed_start=two.observed_start + late, observed_end=two.observed_end + late)
    else:
        two = observe(after)
    row_of_name = city.table.row_of
    row_of = {
        (index, part): row_of_name[name]
        for name, index, part in zip(
            tracklet_names(before, one), one.pass_index.tolist(), one.part.tolist(), strict=True
        )
        if name in row_of_name
    }
    of_table = [row_of.get(key, -1) for key in zip(two.pass_index.tolist(), two.part.tolist(), strict=True)]
    kept = [n for n, row in enumerate(of_table) if row >= 0 and not two.dead[two.camera[n]]]
    folder = write_truth(after, two, kept, out / "stressed" / f"{city.name} {stress}".replace(" ", "_"))
    vectors = city.table.vector[[of_table[number] for number in kept]]
    return City(f"{city.name}, {stress}", _table(after, two, kept, vectors), folder)


def drawn_city(seed: int, preset: TrafficPreset, noise: float, out: Path) -> City:
    """Return a city with features that are drawn."""
    traffic = planned_traffic(preset, seed)
    tracklets = observe(traffic)
    kept = range(len(tracklets))
    folder = write_truth(traffic, tracklets, kept, out / "drawn" / preset.name.replace(" ", "_"))
    return City(preset.name, _table(traffic, tracklets, kept, drawn_features(traffic, tracklets, noise)), folder)


def drawn_features(traffic: Traffic, tracklets: ObservedTracklets, noise: float) -> NDArray[np.float32]:
    """Draw features (N, D): group of look-alikes, vehicle, and noise; merged tracklets show two vehicles."""
    rng = np.random.default_rng(traffic.seed % 2**32)
    vehicles = traffic.preset.vehicles
    groups = rng.normal(size=(GROUPS, DIMENSIONS))
    look = groups[rng.integers(GROUPS, size=vehicles)] + 0.7 * rng.normal(size=(vehicles, DIMENSIONS))
    shown = look[traffic.vehicle[tracklets.pass_index]]
    merged = tracklets.other >= 0
    shown[merged] = (2 * shown[merged] + look[traffic.vehicle[tracklets.other[merged]]]) / 3
    return (shown + noise * rng.normal(size=shown.shape)).astype(np.float32)


def _table(
    traffic: Traffic, tracklets: ObservedTracklets, kept: Sequence[int], vectors: NDArray[np.float32]
) -> TimedTracklets:
    names, rows = tracklet_names(traffic, tracklets), np.asarray(kept)
    return TimedTracklets.of(
        id=[names[number] for number in kept],
        camera=[traffic.streets.cameras[code] for code in tracklets.camera[rows].tolist()],
        start=tracklets.observed_start[rows],
        end=tracklets.observed_end[rows],
        vector=vectors,
    )


def first_hits(city: City) -> float:
    """Return the share of tracklets whose nearest tracklet of another camera is the same vehicle."""
    vehicle = true_vehicles(city)
    similarity = city.table.vector @ city.table.vector.T
    camera = city.table.camera.codes
    similarity[camera[:, None] == camera[None]] = -np.inf
    elsewhere = (vehicle[:, None] == vehicle[None]) & (camera[:, None] != camera[None])
    return float((vehicle[similarity.argmax(axis=1)] == vehicle)[elsewhere.any(axis=1)].mean())


def true_vehicles(city: City) -> NDArray[np.object_]:
    """Return the true vehicle (N,) of each tracklet."""
    with open(city.truth / "truth.csv", newline="", encoding="utf-8") as file:
        of = {row["tracklet"]: row["vehicle"] for row in csv.DictReader(file)}
    return np.array([of[str(name)] for name in city.table.id], dtype=object)


def write_chains(table: TimedTracklets, vehicle: Ints, trip: Ints, out: Path) -> None:
    """Write trips.csv and vehicles.csv of vehicles and trips (N,); rows are in the order of time."""
    cameras = table.camera.values
    lines = ["trip,order,tracklet,camera,start,end"]
    for row, name in enumerate(table.id):
        lines.append(f"{trip[row]},{row},{name},{cameras[row]},{table.start[row]:.3f},{table.end[row]:.3f}")
    write_text(out / "trips.csv", "\n".join(lines) + "\n")
    pairs = sorted(set(zip(vehicle.tolist(), trip.tolist(), strict=True)))
    write_text(out / "vehicles.csv", "\n".join(["vehicle,trip", *(f"{a},{b}" for a, b in pairs)]) + "\n")


def split_by_pauses(table: TimedTracklets, vehicle: Ints, pause: float) -> Ints:
    """Return trips (N,): the tracklets of a vehicle without a longer pause between them."""
    order = np.lexsort((table.start, vehicle))
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (vehicle[order[1:]] != vehicle[order[:-1]]) | (table.start[order[1:]] - table.end[order[:-1]] > pause)
    trip = np.empty(len(order), dtype=np.int64)
    trip[order] = np.cumsum(starts)
    return trip


def clustered(table: TimedTracklets) -> Callable[[float], Ints]:
    """Return average-linkage clusters by appearance alone, as a function of the least mean similarity."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = 1 - table.vector.astype(np.float64) @ table.vector.T
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(np.maximum(distance, 0), checks=False), "average")
    return lambda least: fcluster(tree, 1 - least, "distance").astype(np.int64)


def chained(table: TimedTracklets) -> Callable[[float], Ints]:
    """Return chains of mutual nearest neighbours of each pair of cameras, as a function of the least similarity."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    similarity, camera = table.vector @ table.vector.T, table.camera.codes
    count, places = len(table), [np.flatnonzero(camera == code) for code in range(table.cameras)]
    nearest = np.stack([place[similarity[:, place].argmax(axis=1)] for place in places], axis=1)  # (N, C)
    first, code = np.nonzero(camera[:, None] != np.arange(table.cameras)[None])
    second = nearest[first, code]
    mutual = nearest[second, camera[first]] == first
    first, second = first[mutual], second[mutual]
    value = similarity[first, second]

    def chains(least: float) -> Ints:
        kept = value >= least
        graph = coo_array((np.ones(int(kept.sum())), (first[kept], second[kept])), shape=(count, count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)

    return chains


APPEARANCE: dict[str, Callable[[TimedTracklets], Callable[[float], Ints]]] = {
    "appearance alone, average linkage": clustered,
    "appearance alone, mutual nearest neighbours": chained,
}


def by_appearance(
    cities: Sequence[City], method: str, identity: Identity, pauses: Sequence[float], out: Path
) -> list[TripMetrics]:
    """Evaluate a method of appearance on each city, with the settings that are best on the others."""
    groups = [APPEARANCE[method](city.table) for city in cities]
    settings = [(least, pause) for least in SIMILARITIES for pause in pauses]

    def evaluated(number: int, least: float, pause: float, resamples: int) -> TripMetrics:
        city, vehicle = cities[number], groups[number](least)
        trip = split_by_pauses(city.table, vehicle, pause)
        return city.evaluated(vehicle, trip, out / "appearance", identity, resamples)

    idf1 = np.array([[evaluated(n, *one, 1).idf1.value for one in settings] for n in range(len(cities))])
    found = []
    for number in range(len(cities)):
        others = np.delete(idf1, number, axis=0).mean(axis=0)
        found.append(evaluated(number, *settings[int(others.argmax())], 1000))
    return found


def by_pairs(
    city: City, trips: Trips, config: TripConfig
) -> tuple[TimedTracklets, dict[str, NDArray[np.int32]], LinkModel]:
    """Link by the odds of pairs alone (learned, without context and competition), greedily and by assignment.

    Returns:
        the tracklets with corrected clocks, the successors (N,) of each method, and the model.
    """
    table = TimedTracklets.of(
        id=city.table.id,
        camera=city.table.camera,
        start=trips.corrected[:, 0],
        end=trips.corrected[:, 1],
        vector=reduced(city.table.vector, principal_directions(city.table.vector, config.dimensions)),
    )
    sample, looks = Sample.of(table, config.learn_on), Appearances.of(table)
    limits = config.candidates, -7.0
    model = learn(sample, Appearances.of(sample.table), config.longest_gap, config.overlap, 4, *limits).model
    links, odds = candidate_links(looks, model, *limits, Progress())
    ends = links.first, links.second
    ways = {
        "greedy, odds of pairs": assign_greedily(*ends, odds, len(table)),
        "assignment, odds of pairs": assign(*ends, odds, len(table)),
    }
    return table, ways, model


def chains_of(successor: NDArray[np.integer], parked: Callable[[Ints, Ints], NDArray[np.bool_]]) -> tuple[Ints, Ints]:
    """Return vehicle and trip (N,) of successors (N,), whose links end a trip where the vehicle parked."""
    first = np.flatnonzero(successor != NONE)
    second = successor[first].astype(np.int64)
    before = np.full(len(successor), NONE, dtype=np.int64)
    before[second] = first
    new = before == NONE
    new_trip = new.copy()
    new_trip[second] |= parked(first, second)
    vehicle, trip = np.cumsum(new), np.cumsum(new_trip)
    for row in range(len(successor)):  # predecessors have smaller rows
        if not new[row]:
            vehicle[row] = vehicle[before[row]]
        if not new_trip[row]:
            trip[row] = trip[before[row]]
    return vehicle, trip


def by_probability(trips: Trips, config: TripConfig) -> tuple[Ints, Ints]:
    """Choose the links of vreid greedily, the most probable first."""
    links = trips.links
    order = np.lexsort((trips.table.camera.codes, trips.corrected[:, 1], trips.corrected[:, 0]))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    first, second = place[links.first], place[links.second]
    value = trips.link_probability - config.least_probability
    successor = assign_greedily(first, second, value, len(order))
    pairs = dict(zip(zip(first.tolist(), second.tolist(), strict=True), trips.link_parked.tolist(), strict=True))
    vehicle, trip = chains_of(
        successor, lambda a, b: np.array([pairs[pair] for pair in zip(a.tolist(), b.tolist(), strict=True)], dtype=bool)
    )
    return vehicle[place], trip[place]


def compare(cities: Sequence[City], out: Path) -> list[TripMetrics]:
    """Print the comparison with appearance alone and greedy linking; return the metrics of vreid by vehicle."""
    config = TripConfig()
    linked = [link_trips(city.table, config) for city in cities]
    for city, trips in zip(cities, linked, strict=True):
        write_trips(trips, out / "trips" / city.name)
    pairs = [by_pairs(city, trips, config) for city, trips in zip(cities, linked, strict=True)]
    own: list[TripMetrics] = []
    for identity in IDENTITIES:
        own = [city.metrics(out / "trips" / city.name, identity) for city in cities]
        rows: dict[str, list[TripMetrics]] = {"vreid trips": own}
        for city, trips, (table, ways, model) in zip(cities, linked, pairs, strict=True):
            corrected = replace(city, table=table)
            for name, successor in ways.items():
                chains = chains_of(successor, partial(model.parked, table, longest_stop=config.longest_stop))
                rows.setdefault(name, []).append(corrected.evaluated(*chains, out / "pairs", identity))
            greedy = city.evaluated(*by_probability(trips, config), out / "greedy", identity)
            rows.setdefault("greedy, probabilities of vreid", []).append(greedy)
        for method in APPEARANCE:
            rows[method] = by_appearance(cities, method, identity, (np.inf,), out)
        if identity == "trip":
            for method in APPEARANCE:
                rows[f"{method}, split at pauses"] = by_appearance(cities, method, identity, PAUSES, out)
        echo(f"\nIDF1, identity {identity}\n")
        header("method", *(f"{city.name} | vreid minus this" for city in cities))
        for name, found in rows.items():
            cells = []
            for best, one in zip(own, found, strict=True):
                cells += [str(one.idf1), "" if one is best else _signed(idf1_difference(best, one))]
            line(name, *cells)
        alone = [max(rows[method][n].idf1.value for method in APPEARANCE) for n in range(len(cities))]
        ratios = ", ".join(f"{one.idf1.value / base:.2f}" for one, base in zip(own, alone, strict=True))
        echo(f"\nIDF1 of vreid divided by the better one of appearance alone: {ratios}")
        echo(f"\nFurther metrics, identity {identity}\n")
        summary({city.name: one for city, one in zip(cities, own, strict=True)}, out / "trips")
    return own


def _signed(value: MetricEstimate) -> str:
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def header(*cells: str) -> None:
    """Print the head of a table."""
    line(*cells)
    echo("|" + "---|" * " | ".join(cells).count("|") + "---|")


def line(*cells: str) -> None:
    """Print a row of a table."""
    echo(f"| {' | '.join(cells)} |")


def summary(found: Mapping[str, TripMetrics], folder: Path) -> None:
    """Print what is measured of trips beside IDF1."""
    header(
        "city",
        "tracklets",
        "IDF1",
        "IDP",
        "IDR",
        "HOTA",
        "link precision",
        "link recall",
        "links",
        "ECE",
        "travel time error",
        "pairs",
        "GEH < 5, corrected",
        "GEH < 5, raw",
        "cells",
        "trips: true",
        "corrected",
        "raw",
    )
    for name, one in found.items():
        values = (one.idf1, one.idp, one.idr, one.hota, one.link_precision, one.link_recall)
        error = expected_calibration_error(one.link_probability, one.link_right)
        counts = one.counts
        assert counts is not None
        line(
            name,
            f"{one.tracklets:,}",
            *(f"{value.value:.3f}" for value in values),
            f"{len(one.link_right):,}",
            f"{error:.3f}",
            f"{100 * one.travel_time_error:.1f} %",
            str(len(one.travel_times)),
            *(f"{100 * share:.0f} %" if counts.cells else "" for share in (counts.accepted, counts.accepted_raw)),
            str(counts.cells),
            f"{counts.true_total:,.0f}",
            f"{counts.found_total:,.0f}",
            f"{_raw_total(folder / name):,.0f}",
        )


def _raw_total(folder: Path) -> float:
    with open(folder / "od.csv", newline="", encoding="utf-8") as file:
        return sum(float(row["count"]) for row in csv.DictReader(file))


def intervals(cities: Sequence[City], folder: Path) -> None:
    """Print how far counts are off in large cells, and how often their intervals hold the truth."""
    echo("")
    header("city", "large cells", "corrected / true", "interval holds the truth", "true count above it", "below it")
    for city in cities:
        true, found = (
            _od_rows(path / name) for path, name in ((city.truth, "truth_od.csv"), (folder / city.name, "od.csv"))
        )
        large = [(cell, float(row["count"])) for cell, row in true.items() if float(row["count"]) > LEAST_COUNT]
        count = np.array([value for _, value in large])
        corrected, low, high = (
            np.array([float(found[cell][column]) if cell in found else 0.0 for cell, _ in large])
            for column in ("corrected", "low", "high")
        )
        above, below = (count > high).mean(), (count < low).mean()
        ratio = f"{np.median(corrected / count):.2f}"
        line(
            city.name, str(len(large)), ratio, *(f"{100 * share:.0f} %" for share in (1 - above - below, above, below))
        )


def _od_rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {(row["from"], row["to"]): row for row in csv.DictReader(file)}


def stress(cities: Sequence[City], out: Path) -> None:
    """Print the metrics of cities."""
    for city in cities:
        write_trips(link_trips(city.table), out / city.name)
    for identity in IDENTITIES:
        echo(f"\nidentity {identity}\n")
        summary({city.name: city.metrics(out / city.name, identity) for city in cities}, out)


def warnings(noise: float, out: Path) -> None:
    """Print which cities give a warning about their times, as they are and with shuffled times."""
    presets = [
        *DRAWN.values(),
        *((700 + seed, TRAFFIC_PRESETS[name]) for name in ("demo", "small") for seed in range(3)),
    ]
    header("city", "seed", "tracklets", "warning", "warning, shuffled times")
    for seed, preset in presets:
        found = []
        for one in (preset, stressed(preset, "shuffled times")):
            table = drawn_city(seed, one, noise, out).table
            basis = principal_directions(table.vector, TripConfig().dimensions)
            table = replace(table, vector=reduced(table.vector, basis))
            found.append(times_are_informative(table, TripConfig().longest_gap, TripConfig().overlap))
        line(preset.name, str(seed), f"{len(table):,}", *("no" if right else "yes" for right in found))


def fitting_noise(city: City, seed: int, preset: TrafficPreset, out: Path) -> float:
    """Return the noise of drawn features with which first hits are right as often as in a rendered city."""
    wanted = first_hits(city)
    shares = [first_hits(drawn_city(seed, preset, noise, out)) for noise in NOISES]
    echo(
        f"\nfirst hits in city {city.name}: {wanted:.3f}; with drawn features: "
        + ", ".join(f"{noise}: {share:.3f}" for noise, share in zip(NOISES, shares, strict=True))
    )
    return float(np.interp(-wanted, -np.array(shares), NOISES))


def draw_reliability(metrics: Mapping[str, TripMetrics], path: Path) -> None:
    """Draw the share of right links over their stated probability."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = path.name
    figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
    axes.plot([0.4, 1], [0.4, 1], color="0.6", linewidth=1)
    for name, one in metrics.items():
        table = reliability_table(one.link_probability, one.link_right)
        axes.plot([row.probability for row in table], [row.correct for row in table], "o-", label=f"city {name}")
    axes.set(xlabel="stated probability of a link", ylabel="share of right links", xlim=(0.4, 1), ylim=(0, 1.02))
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/trips"))
    parser.add_argument("--parts", default="cities,stress,drawn,times,counts,fresh")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--noise", type=float, help="of drawn features; default: fitted to city a")
    arguments = parser.parse_args()
    parts, out = arguments.parts.split(","), arguments.out
    rendered = {"cities", "stress"} & set(parts) or arguments.noise is None
    cities = [rendered_city(*one, out) for one in CITIES.values()] if rendered else []
    if "cities" in parts:
        metrics = dict(zip(CITIES, compare(cities, out), strict=True))
        if arguments.picture:
            draw_reliability(metrics, arguments.picture)
    if "stress" in parts:
        seen = [
            seen_otherwise(city, *CITIES[city.name], name, out)
            for city in cities[:2]
            for name in STRESSES
            if name != "all-white vans"
        ]
        echo("\nStress")
        stress([*cities[:2], *seen, rendered_city(*WHITE_VANS, out)], out / "stress")
    noise = arguments.noise
    if noise is None and {"drawn", "times", "counts", "fresh"} & set(parts):
        noise = fitting_noise(cities[0], *CITIES["a"], out)
    if "drawn" in parts:
        echo(f"\nSmall cities with drawn features, noise {noise:.2f}")
        metrics = dict(zip(DRAWN, compare([drawn_city(*one, noise, out) for one in DRAWN.values()], out), strict=True))
        if arguments.picture and "cities" not in parts:
            draw_reliability(metrics, arguments.picture)
    if "times" in parts:
        warnings(noise, out)
    for part, presets in (("counts", LARGER), ("fresh", FRESH)):
        if part in parts:
            echo(f"\nLarger cities with drawn features, noise {noise:.2f}")
            larger = [drawn_city(seed, preset, noise, out) for seed, preset in presets.values()]
            seed, preset = next(iter(presets.values()))
            missed = drawn_city(seed, stressed(preset, "30 % missed"), noise, out)
            stress([*larger, missed], out / "larger")
            intervals([*larger, missed], out / "larger")


if __name__ == "__main__":
    main()
