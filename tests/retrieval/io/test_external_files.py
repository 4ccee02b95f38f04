"""Features from elsewhere: every file that is found in practice, and what wrong ones get."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from support.command_line import Run
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import CROSS_CAMERA, MARKET, evaluate, load_features
from vreid.retrieval.io.external import FIELD_NAMES, MEANINGS_OF_NAMES, SIDE_NAMES
from vreid.retrieval_run import RetrievalRun

QUERY = np.array([[1, 0, 0], [0, 2, 0]], dtype=np.float32)
GALLERY = np.array([[3, 0, 0], [0, 1, 1], [0, 4, 0.5]], dtype=np.float32)
BOTH = np.concatenate([QUERY, GALLERY])
SPLIT = ["query", "query", "gallery", "gallery", "gallery"]
IDENTITY = ["7", "8", "7", "8", "8"]
CAMERA = ["1", "1", "2", "2", "1"]
TABLE = Records.of(path=[f"{row}.jpg" for row in "abcde"], identity=IDENTITY, camera=CAMERA, split=SPLIT)


def write_table(path: Path, header: str, *columns: list[str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(), *zip(*columns, strict=True)])
    return path


# The files of practice: each is written by hand and must give QUERY and GALLERY.


def npy(path):
    np.save(path / "f.npy", BOTH)
    return "f.npy"


def npy_half(path):
    np.save(path / "f.npy", BOTH.astype(np.float16))
    return "f.npy"


def npy_double_by_columns(path):
    np.save(path / "f.npy", np.asfortranarray(BOTH.astype(np.float64)))
    return "f.npy"


def npz_one(path):
    np.savez(path / "f.npz", feats=BOTH, epoch=np.array(3), junk_list=np.array([{}], dtype=object))
    return "f.npz"


def npz_without_names(path):
    np.savez(path / "f.npz", BOTH)
    return "f.npz"


def npz_two(path):
    np.savez_compressed(path / "f.npz", query=QUERY, gallery=GALLERY)
    return "f.npz"


def npz_short_names(path):
    np.savez(path / "f.npz", qf=QUERY, gf=GALLERY, q_pids=[7, 8], g_pids=[7, 8, 8], q_camids=[1, 1], g_camids=[2, 2, 1])
    return "f.npz"


def safetensors_one(path):
    save_file({"embeddings": BOTH}, path / "F.SAFETENSORS")
    return "F.SAFETENSORS"


def safetensors_two(path):
    save_file({"Query_Features": QUERY.astype(np.float16), "gallery-feature": GALLERY}, path / "f.safetensors")
    return "f.safetensors"


def safetensors_bfloat16(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    save_tensors({"features": torch.from_numpy(BOTH).bfloat16()}, path / "f.safetensors")
    return "f.safetensors"


def torch_tensor(path):
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(BOTH).bfloat16().requires_grad_(), path / "f.pt")
    return "f.pt"


def torch_dictionary(path):
    torch = pytest.importorskip("torch")
    sides = {"query_f": torch.from_numpy(QUERY), "gallery_f": torch.from_numpy(GALLERY), "query_label": [7, 8]}
    torch.save(sides, path / "f.pth")
    return "f.pth"


FORMS = [
    npy,
    npy_half,
    npy_double_by_columns,
    npz_one,
    npz_without_names,
    npz_two,
    npz_short_names,
    safetensors_one,
    safetensors_two,
    safetensors_bfloat16,
    torch_tensor,
    torch_dictionary,
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_features(form, tmp_path):
    query, gallery = load_features(tmp_path / form(tmp_path), TABLE)
    assert query.features.tolist() == QUERY.tolist()
    assert gallery.features.tolist() == GALLERY.tolist()
    assert query.records == TABLE[:2]
    assert gallery.records == TABLE[2:]


def test_the_split_divides_rows_in_any_order(tmp_path):
    order = [3, 0, 4, 2, 1]
    np.save(tmp_path / "f.npy", BOTH[order])
    query, gallery = load_features(tmp_path / "f.npy", TABLE[order])
    assert query.features.tolist() == QUERY.tolist()
    assert gallery.records.path.tolist() == ["d.jpg", "e.jpg", "c.jpg"]
    assert gallery.features.tolist() == GALLERY[[1, 2, 0]].tolist()


def test_without_a_split_each_image_is_on_both_sides(tmp_path):
    np.save(tmp_path / "f.npy", BOTH)
    query, gallery = load_features(tmp_path / "f.npy", TABLE.with_(split=[""] * 5))
    assert query is gallery
    assert len(query) == 5


def test_labels_in_the_file(tmp_path):
    np.savez(
        tmp_path / "f.npz",
        query_features=QUERY,
        gallery_features=GALLERY,
        query_identity=["0007", "-1"],
        gallery_identity=np.array([7.0, -1, -2]),
        query_camera=np.array([[1], [2]]),
        gallery_camera=[2, -1, 0],
        gallery_paths=np.array([b"x.jpg", b"-1", b"z.jpg"]),
    )
    query, gallery = load_features(tmp_path / "f.npz")
    assert query.records.path.tolist() == ["query/000001", "query/000002"]
    assert query.records.identity.values.tolist() == ["0007", "junk"]
    assert query.records.camera.values.tolist() == ["1", "2"]
    assert gallery.records.identity.values.tolist() == ["7", "junk", "junk"]
    assert gallery.records.camera.values.tolist() == ["2", "", "0"]
    assert gallery.records.path.tolist() == ["x.jpg", "-1", "z.jpg"]


def test_one_matrix_with_labels_and_a_split_in_the_file(tmp_path):
    np.savez(tmp_path / "f.npz", features=BOTH, ids=[7, 8, 7, 8, 8], cams=[1, 1, 2, 2, 1], split=SPLIT)
    query, gallery = load_features(tmp_path / "f.npz")
    assert (len(query), len(gallery)) == (2, 3)
    assert gallery.records.identity.values.tolist() == ["7", "8", "8"]


def test_every_spelling_has_one_meaning():
    sides, fields = ([name for names in table.values() for name in names] for table in (SIDE_NAMES, FIELD_NAMES))
    assert len(MEANINGS_OF_NAMES) == len(sides) * len(fields) + 1


# From the command line, with a table.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """features.npy and a table with other people's column names; there are no pictures."""
    np.save(tmp_path / "features.npy", BOTH)
    write_table(
        tmp_path / "images.csv",
        "img_path pid camid subset",
        list(TABLE.path),
        IDENTITY,
        CAMERA,
        ["probe", "query", "test", "gallery", "gallery"],
    )
    return tmp_path


