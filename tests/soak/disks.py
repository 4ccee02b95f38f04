"""Let the disk be full somewhere in a job: it must say so in one sentence, leave no half file, and be resumable."""

from __future__ import annotations

from random import Random

from soak import children
from soak.jobs import JOBS, Counts, Place, contents, differences


def round_of(number: int, rng: Random, place: Place, counts: Counts, *, timed: bool) -> None:
    """Run one job on a disk without room, then on one with room."""
    job = JOBS[number % len(JOBS)]
    wanted = place.reference(job)
    out = place.empty("full")
    if rng.random() < 0.5:
        setting = children.at_event(rng.randint(1, wanted.events), children.full)
    else:
        setting = children.small_disk(int(max(map(len, wanted.files.values())) ** rng.random()))
    ended = children.run(place.line(job, out), setting=setting)
    if ended.code == 0:
        counts.add("jobs that found room")
    else:
        counts.add(f"full disks of {job.name}")
        if wrong := ended.refusal():
            counts.problem(number, f"{job.name} on a full disk: {wrong}")
        litter = [str(path) for path in out.rglob("*") if path.name.endswith((".partial", ".lock"))]
        if litter:
            counts.problem(number, f"{job.name} on a full disk leaves {', '.join(litter)}")
    ended = children.run(place.line(job, out))
    counts.add("jobs resumed")
    if ended.code != 0:
        counts.problem(number, f"{job.name} cannot be resumed: {ended.err[-500:]}")
        return
    for difference in differences(contents(out), wanted.files):
        counts.problem(number, f"{job.name} resumed after a full disk: {difference}")
