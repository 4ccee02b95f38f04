"""The pages in a browser: each flow as a user walks it, the keys, a phone, dark colours, and the checks of axe-core.

Needs the packages playwright and axe-playwright-python and a Chromium of the system (`make test-browser`).
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vreid import Store
from vreid.data.cameras import Camera
from vreid.store.store import CAMERA

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: make test-browser")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

DROP = """([name, kind, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type: kind }));
  for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: dropped, bubbles: true, cancelable: true }));
}"""
PASTE = DROP.replace(
    """for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: dropped, bubbles: true, cancelable: true }));""",
    'document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: dropped, bubbles: true }));',
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def listen(site: Path) -> Iterator[Callable[..., str]]:
    """Serves the store on a free port with the given settings; gives the address."""
    import uvicorn

    from vreid.serve.app import create_app
    from vreid.serve.settings import ServeConfig

    started = []
    with Store.open(site) as store:
        for number, name in enumerate(store.cameras()):
            placed = Camera(
                name, latitude=52.5 + 0.002 * number, longitude=13.4 + 0.003 * number, heading=90.0 * number
            )
            store.vectors.put_document(CAMERA + name, asdict(placed))

    def listening(**settings: object) -> str:
        one = socket.create_server(("127.0.0.1", 0))
        app = create_app(Store.open(site), ServeConfig(**settings))  # type: ignore[arg-type]
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [one]}, daemon=True)
        thread.start()
        started.append((server, thread))
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        return f"http://127.0.0.1:{one.getsockname()[1]}"

    yield listening
    for server, thread in started:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def visit(browser: Any, listen: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Opens the start page in a new context; no page may load anything from elsewhere or write an error."""
    contexts, problems = [], []

    def visited(
        path: str = "/",
        width: int = 1280,
        served: dict[str, object] | None = None,
        errors: bool = False,
        **options: Any,
    ) -> Any:
        address = listen(**(served or {}))
        context = browser.new_context(base_url=address, viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        if not errors:
            page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
        page.on("request", lambda one: one.url.startswith((address, "blob:", "data:")) or problems.append(one.url))
        page.goto(path)
        return page

    yield visited
    for context in contexts:
        context.close()
    assert not problems, problems


@pytest.fixture
def crop(site: Path) -> tuple[str, bytes]:
    """A tracklet of the store and its best image."""
    with Store.open(site, read_only=True) as store:
        name = str(next(iter(store.vectors.scan(limit=1))).id[0])
        return name, store.crop(f"{name}#0").jpeg


def drop(page: Any, jpeg: bytes, *, kind: str = "image/jpeg", script: str = DROP) -> None:
    page.evaluate(script, ["vehicle.jpg", kind, base64.b64encode(jpeg).decode()])


def first_hit(page: Any) -> str:
    found: str = page.locator(".card input[name=tracklet]").first.input_value()
    return found


@pytest.mark.parametrize("script", [DROP, PASTE], ids=["dropped", "pasted"])
def test_an_image_is_searched(visit: Callable[..., Any], crop: tuple[str, bytes], script: str) -> None:
    page = visit()
    drop(page, crop[1], script=script)
    page.wait_for_url(re.compile("upload="))
    page.wait_for_selector(".card .badge")
    assert first_hit(page) == crop[0]
    assert "Uploaded image" in page.inner_text(".query")
    assert "% are wrong" in page.inner_text(".legend")


def test_what_is_no_image_is_explained_where_it_was_dropped(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit(errors=True)
    drop(page, b"GIF89a", kind="image/gif")
    page.get_by_text("no JPEG, PNG or WebP").wait_for()
    drop(page, crop[1][:200])
    page.locator("#problem p:not(:empty)").wait_for()
    assert page.url.endswith("/")
    page.get_by_role("button", name="Dismiss").click()
    assert page.locator("#problem").is_hidden()


def test_filters_act_at_once_and_can_be_taken_back(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit(f"/search?tracklet={crop[0]}")
    page.evaluate("window.stayed = true")
    cameras = page.locator(".card .facts strong")
    before, camera = cameras.count(), cameras.first.inner_text()
    page.locator(".chip", has_text=camera).first.click()
    page.wait_for_url(re.compile("camera="))
    expect(cameras.filter(has_not_text=camera)).to_have_count(0)
    assert cameras.count()
    assert page.evaluate("window.stayed"), "the page was not loaded again"
    page.locator(".filters input[name=start]").fill("2090-01-01T00:00")
    page.get_by_role("heading", name="No tracklet is left by the filters").wait_for()
    page.get_by_role("link", name="Reset the filters").click()
    expect(page.locator(".card")).to_have_count(before)


def test_confirmed_hits_grow_into_a_case_that_is_exported(
    visit: Callable[..., Any], crop: tuple[str, bytes], tmp_path: Path
) -> None:
    page = visit(f"/search?tracklet={crop[0]}")
    hit = first_hit(page)
    page.locator(".card .yes").nth(0).click()
    page.locator(".card .yes[aria-pressed=true]").wait_for()
    page.locator(".card .no").nth(1).click()
    page.get_by_text("2 confirmed, 1 rejected").wait_for()
    page.reload()
    assert page.locator(".card .yes").nth(0).inner_text() == "Confirmed"
    page.locator("#case-bar a").click()
    page.wait_for_url("**/cases/1")
    assert page.locator(".line li[data-step]").count() == 2
    assert page.locator(".map .step").count() in (1, 2), "sightings at one place share a marker"
    contents = {}
    for name in ("CSV", "JSON", "GeoJSON", "Page"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        file = tmp_path / name
        download.value.save_as(file)
        contents[name] = file.read_text(encoding="utf-8")
    assert hit in contents["CSV"] and "data:image/jpeg" in contents["Page"]
    assert {one["tracklet"] for one in json.loads(contents["JSON"])["sightings"]} >= {hit, crop[0]}
    assert json.loads(contents["GeoJSON"])["type"] == "FeatureCollection"
    page.get_by_text("Name and note").click()
    page.get_by_label("Name", exact=True).fill("van of the night")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="van of the night").wait_for()
    page.goto("/cases")
    page.get_by_role("link", name="van of the night").wait_for()


def test_decisions_about_an_upload_stay_in_one_case(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit()
    drop(page, crop[1])
    page.locator(".card .yes").nth(0).click()
    page.get_by_text("1 confirmed, 0 rejected").wait_for()
    page.locator(".chip", has_text=page.locator(".card .facts strong").first.inner_text()).first.click()
    page.wait_for_url(re.compile("camera=.*case=1"))
    page.locator(".card .no").nth(1).click()
    page.get_by_text("1 confirmed, 1 rejected").wait_for()
    page.locator(".card .yes[aria-pressed=true]").first.click()
    page.get_by_text("0 confirmed, 1 rejected").wait_for()


def test_two_vehicles_are_compared_with_one_zoom(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit(f"/search?tracklet={crop[0]}")
    page.locator("a.look").first.click()
    dialog = page.locator("#comparison[open]")
    dialog.locator(".pane img").nth(1).wait_for()
    dialog.locator(".pane").first.hover()
    page.mouse.wheel(0, -400)
    expect(page.locator(".pane.zoomed")).to_have_count(2)
    both = page.evaluate("[...document.querySelectorAll('.pane img')].map((one) => one.style.transform)")
    assert both[0] == both[1] and "scale(1)" not in both[0]
    second = dialog.locator("section").nth(1)
    before = second.locator(".pane img").get_attribute("src")
    dialog.get_by_role("button", name="Next").click()
    expect(second.locator(".pane img")).not_to_have_attribute("src", before)
    dialog.locator(".yes").click()
    dialog.locator(".yes[aria-pressed=true]").wait_for()
    assert page.locator(".card .yes").nth(1).get_attribute("aria-pressed") == "true", "the card shows it as well"


def test_everything_can_be_done_with_the_keyboard(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit()
    press = page.keyboard.press
    press("/")
    assert page.evaluate("document.activeElement.dataset.do") == "choose"
    press("?")
    page.locator("#help[open]").wait_for()
    press("Escape")
    page.evaluate("document.activeElement.blur()")
    press("ArrowRight")
    press("Enter")
    page.wait_for_url(re.compile("tracklet="))
    press("ArrowRight")
    press("ArrowRight")
    expect(page.locator("#hit-2")).to_be_focused()
    press("y")
    page.get_by_text("2 confirmed, 0 rejected").wait_for()
    press("c")
    page.locator("#comparison[open] .pane img").first.wait_for()
    press("+")
    page.wait_for_selector(".pane.zoomed")
    press("n")
    page.get_by_text("1 confirmed, 1 rejected").wait_for()
    press("ArrowRight")
    page.locator("#comparison input[name=card][value='3']").wait_for(state="attached")
    press("Escape")
    page.locator("#comparison:not([open])").wait_for(state="attached")
    expect(page.locator("#hit-3")).to_be_focused()


@pytest.mark.parametrize("path", ["/", "/search", "/browse", "/compare", "/trips", "/cameras", "/audit", "/tokens"])
def test_a_phone_shows_each_page_in_its_width(visit: Callable[..., Any], crop: tuple[str, bytes], path: str) -> None:
    query = {"/search": f"?tracklet={crop[0]}", "/compare": f"?a={crop[0]}&b={crop[0]}"}.get(path, "")
    page = visit(path + query, width=360, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if path == "/search":
        assert page.locator(".card").first.is_visible()
        assert page.locator("details.filters").get_attribute("open") is None, "the results come first"


def test_dark_follows_the_system_and_can_be_chosen(visit: Callable[..., Any]) -> None:
    page = visit(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Switch between light and dark").click()
    light = page.evaluate(ground)
    assert sum(map(int, dark[4:-1].split(","))) < 150 < 600 < sum(map(int, light[4:-1].split(",")))
    page.goto("/browse")
    assert page.evaluate(ground) == light


def test_a_long_list_grows(visit: Callable[..., Any], crop: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from vreid.serve import pages

    monkeypatch.setattr(pages, "PAGE", 5)
    page = visit("/browse")
    more = page.get_by_role("link", name="More", exact=True)
    for count in (5, 10, 15):
        expect(page.locator("#wall > li")).to_have_count(count)
        more.click()
    names = page.eval_on_selector_all("#wall a.shot", "all => all.map((one) => one.href)")
    assert len(set(names)) == len(names)
    page.goto(f"/search?tracklet={crop[0]}&top=5")
    page.get_by_role("link", name="More results").click()
    expect(page.locator(".card")).to_have_count(10)


def test_a_vehicle_is_watched(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit(f"/search?tracklet={crop[0]}")
    page.get_by_text("Watch this vehicle").click()
    page.get_by_label("Name", exact=True).fill("white van")
    page.get_by_role("button", name="Watch", exact=True).click()
    page.get_by_role("heading", name="white van").wait_for()
    page.get_by_text("No new sighting since then").wait_for()
    page.on("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Stop watching white van").click()
    page.get_by_role("heading", name="Nothing is watched").wait_for()


def test_a_login_is_asked_for_and_tokens_are_made(visit: Callable[..., Any], site: Path) -> None:
    from vreid.serve.auth import Tokens

    with Store.open(site) as store:
        token = Tokens(store.vectors).create("chief", "admin")
    page = visit("/tokens", served={"require_token": True, "purpose_required": True}, errors=True)
    page.get_by_label("Access token").fill("chief.wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("The access token is wrong").wait_for()
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Access").wait_for()
    page.get_by_label("Name").fill("guest")
    page.get_by_role("button", name="Make the token").click()
    assert page.locator("#token").inner_text().startswith("guest.")
    page.goto("/browse")
    page.locator("a.shot").first.click()
    page.get_by_label("Purpose").fill("stolen van, report 7")
    page.get_by_role("button", name="Search").click()
    page.locator(".card").first.wait_for()
    page.goto("/audit")
    assert "stolen van, report 7" in page.inner_text("#entries")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")


def test_an_image_is_searched_without_scripts(visit: Callable[..., Any], crop: tuple[str, bytes]) -> None:
    page = visit(java_script_enabled=False)
    image = {"name": "vehicle.jpg", "mimeType": "image/jpeg", "buffer": crop[1]}
    page.locator("input[type=file]").set_input_files(image)
    page.locator(".upload button.without-script").click()
    page.wait_for_url(re.compile("upload="))
    assert first_hit(page) == crop[0]
    page.locator(".card .yes").first.click()
    assert page.locator(".card .yes").first.inner_text() in ("Same", "Confirmed")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Callable[..., Any], crop: tuple[str, bytes], scheme: str) -> None:
    checker = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(f"/search?tracklet={crop[0]}", color_scheme=scheme, errors=True)

    def check(what: str) -> None:
        page.wait_for_load_state("networkidle")
        found = checker.run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, (what, [(one["id"], one["nodes"][0]["html"][:300]) for one in serious])

    page.locator(".card .yes").first.click()
    page.locator(".card .no").nth(1).click()
    page.get_by_text("2 confirmed, 1 rejected").wait_for()
    check("search with decisions")
    page.locator("a.look").first.click()
    page.locator("#comparison[open] .pane img").first.wait_for()
    check("comparison")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check("help")
    page.keyboard.press("Escape")
    page.get_by_text("Watch this vehicle").click()
    page.get_by_role("button", name="Watch", exact=True).click()
    page.locator(".watch").wait_for()
    pages = [
        "/",
        "/browse",
        "/cases",
        "/cases/1",
        "/watch",
        "/trips",
        "/cameras",
        "/audit",
        "/tokens",
        "/login",
        "/missing",
    ]
    pages += [f"/compare?a={crop[0]}&b={crop[0]}", f"/search?tracklet={crop[0]}&start=2090-01-01T00:00:00"]
    for path in pages:
        page.goto(path)
        check(path)
