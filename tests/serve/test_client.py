"""The service in a process of its own: the client, and what is left after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vreid import Store
from vreid.errors import InputError
from vreid.serve.cases import CaseBook
from vreid.serve.client import ServiceClient
from vreid.store.labelling import answered_pairs


@contextmanager
def running(site: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service on any free port: its process and address."""
    line = [sys.executable, "-m", "vreid", "serve", str(site), "--port", "0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().partition(": ")[2].strip()
    finally:
        process.kill()
        process.communicate()


def test_the_client_searches_follows_and_exports(site: Path, jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / "car.jpg").write_bytes(jpeg)
    with running(site) as (process, url), ServiceClient(url, purpose="a test") as client:
        ids = [one["id"] for one in client.tracklets(limit=5)]
        assert len(ids) == client.get("/health")["tracklets"]
        hits = client.search(ids[0], top=3)
        assert hits and client.image(hits[0].crop).startswith(b"\xff\xd8")
        by_image = client.search(tmp_path / "car.jpg", top=1)
        assert by_image == client.search(jpeg, top=1, same_camera=None) and by_image[0].tracklet == ids[0]
        case = client.open_case(ids[0], name="a van")
        assert client.decide(case, hits[0].tracklet, True, other=ids[0])["confirmed"] == [ids[0], hits[0].tracklet]
        assert client.export(case, "csv").startswith(b"tracklet,")
        assert [one["number"] for one in client.cases(limit=1)] == [case]
        assert client.watch(ids[0]) == 1
        assert {entry["purpose"] for entry in client.get("/audit")["entries"] if entry["action"] == "search"} == {
            "a test"
        }
        with pytest.raises(InputError, match="is not in the store"):
            client.search("nobody")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        with pytest.raises(InputError, match="cannot be reached"):
            client.get("/health")
    with pytest.raises(InputError, match="write it as"):
        ServiceClient("localhost:8000")


def test_kills_lose_no_acknowledged_decision(site: Path) -> None:
    """Three times: several clients decide, the service is killed, and all that it has acknowledged is there."""
    acknowledged: list[tuple[str, str]] = []
    with Store.open(site) as store:
        ids = [str(name) for batch in store.scan() for name in batch.id]
    for round_ in range(3):
        with running(site) as (process, url):
            first = ServiceClient(url)
            case = first.open_case(ids[0])

            def decide(at: int, case: int = case, url: str = url) -> None:
                client = ServiceClient(url)
                while True:
                    for name in ids[1 + at :: 3]:
                        try:
                            client.decide(case, name, True, other=ids[0])
                        except InputError:
                            return
                        acknowledged.append((str(case), name))

            threads = [threading.Thread(target=decide, args=(at,)) for at in range(3)]
            for thread in threads:
                thread.start()
            before = len(acknowledged)
            for _ in range(600):
                if len(acknowledged) > before + 4 + 3 * round_:
                    break
                threading.Event().wait(0.05)
            process.kill()
            for thread in threads:
                thread.join()
        with Store.open(site) as store:
            book = CaseBook(store.vectors)
            answers = answered_pairs(store.vectors)
            assert len(acknowledged) > before
            for number, name in acknowledged:
                assert name in book.get(int(number)).confirmed
                one, other = sorted((ids[0], name))
                assert answers[f"answers/{one}|{other}"] is True
