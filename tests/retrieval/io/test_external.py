"""Files of features that people bring: each gives the same search, or one sentence that names what it is."""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.io import savemat

from support.command_line import Run, reported
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import load_features

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]
CASES = ROOT.parent / "shared" / "cases" / "08_features"

rng = np.random.default_rng(3)
FEATURES = rng.normal(size=(7, 5)).astype(np.float32)
NAMES = [f"image_{side}/{number:04d}.jpg" for side, number in zip("qgggqtg", range(7), strict=True)]
SPLIT = ["query", "gallery", "gallery", "gallery", "query", "train", "gallery"]
IDENTITY = ["a", "a", "b", "b", "b", "c", "a"]
TABLE = Records.of(path=[f"/data/{name}" for name in NAMES], image_key=NAMES, identity=IDENTITY, split=SPLIT)
QUERY, GALLERY = (FEATURES[[split == side for split in SPLIT]] for side in ("query", "gallery"))
MIXED = [3, 0, 6, 5, 2, 4, 1]


def rows(values: NDArray[Any] = FEATURES) -> list[Any]:
    return [torch.from_numpy(row.copy()) for row in values]


TORCH: dict[str, Callable[[], Any]] = {
    "array": lambda: FEATURES,
    "array by columns": lambda: np.asfortranarray(FEATURES),
    "array in a dictionary": lambda: {"feats": FEATURES, "epoch": np.int64(3)},
    "big-endian array": lambda: FEATURES.astype(">f4"),
    "tensor under a name": lambda: {"embeddings": torch.from_numpy(FEATURES), "args": argparse.Namespace(lr=1)},
    "list of vectors": rows,
    "tuple of vectors": lambda: tuple(rows()),
    "list of matrices of one row": lambda: [row[None] for row in rows()],
    "list of arrays": lambda: list(FEATURES),
    "list of lists": lambda: FEATURES.tolist(),
    "list of batches": lambda: list(torch.from_numpy(FEATURES).split(3)),
    "list of vectors under a name": lambda: {"features": rows()},
    "batches under a name": lambda: {"features": list(torch.from_numpy(FEATURES).split(2))},
    "features and labels without names": lambda: (torch.from_numpy(FEATURES), torch.arange(7), torch.ones(7)),
    "pooled maps": lambda: torch.from_numpy(FEATURES)[:, :, None, None],
    "path to vector": lambda: dict(zip(NAMES, rows(), strict=True)),
    "path to vector in another order": lambda: OrderedDict(
        (NAMES[row], torch.from_numpy(FEATURES[row])) for row in MIXED
    ),
    "path to array": lambda: {NAMES[row]: FEATURES[row] for row in MIXED},
    "path to row": lambda: {NAMES[row]: torch.from_numpy(FEATURES[row])[None] for row in MIXED},
    "path to list": lambda: {NAMES[row]: FEATURES[row].tolist() for row in MIXED},
    "pathlib paths": lambda: {pathlib.Path(NAMES[row]): FEATURES[row] for row in MIXED},
    "default dictionary": lambda: defaultdict(list, {NAMES[row]: FEATURES[row] for row in MIXED}),
    "other folders": lambda: {f"D:\\x\\{NAMES[row]}".replace("/", "\\"): FEATURES[row] for row in MIXED},
    "stems": lambda: {Path(NAMES[row]).stem: FEATURES[row] for row in MIXED},
    "more images than the table": lambda: {"other.jpg": FEATURES[0], **{NAMES[row]: FEATURES[row] for row in MIXED}},
    "without the training image": lambda: {NAMES[row]: FEATURES[row] for row in MIXED if row != 5},
    "wrapped dictionary": lambda: {"data": {NAMES[row]: FEATURES[row] for row in MIXED}, "epoch": 3},
    "dictionary under a name": lambda: {"features": {NAMES[row]: FEATURES[row] for row in MIXED}},
    "pairs": lambda: [(NAMES[row], torch.from_numpy(FEATURES[row])) for row in MIXED],
    "dictionaries": lambda: [{"path": NAMES[row], "feature": torch.from_numpy(FEATURES[row])} for row in MIXED],
    "features and paths": lambda: {"feats": torch.from_numpy(FEATURES[MIXED]), "paths": [NAMES[row] for row in MIXED]},
    "features and ids that are images": lambda: {
        "embeddings": FEATURES[MIXED],
        "ids": [Path(NAMES[row]).stem for row in MIXED],
    },
    "two sides": lambda: {"qf": QUERY, "gf": torch.from_numpy(GALLERY), "q_pids": ["a", "b"]},
    "two dictionaries": lambda: {
        "query": {NAMES[row]: FEATURES[row] for row in (4, 0)},
        "gallery": {NAMES[row]: FEATURES[row] for row in (6, 3, 2, 1)},
    },
    "nested sides": lambda: {"query": {"features": QUERY, "pids": [1, 2]}, "gallery": {"features": GALLERY}},
    "relabelled identities": lambda: {"features": FEATURES, "pids": [0, 0, 1, 1, 1, -1, 0]},
}


