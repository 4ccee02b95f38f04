"""The examples of docs/guides/operations.md: the systemd unit, and the service behind the nginx of the guide."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vreid import Store
from vreid.serve.auth import Tokens

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "operations.md"
NAME = "vreid.example.org"


def example(first: str) -> str:
    """The indented block of the guide that begins with a line."""
    text = GUIDE.read_text(encoding="utf-8")
    found = re.compile(rf"^    {re.escape(first)}\n(?:    .*\n|\n)*", re.MULTILINE).search(text)
    assert found is not None
    return textwrap.dedent(found[0])


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or pytest.skip(f"needs {name}")


def command() -> tuple[str, str]:
    """Program and arguments of the unit."""
    found = re.search(r"^ExecStart=(\S+) (.*)$", example("[Unit]"), re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    verify = tool("systemd-analyze")
    unit = example("[Unit]").replace(command()[0], "/bin/true")
    (tmp_path / "vreid.service").write_text(unit, encoding="utf-8")
    done = subprocess.run([verify, "verify", str(tmp_path / "vreid.service")], capture_output=True, text=True)
    assert "vreid.service" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.fixture
def behind_nginx(site: Path, tmp_path: Path) -> Iterator[int]:
    """The service with the options of the unit behind the nginx of the guide, which listens on the port."""
    nginx, openssl = tool("nginx"), tool("openssl")
    key = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    key += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "vreid.key", "-out", "vreid.pem"]
    subprocess.run([openssl, *key], cwd=tmp_path, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    line = shlex.split(command()[1].replace("/srv/vreid/site", str(site)))
    process = subprocess.Popen(
        [sys.executable, "-m", "vreid", *line, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    service = urlsplit(process.stdout.readline().partition(": ")[2].strip()).port
    server = example("server {").replace("listen 443", f"listen 127.0.0.1:{port}")
    server = server.replace("/etc/ssl/", f"{tmp_path}/").replace(":8000", f":{service}")
    folders = "".join(f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "" if os.geteuid() else "user root;"  # the folders of tests are the user's own
    (tmp_path / "nginx.conf").write_text(
        f"{user} pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {folders}\n{server}}}\n",
        encoding="utf-8",
    )
    run = [nginx, "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    try:
        for arguments in (["-t"], []):  # the second returns when it listens
            done = subprocess.run([*run, *arguments], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        yield port
        subprocess.run([*run, "-s", "stop"], check=True)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def form(**fields: bytes) -> bytes:
    parts = []
    for name, value in fields.items():
        file = '; filename="a.jpg"\r\nContent-Type: image/jpeg' if name == "image" else ""
        parts.append(f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n")
    return b"".join(parts) + b"--x--\r\n"


def test_the_service_behind_the_proxy_of_the_guide(behind_nginx: int, site: Path, tmp_path: Path) -> None:
    """Log in and upload over HTTPS: the marks of the cookie, the origin of forms, the address in the audit log."""
    with Store.open(site) as store:
        token = Tokens(store.vectors).create("ada", "admin")
        jpeg = store.crop(f"{next(iter(store.vectors.scan(limit=1))).id[0]}#0").jpeg
    trusted = ssl.create_default_context(cafile=str(tmp_path / "vreid.pem"))

    def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(NAME, behind_nginx, timeout=60)
        plain = socket.create_connection(("127.0.0.1", behind_nginx), 60, source_address=("127.0.0.2", 0))
        connection.sock = trusted.wrap_socket(plain, server_hostname=NAME)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Content-Type": "multipart/form-data; boundary=x", **given})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    here = f"https://{NAME}:{behind_nginx}"
    _, headers, page = ask("GET", "/login")
    cookie = headers["set-cookie"]
    assert "Secure" in cookie and "HttpOnly" in cookie
    field = page.partition('name="form_token" value="')[2].partition('"')[0].encode()
    fields = form(form_token=field, token=token.encode(), back=b"/browse")
    session = {"Cookie": cookie.partition(";")[0]}
    assert ask("POST", "/login", fields, Origin="https://evil.example", **session)[0] == 403
    status, headers, _ = ask("POST", "/login", fields, Origin=here, **session)
    assert (status, headers["location"]) == (303, "/browse")
    session = {"Cookie": headers["set-cookie"].partition(";")[0]}
    _, _, page = ask("GET", "/", **session)
    field = page.partition('name="form_token" value="')[2].partition('"')[0].encode()
    status, headers, text = ask("POST", "/search", form(form_token=field, image=jpeg), Origin=here, **session)
    assert status == 303, text
    status, _, page = ask("GET", headers["location"], **session)
    assert status == 200 and "Uploaded image" in page
    status, headers, _ = ask("GET", "/browse/", **session)
    assert headers["location"] == f"{here}/browse", "HTTPS, and the port"
    entries = json.loads(ask("GET", "/api/v1/audit", Authorization=f"Bearer {token}")[2])["entries"]
    assert [(one["who"], one["action"], one["address"]) for one in entries] == [("ada", "search", "127.0.0.2")]