def test_evaluate_and_rank_and_report(run: Run, folder: Path) -> None:
    outcome = run(f"evaluate {folder}/features.npy --records {folder}/images.csv --json")
    assert outcome.code == 0, outcome.err
    numbers = json.loads(outcome.out)[0]["parts"]["all cameras"]
    unit = BOTH / np.linalg.norm(BOTH, axis=1, keepdims=True)
    expected = evaluate(
        2 - 2 * unit[:2] @ unit[2:].T,
        query_identity=IDENTITY[:2],
        gallery_identity=IDENTITY[2:],
        query_camera=CAMERA[:2],
        gallery_camera=CAMERA[2:],
    )
    assert numbers["mAP"] == pytest.approx(expected.mAP)
    assert numbers["protocol"] == MARKET.name
    assert run(f"rank {folder}/features.npy --records {folder}/images.csv --out {folder}/lists.csv").code == 0
    with open(folder / "lists.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["rank"], Path(first["path"]).name) == ("1", "c.jpg")
    assert run(f"report {folder}/features.npy --records {folder}/images.csv --out {folder}/page.html").code == 0
    assert f"{100 * expected.mAP:.1f}" in (folder / "page.html").read_text(encoding="utf-8")


def test_search_reads_the_cameras_of_the_training_rows(folder: Path) -> None:
    table = write_table(
        folder / "t.csv", "path camera split", list("abcde"), CAMERA, ["train", "train", "query", "gallery", "gallery"]
    )
    search = RetrievalRun.load(folder / "features.npy", records=table)
    assert search.trained_cameras == ("1",)
    assert (len(search.query), len(search.gallery), search.protocol) == (1, 2, MARKET)
    write_table(table, "path camera", list("abcde"), CAMERA)
    assert RetrievalRun.load(folder / "features.npy", records=table).protocol == CROSS_CAMERA


# What is wrong gets one sentence that names file, row and counts.


def wrong(path, match, records=TABLE, **arrays):
    np.savez(path / "f.npz", **arrays)
    with pytest.raises(InputError, match=match) as caught:
        load_features(path / "f.npz", records)
    assert "f.npz" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (np.inf, "infinity"), (1e300, "float32"), (0, "zero")])
