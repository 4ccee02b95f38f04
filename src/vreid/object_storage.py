"""Files on object storage (s3://BUCKET/..., gs://BUCKET/..., memory://...) by fsspec; local paths work the same way.

A file is read from a local copy and written whole: uploads of object stores replace a file at once. Needs the extra
`object-storage` for S3 and Google Cloud Storage; credentials are those of s3fs and gcsfs (environment, profile, role).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vreid.errors import InputError
from vreid.files import reject_endless

EXTRA = "object-storage"
"""The extra that installs fsspec with S3 and Google Cloud Storage."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)  # Path makes one slash of two


def is_address(place: Path | str) -> bool:
    """Whether `place` is an address of object storage; an existing local path and file:// are not.

    Example:
        >>> is_address("s3://bucket/images"), is_address("images"), is_address(Path("s3://bucket/images"))
        (True, False, True)
    """
    found = _ADDRESS.fullmatch(str(place))
    return found is not None and found[1].lower() != "file" and not os.path.exists(place)


def normalised(place: Path | str) -> str:
    """Return an address with two slashes, or the local path of a file:// address or of anything else.

    Example:
        >>> normalised(Path("s3://bucket/images/")), normalised("file:///data/images"), normalised("images")
        ('s3://bucket/images', '/data/images', 'images')
    """
    text = str(place)
    if is_address(place):
        scheme, rest = _ADDRESS.fullmatch(text).groups()  # type: ignore[union-attr]
        return f"{scheme.lower()}://{rest.rstrip('/')}"
    return re.sub(r"^file:/+", "/", text, flags=re.IGNORECASE) if not os.path.exists(text) else text


def below(folder: Path | str, name: str) -> str:
    """Return the place of a file in a folder, of either kind."""
    return f"{normalised(folder)}/{name}" if is_address(folder) else os.path.join(normalised(folder), name)


def exists(place: Path | str) -> bool:
    """Whether there is a file or folder at `place`.

    Raises:
        InputError: the storage cannot be reached.
    """
    if not is_address(place):
        return os.path.exists(normalised(place))
    with _errors(place, "read"):
        system, path = _system(place)
        return bool(system.exists(path))


def sizes(folder: Path | str) -> dict[str, int]:
    """Return the files below a folder of object storage, by path relative to it, with their sizes in bytes.

    Raises:
        InputError: there is nothing, or the storage cannot be reached.
    """
    with _errors(folder, "read"):
        system, path = _system(folder)
        start = path.strip("/")
        found = system.find(path, detail=True)
        listed = {name.strip("/").removeprefix(start).strip("/"): facts["size"] for name, facts in found.items()}
    if not listed:
        raise InputError(f"{normalised(folder)}: there is nothing at this address; check it.")
    return {name: int(size or 0) for name, size in sorted(listed.items()) if name}


def remove(folder: Path | str) -> None:
    """Remove a folder with its contents, if it exists."""
    if not is_address(folder):
        shutil.rmtree(normalised(folder), ignore_errors=True)
        return
    with _errors(folder, "removed"):
        system, path = _system(folder)
        if system.exists(path):
            system.rm(path, recursive=True)


@contextmanager
def opened(place: Path | str) -> Iterator[IO[bytes]]:
    """Open a file for reading.

    Raises:
        InputError: a local pipe or device; or the storage cannot be reached.
        OSError: as `open`, for either kind.
    """
    if not is_address(place):
        reject_endless(place)
        with open(place, "rb") as file:
            yield file
        return
    with _errors(place, "read", missing=False):
        system, path = _system(place)
        file = system.open(path, "rb")
    with file:
        yield file


@contextmanager
def local_copy(place: Path | str) -> Iterator[Path]:
    """Yield a local path with the contents of `place`: itself, or a temporary copy.

    Raises:
        InputError: the file of object storage cannot be read.
    """
    if not is_address(place):
        yield Path(normalised(place))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, normalised(place).rpartition("/")[2])
        with _errors(place, "read"):
            system, path = _system(place)
            system.get_file(path, str(copy))
        yield copy


@contextmanager
def written(place: Path | str) -> Iterator[Path]:
    """Yield a local path to write: `place` itself, or a temporary file that is uploaded at the end without an error.

    Raises:
        InputError: the file cannot be uploaded.
    """
    if not is_address(place):
        yield Path(normalised(place))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, normalised(place).rpartition("/")[2])
        yield copy
        with _errors(place, "written"):
            system, path = _system(place)
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(copy), path)


def _system(place: Path | str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise _lacking(place) from None
    try:
        system, path = url_to_fs(normalised(place))
    except ImportError:  # fsspec is there, s3fs or gcsfs is not
        raise _lacking(place) from None
    return system, path


def _lacking(place: Path | str) -> InputError:
    return InputError(
        f"{normalised(place)}: reading this storage needs a package that is not installed; "
        f"pip install 'vehicle-reid[{EXTRA}]'."
    )


@contextmanager
def _errors(place: Path | str, doing: str, *, missing: bool = True) -> Iterator[None]:
    """Turn errors of a storage's client, which have no common class, into `InputError`; a missing file if `missing`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not missing:
            raise
        shown, reason = normalised(place), " ".join(f"{error}".split())[:300] or type(error).__name__
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be {doing} ({reason})"
        raise InputError(f"{shown}: {what}; check the address and the credentials.") from error
