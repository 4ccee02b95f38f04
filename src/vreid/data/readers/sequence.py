"""seqinfo.ini of the MOTChallenge: facts of a sequence of frames."""

from __future__ import annotations

from configparser import ConfigParser
from configparser import Error as IniError
from pathlib import Path

from vreid.data.readers.common import decode
from vreid.errors import InputError


def sequence_rate(folder: Path) -> float | None:
    """Frames a second in the seqinfo.ini of the MOTChallenge beside or in a folder of frames; None: unknown."""
    for path in (folder / "seqinfo.ini", folder.parent / "seqinfo.ini"):
        if path.is_file():
            try:
                rate = float(read_sequence(path).get("framerate", "nan"))
            except ValueError:
                return None
            return rate if rate > 0 else None
    return None


def read_sequence(path: Path) -> dict[str, str]:
    """Return the entries of the section Sequence of a seqinfo.ini, with names in small letters.

    Raises:
        InputError: the file is no INI file, or has no such section.
    """
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(decode(path, "gb18030"))
        return {name: value.strip() for name, value in parser["Sequence"].items()}
    except (IniError, KeyError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{path}: has no section [Sequence] ({reason}); correct it or remove the file.") from error
