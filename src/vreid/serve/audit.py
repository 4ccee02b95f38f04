"""Audit log: who searched, decided or deleted what, when and why. Entries are appended, never changed.

It is a SQLite file of its own. An entry is on the disk before its request is answered. Triggers of the file forbid to
change entries; only those older than the retention are deleted.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid.store.sqlite_file import sqlite_errors

FILE = "audit.sqlite"
"""Name of the file in a store's folder."""
LONGEST_PURPOSE = 300
"""Maximum number of characters of a purpose."""

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL,
    action TEXT NOT NULL, what TEXT NOT NULL, purpose TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS retention (oldest REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON entries BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are never changed');
END;
CREATE TRIGGER IF NOT EXISTS kept_for_the_retention BEFORE DELETE ON entries
WHEN OLD.time >= (SELECT coalesce(max(oldest), 0) FROM retention) BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are kept for its retention');
END;
"""


@dataclass(frozen=True)
class AuditEntry:
    """One entry.

    Attributes:
        number: ascending.
        time: UTC seconds.
        who: name of the token, or "local" without one.
        address: of the client.
        action: "search", "confirm", "delete", ...
        what: details.
        purpose: why, as the user says.
    """

    number: int
    time: float
    who: str
    address: str
    action: str
    what: Mapping[str, Any]
    purpose: str


class AuditLog:
    """The log in the file `path`, made if absent; it may be used by several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        with self._errors("opened"):
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)

    def _errors(self, doing: str) -> Any:
        return sqlite_errors(self.path.parent, doing)

    def append(self, who: str, address: str, action: str, what: Mapping[str, Any], purpose: str = "") -> None:
        """Append an entry, durable on return."""
        row = (time.time(), who, address, action, json.dumps(what), purpose[:LONGEST_PURPOSE])
        with self._guard, self._errors("written"):
            self._connection.execute(
                "INSERT INTO entries (time, who, address, action, what, purpose) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    def entries(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries whose number is below `before`, newest first."""
        with self._guard, self._errors("read"):
            rows = self._connection.execute(
                "SELECT * FROM entries WHERE number < ? ORDER BY number DESC LIMIT ?",
                (2**62 if before is None else before, limit),
            ).fetchall()
        return [
            AuditEntry(number, moment, who, address, action, json.loads(what), purpose)
            for number, moment, who, address, action, what, purpose in rows
        ]

    def delete_before(self, moment: float) -> int:
        """Delete the entries before a moment in UTC seconds; return how many."""
        with self._guard, self._errors("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM retention")
            self._connection.execute("INSERT INTO retention VALUES (?)", (moment,))
            count = self._connection.execute("DELETE FROM entries WHERE time < ?", (moment,)).rowcount
            self._connection.execute("COMMIT")
        return count

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
