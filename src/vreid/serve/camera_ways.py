"""Ways between cameras, as the trips of vehicles show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vreid.data.cameras import Camera
from vreid.trips.counts import TravelTimes


@dataclass(frozen=True)
class Way:
    """Two cameras that vehicles pass one after the other.

    Attributes:
        a, b: names of the cameras.
        there, back: vehicles from a to b and from b to a with their times; None: there are none.
        ends: "latitude,longitude" of a and of b, joined by a comma; "" if one is unknown.
    """

    a: str
    b: str
    there: TravelTimes | None
    back: TravelTimes | None
    ends: str

    @property
    def count(self) -> int:
        """Vehicles in both directions."""
        return sum(one.count for one in (self.there, self.back) if one)


def ways_between(travel_times: Sequence[TravelTimes], cameras: Mapping[str, Camera]) -> list[Way]:
    """Return the ways between cameras, the busiest first.

    Args:
        travel_times: one for each pair of cameras and direction.
        cameras: by name.
    """
    directed = {(one.origin, one.destination): one for one in travel_times}

    def ends(*names: str) -> str:
        places = [(cameras[name].latitude, cameras[name].longitude) for name in names if name in cameras]
        known = [number for place in places for number in place if number is not None]
        return ",".join(map(str, known)) if len(known) == 4 else ""

    pairs = sorted({(min(pair), max(pair)) for pair in directed})
    found = [Way(a, b, directed.get((a, b)), directed.get((b, a)), ends(a, b)) for a, b in pairs]
    return sorted(found, key=lambda way: -way.count)
