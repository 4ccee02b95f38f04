"""Tokens, roles, sessions, hosts, cross-site requests, limits and headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from h11 import LocalProtocolError
from starlette.testclient import TestClient
from starlette.types import Message

from support.command_line import Run, reported
from vreid import Store
from vreid.errors import InputError
from vreid.serve.audit import AuditLog
from vreid.serve.auth import Sessions, Tokens
from vreid.serve.settings import ServeConfig
from vreid.store.interface import NO_TIME

Serve = Callable[..., TestClient]


@pytest.fixture
def tokens(site: Path) -> dict[str, str]:
    """An access token of each role."""
    with Store.open(site) as store:
        made = Tokens(store.vectors)
        return {"viewer": made.create("vera", "viewer"), "reviewer": made.create("rolf", "reviewer")} | {
            "admin": made.create("ada", "admin")
        }


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_loopback_needs_no_token_and_more_does() -> None:
    assert not ServeConfig().tokens_needed
    assert ServeConfig(host="0.0.0.0", allowed_hosts=("site.example",)).tokens_needed
    assert ServeConfig(allowed_hosts=("site.example",)).tokens_needed
    assert ServeConfig(require_token=True).tokens_needed
    with pytest.raises(InputError, match="--allow-host"):
        ServeConfig(host="0.0.0.0")


def test_roles(serve: Serve, tokens: dict[str, str]) -> None:
    client = serve(require_token=True)
    assert client.get("/api/v1/health").json() == {"status": "ok", "version": None, "tracklets": None}
    assert client.get("/api/v1/cameras").status_code == 401
    assert client.get("/api/v1/cameras", headers=bearer("vera.wrong")).status_code == 401
    allowed = {
        ("GET", "/api/v1/tracklets"): "viewer",
        ("GET", "/api/v1/cases"): "viewer",
        ("GET", "/api/v1/metrics"): "viewer",
        ("POST", "/api/v1/cases"): "reviewer",
        ("GET", "/api/v1/labels.csv"): "reviewer",
        ("GET", "/api/v1/audit"): "admin",
        ("DELETE", "/api/v1/tracklets/nobody"): "admin",
        ("POST", "/api/v1/threshold"): "admin",
    }
    for (method, path), least in allowed.items():
        for role, token in tokens.items():
            json = {} if method == "POST" else None
            answer = client.request(method, path, headers=bearer(token), json=json)
            refused = list(tokens).index(role) < list(tokens).index(least)
            assert (answer.status_code == 403) == refused, (method, path, role, answer.text)


def test_webhooks_need_the_role_admin(serve: Serve, tokens: dict[str, str]) -> None:
    client = serve(require_token=True)
    some = client.get("/api/v1/tracklets", headers=bearer(tokens["viewer"])).json()["tracklets"][0]["id"]
    new = {"tracklet": some, "webhook": "http://localhost/"}
    answer = client.post("/api/v1/watches", json=new, headers=bearer(tokens["reviewer"]))
    assert answer.status_code == 403 and "admin" in answer.json()["error"]


def test_every_path_of_the_api_needs_a_token(serve: Serve) -> None:
    client = serve(require_token=True)
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert len(paths) > 15
    for path, methods in paths.items():
        for method in methods:
            filled = path.replace("{number}", "1").replace("{id}", "a").replace("{key}", "k").replace("{form}", "csv")
            status = client.request(method, filled).status_code
            assert status == (200 if path == "/api/v1/health" else 401), (method, path)


def test_tokens_are_kept_as_hashes_and_can_be_deleted(site: Path) -> None:
    with Store.open(site) as store:
        tokens = Tokens(store.vectors)
        token = tokens.create("ada", "admin")
        assert token not in str(store.vectors.documents()) and "argon2id" in str(store.vectors.documents("tokens/"))
        found = tokens.verify(token)
        assert found is not None and (found[0], found[1].role) == ("ada", "admin")
        assert tokens.verify(token + "x") is None and tokens.verify("ada.") is None and tokens.verify("") is None
        again = tokens.create("ada", "viewer")
        assert tokens.verify(token) is None and tokens.verify(again) is not None
        assert tokens.delete("ada") and tokens.verify(again) is None and not tokens.delete("ada")
        for name in ("", "a b", "../x", "ä"):
            with pytest.raises(InputError, match="name it"):
                tokens.create(name, "viewer")


def test_wrong_tokens_are_limited(serve: Serve, tokens: dict[str, str]) -> None:
    client = serve(require_token=True, failures_per_minute=3)
    statuses = [client.get("/api/v1/cameras", headers=bearer("ada.guess")).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    assert client.get("/api/v1/cameras", headers=bearer(tokens["viewer"])).status_code == 429


def test_sessions_of_the_pages(serve: Serve, tokens: dict[str, str], site: Path) -> None:
    client = serve(require_token=True)
    first = client.get("/browse?camera=")
    assert first.url.path == "/login" and first.url.params["back"] == "/browse?camera="
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    form_token = first.text.partition('name="form_token" value="')[2].partition('"')[0]

    def log_in(token: str, form: str = form_token, back: str = "/browse") -> object:
        return client.post("/login", data={"token": token, "form_token": form, "back": back}, files={"n": b""})

    assert log_in("ada.wrong").status_code == 401  # type: ignore[attr-defined]
    assert log_in(tokens["viewer"], form="forged").status_code == 403  # type: ignore[attr-defined]
    assert log_in(tokens["viewer"], back="//evil.example").url.path == "/"  # type: ignore[attr-defined]
    assert client.get("/browse").status_code == 200
    assert client.get("/audit").status_code == 403
    changed = client.get("/").text.partition('name="form_token" value="')[2].partition('"')[0]
    assert changed != form_token
    assert client.post("/api/v1/cases", json={}).status_code == 403, "a viewer"
    with Store.open(site) as store:
        Tokens(store.vectors).create("vera", "reviewer")
    assert client.post("/api/v1/cases", json={}).status_code == 403, "no form token"
    assert client.post("/api/v1/cases", json={}, headers={"x-form-token": changed}).status_code == 201
    with Store.open(site) as store:
        Tokens(store.vectors).delete("vera")
    assert client.get("/browse").url.path == "/login", "sessions end with their token"


def test_forged_and_old_cookies_are_worthless() -> None:
    sessions = Sessions(0.0)
    cookie = sessions.start("ada")
    assert Sessions(60).name_of(cookie) is None
    assert sessions.name_of("") is None and sessions.name_of("x.y.z") is None
    time.sleep(1.1)
    assert sessions.name_of(cookie) is None
    assert not sessions.is_form_token(cookie, "") and sessions.is_form_token(cookie, sessions.form_token(cookie))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "LOCALHOST:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"x-forwarded-for": "203.0.113.9"}, 403),
        ({"forwarded": "for=203.0.113.9"}, 403),
    ],
)
def test_only_this_machine_is_answered(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/v1/health", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8", "203.0.113.9"), "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        (("127.0.0.1",), "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (("192.0.2.1",), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "", "127.0.0.1"),
    ],
)
def test_only_a_named_proxy_says_who_the_client_is(
    serve: Serve, tokens: dict[str, str], proxies: tuple[str, ...], forwarded: str, address: str
) -> None:
    served: Any = serve(require_token=True, allowed_hosts=("vreid.example.org",), proxies=proxies)
    client = TestClient(served.app, base_url="http://vreid.example.org:8443", client=("127.0.0.1", 1))
    proxied = {"x-forwarded-for": forwarded, "x-forwarded-proto": "https", **bearer(tokens["admin"])}
    made = client.post("/api/v1/cases", json={}, headers={"origin": "https://vreid.example.org:8443", **proxied})
    assert made.status_code == 201, made.text
    (entry,) = client.get("/api/v1/audit", headers=proxied).json()["entries"]
    assert (entry["action"], entry["address"]) == ("open case", address)
    led = client.get("/cases/", headers=proxied, follow_redirects=False)
    scheme = "https" if "127." in str(proxies) else "http"
    assert led.headers["location"] == f"{scheme}://vreid.example.org:8443/cases"


def test_wrong_tokens_behind_a_proxy_lock_out_their_sender_only(serve: Serve, tokens: dict[str, str]) -> None:
    served: Any = serve(require_token=True, failures_per_minute=2, proxies=("127.0.0.1",))
    client = TestClient(served.app, base_url="http://localhost", client=("127.0.0.1", 1))

    def status(token: str, address: str) -> int:
        return client.get("/api/v1/cameras", headers={**bearer(token), "x-forwarded-for": address}).status_code

    assert [status("ada.guess", "203.0.113.9") for _ in range(3)] == [401, 401, 429]
    assert status(tokens["viewer"], "198.51.100.1") == 200


def test_proxies_are_addresses() -> None:
    with pytest.raises(InputError, match="--proxy nginx"):
        ServeConfig(proxies=("nginx",))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://localhost", "sec-fetch-site": "same-origin"}, 201),
        ({}, 201),
    ],
)
def test_pages_of_other_sites_change_nothing(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/v1/cases", json={}, headers=headers).status_code == status


def test_bodies_are_limited_in_bytes(serve: Serve) -> None:
    client = serve(upload_bytes=2000)
    kind = {"content-type": "image/png"}
    assert client.post("/api/v1/search", content=b"x" * 2001, headers=kind).status_code == 413
    assert client.post("/api/v1/search", content=(b"x" * 500 for _ in range(10)), headers=kind).status_code == 413
    assert client.post("/api/v1/search", content=b"x" * 2000, headers=kind).status_code == 415
    wrong = client.post("/api/v1/search", content=b"", headers={**kind, "content-length": "-5"})
    assert wrong.status_code in (400, 413)


def test_deep_and_odd_json_is_refused(client: TestClient) -> None:
    for body in (b"[" * 200_000, b'{"name": ' * 5000, b"\xff\xfe", b'{"name": 1e400}', b'{"name":"\\ud800"}', b"NaN"):
        answer = client.post("/api/v1/cases", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (body[:20], answer.text)


@pytest.mark.parametrize(
    ("path", "fields", "part"),
    [
        ("/watch", {"tracklet": "a" * 600}, "`tracklet`"),
        ("/watch", {"upload": "a" * 200}, "`upload`"),
        ("/watch", {"tracklet": "a", "name": "a" * 200}, "`name`"),
        ("/decide", {"same": "yes"}, "`tracklet`"),
        ("/decide", {"same": "yes", "tracklet": "a", "other": "a" * 600}, "`other`"),
        ("/trips/decide", {"same": "no", "first": "a"}, "`second`"),
    ],
)
def test_fields_of_forms_are_limited(client: TestClient, path: str, fields: dict[str, str], part: str) -> None:
    token = client.get("/").text.partition("X-Form-Token")[2].split('"')[2]
    answer = client.post(path, files={name: (None, value) for name, value in {"form_token": token, **fields}.items()})
    assert answer.status_code == 422 and part in answer.text


@pytest.mark.parametrize("path", ["/api/v1/search", "/search", "/api/v1/nothing"])
@pytest.mark.parametrize("host", [b"localhost", b"evil.example"])
def test_a_client_that_goes_away_is_no_error(
    client: TestClient, caplog: pytest.LogCaptureFixture, path: str, host: bytes
) -> None:
    """A body that breaks off, or a connection that takes no answer, gives no traceback, and is counted."""
    app: Any = client.app

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise LocalProtocolError("can't handle event type Response when role=SERVER and state=MUST_CLOSE")

    headers = [(b"host", host), (b"content-type", b"image/png"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80)}
    asyncio.run(app(scope | {"scheme": "http", "http_version": "1.1", "root_path": ""}, receive, send))
    assert not caplog.records
    assert 'status="499"' in client.get("/api/v1/metrics").text


def test_addresses_are_limited(client: TestClient) -> None:
    assert client.get("/api/v1/search?tracklet=" + "a" * 20_000).status_code == 414


def test_rates_are_limited(serve: Serve) -> None:
    client = serve(searches_per_minute=2, requests_per_minute=20)
    some = client.get("/api/v1/tracklets", params={"limit": 1}).json()["tracklets"][0]["id"]
    statuses = [client.get("/api/v1/search", params={"tracklet": some}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    last = [client.get("/api/v1/health") for _ in range(20)][-1]
    assert last.status_code == 429 and last.headers["retry-after"] == "60"


def test_a_busy_service_says_so(serve: Serve, jpeg: bytes) -> None:
    client = serve(searches_at_once=1, busy_seconds=0.05)
    with client.app.state.site.service.turn():  # type: ignore[attr-defined]
        answer = client.post("/api/v1/search", content=jpeg, headers={"content-type": "image/jpeg"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for path in ("/", "/nothing", "/api/v1/health", "/api/v1/nothing", "/static/style.css", "/static/../app.py"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_an_unexpected_error_shows_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(client.app.state.site.service.store.vectors, "count", broken)  # type: ignore[attr-defined]
    answer = client.get("/api/v1/health")
    assert answer.status_code == 500 and "secret" not in answer.text and "Traceback" not in answer.text
    monkeypatch.setattr(client.app.state.site.service.store.vectors, "count", _failing)  # type: ignore[attr-defined]
    answer = client.get("/api/v1/health")
    assert answer.status_code == 503 and "/srv" not in answer.text


def _failing(*_: object) -> None:
    raise InputError("/srv/site: the disk is full.")


def test_plates_are_blurred_in_all_that_leaves(serve: Serve, name: str, jpeg: bytes) -> None:
    client = serve(blur="band")
    blurred = client.get(f"/api/v1/crops/0/{name}")
    assert blurred.content != jpeg and blurred.headers["etag"].endswith('-band"')
    assert client.get(f"/api/v1/crops/0/{name}").content == blurred.content
    upload = client.post("/api/v1/search", content=jpeg, headers={"content-type": "image/jpeg"}).json()
    assert len(client.get(upload["query"]["image"]).content) < len(jpeg)
    with pytest.raises(InputError, match="blur"):
        serve(blur="everything")


def test_retention_deletes_what_is_old(serve: Serve, site: Path) -> None:
    with Store.open(site) as store:
        batches = list(store.scan())
        timed = sum(int((batch.start != NO_TIME).sum()) for batch in batches)
        untimed = len(store) - timed
    client = serve(retention_days=1, audit_days=1)
    for _ in range(200):
        if entries := client.get("/api/v1/audit").json()["entries"]:
            break
        time.sleep(0.05)
    assert timed and client.get("/api/v1/health").json()["tracklets"] == untimed
    (entry, *_) = entries
    assert (entry["who"], entry["what"]["tracklets"]) == ("retention", timed)


def test_the_audit_log_is_append_only(tmp_path: Path) -> None:
    import sqlite3

    log = AuditLog(tmp_path / "audit.sqlite")
    for number in range(5):
        log.append("ada", "127.0.0.1", "search", {"tracklet": f"a/{number}"}, "case 3")
    other = sqlite3.connect(tmp_path / "audit.sqlite")
    for change in ("UPDATE entries SET who = 'nobody'", "DELETE FROM entries"):
        with pytest.raises(sqlite3.DatabaseError, match="audit log"):
            other.execute(change)
    other.close()
    first = log.entries(limit=2)
    assert [entry.what["tracklet"] for entry in first] == ["a/4", "a/3"]
    assert [entry.what["tracklet"] for entry in log.entries(before=first[-1].number)] == ["a/2", "a/1", "a/0"]
    assert log.delete_before(time.time() + 1) == 5 and log.entries() == []
    log.close()


def test_tokens_on_the_command_line(run: Run, site: Path) -> None:
    made = run(f"serve {site} --new-token ada --role admin")
    assert made.code == 0 and made.out.startswith("ada.")
    with Store.open(site) as store:
        assert Tokens(store.vectors).verify(made.out.strip()) is not None
    reported(run(f"serve {site} --new-token 'a b'"), "name it with")
    reported(run(f"serve {site} --new-token ada --role king"), "viewer, reviewer, admin")
    assert run(f"serve {site} --delete-token ada").code == 0
    reported(run(f"serve {site} --delete-token ada"), "no such token")
    reported(run(f"serve {site}-absent"), "holds no store")
    reported(run(f"serve {site} --host 0.0.0.0"), "--allow-host")
    reported(run(f"serve {site} --host 203.0.113.1"), "cannot listen")
