from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vreid.data.readers.image_table import read_records
from vreid.data.records import JUNK, LABEL_COLUMNS, UNKNOWN, Labels, Records, joint_codes
from vreid.data.spellings import plain_labels
from vreid.errors import InputError

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6).map(str.strip)
finite = st.floats(-1e12, 1e12, allow_nan=False)


@st.composite
def some_records(draw: st.DrawFn) -> Records:
    count = draw(st.integers(0, 6))

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=count, max_size=count))

    keys = draw(st.lists(words.filter(bool), min_size=count, max_size=count, unique=True))
    boxes = []
    side = st.integers(1, 99)
    for x, y, width, height, known in column(st.tuples(side, side, side, side, st.booleans())):
        boxes.append([x, y, x + width / 2, y + height / 2] if known else [np.nan] * 4)
    return Records.of(
        path=[f"/images/{key}.jpg" for key in keys],
        image_key=keys,
        frame=column(st.integers(-1, 2**50)),
        time=column(finite | st.just(np.nan)),
        box=np.array(boxes, dtype=np.float32).reshape(count, 4),
        orientation=column(st.floats(0, 359.5, width=32) | st.just(np.nan)),
        **{
            name: column(words | st.just("junk") if name == "identity" else words)
            for name in LABEL_COLUMNS
            if name not in ("domain", "variant")
        },
        domain=column(st.sampled_from(["real", "synthetic"])),
        variant=column(st.sampled_from(["original", "crop"])),
    )


@settings(max_examples=50)
@given(some_records())
def test_arrays_and_back(records: Records) -> None:
    arrays = records.to_arrays()
    assert all(array.dtype.kind in "iuf" for array in arrays.values())
    assert Records.from_arrays(arrays) == records


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=some_records())
def test_a_table_and_back(records: Records, tmp_path_factory: pytest.TempPathFactory) -> None:
    if not len(records):
        return
    path = tmp_path_factory.getbasetemp() / "records.csv"
    records.write_csv(path)
    expected = records
    for column in LABEL_COLUMNS:  # a table's labels have some spellings: "-1" is junk, "nan" is none
        labels, wrong = plain_labels(getattr(records, column).values.tolist(), column)
        assume(not wrong)
        default = {"domain": "real", "variant": "original"}.get(column, "")
        expected = expected.with_(**{column: [label or default for label in labels]})
    back, notes = read_records(path)
    assert back == expected and notes == ()


@settings(max_examples=50)
@given(some_records(), st.data())
def test_selecting_and_joining_are_inverse(records: Records, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(records)))
    assert Records.concat([records[:cut], records[cut:]]) == records
    order = data.draw(st.permutations(range(len(records))))
    shuffled = records[np.array(order, dtype=np.intp)]
    assert shuffled.image_key.tolist() == [records.image_key[i] for i in order]
    assert shuffled[np.argsort(np.array(order, dtype=np.intp))] == records


@given(st.lists(words), st.lists(words))
def test_joint_codes_are_equal_where_strings_are(left: list[str], right: list[str]) -> None:
    a, b = joint_codes(Labels.of(left), Labels.of(right, junk="junk"))
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            assert (a[i] == b[j]) == (x == y)


def test_unknown_and_junk_are_two_things() -> None:
    labels = Labels.of(["b", None, "junk", "a", ""], junk="junk")
    assert labels.codes.tolist() == [1, UNKNOWN, JUNK, 0, UNKNOWN]
    assert labels.values.tolist() == ["b", "", "junk", "a", ""]
    assert labels.known.tolist() == [True, False, False, True, False] and labels.distinct == 2
    assert labels[:2].compact().names.tolist() == ["b"] and labels[:2].compact().codes.tolist() == [0, UNKNOWN]


def test_repr_counts_what_occurs() -> None:
    records = Records.of(path=["a", "b", "c"], identity=["1", "junk", None], camera=["x", "y", "y"])
    assert repr(records) == "Records: 3 images, 1 identity, 2 cameras, 0 tracklets, 1 without identity, 1 junk"
    assert repr(records[:1]) == "Records: 1 image, 1 identity, 1 camera, 0 tracklets"


def test_defaults() -> None:
    records = Records.of(path=["a.jpg"])
    assert records.image_key.tolist() == ["a.jpg"] and records.frame.tolist() == [-1]
    assert records.domain.values.tolist() == ["real"] and records.variant.values.tolist() == ["original"]
    assert np.isnan(records.time).all() and np.isnan(records.box).all() and np.isnan(records.orientation).all()


def test_with_replaces_some_columns_only() -> None:
    records = Records.of(path=["a", "b"], identity=["1", "2"], camera=["x", "y"])
    changed = records.with_(identity=["7", "7"])
    assert changed.identity.distinct == 1 and changed.camera == records.camera
    assert records.identity.distinct == 2  # the old ones are as they were


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"identity": ["1"]}, "column identity has 1 values for 2 images; give one per image"),
        ({"cam": ["a", "b"]}, "there is no column 'cam'; columns are image_key, path, identity"),
        ({"image_key": ["k", "k"]}, r"b.jpg \(image 2\): image_key 'k' occurs twice; keys must be distinct"),
        ({"orientation": [0, 360]}, r"b.jpg \(image 2\): orientation 360.0 lies outside \[0, 360\)"),
        ({"orientation": [-1, 0]}, r"a.jpg \(image 1\): orientation -1.0 lies outside"),
        ({"time": [0, np.inf]}, r"b.jpg \(image 2\): time inf is infinite"),
        ({"time": ["noon", 1]}, "column time must hold numbers"),
        ({"box": [[0, 0, 1, 1], [5, 5, 5, 9]]}, r"b.jpg \(image 2\): box .* is empty; x2 must be greater than x1"),
        ({"box": [[0, 0, 1], [0, 0, 1]]}, r"box has shape \(2, 3\); it must be \(2, 4\)"),
    ],
)
def test_wrong_values_are_reported_with_row_and_fix(columns: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Records.of(path=["a.jpg", "b.jpg"], **columns)


def test_a_lost_column_is_reported() -> None:
    arrays = Records.of(path=["a"]).to_arrays()
    del arrays["camera.codes"]
    with pytest.raises(InputError, match=r"column camera.codes is missing; make the file again"):
        Records.from_arrays(arrays)
