"""Trips in the service: linking, numbers, page, answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from vreid import Store
from vreid.data.cameras import Camera
from vreid.serve.camera_ways import Way, ways_between
from vreid.serve.trip_linking import TripLinking
from vreid.trips.counts import TravelTimes

pytest.importorskip("matplotlib")

Serve = Callable[..., TestClient]
API = "/api/v1/trips"


def wait(client: TestClient) -> dict[str, object]:
    """Wait until the trips are linked and return the answer."""
    end = time.monotonic() + 60
    while (found := client.get(API).json())["running"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    return dict(found)


def test_trips_are_linked_and_shown(client: TestClient) -> None:
    assert client.get(API).json()["linked"] is None
    start = client.get("/trips").text
    assert "Link the trips" in start
    assert client.get("/api/v1/trips.csv").status_code == 404
    token = re.search(r'name="form_token" value="([^"]+)"', start)
    assert token
    fields = {"form_token": (None, token[1])}
    assert client.post("/trips/link", files=fields, follow_redirects=False).status_code == 303
    found = wait(client)
    assert found["error"] == "" and found["linked"] and not found["stale"]
    assert found["tracklets"] == client.get("/api/v1/health").json()["tracklets"]
    shown = client.get("/trips")
    assert "<h1>Trips</h1>" in shown.text and "<script" not in shown.text
    policy = shown.headers["content-security-policy"]
    assert "script-src" not in policy and "form-action 'self'" in policy
    assert "http-equiv" not in shown.text
    assert client.get("/api/v1/trips.csv").text.startswith("trip,order,tracklet,camera")
    forms = re.findall(r'<input type="hidden" name="(first|second)" value="([^"]+)">', shown.text)
    if forms:
        answer = {"form_token": token[1], **dict(forms[:2]), "same": "no"}
        fields = {name: (None, value) for name, value in answer.items()}
        assert client.post("/trips/decide", files=fields, follow_redirects=False).status_code == 303
        assert dict(forms[:2])["second"] not in [one["second"] for one in wait(client)["doubtful"][:1]]  # type: ignore[index]


def two_cameras(client: TestClient) -> tuple[dict[str, str], dict[str, str]]:
    """The earliest tracklet, and one that is later at another camera."""
    tracklets = client.get("/api/v1/tracklets").json()["tracklets"]
    first, *others = sorted(tracklets, key=lambda one: one["start"])
    return first, next(one for one in others if one["start"] > first["end"] and one["camera"] != first["camera"])


def test_answers_are_stored_and_trips_linked_again(client: TestClient, site: Path) -> None:
    client.post(API)
    wait(client)
    first, second = two_cameras(client)
    pair = {"first": first["id"], "second": second["id"]}
    assert client.post(f"{API}/answers", json={**pair, "same": True}).status_code == 202
    found = wait(client)
    assert found["error"] == "" and not found["stale"]
    lines = [line.split(",") for line in client.get("/api/v1/trips.csv").text.splitlines()]
    before = {line[2]: previous[2] for previous, line in pairwise(lines) if line[1] != "1"}
    assert before[second["id"]] == first["id"]
    client.post(f"{API}/answers", json={**pair, "same": False})
    wait(client)
    lines = [line.split(",") for line in client.get("/api/v1/trips.csv").text.splitlines()]
    trip = {line[2]: line[0] for line in lines}
    assert trip[first["id"]] != trip[second["id"]]
    with Store.open(site, read_only=True) as store:
        one, other = sorted(pair.values())
        assert store.vectors.get_document(f"answers/{one}|{other}") == {"same": False}


def test_wrong_answers_are_errors(client: TestClient) -> None:
    tracklets = client.get("/api/v1/tracklets").json()["tracklets"]
    early, late = (pick(tracklets, key=lambda one: one["start"])["id"] for pick in (min, max))
    for first, second, status in ((early, "none", 404), (early, early, 422), (late, early, 422)):
        assert (
            client.post(f"{API}/answers", json={"first": first, "second": second, "same": True}).status_code == status
        )


def test_ways_between_cameras_join_both_directions() -> None:
    def seen(origin: str, destination: str, count: int) -> TravelTimes:
        return TravelTimes(origin, destination, None, count, 9.0, 8.0, 9.0, 10.0)

    cameras = {"a": Camera("a", latitude=1.0, longitude=2.0), "b": Camera("b", latitude=3.0, longitude=4.5)}
    there, back, other = seen("a", "b", 2), seen("b", "a", 1), seen("c", "b", 7)
    assert ways_between([there, back, other], cameras | {"c": Camera("c")}) == [
        Way("b", "c", None, other, ""),
        Way("a", "b", there, back, "1.0,2.0,3.0,4.5"),
    ]
    assert [way.count for way in ways_between([there, back, other], {})] == [7, 3]


def test_cameras_show_their_ways_once_trips_are_linked(client: TestClient) -> None:
    assert "trips are linked" in client.get("/cameras").text
    first, second = two_cameras(client)
    client.post(f"{API}/answers", json={"first": first["id"], "second": second["id"], "same": True})
    wait(client)
    assert set(re.findall(r"<td>(\S+) &ndash; (\S+)</td>", client.get("/cameras").text)) >= {
        tuple(sorted([first["camera"], second["camera"]]))
    }


def test_viewers_only_see(serve: Serve) -> None:
    client = serve(require_token=True)
    assert client.get(API).status_code == client.post(API).status_code == 401


def test_a_run_that_fails_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("vreid.serve.trip_linking.table_of_batches", broken)
    client.post(API)
    assert "internal error" in str(wait(client)["error"])
    linking: TripLinking = client.app.state.site.trips  # type: ignore[attr-defined]
    assert linking.linked is None
    assert "Linking failed" in client.get("/trips").text
