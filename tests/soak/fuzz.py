"""Feed readers what no program has written: each gives data, or an InputError, in bounded time and memory.

The plain fuzzer changes bytes, lines, numbers and lengths of valid files. With atheris (pip install
'vehicle-reid[fuzz]') `--engine atheris` runs the same targets under coverage guidance.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from soak.jobs import Counts, Place
from soak.seeds import ODD_BYTES, ODD_NUMBERS, WORLDS, write_world
from vreid.errors import InputError

SECONDS, MEMORY = 20, 4 << 30
"""What an input may take before it counts as a bomb: seconds, and bytes of address space above those at the start."""
BATCH = 200
"""Inputs of one round."""


class Target(NamedTuple):
    """A reader and a valid input: `read` takes the file, below a folder of its own, that `valid` is written to."""

    name: str
    file: str
    valid: bytes
    read: Callable[[Path], Any]
    world: str = ""


@functools.cache
def targets(place: Place) -> list[Target]:
    """All readers of files that people bring, each with a small valid file."""
    from vreid.data.open import open_dataset
    from vreid.data.records import Records
    from vreid.files import read_json, read_tensors
    from vreid.models.keys import read_state
    from vreid.models.weights import load_weights
    from vreid.retrieval import FeatureSet
    from vreid.retrieval.evaluation.calibration import Threshold
    from vreid.retrieval.features import FACTS
    from vreid.retrieval.io.external import load_features
    from vreid.retrieval.io.submission import check_submission
    from vreid.retrieval_run import RetrievalRun
    from vreid.training.extract import load_trained

    table = Records.of(path=["a", "b", "c"], split=["query", "gallery", "gallery"])
    numbered = [Records.of(path=list(numbers)) for numbers in ("12", "123")]
    submission = functools.partial(check_submission, query=numbered[0], gallery=numbered[1])
    found = []
    for suffix, data in _features().items():
        read = functools.partial(load_features, records=table) if suffix == ".npy" else load_features
        found.append(Target(f"features{suffix}", f"features{suffix}", data, read))
    tensors = _bytes(lambda path: _write_tensors(path))
    found += [
        Target("safetensors", "a.safetensors", tensors, lambda path: read_tensors(path, "numpy")),
        Target("weights", "a.safetensors", tensors, load_weights),
        Target("foreign weights", "a.pth", _features()[".pt"], read_state),
        Target("feature set", "a.safetensors", _unhashed(place, "features/query.safetensors"), FeatureSet.load),
        Target("model", "a.safetensors", _unhashed(place, "run/model.safetensors"), load_trained),
        Target("JSON", "a.json", b'{"a": [1, 2.5, "text", null, true]}', read_json),
        Target("threshold", "a.json", _threshold(), Threshold.load),
        Target("submission", "track2.txt", b"1 2 3\n2 1 3\n", submission),
        Target("search facts", FACTS, (_features_of(place) / FACTS).read_bytes(), _search(place, RetrievalRun)),
    ]
    found += [
        Target(f"data set {name}", file, data, lambda path: open_dataset(path, labels="auto"), name)
        for name, (files, _) in WORLDS.items()
        for file, data in files.items()
    ]
    return found


def _features_of(place: Place) -> Path:
    from soak import children
    from soak.jobs import EXTRACT

    folder = place.folder / "features"
    if not folder.exists():
        children.run(place.line(EXTRACT, folder))
    return folder


def _search(place: Place, search: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        for side in ("query", "gallery"):
            target = path.parent / f"{side}.safetensors"
            if not target.exists():
                target.symlink_to(_features_of(place) / target.name)
        return search.load(path.parent)

    return read


def _unhashed(place: Place, name: str) -> bytes:
    """A file of vreid without its hash, which would keep the fuzzer out."""
    from vreid.files import read_tensors

    source = _features_of(place) / "query.safetensors" if name.startswith("features") else place.folder / name
    tensors, facts = read_tensors(source, "numpy")
    return _bytes(lambda path: _write_tensors(path, tensors, facts))


def _write_tensors(path: Path, tensors: Any = None, facts: Any = None) -> None:
    import json

    from safetensors.numpy import save_file

    made = {"features": np.eye(3, dtype=np.float32), "camera": np.arange(3)} if tensors is None else tensors
    save_file(made, path, {"vreid": json.dumps({"kind": "a", "n": 1} if facts is None else facts)})


def _bytes(write: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a.safetensors")
        return (Path(folder) / "a.safetensors").read_bytes()


def _features() -> dict[str, bytes]:
    import torch

    arrays = {"query": np.eye(3, dtype=np.float32), "gallery": np.ones((2, 3), np.float32), "query_id": np.arange(3)}
    found = {}
    for suffix, save in (
        (".npy", lambda file: np.save(file, arrays["query"])),
        (".npz", lambda file: np.savez(file, **arrays)),
        (".pt", lambda file: torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, file)),
    ):
        file = BytesIO()
        save(file)
        found[suffix] = file.getvalue()
    return {**found, ".safetensors": _bytes(lambda path: _write_tensors(path, arrays, {}))}


def _threshold() -> bytes:
    import json

    from vreid.retrieval.evaluation.calibration import Rate, Threshold

    rate = Rate(target=0.01, value=0.01, low=0.0, high=0.05, num_queries=100, num_identities=40)
    made = Threshold(0.4, 0.9, rate, rate, 0.95, "abc", ("camera-mean",), "ai-city", 500)
    return json.dumps(made.as_dict()).encode()


def changed(data: bytes, rng: Random) -> bytes:
    """`data` with one to four changes."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(data))
        kind = rng.randrange(9)
        if kind == 0 and data:
            place = rng.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + rng.choice(ODD_BYTES) + data[place + rng.randint(0, 6) :]
        elif kind == 2:
            data = data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place + rng.randint(0, 8) :]
        elif kind == 3:
            data = data[:place]
        elif kind == 4:
            end = rng.randint(place, min(len(data), place + 40))
            data = data[:end] + data[place:end] * rng.choice((1, 2, 50)) + data[end:]
        elif kind == 5:  # a length, as binary formats store it
            number = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
            data = data[:place] + struct.pack("<Q", number)[: rng.choice((4, 8))] + data[place + 8 :]
        elif kind == 6:  # a number in a text
            data = _number(data, rng)
        elif kind == 7:
            lines = data.split(b"\n")
            rng.shuffle(lines)
            data = b"\n".join(lines)
        else:
            data = data[:place] + data[place + rng.randint(1, 30) :]
    return data


