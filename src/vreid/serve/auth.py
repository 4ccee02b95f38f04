"""Who may do what: access tokens with roles, sessions of the pages, tokens against cross-site requests.

An access token is "NAME.SECRET". The store keeps an Argon2 hash of each (document "tokens/NAME"); the token itself is
shown once. Sessions are signed cookies that name a token, so that they end when it is deleted; the signing key lives in
memory, so they end too when the service stops.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from itsdangerous import BadData, URLSafeTimedSerializer

from vreid.errors import InputError
from vreid.formats.facts import typed
from vreid.store.interface import VectorStore

Role = Literal["viewer", "reviewer", "admin"]
"""What a token allows: to search and look; also to decide, watch and export; also to delete and to read the log."""
ROLES: tuple[Role, ...] = get_args(Role)
TOKENS = "tokens/"
"""Prefix of the documents of access tokens."""
LOCAL = "local"
"""Name of the user of a service that listens on loopback and needs no token."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_VERIFIED = 1000  # tokens whose verification is remembered


@dataclass(frozen=True)
class User:
    """Who makes a request.

    Attributes:
        name: of the token, or `LOCAL`.
        role: what is allowed.
        by: "token", "session" or "local": how the request says so.
    """

    name: str
    role: Role
    by: Literal["token", "session", "local"]

    def may(self, role: Role) -> bool:
        """Whether the user's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class StoredToken:
    """What the store keeps of an access token.

    Attributes:
        hash: of Argon2, over the whole token.
        role: what it allows.
        created: UTC seconds.
    """

    hash: str
    role: Role
    created: float = 0.0


class Tokens:
    """The access tokens of a store."""

    def __init__(self, vectors: VectorStore) -> None:
        self._vectors = vectors
        self._hasher = PasswordHasher()
        self._one_at_a_time = threading.Lock()  # Argon2 takes 64 MiB and both cores
        self._verified: OrderedDict[bytes, str] = OrderedDict()

    def create(self, name: str, role: Role) -> str:
        """Make a token, or replace the one of this name, and return it; it cannot be shown again.

        Raises:
            InputError: the name or role is not allowed.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"token {name!r}: name it with up to 40 letters, digits, '-' and '_'.")
        if role not in ROLES:
            raise InputError(f"role {role!r}: choose one of {', '.join(ROLES)}.")
        token = f"{name}.{secrets.token_urlsafe(32)}"
        document = {"hash": self._hasher.hash(token), "role": role, "created": time.time()}
        self._vectors.put_document(TOKENS + name, document)
        return token

    def delete(self, name: str) -> bool:
        """Delete a token with its sessions; return whether there was one."""
        return self._vectors.delete_document(TOKENS + name)

    def names(self) -> dict[str, StoredToken]:
        """Tokens by name."""
        found = self._vectors.documents(TOKENS)
        return {key.removeprefix(TOKENS): typed(StoredToken, value, key) for key, value in found.items()}

    def find(self, name: str) -> StoredToken | None:
        """Return the token of a name."""
        if not _NAME.fullmatch(name):
            return None
        found = self._vectors.get_document(TOKENS + name)
        return None if found is None else typed(StoredToken, found, TOKENS + name)

    def verify(self, token: str) -> tuple[str, StoredToken] | None:
        """Return the name of a token and what the store keeps of it; None if it is wrong."""
        name, _, secret = token.partition(".")
        stored = self.find(name)
        if stored is None or not secret or len(token) > 200:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        with self._one_at_a_time:
            if self._verified.get(digest) == stored.hash:
                return name, stored
            try:
                self._hasher.verify(stored.hash, token)
            except (Argon2Error, InvalidHashError):
                return None
            self._verified[digest] = stored.hash
            while len(self._verified) > _VERIFIED:
                self._verified.popitem(last=False)
        return name, stored


class Sessions:
    """Signed cookies of the pages, and tokens for their forms.

    Args:
        seconds: length of a session.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = int(seconds)
        key = secrets.token_bytes(32)
        self._cookies = URLSafeTimedSerializer(key, salt="session")
        self._key = key

    def start(self, name: str) -> str:
        """Return the cookie of a new session of a token's name."""
        return str(self._cookies.dumps([name, secrets.token_urlsafe(12)]))

    def name_of(self, cookie: str) -> str | None:
        """Return the name in a cookie; None if it is forged or too old."""
        try:
            name, _ = self._cookies.loads(cookie, max_age=self.seconds)
        except (BadData, ValueError, TypeError):
            return None
        return str(name)

    def form_token(self, cookie: str) -> str:
        """Return what forms of a session must carry."""
        return hmac.new(self._key, b"form " + cookie.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def is_form_token(self, cookie: str, given: str) -> bool:
        """Whether a form carries the token of its session."""
        return hmac.compare_digest(self.form_token(cookie).encode(), given.encode("utf-8", "replace"))
