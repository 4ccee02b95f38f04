"""Run campaigns: python -m soak [kills] [disks] [damage] [fuzz] [stores] [--minutes 10] (with tests/ on PYTHONPATH)."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from soak import damage, disks, fuzz, kills, stores
from soak.jobs import Counts, Place, chance

CAMPAIGNS: dict[str, Callable[..., None]] = {
    "kills": kills.round_of,
    "disks": disks.round_of,
    "damage": damage.round_of,
    "fuzz": fuzz.round_of,
    "stores": stores.round_of,
}


def main() -> int:
    """Run the campaigns that were asked for; return 1 if one of them has found a problem."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("campaigns", nargs="*", choices=[[], *CAMPAIGNS], default=[], help="default: all")
    parser.add_argument("--minutes", type=float, default=10, help="for all campaigns together (default: 10)")
    parser.add_argument("--rounds", type=int, help="of each campaign, instead of a time; kills are then at events only")
    parser.add_argument("--first", type=int, default=0, help="number of the first round (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    parser.add_argument("--engine", choices=["plain", "atheris"], default="plain", help="of the fuzzer")
    parser.add_argument("--folder", type=Path, help="work here and keep it (default: a temporary folder)")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks
    import torch

    import vreid.adaptation.adapt
    import vreid.retrieval_run
    import vreid.training.supervised  # noqa: F401 (once, for all children)

    torch.set_num_threads(1)
    names = chosen.campaigns or list(CAMPAIGNS)
    found = []
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        place = Place((chosen.folder or Path(temporary)).resolve())
        if chosen.engine == "atheris":
            fuzz.with_atheris(place, 60 * chosen.minutes, [])
            return 0
        for left, name in zip(range(len(names), 0, -1), names, strict=True):
            if not found:
                end = time.monotonic() + 60 * chosen.minutes
            found.append(_campaign(name, place, chosen, time.monotonic() + (end - time.monotonic()) / left))
    return 1 if any(counts.problems for counts in found) else 0


def _campaign(name: str, place: Place, chosen: argparse.Namespace, end: float) -> Counts:
    counts, started, number = Counts(name), time.monotonic(), chosen.first
    while number < chosen.first + chosen.rounds if chosen.rounds else time.monotonic() < end:
        known = len(counts.problems)
        CAMPAIGNS[name](number, chance(chosen.seed, name, number), place, counts, timed=not chosen.rounds)
        for problem in counts.problems[known:]:
            print(f"{name}, round {number}: {problem}", flush=True)
        number += 1
    print(f"{counts}; {number - chosen.first:,} rounds, {time.monotonic() - started:.0f} s", flush=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())
