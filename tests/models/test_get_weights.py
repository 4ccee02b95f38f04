"""Fetching published weights: full and resumed downloads, local copies, damaged files, offline, command line."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from support.command_line import Run
from support.listeners import Steps
from vreid.errors import InputError
from vreid.models import build, build_backbone, published
from vreid.models.published import FOLDER, Published, get_weights, weights_folder

CONTENT = bytes(range(256)) * 5000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"net-{DIGITS}.pth"


class Server(ThreadingHTTPServer):
    """Serves CONTENT under any path; its fields say how badly."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = CONTENT
        self.ranges = True
        self.break_after: int | None = None
        self.asked: list[str | None] = []

    def published(self, name: str = NAME) -> Published:
        return Published("resnet50_ibn_a", f"http://127.0.0.1:{self.server_port}/v1.0/{name}")


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted, content = self.headers.get("Range"), self.server.content
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if "absent" in self.path:
            return self.send_error(404)
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.break_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_whole_download_is_checked_and_not_repeated(server: Server, tmp_path: Path) -> None:
    steps = Steps()
    path = get_weights(server.published(), folder=tmp_path / "new", progress=steps)
    assert path == tmp_path / "new" / NAME and path.read_bytes() == CONTENT
    assert steps.seen[-1] == (len(CONTENT), len(CONTENT)) and steps.seen == sorted(steps.seen)
    assert get_weights(server.published(), folder=tmp_path / "new") == path
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == [NAME]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.break_after, server.ranges = 1000, ranges
    with pytest.raises(InputError, match=r"cannot be fetched .*1,000 bytes are kept; try again.*--from FILE"):
        get_weights(server.published(), folder=tmp_path)
    assert not (tmp_path / NAME).exists()
    server.break_after = None
    assert get_weights(server.published(), folder=tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


def test_a_complete_partial_file_is_accepted(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT)
    assert get_weights(server.published(), folder=tmp_path).read_bytes() == CONTENT


def test_a_damaged_part_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(b"x" * 1000)
    with pytest.raises(
        InputError, match=rf"sha256 begins with [0-9a-f]{{8}}, not {DIGITS}.*has been removed; try again"
    ):
        get_weights(server.published(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert get_weights(server.published(), folder=tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="remove it and try again"):
        get_weights(server.published(), folder=tmp_path)


def test_absent_and_offline_are_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be fetched .404 Not Found.; try again") as caught:
        get_weights(server.published(f"absent-{DIGITS}.pth"), folder=tmp_path)
    assert "\n" not in str(caught.value)
    nobody = Published("resnet50_ibn_a", f"http://127.0.0.1:{server.server_port}/{NAME}")
    server.server_close()
    with pytest.raises(InputError, match="`vreid weights get resnet50_ibn_a --from FILE`") as caught:
        get_weights(nobody, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_local_copy_is_checked_too(tmp_path: Path) -> None:
    one = Published("resnet50_ibn_a", f"http://127.0.0.1:9/{NAME}")
    (tmp_path / "copy").write_bytes(CONTENT)
    assert get_weights(one, folder=tmp_path, source=tmp_path / "copy").read_bytes() == CONTENT
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(InputError, match="it is damaged or another file"):
        get_weights(one, folder=tmp_path / "b", source=tmp_path / "other")
    with pytest.raises(InputError, match="cannot be read"):
        get_weights(one, folder=tmp_path / "b", source=tmp_path / "nothing")
    assert not (tmp_path / "b").exists()


def test_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "vreid" / "weights"
    monkeypatch.setenv(FOLDER, str(tmp_path / "here"))
    assert weights_folder() == tmp_path / "here"


def test_weights_are_found_in_the_store_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER, str(tmp_path / "store"))
    tiny = "resnet10_ibn_a_tiny"
    monkeypatch.setattr(published, "PUBLISHED", {tiny: Published(tiny, f"http://127.0.0.1:9/{NAME}")})
    for name in (NAME, tiny):
        with pytest.raises(InputError, match=f"`vreid weights get {tiny}` fetches {NAME}"):
            build(tiny, weights=name)
    (tmp_path / "store").mkdir()
    backbone = build_backbone(tiny)
    torch.save(backbone.state_dict(), tmp_path / "store" / NAME)
    for name in (NAME, tiny):
        model = build(tiny, weights=name)
        torch.testing.assert_close(model.backbone.state_dict()["bn1.weight"], backbone.state_dict()["bn1.weight"])
        torch.testing.assert_close(
            model.backbone.state_dict()["conv1.0.weight"], backbone.state_dict()["conv1.0.weight"]
        )


def test_weights_on_the_command_line(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "store"))
    listed = run("weights list")
    assert listed.code == 0 and listed.out.count("absent") == len(published.PUBLISHED)
    assert "releases/download/v1.0/se_resnet101_ibn_a-fabed4e2.pth" in listed.out and str(tmp_path) in listed.out
    monkeypatch.setattr(published, "PUBLISHED", {"resnet50_ibn_a": server.published()})
    got = run("weights get resnet50_ibn_a --json")
    assert json.loads(got.out) == {"name": "resnet50_ibn_a", "file": str(tmp_path / "store" / NAME)}
    row = json.loads(run("weights list --json").out)[0]
    assert (row["name"], row["file"], row["address"]) == ("resnet50_ibn_a", NAME, server.published().address)
    assert (row["sha256"], row["stored"], row["here"]) == (DIGITS, str(tmp_path / "store" / NAME), True)
    assert (row["mean"], row["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    (tmp_path / "copy").write_bytes(CONTENT)
    got = run(f"weights get {NAME} --from {tmp_path}/copy --to {tmp_path}/else")
    assert got.out.strip() == f"{tmp_path}/else/{NAME}" and (tmp_path / "else" / NAME).exists()
    assert len(server.asked) == 1
    wrong = run("weights get resnet50_ibna")
    assert wrong.code == 2 and "did you mean 'resnet50_ibn_a'" in wrong.err
