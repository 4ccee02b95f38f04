"""Deleting a vehicle: nothing of it stays in the store or in memory, and only an admin may do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from support.command_line import Run, reported
from vreid import Store
from vreid.serve.audit import FILE, AuditLog
from vreid.serve.auth import Tokens
from vreid.store.labelling import ANSWERS

Serve = Callable[..., TestClient]


def names(client: TestClient) -> list[str]:
    return [one["id"] for one in client.get("/api/v1/tracklets", params={"limit": 1000}).json()["tracklets"]]


def follow(client: TestClient, first: str, second: str, other: str) -> int:
    """A case of `first` and `second`, in which `other` is rejected; returns its number."""
    number: int = client.post("/api/v1/cases", json={"tracklet": first}).json()["number"]
    for name, same in ((second, True), (other, False)):
        decision = {"tracklet": name, "same": same, "other": first}
        assert client.post(f"/api/v1/cases/{number}/decisions", json=decision).status_code == 201
    return number


def test_a_vehicle_is_deleted_with_all_that_is_kept_of_it(client: TestClient, jpeg: bytes, site: Path) -> None:
    first, second, other, *_ = names(client)
    number = follow(client, first, second, other)
    another = follow(client, other, names(client)[3], second)
    about_first = client.post("/api/v1/watches", json={"tracklet": first}).json()["number"]
    about_other = client.post("/api/v1/watches", json={"tracklet": other}).json()["number"]
    upload = client.post("/api/v1/search", content=jpeg, headers={"content-type": "image/jpeg"}).json()
    about_upload = client.post("/api/v1/watches", json={"upload": upload["query"]["upload"]}).json()["number"]
    assert [hit["tracklet"] for hit in upload["hits"] if hit["decision"] == "MATCH"].count(first) == 1

    answer = client.delete(f"/api/v1/cases/{number}/tracklets")
    assert (answer.status_code, answer.json()) == (200, {"deleted": 2})
    assert not {first, second} & set(names(client)) and other in names(client)
    for path in (f"crops/0/{first}", f"tracklets/{second}", f"cases/{number}", f"watches/{about_first}"):
        assert client.get(f"/api/v1/{path}").status_code == 404, path
    assert client.get(f"/api/v1/watches/{about_upload}").status_code == 404, "it matched one of them"
    assert client.get(f"/api/v1/watches/{about_other}").status_code == 200
    assert client.get(upload["query"]["image"]).status_code == 404, "uploaded images are forgotten"
    kept = client.get(f"/api/v1/cases/{another}").json()
    assert second not in kept["rejected"] and kept["confirmed"]
    documents = client.app.state.site.service.store.vectors.documents()  # type: ignore[attr-defined]
    assert [key for key in documents if key.startswith(ANSWERS)]
    assert not [key for key, value in documents.items() if {first, second} & set(json.dumps([key, value]).split('"'))]
    (entry,) = [one for one in client.get("/api/v1/audit").json()["entries"] if one["action"] == "delete vehicle"]
    assert entry["what"] == {"case": number, "tracklets": [first, second]}
    assert client.delete(f"/api/v1/cases/{number}/tracklets").status_code == 404


def test_only_an_admin_deletes_a_vehicle(serve: Serve, site: Path) -> None:
    with Store.open(site) as store:
        tokens = {role: Tokens(store.vectors).create(role, role) for role in ("viewer", "reviewer", "admin")}
    client = serve(require_token=True)
    headers = {role: {"authorization": f"Bearer {token}"} for role, token in tokens.items()}
    first = client.get("/api/v1/tracklets?limit=1", headers=headers["viewer"]).json()["tracklets"][0]["id"]
    client.post("/api/v1/cases", json={"tracklet": first}, headers=headers["reviewer"])
    path = "/api/v1/cases/1/tracklets"
    assert client.delete(path).status_code == 401
    for role in ("viewer", "reviewer"):
        assert client.delete(path, headers=headers[role]).status_code == 403
        answer = client.post("/cases/1/delete-vehicle", files={"sure": (None, "yes")}, headers=headers[role])
        assert answer.status_code == 403 and "role admin" in answer.text
        assert "Delete the vehicle" not in client.get("/cases/1", headers=headers[role]).text
    assert client.get(f"/api/v1/tracklets/{first}", headers=headers["viewer"]).status_code == 200
    assert "Delete the vehicle" in client.get("/cases/1", headers=headers["admin"]).text
    assert client.delete(path, headers=headers["admin"]).json() == {"deleted": 1}


def test_the_page_asks_whether_it_is_meant(client: TestClient) -> None:
    first, second, other, *_ = names(client)
    number = follow(client, first, second, other)
    token = client.get(f"/cases/{number}").text.partition('name="form_token" value="')[2].partition('"')[0]
    path = f"/cases/{number}/delete-vehicle"
    assert client.post(path, files={"form_token": (None, token)}).status_code == 422
    assert client.post(path, files={"form_token": (None, "x"), "sure": (None, "yes")}).status_code == 403
    assert first in names(client)
    answer = client.post(path, files={"form_token": (None, token), "sure": (None, "yes")})
    assert answer.url.path == "/cases" and not {first, second} & set(names(client))


def test_linked_trips_are_forgotten(client: TestClient) -> None:
    trips = client.app.state.site.trips  # type: ignore[attr-defined]
    client.post("/api/v1/trips")
    trips.wait(60)
    linked = trips.linked
    assert linked is not None
    first = names(client)[0]
    assert first in linked.trips.table.id
    client.delete(f"/api/v1/tracklets/{first}")
    trips.wait(60)
    assert trips.linked is not linked
    assert trips.linked is None or first not in trips.linked.trips.table.id


def test_a_vehicle_is_deleted_on_the_command_line(run: Run, client: TestClient, site: Path) -> None:
    first, second, other, fourth, *_ = names(client)
    number = follow(client, first, second, other)
    client.post("/api/v1/watches", json={"tracklet": second})
    assert run(f"store delete {site} --case {number} --dry-run").out == "2 tracklets would be deleted.\n"
    done = run(f"store delete {site} --case {number} --json")
    assert json.loads(done.out) == {"tracklets": 2, "watches": 1, "case": number, "dry_run": False}
    assert run(f"store delete {site} --tracklet {fourth}").out == "Deleted 1 tracklet and 0 watches.\n"
    assert not {first, second, fourth} & set(names(client)), "the running service sees it"
    log = AuditLog(site / FILE)
    assert [(one.who, one.what["tracklets"]) for one in log.entries(limit=2)] == [
        ("command line", [fourth]),
        ("command line", [first, second]),
    ]
    log.close()
    reported(run(f"store delete {site} --case 9"), "no case 9")
    reported(run(f"store delete {site} --tracklet nobody"), "holds no tracklet 'nobody'")
    reported(run(f"store delete {site}"), "either --case NUMBER or --tracklet ID")
    reported(run(f"store delete {site} --case 1 --tracklet {other}"), "either --case NUMBER or --tracklet ID")


@pytest.mark.parametrize("uploads", [False, True])
def test_watches_of_uploads_end_only_with_their_vehicle(
    client: TestClient, jpeg: bytes, name: str, uploads: bool
) -> None:
    watches = client.app.state.site.watches  # type: ignore[attr-defined]
    key = client.post("/api/v1/search", content=jpeg, headers={"content-type": "image/jpeg"}).json()["query"]["upload"]
    client.post("/api/v1/watches", json={"upload": key})
    assert name in watches.get(1).known
    assert watches.forget([name], uploads=uploads) == int(uploads)
    if not uploads:
        assert name not in watches.get(1).known
