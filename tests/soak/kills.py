"""Kill a job, again and again, run it once more, and compare what it ends in with a job that was left alone."""

from __future__ import annotations

from random import Random

from soak import children
from soak.jobs import JOBS, Counts, Place, contents, differences


def round_of(number: int, rng: Random, place: Place, counts: Counts, *, timed: bool) -> None:
    """Kill one job up to three times: before an event drawn by chance, or (`timed`) also at some moment."""
    job = JOBS[number % len(JOBS)]
    wanted = place.reference(job)
    out = place.empty("killed")
    for _ in range(rng.randint(1, 3)):
        if timed and rng.random() < 0.5:
            ended = children.run(place.line(job, out), killed_after=rng.random() * wanted.seconds)
        else:
            event = rng.randint(1, wanted.events)
            ended = children.run(place.line(job, out), setting=children.at_event(event, children.die))
        if ended.code == -9:
            counts.add(f"kills of {job.name}")
        elif ended.code != 0:
            counts.problem(number, f"{job.name}: after a kill, {ended.refusal() or ended.err}")
            return
    ended = children.run(place.line(job, out))
    counts.add("jobs resumed")
    if ended.code != 0:
        counts.problem(number, f"{job.name} cannot be resumed: {ended.err[-500:]}")
        return
    for difference in differences(contents(out), wanted.files):
        counts.problem(number, f"{job.name} resumed after kills: {difference}")
