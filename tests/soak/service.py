"""Fuzz a running `vreid serve`: no request may give a status of 5xx, or a traceback in the service's log.

    PYTHONPATH=tests python -m soak.service [--count 100000] [--seconds 3600] [--schemathesis PROGRAM]

Simulates a small city, ingests it, starts the service on a free port and sends it what `soak.service_requests` draws,
from several connections. With --schemathesis, that program works from the OpenAPI document meanwhile. Requests and
their statuses are those that the service itself has counted. Exits 1 if there is any problem.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from soak.service_requests import Drawn, Site, request_of

UNLIMITED = ("requests_per_minute=1000000000", "searches_per_minute=1000000000", "failures_per_minute=1000000000")
PATIENCE = 120.0
"""Seconds after which a request counts as hanging."""
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"
_METRIC = re.compile(r'^vreid_requests_total\{method="[^"]*",route="([^"]*)",status="([^"]*)"\} (\S+)$', re.MULTILINE)
_FAILURES = re.compile(r"^vreid_task_failures_total\{([^}]*)\} (\S+)$", re.MULTILINE)


class Service:
    """A `vreid serve` in a process of its own.

    Args:
        folder: that its store, its log and its output are in; the store is made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "service.log"
        store = folder / "site"
        if not store.exists():
            for line in (
                f"simulate {folder / 'city'} --layout videos --preset tiny --seed 1",
                f"ingest {folder / 'city'} --store {store}",
            ):
                subprocess.run([sys.executable, "-m", "vreid", *line.split()], check=True, stdout=subprocess.DEVNULL)
        settings = [
            word
            for one in (*UNLIMITED, "busy_seconds=600", "upload_pixels=1000000", "upload_seconds=3")
            for word in ("--set", one)
        ]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vreid", "serve", str(store), "--port", "0", *settings],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().partition(": ")[2].strip()
        if not self.url:
            raise SystemExit(f"soak: the service does not start: {self.log.read_text()}")

    def get(self, path: str) -> tuple[str, http.client.HTTPMessage]:
        """The answer to a request, with its headers."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return text, answer.headers

    def site(self) -> Site:
        """What requests are made of."""
        document = json.loads(self.get("/api/v1/openapi.json")[0])
        operations = [(path, method.upper()) for path, methods in document["paths"].items() for method in methods]
        found = json.loads(self.get("/api/v1/tracklets?limit=1000")[0])["tracklets"]
        page, headers = self.get("/")
        token = page.partition('name="form_token" value="')[2].partition('"')[0]
        cookie = str(headers["set-cookie"]).partition(";")[0]
        return Site(urlsplit(self.url).netloc, operations, [one["id"] for one in found], cookie, token)

    def statuses(self) -> Counter[str]:
        """Requests by status, those for metrics left out."""
        found: Counter[str] = Counter()
        for route, status, number in _METRIC.findall(self.get("/api/v1/metrics")[0]):
            if route != "/api/v1/metrics":
                found[status] += int(float(number))
        return found

    def problems(self) -> list[str]:
        """What the service says of itself: statuses of 5xx, failed tasks and tracebacks."""
        found = [
            f"{number:,} requests with status {status}" for status, number in self.statuses().items() if status >= "500"
        ]
        for task, number in _FAILURES.findall(self.get("/api/v1/metrics")[0]):
            found += [f"{number} failures of {task}"] if float(number) else []
        return found + [f"{self.log.read_text().count('Traceback')} tracebacks in {self.log}"] * self.traced()

    def traced(self) -> bool:
        """Whether the log holds a traceback."""
        return "Traceback" in self.log.read_text(errors="replace")

    def stop(self) -> int:
        """End the service; return its exit code, 0 if it ends as asked."""
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        return 0 if code == -signal.SIGTERM else code


class Sender:
    """Sends drawn requests over a connection that is kept as long as the service keeps it.

    Args:
        host: name and port.
    """

    def __init__(self, host: str) -> None:
        name, _, port = host.partition(":")
        self._address = (name, int(port))
        self._socket: socket.socket | None = None

    def send(self, drawn: Drawn) -> tuple[int, bytes]:
        """Return status and body of the answer; status 0: the connection was closed without one.

        Raises:
            TimeoutError: there is no answer within `PATIENCE`.
        """
        if drawn.cut is not None:
            with socket.create_connection(self._address, timeout=PATIENCE) as one:
                _send(one, drawn.data[: drawn.cut])
            return 0, b""
        if drawn.alone:
            self.close()
        for _ in range(2):  # an idle connection may have been closed
            kept = self._socket is not None
            self._socket = self._socket or socket.create_connection(self._address, timeout=PATIENCE)
            _send(self._socket, drawn.data)
            answer = http.client.HTTPResponse(self._socket, method=drawn.data[:4].decode("latin-1").strip())
            try:
                answer.begin()
                body = answer.read()
            except (ConnectionError, http.client.HTTPException):
                self.close()
                if kept:
                    continue
                break
            if answer.will_close or drawn.alone:
                self.close()
            return answer.status, body
        return 0, b""

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _send(one: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):  # it may be refused before its end: the answer is there
        one.sendall(data)


def wrong(status: int, body: bytes) -> str:
    """What is wrong with an answer; "" if nothing is."""
    if status >= 500:
        return f"status {status}: {body[:200]!r}"
    if b"Traceback" in body:
        return f"a traceback in the answer: {body[:200]!r}"
    return ""


class Campaign:
    """Clients that send requests until there were enough.

    Args:
        site: what requests are made of.
        seed, first: of the draws.
        most: number of the last draw.
    """

    def __init__(self, site: Site, seed: int, first: int, most: float) -> None:
        self._site, self._seed, self._most = site, seed, most
        self._numbers = count(first)
        self._stopped = threading.Event()
        self.sent = 0
        self.problems: list[str] = []

    def run(self, clients: int) -> list[threading.Thread]:
        """Start the clients."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        return threads

    def stop(self) -> None:
        """Let the clients end."""
        self._stopped.set()

    def _work(self) -> None:
        sender = Sender(self._site.host)
        while not self._stopped.is_set() and (number := next(self._numbers)) < self._most:
            drawn = request_of(number, self._seed, self._site)
            try:
                problem = wrong(*sender.send(drawn))
            except (TimeoutError, OSError) as error:
                sender.close()
                problem = f"{type(error).__name__}: {error}"
            self.sent += 1
            if problem:
                line = drawn.data.partition(b"\r\n")[0][:200]
                problem = (
                    f"request {number} {line!r}: {problem}  [repeat: --seed {self._seed} --first {number} --requests 1]"
                )
                self.problems.append(problem)
                print(problem, flush=True)
        sender.close()


