"""Facts stored as JSON: every field of every file is checked; whatever stands there, the answer is one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from support.command_line import Run, reported
from vreid.errors import InputError
from vreid.files import LONGEST_LINE, read_json, read_tensors, write_json, write_tensors
from vreid.formats.facts import fact, typed

NASTY = [None, True, -1, 0, 10**12, 10**400, 1.5, 1e308, float("nan"), "x", "\x1b[2J", [], [1], [[["x"]]], {}, {"a": 1}]
"""What may stand in the place of any value."""


@dataclass(frozen=True)
class Inner:
    share: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    limit: int | None = None
    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def test_a_typed_value_is_what_was_stored() -> None:
    stored = {
        "count": 3,
        "inner": {"share": 1, "kind": "b"},
        "names": ["x"],
        "pair": [1, 2],
        "limit": None,
        "table": {"a": ["b"]},
    }
    assert typed(Outer, stored, "outer") == Outer(3, Inner(1.0, "b"), ("x",), (1, 2.0), None, {"a": ("b",)})
    assert fact({"a": 1}, "a", float) == 1.0 and fact({}, "a", int, 7) == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": "3"}, "outer.count is '3'; it must be a whole number"),
        ({"count": 3.0}, "outer.count is 3.0; it must be a whole number"),
        ({"count": True}, "outer.count is True; it must be a whole number"),
        ({"count": 10**30}, r"it must be a whole number below 2\^63"),
        ({"count": 10**5000}, "a number of thousands of digits"),
        ({"inner": {"share": float("nan")}}, "outer.inner.share is nan; it must be a finite number"),
        ({"inner": {"share": 10**400}}, "it must be a finite number"),
        ({"inner": {"share": 0.5, "kind": "c"}}, "outer.inner.kind is 'c'; it must be one of a, b"),
        ({"inner": []}, r"outer.inner is \[\]; it must be an object"),
        ({"names": "x"}, "outer.names is 'x'; it must be a list"),
        ({"names": [1]}, r"outer.names\[0\] is 1; it must be text"),
        ({"pair": [1]}, "outer.pair is .*; it must be a list of 2 values"),
        ({"limit": "x"}, "outer.limit is 'x'"),
        ({"table": {"a": "b"}}, "outer.table.a is 'b'; it must be a list"),
        ({"other": 1}, "outer has a field 'other'"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        typed(Outer, {"count": 3, "inner": {"share": 0.5}, **change}, "outer")
    with pytest.raises(InputError, match="outer has no count"):
        typed(Outer, {"inner": {"share": 0.5}}, "outer")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in places(item, (*path, key))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = new
    return copy


def sentence_or_nothing(call: Any) -> None:
    """Call; whatever it raises must be an InputError of one line."""
    try:
        call()
    except InputError as error:
        assert "\n" not in str(error)


THRESHOLD = {
    "kind": "threshold",
    "match": 0.2,
    "no_match": 0.5,
    "false_match": {"target": 0.01, "value": 0.01, "low": 0.0, "high": 0.02, "num_queries": 100, "num_identities": 50},
    "miss": {"target": 0.05, "value": 0.01, "low": 0.0, "high": 0.02, "num_queries": 100, "num_identities": 50},
    "confidence": 0.95,
    "features": "",
    "steps": [],
    "protocol": "market",
    "gallery_images": 10,
    "left_out": 0,
    "transductive": False,
}


def test_every_field_of_a_threshold(tmp_path: Path) -> None:
    from vreid.retrieval.evaluation.calibration import Threshold

    path = tmp_path / "threshold.json"
    write_json(path, THRESHOLD)
    assert str(Threshold.load(path))
    for place in places(THRESHOLD):
        for new in NASTY:
            path.write_text(json.dumps(replaced(THRESHOLD, place, new)), encoding="utf-8")
            sentence_or_nothing(lambda: str(Threshold.load(path)))
    for name in ("match", "no_match", "confidence", "gallery_images"):
        for new in ("0.2", 10**400, None, [0.2]):
            path.write_text(json.dumps(THRESHOLD | {name: new}), encoding="utf-8")
            with pytest.raises(InputError, match=rf"threshold\.json: threshold\.{name} is "):
                Threshold.load(path)


def test_every_fact_of_a_model(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from vreid.training.extract import load_trained

    tensors, facts = read_tensors(made / "run" / "model.safetensors", "torch")
    path = tmp_path / "model.safetensors"
    used = {name: facts[name] for name in ("model", "num_identities", "transform", "heads", "cameras") if name in facts}
    used |= {"heads": {}, "cameras": []}
    for place in places(used):
        for new in (-1, 10**12, "x") if len(place) < 3 else ():
            write_tensors(path, tensors, facts | replaced(used, place, new), "torch")
            sentence_or_nothing(lambda: load_trained(path))
    for name, new in (
        ("num_identities", 10**12),
        ("num_identities", -1),
        ("cameras", -1),
        ("heads", {"color": 10**12}),
    ):
        write_tensors(path, tensors, facts | {name: new}, "torch")
        with pytest.raises(InputError, match=r"model\.safetensors: "):
            load_trained(path)


def test_every_fact_of_features(made: Path, tmp_path: Path) -> None:
    from vreid.retrieval_run import RetrievalRun

    shutil.copytree(made / "features", tmp_path / "features")
    path = tmp_path / "features" / "features.json"
    stored = read_json(path)
    for place in places({name: stored[name] for name in ("protocol", "facts", "trained_cameras")}):
        if len(place) > 3:
            continue
        for new in NASTY:
            path.write_text(json.dumps(replaced(stored, place, new)), encoding="utf-8")
            sentence_or_nothing(lambda: RetrievalRun.load(tmp_path / "features"))


def test_a_wrong_threshold_on_the_command_line(made: Path, run: Run, tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", THRESHOLD | {"match": "near"})
    line = f"rank {made}/features --out {tmp_path}/r.csv --threshold {tmp_path}/t.json"
    reported(run(line), "t.json: threshold.match is 'near'; it must be a finite number")


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from vreid.retrieval.features import FeatureSet

    write_tensors(
        tmp_path / "f.safetensors",
        {"features": torch.ones(2, 2).to(torch.float8_e4m3fn)},
        {"kind": "features"},
        "torch",
    )
    with pytest.raises(InputError, match=r"f\.safetensors: features is of type F8_E4M3; save it as F16 or F32\."):
        FeatureSet.load(tmp_path / "f.safetensors")


def test_an_endless_line_is_rejected(tmp_path: Path, run: Run) -> None:
    for name in ("t.csv", "d.json"):
        with open(tmp_path / name, "wb") as file:
            file.write(b"path,camera\n")
            file.truncate(LONGEST_LINE + (2 << 20))
    reported(run(f"check {tmp_path}/t.csv"), "t.csv, line 2: is longer than 16,777,216 bytes")
    with pytest.raises(InputError, match=r"d\.json, line 2: is longer"):
        read_json(tmp_path / "d.json")