def same(path: Path, tolerance: float = 1e-6) -> None:
    query, gallery = load_features(path, TABLE)
    np.testing.assert_allclose(query.features, QUERY, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gallery.features, GALLERY, rtol=tolerance, atol=tolerance)
    assert query.records.image_key.tolist() == [NAMES[0], NAMES[4]]
    assert gallery.records == TABLE[[1, 2, 3, 6]]


@pytest.mark.parametrize("form", TORCH)
def test_every_content_of_a_torch_file_gives_the_same_search(form: str, tmp_path: Path) -> None:
    torch.save(TORCH[form](), tmp_path / "f.pt")
    same(tmp_path / "f.pt")


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float8_e4m3fn", "float64"])
def test_numbers_of_any_precision(kind: str, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(FEATURES).to(getattr(torch, kind)), tmp_path / "f.pt")
    same(tmp_path / "f.pt", 0.1 if "8" in kind.split("_")[0] else 1e-2)


def test_whole_numbers_are_features_too(tmp_path: Path) -> None:
    whole = np.arange(35).reshape(7, 5)
    torch.save(torch.from_numpy(whole), tmp_path / "f.pt")
    assert load_features(tmp_path / "f.pt", TABLE)[0].features.tolist() == whole[[0, 4]].tolist()


def _mat(path: Path, **more: Any) -> None:
    savemat(path, {"query_f": QUERY, "gallery_f": GALLERY, "query_label": ["a", "b"], **more})


def test_matlab_files(tmp_path: Path) -> None:
    labels = {"gallery_label": np.array([[1, 2, 2, 1]]), "query_label": np.array([[1, 2]]), "query_cam": [[1, 1]]}
    for compressed in (False, True):
        content = {"query_f": QUERY, "gallery_f": GALLERY, **labels, "gallery_cam": [[2, 2, 2, 2]]}
        savemat(tmp_path / "f.mat", content, do_compression=compressed)
        same(tmp_path / "f.mat")
    query, gallery = load_features(tmp_path / "f.mat")
    assert (query.records.identity.values.tolist(), gallery.records.camera.values.tolist()) == (["1", "2"], ["2"] * 4)
    cells = np.array([NAMES[row] for row in MIXED], dtype=object)
    savemat(tmp_path / "f.mat", {"features": FEATURES[MIXED], "paths": cells})
    same(tmp_path / "f.mat")
    savemat(tmp_path / "f.mat", {"features": FEATURES}, format="4")
    wrong(tmp_path / "f.mat", "")


def table_lines(header: list[str] | None, columns: list[list[Any]], path: Path, delimiter: str = ",") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *zip(*columns, strict=True)])
    return path