@contextmanager
def schemathesis(program: str, service: Service, folder: Path, seed: int, seconds: float) -> Iterator[list[str]]:
    """Run schemathesis beside, again with the next seed when it is done; yields its problems."""
    problems: list[str] = []
    if not program:
        yield problems
        return
    stopped = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        for number in count(seed):
            log = folder / f"schemathesis-{number}.log"
            line = [
                program,
                "run",
                f"{service.url}api/v1/openapi.json",
                "-c",
                CHECKS,
                "--continue-on-failure",
                "-w",
                "2",
            ]
            line += ["--max-time", str(int(seconds)), "--seed", str(number), "--request-timeout", str(PATIENCE)]
            line += ["--generation-database", "none", "--warnings", "off", "-n", "1000"]
            with open(log, "wb") as file:
                running[:] = [subprocess.Popen(line, cwd=folder, stdout=file, stderr=subprocess.STDOUT)]
                code = running[0].wait()
            if stopped.is_set():
                return
            if code:
                problems.append(f"schemathesis with seed {number} exits with {code}: see {log}")
                print(problems[-1], flush=True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield problems
    finally:
        stopped.set()
        for process in running:
            process.terminate()
        thread.join(PATIENCE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if there is a problem."""
    parser = argparse.ArgumentParser(prog="soak.service", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--count", type=int, default=100_000, help="requests that the service has counted (default: 100000)"
    )
    parser.add_argument("--seconds", type=float, default=3600, help="end after them in any case (default: 3600)")
    parser.add_argument("--requests", type=float, default=float("inf"), help="draws at most (default: no limit)")
    parser.add_argument("--first", type=int, default=0, help="number of the first draw (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    parser.add_argument("--clients", type=int, default=4, help="connections at once (default: 4)")
    parser.add_argument("--schemathesis", default="", help="program that runs beside (default: none)")
    parser.add_argument("--folder", type=Path, help="work here and keep it (default: a temporary folder)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-service-") as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        service = Service(folder)
        began = time.monotonic()
        campaign = Campaign(service.site(), given.seed, given.first, given.first + given.requests)
        with schemathesis(given.schemathesis, service, folder, given.seed, given.seconds) as found:
            threads = campaign.run(given.clients)
            shown = began
            while (seconds := time.monotonic() - began) < given.seconds and service.process.poll() is None:
                for thread in threads:
                    thread.join(2 / len(threads))
                if service.statuses().total() >= given.count or not any(thread.is_alive() for thread in threads):
                    break
                if time.monotonic() - shown > 60:
                    shown = time.monotonic()
                    print(f"{service.statuses().total():,} requests, {seconds:.0f} s", flush=True)
            campaign.stop()
            for thread in threads:
                thread.join(PATIENCE)
        problems = [*campaign.problems, *found, *service.problems()]
        statuses = service.statuses()
        if code := service.stop():
            problems.append(f"the service ends with exit code {code}")
        if service.traced() and given.folder is None:
            print(service.log.read_text(errors="replace")[-10_000:])
    for problem in problems:
        print(problem)
    by_status = ", ".join(f"{number:,} of {status}" for status, number in sorted(statuses.items()))
    print(f"service: {statuses.total():,} requests counted by the service ({by_status})")
    print(f"{campaign.sent:,} drawn; {len(problems)} problems; {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
