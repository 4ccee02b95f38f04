"""Cases, decisions, labels, the watch-list and its webhooks."""

from __future__ import annotations

import csv
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from vreid import Store
from vreid.serve.cases import CaseBook
from vreid.serve.http_errors import HttpError
from vreid.serve.webhooks import check_webhook, send_notice
from vreid.store.labelling import read_answers

Serve = Callable[..., TestClient]


@pytest.fixture
def pair(client: TestClient, name: str) -> tuple[str, str]:
    """A tracklet and its first hit."""
    hits = client.get("/api/v1/search", params={"tracklet": name}).json()["hits"]
    return name, hits[0]["tracklet"]


def test_confirmed_matches_grow_into_a_case(client: TestClient, pair: tuple[str, str], site: Path) -> None:
    one, other = pair
    case = client.post("/api/v1/cases", json={"tracklet": one}).json()
    assert (case["number"], case["name"], case["confirmed"]) == (1, "vehicle 1", [one])
    decisions = f"/api/v1/cases/{case['number']}/decisions"
    assert client.post(decisions, json={"tracklet": other, "same": True, "other": one}).json()["confirmed"] == [
        one,
        other,
    ]
    changed = client.post(decisions, json={"tracklet": other, "same": False, "other": one}).json()
    assert (changed["confirmed"], changed["rejected"]) == ([one], [other])
    with Store.open(site, read_only=True) as store:
        first, second = sorted(pair)
        assert store.vectors.get_document(f"answers/{first}|{second}") == {"same": False}
    renamed = client.patch("/api/v1/cases/1", json={"name": "grey van", "note": "seen twice"}).json()
    assert (renamed["name"], renamed["note"]) == ("grey van", "seen twice")
    assert client.get("/api/v1/cases").json()["cases"] == [renamed]
    assert client.delete("/api/v1/cases/1").json() == {"deleted": 1}
    assert client.get("/api/v1/cases/1").status_code == 404


def test_cases_and_watches_come_in_pages(client: TestClient, name: str) -> None:
    for kind in ("cases", "watches"):
        for _ in range(5):
            client.post(f"/api/v1/{kind}", json={"tracklet": name})
        numbers, before = [], None
        while True:
            answer = client.get(f"/api/v1/{kind}", params={"limit": 2} | ({"before": before} if before else {})).json()
            numbers.append([one["number"] for one in answer[kind]])
            if (before := answer["next"]) is None:
                break
        assert numbers == [[5, 4], [3, 2], [1]]
        assert client.get(f"/api/v1/{kind}", params={"limit": 5}).json()["next"] is None
        assert client.get(f"/api/v1/{kind}", params={"limit": 0}).status_code == 422


def test_decisions_are_exported_as_labels(client: TestClient, pair: tuple[str, str], tmp_path: Path) -> None:
    one, other = pair
    client.post("/api/v1/cases", json={"tracklet": one})
    client.post("/api/v1/cases/1/decisions", json={"tracklet": other, "same": True, "other": one})
    path = tmp_path / "labels.csv"
    path.write_bytes(client.get("/api/v1/labels.csv").content)
    assert read_answers(path) == [(*sorted(pair), True)]


def test_a_case_is_exported_in_every_format(client: TestClient, pair: tuple[str, str]) -> None:
    one, other = pair
    client.post("/api/v1/cases", json={"tracklet": one, "name": "<b>bold</b>"})
    client.post("/api/v1/cases/1/decisions", json={"tracklet": other, "same": True, "other": one})
    found = {form: client.get(f"/api/v1/cases/1/export/{form}") for form in ("csv", "json", "geojson", "html")}
    assert all("attachment" in answer.headers["content-disposition"] for answer in found.values())
    rows = list(csv.DictReader(io.StringIO(found["csv"].text)))
    assert {row["tracklet"] for row in rows} == {one, other}
    assert {row["decision"] for row in rows} == {"confirmed"}
    assert len(found["json"].json()["sightings"]) == 2
    assert found["geojson"].json()["type"] == "FeatureCollection"
    page = found["html"].text
    assert (
        page.count("data:image/jpeg;base64,") == 2 and "&lt;b&gt;bold" in page and "http" not in page.split("<body>")[1]
    )
    assert client.get("/api/v1/cases/1/export/exe").status_code == 422


def test_wrong_decisions_are_errors(client: TestClient, name: str) -> None:
    assert client.post("/api/v1/cases", json={"tracklet": "nobody"}).status_code == 404
    client.post("/api/v1/cases", json={})
    decisions = "/api/v1/cases/1/decisions"
    assert client.post(decisions, json={"tracklet": "nobody", "same": True}).status_code == 404
    assert client.post(decisions, json={"tracklet": name, "same": True, "other": name}).status_code == 422
    assert client.post(decisions, json={"tracklet": name, "same": "perhaps"}).status_code == 422
    assert client.post("/api/v1/cases/9/decisions", json={"tracklet": name, "same": True}).status_code == 404


def test_a_deleted_tracklet_leaves_no_decision_behind(client: TestClient, pair: tuple[str, str], site: Path) -> None:
    one, other = pair
    client.post("/api/v1/cases", json={"tracklet": one})
    client.post("/api/v1/cases/1/decisions", json={"tracklet": other, "same": True, "other": one})
    client.delete(f"/api/v1/tracklets/{other}")
    assert client.get("/api/v1/cases/1").json()["confirmed"] == [one]
    with Store.open(site, read_only=True) as store:
        assert store.vectors.documents("answers/") == {}