@pytest.mark.parametrize(
    "form",
    [
        "bare",
        "numbered",
        "named",
        "pandas",
        "with paths",
        "no header but paths",
        "semicolons",
        "blanks",
        "text",
        "numpy",
    ],
)
def test_tables_of_numbers(form: str, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    columns = [list(column) for column in FEATURES.tolist() and zip(*FEATURES.tolist(), strict=True)]
    mixed = [[column[row] for row in MIXED] for column in columns]
    names = [NAMES[row] for row in MIXED]
    if form == "bare":
        table_lines(None, columns, path)
    elif form == "numbered":
        table_lines(["0", "1", "2", "3", "4"], columns, path)
    elif form == "named":
        table_lines([f"feat_{place}" for place in range(5)], columns, path)
    elif form == "pandas":
        table_lines(["", *"01234"], [list(range(7)), *columns], path)
    elif form == "with paths":
        table_lines(["img_path", "pid", *(f"f{place}" for place in range(5))], [names, ["x"] * 7, *mixed], path)
    elif form == "no header but paths":
        table_lines(None, [names, *mixed], path)
    elif form == "semicolons":
        table_lines([f"dim{place}" for place in range(1, 6)], columns, path, ";")
    elif form == "blanks":
        np.savetxt(path, FEATURES)
    elif form == "text":
        table_lines(["path", "feature"], [names, [str(FEATURES[row].tolist()) for row in MIXED]], path)
    else:
        table_lines(["path", "embedding"], [names, [str(FEATURES[row]) for row in MIXED]], path)
    same(path)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        path.write_bytes(b"PAR1....PAR1")
        wrong(path, "is a Parquet table, which needs pyarrow; install vehicle-reid[parquet]")
        return
    names = [NAMES[row] for row in MIXED]
    pyarrow.parquet.write_table(pyarrow.table({"path": names, "feature": FEATURES[MIXED].tolist()}), path)
    same(path)
    numbered = {f"f{place}": FEATURES[MIXED, place] for place in range(5)}
    pyarrow.parquet.write_table(pyarrow.table({"path": names, **numbered}), path)
    same(path)
    path.write_bytes(b"PAR1....PAR1")
    wrong(path, "is a damaged Parquet table")


def test_the_ending_of_the_name_does_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npy", features=FEATURES)
    (tmp_path / "f.npy.npz").rename(tmp_path / "f.npy")
    same(tmp_path / "f.npy")
    save_file({"feats": FEATURES}, tmp_path / "f.pt")
    same(tmp_path / "f.pt")
    torch.save(FEATURES, tmp_path / "f.bin")
    same(tmp_path / "f.bin")


def wrong(path: Path, what: str, records: Records | None = TABLE) -> None:
    """Assert that a file is refused in one sentence that names it and holds `what`, and nothing of torch's words."""
    with pytest.raises(InputError) as caught:
        load_features(path, records)
    sentence = str(caught.value)
    assert what in sentence, sentence
    assert sentence.startswith(str(path)) and sentence.endswith(".") and sentence.isprintable()
    assert not any(word in sentence for word in ("weights_only", "Unpickl", "GLOBAL", "allowlist"))


class Frame:
    """As a data frame: an object of a class that is not imported."""

    def __init__(self) -> None:
        self.columns = ["a"]


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a missing image": (
        lambda: {name: FEATURES[0] for name in NAMES[1:]},
        f"no feature for 1 of 7 images, first /data/{NAMES[0]}",
    ),
    "no known path": (lambda: {f"x{name[-7:]}": FEATURES[0] for name in NAMES}, "(the file has 'x"),
    "numbered vectors": (lambda: dict(enumerate(FEATURES)), "are named by a number (0), not by image paths"),
    "transposed": (lambda: torch.from_numpy(FEATURES.T.copy()), "it seems to be transposed"),
    "two matrices": (lambda: (torch.from_numpy(QUERY), torch.from_numpy(GALLERY)), "a tuple of two matrices"),
    "unequal vectors": (lambda: [torch.ones(3), torch.ones(4)], "row 2 has 4 dimensions, that of row 1 3"),
    "complex": (lambda: torch.from_numpy(FEATURES).to(torch.complex64), "holds complex numbers"),
    "truth values": (lambda: torch.from_numpy(FEATURES) > 0, "holds truth values"),
    "NaN": (lambda: {**dict(zip(NAMES, FEATURES, strict=True)), NAMES[2]: FEATURES[2] * np.nan}, NAMES[2]),
    "sparse": (lambda: torch.from_numpy(FEATURES).to_sparse(), "sparse"),
    "an object": (Frame, f"an object of class {Frame.__module__}.Frame"),
    "an object under a name": (lambda: {"features": Frame()}, "not numbers"),
    "objects": (lambda: np.array([{"a": 1}], dtype=object), "has no array named features"),
    "text": (lambda: "features", "holds text"),
    "nothing": (lambda: None, "holds nothing"),
    "an empty list": (list, "a list of 0 values"),
    "weights": (lambda: torch.nn.Linear(2, 3).state_dict(), "has no array named features"),
    "a module": (lambda: torch.nn.Linear(2, 3), "an object of class torch.nn.modules.linear.Linear"),
    "other identities": (
        lambda: {"features": FEATURES, "pids": [1, 1, 2, 2, 2, 3, 2]},
        "of rows 3 and 7 contradict the table",
    ),
    "identities in another order": (
        lambda: {"features": FEATURES[MIXED], "pids": [IDENTITY[row] for row in MIXED]},
        "sort the table like the file",
    ),
    "stride 0": (lambda: torch.ones(1, 1).expand(7, 10**8), "bytes of numbers"),
    "stride 0 in rows": (lambda: [torch.ones(1).expand(10**8)] * 7, "bytes of numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_contents_are_named(name: str, tmp_path: Path) -> None:
    content, what = WRONG[name]
    torch.save(content(), tmp_path / "f.pt")
    wrong(tmp_path / "f.pt", what)


def test_wrong_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    for text, what in (
        ("path,feature\n" + "\n".join(f"{name},[0.1 ... 0.2]" for name in NAMES), "was abbreviated with ..."),
        ("path,x1,y1,x2,y2\na,1,2,3,4\n", "has no feature columns"),
        ("path,f0,f1,f3\na,1,2,3\n", "column number 2 is missing"),
        ("f0,f1\n1,2\n3\n", "row 2: has 1 cells for 2 columns"),
        ("f0,f1\n1,2\n3,x\n", "row 2: f1 is 'x', not a number"),
        ("1" * 5_000_000, "is longer than"),
        ("<!DOCTYPE html><html>", "is an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ):
        path.write_text(text, encoding="utf-8")
        wrong(path, what)


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_tensors

    save_tensors({"features": torch.ones(7, 5).to(torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    wrong(tmp_path / "f.safetensors", "features holds numbers of type F8_E4M3")
    (tmp_path / "f.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    wrong(tmp_path / "f.mat", "is a MATLAB 7.3 file (HDF5), not a file of features; save it in MATLAB")
    (tmp_path / "f.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(128) + b"\x0f\0\0\0\x40\0\0\0" + b"junk" * 16)
    wrong(tmp_path / "f.mat", "is a damaged MATLAB file")


def test_a_small_file_never_takes_much_memory(tmp_path: Path) -> None:
    zeros = np.zeros((7, 3_000_000), dtype=np.float32)
    np.savez_compressed(tmp_path / "f.npz", features=zeros, other=zeros)
    wrong(tmp_path / "f.npz", "bytes of numbers")
    savemat(tmp_path / "f.mat", {"features": zeros.T}, do_compression=True)
    wrong(tmp_path / "f.mat", "bytes of numbers")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (7, 10000000000), }"
    for size, kind in ((10**10, b"<f4"), (10**30, b"<f4"), (10**10, b"|V0")):
        text = header.replace(b"10000000000", str(size).encode()).replace(b"<f4", kind).ljust(117) + b"\n"
        (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 64)
        wrong(tmp_path / "f.npy", "cut short or damaged")


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not here")
@pytest.mark.parametrize("name", ["dict.pt", "nptorch.pt", "pytorch_result.mat", "f.csv"])
def test_cases_of_the_field(name: str, run: Run) -> None:
    outcome = run(f"evaluate {CASES / name} --records {CASES / 't.csv'} --json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)[0]["parts"]["all cameras"]
    assert (round(100 * found["mAP"], 1), round(100 * found["rank1"], 1)) == (70.5, 88.9)
    assert found["num_queries"] == 18


def test_a_wrong_file_on_the_command_line(run: Run, tmp_path: Path) -> None:
    torch.save(Frame(), tmp_path / "f.pt")
    table = table_lines(["path", "split"], [NAMES, SPLIT], tmp_path / "t.csv")
    reported(run(f"evaluate {tmp_path}/f.pt --records {table}"), f"holds an object of class {Frame.__module__}.Frame")
