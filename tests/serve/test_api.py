"""The HTTP API on a store of simulated crops."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from vreid import Store

Serve = Callable[..., TestClient]
JPEG = {"content-type": "image/jpeg"}


def test_a_tracklet_is_found_in_other_cameras(client: TestClient, name: str) -> None:
    answer = client.get("/api/v1/search", params={"tracklet": name, "top": 5}).json()
    assert answer["query"]["tracklet"] == name
    assert 0 < len(answer["hits"]) <= 5
    for hit in answer["hits"]:
        assert hit["camera"] != answer["query"]["camera"]
        assert hit["decision"] in ("MATCH", "UNCERTAIN", "NO MATCH")
        assert client.get(hit["crop"]).headers["content-type"] == "image/jpeg"
        assert "source" not in hit["facts"], "names of the operator's files stay on the server"
    assert answer["threshold"]["tracklet"]["false_match_share"] == 0.01


def test_an_upload_finds_itself_and_can_be_searched_again_with_filters(
    client: TestClient, name: str, jpeg: bytes
) -> None:
    as_body = client.post("/api/v1/search", content=jpeg, headers=JPEG).json()
    as_form = client.post("/api/v1/search", files={"image": ("a.jpg", jpeg, "image/jpeg")}).json()
    assert as_body["hits"] == as_form["hits"]
    assert as_body["hits"][0]["tracklet"] == name
    kept = {"upload": as_body["query"]["upload"]}
    camera = as_body["hits"][0]["camera"]
    filtered = client.get("/api/v1/search", params={**kept, "not_camera": camera}).json()
    assert filtered["hits"] and all(hit["camera"] != camera for hit in filtered["hits"])
    assert client.get(as_body["query"]["image"]).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("order", ["id", "time"])
def test_pages_stay_consistent_while_tracklets_are_deleted_and_added(
    client: TestClient, site: Path, order: str
) -> None:
    first = client.get("/api/v1/tracklets", params={"limit": 4, "order": order}).json()
    whole = client.get("/api/v1/tracklets", params={"limit": 1000, "order": order}).json()["tracklets"]
    assert whole == sorted(whole, key=lambda one: (one["start"] if order == "time" else "", one["id"]))
    every = [one["id"] for one in whole]
    with Store.open(site) as other:
        gone = other.tracklet(every[0])
        other.delete([every[0]])
        seen = [one["id"] for one in first["tracklets"]]
        after = first["next"]
        while after:
            page = client.get("/api/v1/tracklets", params={"limit": 4, "order": order, "after": after}).json()
            seen += [one["id"] for one in page["tracklets"]]
            after = page["next"]
            other.add(gone)
    assert seen == every


def test_crops_have_entity_tags(client: TestClient, name: str) -> None:
    path = f"/api/v1/crops/0/{name}"
    first = client.get(path)
    again = client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert "private" in first.headers["cache-control"]


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/api/v1/tracklets/nobody", 404, "is not in the store"),
        ("/api/v1/tracklets/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404, "is not in the store"),
        ("/api/v1/search?tracklet=/etc/hostname", 404, "is not in the store"),
        ("/api/v1/crops/99/nobody", 404, "is not in the store"),
        ("/api/v1/search", 422, "give either"),
        ("/api/v1/search?upload=unknown", 404, "upload it again"),
        ("/api/v1/search?tracklet=a&top=0", 422, "top"),
        ("/api/v1/tracklets?camera=nowhere", 404, "did you mean"),
        ("/api/v1/tracklets?start=yesterday", 422, "is no time"),
        ("/api/v1/tracklets?start=2026-01-02&end=2026-01-01", 422, "empty"),
        ("/api/v1/tracklets?order=time&after=c001/3", 422, "give the `next` of the page before"),
        ("/api/v1/tracklets?order=time&after=12/", 422, "give the `next` of the page before"),
        ("/api/v1/tracklets?order=time&after=9223372036854775808/x", 422, "give the `next` of the page before"),
        ("/api/v1/tracklets?order=colour", 422, "order"),
        ("/api/v1/nothing", 404, "no such page"),
    ],
)
def test_errors_are_one_sentence(client: TestClient, site: Path, path: str, status: int, part: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    sentence = answer.json()["error"]
    assert part in sentence and "\n" not in sentence and str(site) not in sentence


def test_an_image_file_of_the_server_is_never_a_query(client: TestClient, tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg)
    for path in (tmp_path / "secret.jpg", Path("/etc/hostname")):
        assert client.get("/api/v1/search", params={"tracklet": str(path)}).status_code == 404


def test_health_and_metrics(client: TestClient, name: str) -> None:
    assert client.get("/api/v1/health").json()["status"] == "ok"
    client.get("/api/v1/search", params={"tracklet": name})
    text = client.get("/api/v1/metrics").text
    assert 'vreid_searches_total{query="tracklet"} 1.0' in text
    assert 'route="/api/v1/search"' in text


def test_cameras_are_listed_with_their_tracklets(client: TestClient) -> None:
    found = client.get("/api/v1/cameras").json()["cameras"]
    assert sum(camera["tracklets"] for camera in found) == client.get("/api/v1/health").json()["tracklets"]


def test_tracklets_that_are_deleted_during_a_search_are_left_out(
    client: TestClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = client.app.state.site.service.store.vectors  # type: ignore[attr-defined]
    search, gone = vectors.search, []

    def deleting(*parts: object) -> object:
        found = search(*parts)
        if not gone:
            gone.extend(str(one) for one in found[0].id if one != name)
            vectors.delete(ids=gone[:3])
        return found

    monkeypatch.setattr(vectors, "search", deleting)
    answer = client.get("/api/v1/search", params={"tracklet": name})
    assert answer.status_code == 200
    assert not set(gone[:3]) & {hit["tracklet"] for hit in answer.json()["hits"]}


def test_deletion_is_complete(client: TestClient, name: str) -> None:
    assert client.delete(f"/api/v1/tracklets/{name}").json() == {"deleted": 1}
    assert client.get(f"/api/v1/tracklets/{name}").status_code == 404
    assert client.get(f"/api/v1/crops/0/{name}").status_code == 404


def test_searches_are_logged_with_their_purpose(serve: Serve, name: str) -> None:
    demanding = serve(purpose_required=True)
    refused = demanding.get("/api/v1/search", params={"tracklet": name})
    assert refused.status_code == 422 and "purpose" in refused.json()["error"]
    given = {"tracklet": name, "end": "2090-01-01T00:00:00+02:00"}
    demanding.get("/api/v1/search", params=given, headers={"x-purpose": "report 17"})
    (entry, *_) = demanding.get("/api/v1/audit").json()["entries"]
    assert (entry["who"], entry["action"], entry["purpose"]) == ("local", "search", "report 17")
    assert (entry["what"]["tracklet"], entry["what"]["end"]) == (name, "2089-12-31T22:00:00.000Z")


def test_the_wall_goes_on_in_the_order_of_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = client.get("/api/v1/tracklets", params={"order": "time", "limit": 1000}).json()["tracklets"]
    monkeypatch.setattr("vreid.serve.pages.PAGE", 10)
    seen: list[str] = []
    address: str | None = "/browse"
    while address is not None:
        text = client.get(address).text
        seen += re.findall(r'/api/v1/crops/0/([^"]+)"', text)
        address = next(map(unescape, re.findall(r'rel="next" href="([^"]+)"', text)), None)
    assert seen == [one["id"] for one in wanted]


@pytest.mark.parametrize("path", ["/", "/browse", "/cameras", "/audit", "/login", "/search?tracklet={name}"])
def test_pages_render(client: TestClient, name: str, path: str) -> None:
    answer = client.get(path.format(name=name))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text and " style=" not in answer.text