def test_a_row_that_is_no_direction(value, said, tmp_path):
    features = BOTH.astype(np.float64)
    features[3] = value
    wrong(tmp_path, rf"features, row 4 \(d\.jpg\).*{said}", features=features)
    features = QUERY.astype(np.float64)
    features[1] = value
    wrong(tmp_path, rf"qf, row 2 \(b\.jpg\).*{said}", qf=features, gf=GALLERY)


def test_lengths_that_do_not_match_name_both_counts(tmp_path):
    wrong(tmp_path, r"features has 4 rows for 5 image records \(0 train, 2 query, 3 gallery\)", features=BOTH[:4])
    wrong(tmp_path, "query has 3 rows for 2 query records", query=GALLERY, gallery=QUERY)
    wrong(tmp_path, "has 5 rows for 4 image records;", TABLE[:4].with_(split=[""] * 4), features=BOTH)
    wrong(tmp_path, "g_pids has 2 values for 3 features", None, qf=QUERY, gf=GALLERY, g_pids=[1, 2])


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"features": BOTH[:, :, None]}, r"shape \(5, 3, 1\)"),
        ({"features": BOTH[0]}, r"shape \(3,\)"),
        ({"features": BOTH[:0]}, r"shape \(0, 3\)"),
        ({"features": BOTH[:, :0]}, r"shape \(5, 0\)"),
        ({"features": BOTH.astype(str)}, "not numbers"),
        ({"features": BOTH.astype(complex)}, "not numbers"),
        ({"features": BOTH > 0}, "not numbers"),
        ({"qf": QUERY}, "holds qf; give one matrix for all images, or query and gallery"),
        ({"features": BOTH, "gf": GALLERY}, "holds features, gf; give one matrix"),
        ({"query": QUERY, "qf": QUERY, "gf": GALLERY}, "query and qf have the same meaning"),
        ({"query": QUERY, "gallery": GALLERY[:, :2]}, "query has 3 dimensions, gallery 2"),
        ({"weights": BOTH, "bias": BOTH}, r"no array named features.*\(found weights, bias\)"),
        ({}, r"\(found nothing\)"),
        ({"features": np.array([[1], [{}]], dtype=object)}, "features: holds Python objects; .*plain arrays"),
    ],
)
def test_wrong_arrays(arrays, match, tmp_path):
    wrong(tmp_path, match, **arrays)