def _number(data: bytes, rng: Random) -> bytes:
    starts = [place for place in range(len(data)) if data[place : place + 1].isdigit()][:2000]
    if not starts:
        return data
    start = rng.choice(starts)
    end = start
    while data[end : end + 1].isdigit():
        end += 1
    return data[:start] + rng.choice(ODD_NUMBERS) + data[end:]


class Bomb(BaseException):
    """An input took too long."""


def _ring(*_: object) -> None:
    raise Bomb


def wrong(target: Target, data: bytes, folder: Path) -> str:
    """What is wrong with how the target takes `data`; "" if nothing is."""
    path = folder / target.file
    path.write_bytes(data)
    signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        target.read(folder if target.world else path)
    except InputError as error:
        text = str(error)
        return "" if text.endswith(".") and len(text) < 2000 else f"not one sentence: {text[:300]!r}"
    except Bomb:
        return f"takes more than {SECONDS} s"
    except MemoryError:
        return f"takes more than {MEMORY >> 30} GB"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
    finally:
        signal.alarm(0)
        path.write_bytes(target.valid)
    return ""


def round_of(number: int, rng: Random, place: Place, counts: Counts, *, timed: bool) -> None:
    """A batch of inputs for one target, in a child, whose end by a signal is a problem like any other."""
    known = targets(place)
    target = known[number % len(known)]
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        if target.world:
            write_world(target.world, folder)
        reported = folder.with_suffix(".told")
        pid = os.fork()
        if not pid:
            _batch(target, folder, reported, rng)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        lines = reported.read_text().splitlines() if reported.exists() else []
        reported.unlink(missing_ok=True)
        counts.add("inputs", BATCH)
        for line in dict.fromkeys(lines):
            counts.problem(number, f"{target.name}, {target.file}: {line}")
        if status:
            counts.problem(number, f"{target.name}, {target.file}: ends the process with {status}")


def _valid(target: Target, folder: Path) -> Path:
    (folder / target.file).write_bytes(target.valid)
    return folder / target.file


def _batch(target: Target, folder: Path, reported: Path, rng: Random) -> None:
    code = 99
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        for output in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        with open(reported, "w") as file:
            try:
                target.read(folder if target.world else _valid(target, folder))
            except InputError as error:
                print(f"the valid file is refused: {error}", file=file, flush=True)
            for _ in range(BATCH):
                if problem := wrong(target, changed(target.valid, rng), folder):
                    print(" ".join(problem.split()), file=file, flush=True)
        code = 0
    finally:
        os._exit(code)


def _functions() -> list[FunctionType]:
    """The functions and methods of vreid that are imported: instrumenting torch too would take minutes."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vreid":
            spaces = [vars(module), *(vars(one) for one in vars(module).values() if isinstance(one, type))]
            found += [one for space in spaces for one in space.values() if isinstance(one, FunctionType)]
    return list({id(one): one for one in found if one.__module__.partition(".")[0] == "vreid"}.values())


def with_atheris(place: Place, seconds: float, arguments: list[str]) -> None:
    """Run all targets under atheris for some seconds; it stops at the first problem, and names the input."""
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        raise SystemExit(
            "soak: atheris is not installed; pip install 'vehicle-reid[fuzz]', or use --engine plain."
        ) from None
    known = targets(place)
    corpus = place.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, target in enumerate(known):
        (corpus / str(number)).write_bytes(bytes([number]) + target.valid)
    folders = []
    for number, target in enumerate(known):
        folders.append(place.folder / f"target-{number}")
        folders[-1].mkdir(exist_ok=True)
        if target.world:
            write_world(target.world, folders[-1])

    def once(data: bytes) -> None:
        if data:
            number = data[0] % len(known)
            if problem := wrong(known[number], data[1:], folders[number]):
                raise AssertionError(f"{known[number].name}, {known[number].file}: {problem}")

    for function in _functions():
        atheris.instrument_func(function)
    limits = [f"-max_total_time={int(seconds)}", f"-timeout={2 * SECONDS}", "-rss_limit_mb=8000"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *arguments], once)
    started = time.monotonic()
    print(f"fuzz: atheris on {len(known)} targets", flush=True)
    try:
        atheris.Fuzz()
    finally:
        print(f"fuzz: ended after {time.monotonic() - started:.0f} s")