def test_the_threshold_is_fitted_again_after_decisions(
    serve: Serve, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = threading.Event()
    monkeypatch.setattr("vreid.serve.background.calibrate_site", lambda vectors: fitted.set())
    client, (one, other) = serve(refit_every=2), pair
    client.post("/api/v1/cases", json={"tracklet": one})
    client.post("/api/v1/cases/1/decisions", json={"tracklet": other, "same": True, "other": one})
    assert not fitted.wait(0.1)
    client.post("/api/v1/cases/1/decisions", json={"tracklet": other, "same": False, "other": one})
    assert fitted.wait(10)
    assert client.get("/api/v1/threshold").json()["answers"] == 1
    fitted.clear()
    assert client.post("/api/v1/threshold").status_code == 202
    assert fitted.wait(10)


def test_pages_of_cases_and_their_forms(client: TestClient, pair: tuple[str, str], form_token: str) -> None:
    one, other = pair
    fields = {"form_token": form_token, "tracklet": other, "other": one, "same": "yes"}
    assert client.post("/decide", data=fields, files={"none": b""}).url.path == "/cases/1"
    part = client.post(
        "/decide", data={**fields, "case": "1", "same": "no"}, files={"n": b""}, headers={"hx-request": "true"}
    )
    assert "Rejected" in part.text and "<html" not in part.text
    assert "vehicle 1" in client.get("/cases").text
    named = {"form_token": form_token, "name": "white van", "note": ""}
    assert "white van" in client.post("/cases/1/change", data=named, files={"n": b""}).text
    watched = {"form_token": form_token, "tracklet": one, "name": "him"}
    assert "him" in client.post("/watch", data=watched, files={"n": b""}).text
    assert "him" not in client.post("/watch", data={"form_token": form_token, "delete": "1"}, files={"n": b""}).text
    client.post("/cases/1/change", data={"form_token": form_token, "delete": "1"}, files={"n": b""})
    assert client.get("/cases/1").status_code == 404
    assert client.post("/decide", data={**fields, "form_token": "forged"}, files={"n": b""}).status_code == 403


@pytest.fixture
def form_token(client: TestClient) -> str:
    return client.get("/").text.partition('name="form_token" value="')[2].partition('"')[0]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """URL of a receiver on loopback, and what it has received; it redirects on /redirect."""
    received: list[dict[str, object]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("location", "/elsewhere")
            else:
                received.append(json.loads(content))
                self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    server.server_close()


def test_new_sightings_of_a_watched_vehicle_are_listed_and_sent(
    serve: Serve, pair: tuple[str, str], site: Path, receiver: tuple[str, list[dict[str, object]]]
) -> None:
    url, received = receiver
    one, other = pair
    with Store.open(site) as store:
        gone = store.tracklet(other)
        store.delete([other])
        client = serve(watch_seconds=0.05)
        made = client.post("/api/v1/watches", json={"tracklet": one, "webhook": url}).json()
        assert made["sightings"] == []
        store.add(gone)
    for _ in range(200):
        found = client.get("/api/v1/watches/1").json()["sightings"]
        if found and found[0]["sent"]:
            break
        threading.Event().wait(0.05)
    assert [one["tracklet"] for one in found] == [other] and found[0]["sent"] is True
    assert [notice["sighting"]["tracklet"] for notice in received] == [other]  # type: ignore[index]
    assert client.delete("/api/v1/watches/1").json() == {"deleted": 1}


def test_an_uploaded_image_can_be_watched(client: TestClient, jpeg: bytes) -> None:
    upload = client.post("/api/v1/search", content=jpeg, headers={"content-type": "image/jpeg"}).json()["query"]
    made = client.post("/api/v1/watches", json={"upload": upload["upload"]}).json()
    assert client.get(made["image"]).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://user:word@localhost/",
        "http://localhost@example.org/",
        "http://127.0.0.1.example.org/",
        "http://localhost:99999/",
        "http://[::ffff:8.8.8.8]/",
        "http://localhost/\r\nx: y",
        "javascript:alert(1)",
        "",
    ],
)
def test_webhooks_go_to_loopback_and_allowed_hosts_only(url: str) -> None:
    with pytest.raises(HttpError):
        check_webhook(url, ["hooks.example.net"])


def test_webhooks_follow_no_redirect(receiver: tuple[str, list[dict[str, object]]]) -> None:
    url, received = receiver
    check_webhook("https://hooks.example.net/x", ["hooks.example.net"])
    assert send_notice(url, {"a": 1}, [])
    assert not send_notice(url.replace("/hook", "/redirect"), {"a": 1}, [])
    assert not send_notice("http://127.0.0.1:1/", {"a": 1}, [])
    assert received == [{"a": 1}]


def test_decisions_of_several_threads_are_all_kept(site: Path) -> None:
    with Store.open(site) as store:
        book = CaseBook(store.vectors)
        book.open("test")
        threads = [
            threading.Thread(target=lambda at=at: [book.decide(1, f"{at}/{n}", True, "test") for n in range(5)])
            for at in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(book.get(1).confirmed) == 20
