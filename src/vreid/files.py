"""Read and write files: system errors become one-sentence `InputError`s, and writes are atomic."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal

from vreid.errors import InputError

FIXES = {
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "part of the path is a file, not a folder; check the name",
    errno.EEXIST: "part of the path is a file, not a folder; check the name",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "the symbolic link points to itself; fix it",
    errno.EACCES: "change its permissions or choose another location",
    errno.EPERM: "change its permissions or choose another location",
    errno.EROFS: "choose another location",
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EFBIG: "free some space and run it again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
"""Suggested fix for each system error (errno)."""

_HEADER = "vreid"  # a single metadata key: safetensors does not promise an order for several, and bytes must repeat
_HASH = "sha256"
_HASHED = re.compile(rb'\{\\".{6}\\": \\"(.{64})\\"', re.DOTALL)  # any key: a flipped bit may be in the key
"""The hash in a file's header: JSON within JSON."""
_LONGEST_HEADER = 100_000_000  # bytes; that of the safetensors library
_CHUNK = 1 << 20
LONGEST_LINE = 1 << 24
"""Bytes of a line of text: 16 MiB, more than any label file written as one line."""
_REASON = 300
"""Maximum length of a parser's message, which may quote the file at length."""


def system_error(path: Path | str, doing: str, error: OSError) -> InputError:
    """Build the `InputError` for a file or folder that could not be `doing` ("read", "written").

    Example:
        >>> print(system_error("a.csv", "written", OSError(errno.ENOSPC, "No space left on device")))
        a.csv: cannot be written (No space left on device); free some space and run it again.
    """
    otherwise = "choose a writable location" if doing == "written" else "check the name"
    fix = FIXES.get(error.errno or 0, otherwise)
    return InputError(f"{path}: cannot be {doing} ({error.strerror or error}); {fix}.")


@contextmanager
def reading(path: Path | str) -> Iterator[Path]:
    """Yield `path`, a regular file; turn system errors while reading it into `InputError`.

    Raises:
        InputError: the file is missing, cannot be read, or is not a file (see `reject_endless`).
    """
    path = Path(path)
    try:
        reject_endless(path)
        yield path
    except OSError as error:
        raise system_error(path, "read", error) from error


def reject_endless(path: Path | str) -> None:
    """Raise if `path` is a pipe, socket or device, which could block or never end.

    Raises:
        InputError: a pipe, a socket or a device.
        OSError: `path` is absent or out of reach.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a pipe, a socket or a device; save its contents to a file and give that.")


@contextmanager
def parse_errors(path: Path | str) -> Iterator[None]:
    """Turn errors while parsing the contents of `path` into an `InputError` that names it.

    Raises:
        InputError: the contents are damaged or of another version.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing; create it again with this version of vreid.") from error
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        reason = str(error)
        reason = reason if len(reason) <= _REASON else f"{reason[:_REASON]}..."
        raise InputError(f"{path}: is damaged or of another version ({reason}); make it again.") from error


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn system errors while writing `path` into an `InputError`.

    Raises:
        InputError: `path` could not be written.
    """
    try:
        yield
    except OSError as error:
        raise system_error(path, "written", error) from error


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` in one rename, on any error it is removed.

    A symbolic link is kept and its target replaced. The file gets the default permissions of the umask, because
    safetensors creates files readable only by their owner.

    Example:
        >>> with atomic_write("scores.csv") as temporary:   # doctest: +SKIP
        ...     temporary.write_text("query,rank\\n")

    Raises:
        InputError: the folder cannot be created or written, the disk is full, or `path` is a folder or a device.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}.partial")
    with writing(path):
        if target.exists() and not target.is_file():  # a rename would replace /dev/null by a regular file
            raise InputError(f"{path}: is a folder or a device, not a file; give another name.")
        absent = [folder for folder in target.parents if not folder.exists()]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()  # fails before the work starts if the folder is not writable
            permissions = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != permissions:
                os.chmod(temporary, permissions)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
                for folder in absent:  # innermost first
                    folder.rmdir()
            raise


def copy_file(source: Path | str, path: Path | str) -> None:
    """Copy a file to `path`, whole or not at all; see `atomic_write` for the errors."""
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically; undecodable bytes of file names become `\\udc80`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_lines_bounded(path: Path | str) -> bytes:
    """Return the contents of a text file, unless one of its lines is longer than `LONGEST_LINE` bytes.

    Raises:
        InputError: the file cannot be read, or has such a line.
    """
    pieces, begun, number = [], 0, 1
    with reading(path), open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            pieces.append(piece)
            last = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
            begun = begun + len(piece) if last < 0 else len(piece) - last - 1
            if begun > LONGEST_LINE:
                number += sum(one.count(b"\n") for one in pieces)
                raise InputError(
                    f"{path}, line {number}: is longer than {LONGEST_LINE:,} bytes; give a text file with one entry "
                    "per line."
                )
    return b"".join(pieces)


def read_json(path: Path | str) -> Any:
    """Return the contents of the JSON file `path`.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    content = read_lines_bounded(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); make it again.") from error