def test_wrong_labels(tmp_path):
    wrong(tmp_path, "one matrix and no labels; give the records", None, features=BOTH)
    wrong(tmp_path, "ids, row 1: 1.5 is not a whole number", None, features=BOTH, ids=[1.5, 1, 1, 1, 1])
    wrong(tmp_path, "ids, row 1: 1.5 is not a whole number", None, features=BOTH, ids=[1.5, 2.5, 1.5, 1.5, 1.5])
    wrong(tmp_path, "ids contains NaN or infinity", None, features=BOTH, ids=[np.inf, 1, 1, 1, 1])
    wrong(tmp_path, "records have no split", TABLE.with_(split=[""] * 5), query=QUERY, gallery=GALLERY)
    wrong(
        tmp_path,
        r"split of b\.jpg \(record 2\) is 'val'",
        TABLE.with_(split=["query", "val", *SPLIT[2:]]),
        features=BOTH,
    )
    wrong(tmp_path, r"split of e\.jpg \(record 5\) is ''", TABLE.with_(split=[*SPLIT[:4], ""]), features=BOTH)
    wrong(tmp_path, "no record has split query", TABLE.with_(split=["gallery"] * 5), features=BOTH)


def test_rows_of_unequal_length_in_a_torch_file(tmp_path):
    torch = pytest.importorskip("torch")
    sides = {"qf": torch.from_numpy(QUERY), "gf": torch.from_numpy(GALLERY)}
    for name, match in (("q_label", "q_label holds neither"), ("feats", "feats holds other objects, not numbers")):
        torch.save(sides | {name: [[1], [1, 2]]}, tmp_path / "f.pt")
        with pytest.raises(InputError, match=match):
            load_features(tmp_path / "f.pt")


class Malicious:
    def __reduce__(self):
        return (open, ("executed.txt", "w"))


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.safetensors", "f.pt", "f.pth"])
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, b"PK\x03\x04 half a zip", b"a,b\n1,2\n", "pickle"],
    ids=["empty", "zeros", "half a zip", "text", "pickle"],
)
def test_damaged_files_and_pickles_are_rejected_and_never_run(name, content, tmp_path, monkeypatch):
    if name.startswith("f.p"):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Malicious()) if content == "pickle" else content)
    with pytest.raises(InputError, match=rf"^{name}(, .*)?: (is|has|holds) .*; .*\.$") as caught:
        load_features(name, TABLE)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "executed.txt").exists()


@settings(max_examples=99, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from([npy, npz_two, safetensors_two]))
def test_mutated_files_give_features_or_one_sentence(data, form, tmp_path):
    path = tmp_path / form(tmp_path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        query, _ = load_features(path, TABLE)
    except InputError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
    else:
        assert np.isfinite(query.features).all()


WRONG = {
    "evaluate {f}/nowhere.npy --records {f}/images.csv": "nowhere.npy: cannot be read",
    "evaluate {f}/features.npy": "--records",
    "evaluate {f}/features.npy --records {f}/none.csv": "none.csv: cannot be read",
    "evaluate {f}/features.npy --records {f}/short.csv": "features.npy: features has 5 rows for 2 image records",
    "evaluate {f}/features.npy --records {f}/split.csv": "split.csv, line 3: split is 'val'",
    "rank {f}/features.mat --records {f}/images.csv --out {f}/out.csv": "features.mat: cannot be read",
    "rank {f}/images.csv --records {f}/images.csv --out {f}/out.csv": "has no feature columns (found 'img_path'",
    "rank {f} --records {f}/images.csv --out {f}/out.csv": "give no table",
    "rank {f}/none --out {f}/out.csv": "or a file of features (.npy",
}


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line.replace("{f}/", ""))
def test_wrong_lines_get_one_sentence(line: str, run: Run, folder: Path) -> None:
    write_table(folder / "short.csv", "path", ["a", "b"])
    write_table(folder / "split.csv", "path split", list("abcde"), ["query", "val", "test", "test", "test"])
    before = set(folder.iterdir())
    outcome = run(line.format(f=folder))
    assert outcome.code == 2, outcome
    assert WRONG[line] in outcome.err
    assert outcome.err.startswith("vreid: ")
    assert outcome.err.count("\n") == 1
    assert set(folder.iterdir()) == before