def write_tensors(
    path: Path | str, tensors: Mapping[str, Any], facts: Mapping[str, Any], library: Literal["numpy", "torch"]
) -> None:
    """Write arrays or tensors and JSON-serialisable `facts` atomically to one safetensors file.

    The facts are stored with a SHA-256 of all other bytes of the file, which `verify_tensors` checks.

    Raises:
        InputError: the file cannot be written.
    """
    from safetensors import SafetensorError

    save = import_module(f"safetensors.{library}").save_file
    text = json.dumps({_HASH: "0" * 64} | json.loads(json.dumps(facts, sort_keys=True)))
    with atomic_write(path) as temporary:
        try:
            save(dict(tensors), str(temporary), {_HEADER: text})
        except SafetensorError as error:  # safetensors reports system errors as text only
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        with open(temporary, "r+b") as file:
            place, _, found = _hash_of(file) or (0, "", "")
            file.seek(place)
            file.write(found.encode())


def _hash_of(file: IO[bytes]) -> tuple[int, str, str] | None:
    """Return the offset of the stored hash, the stored hash and the actual hash; None if none is stored."""
    start = file.read(8)
    size = int.from_bytes(start, "little")
    if size > min(_LONGEST_HEADER, os.fstat(file.fileno()).st_size):
        return None  # not safetensors
    header = file.read(size)
    stored = _HASHED.search(header)
    if stored is None:
        return None
    digest = hashlib.sha256(start + header[: stored.start(1)] + header[stored.end(1) :])
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return len(start) + stored.start(1), stored[1].decode("ascii", "replace"), digest.hexdigest()


def verify_tensors(path: Path | str) -> str:
    """Check a safetensors file against the hash that vreid stored in it, using one megabyte of memory.

    Files without a hash (of other programs, or of old versions of vreid) are accepted.

    Raises:
        InputError: the file is missing, unreadable, or changed since it was written.
    """
    with reading(path), open(path, "rb") as file:
        found = _hash_of(file)
    if found is not None and found[1] != found[2]:
        raise InputError(
            f"{path}: is damaged: its contents do not match the hash stored in it; restore it from a copy, or make it "
            "again."
        )
    return found[1] if found else ""


def read_facts(path: Path | str) -> dict[str, Any]:
    """Return the facts of a safetensors file, whose hash is checked; {} if vreid did not write it.

    Raises:
        InputError: the file is missing, damaged (see `verify_tensors`), or not safetensors.
    """
    verify_tensors(path)
    with parse_errors(path), reading(path), open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(_LONGEST_HEADER, os.fstat(file.fileno()).st_size):
            raise ValueError("it is not safetensors")
        facts = json.loads(json.loads(file.read(size)).get("__metadata__", {}).get(_HEADER, "{}"))
        if not isinstance(facts, dict):
            raise ValueError("its header was not written by vreid")
    facts.pop(_HASH, None)
    return facts


def read_tensors(path: Path | str, library: Literal["numpy", "torch"]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a safetensors file and the facts written with them ({} if vreid did not write it).

    Raises:
        InputError: the file is missing, damaged (see `verify_tensors`), or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    verify_tensors(path)
    try:
        with reading(path), safe_open(str(path), framework="np" if library == "numpy" else "pt") as file:
            facts = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            if isinstance(facts, dict):
                facts.pop(_HASH, None)
                names = list(file.keys())
                types = {name: file.get_slice(name).get_dtype() for name in names}
                small = [name for name in names if types[name].startswith(("F8_", "F6_", "F4"))]
                if small and library == "numpy":
                    raise InputError(f"{path}: {small[0]} is of type {types[small[0]]}; save it as F16 or F32.")
                return {name: file.get_tensor(name) for name in names}, facts
            reason = "its header was not written by vreid"
    except InputError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error)
    raise InputError(f"{path}: is not a complete safetensors file ({reason}); make it again.")
