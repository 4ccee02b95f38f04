"""Every command with wrong options, missing sources, and outputs that cannot be written.

Each is refused with exit code 2 and one sentence, and leaves the disk as it was.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest

from support.command_line import SMALLEST, Run, reported, state

TRAIN = "train small --data {world} --out {new}/r"
EXTRACT = "extract {made}/run {world} --out {new}/f"
ADAPT = "adapt {made}/run {world} --out {new}/a"
FEATURES = "{made}/features"
TRANSLATE = "data translate train {world}/AIC21_Track2_ReID_Simulation {world}/AIC21_Track2_ReID --out {new}/t"

# ---------------------------------------------------------------- the command line itself

LINES = {
    # not understood at all
    "train": "Missing argument 'RECIPE'; see `",
    "nope": "No such command 'nope'",
    "evaluate --postt 1": "--post",
    "info now": "unexpected extra argument",
    "simulate {new}/w --seed many": "--seed",
    "simulate {new}/w --workers 1.5": "--workers",
    f"rank {FEATURES} --out {{new}}/a.csv --top-k x": "--top-k",
    f"rank {FEATURES}": "--out",
    "train small --out {new}/r": "--data",
    "data split {world} --out {new}/s --count x": "--count",
    "submission check": "FILE",
    # simulate, sheet, demo
    "simulate {new}/w --preset tinny": "did you mean 'tiny'",
    "simulate {new}/w --preset tiny --seed -1": "seed -1 is negative",
    "simulate {new}/w --preset tiny --workers 0": "workers 0 is less than 1",
    "simulate {new}/w --preset tiny --layout very": "veri",
    "sheet {new}/a.jpg --kind cars": "domains",
    "sheet {new}/a.gif": ".jpg or .png",
    "sheet {new}/a.png --seed -1": "seed -1 is negative",
    "demo --out {new}/d --preset tinny": "did you mean 'tiny'",
    "demo --out {new}/d --preset tiny --seed -1": "seed -1 is negative",
    "demo --out {new}/d --preset tiny --set epocs=1": "did you mean 'epochs'",
    "demo --out {new}/d --preset tiny --set epochs=0": "epochs is 0; give a whole number from 1",
    # train
    "train smal --data {world} --out {new}/r": "did you mean 'small'",
    "train '' --data {world} --out {new}/r": "did you mean 'small'",
    f"{TRAIN} --device cuda:77": "--device cuda:77: this machine has no such device",
    f"{TRAIN} --device meta": "--device meta: this machine has no such device",
    f"{TRAIN} --device tpu": "--device tpu: this machine has no such device",
    f"{TRAIN} --set epochs": "--set epochs: write KEY=VALUE",
    "train small --data {world} --out {made}/run --set num_identities=4": "run: is not empty; name another folder",
    "train small --data {world} --out {made}/run --set num_identities=5 --resume": "config.json: the run has ",
    # adapt
    "adapt {new}/r {world} --out {new}/a": "is neither a run folder nor",
    f"{ADAPT} --preset v3": "There is no preset 'v3'; did you mean",
    f"{ADAPT} --set pseudo.epz=1": "did you mean 'pseudo.eps'",
    f"{ADAPT} --set pseudo.eps=2": "pseudo.eps is 2.0; give a number from",
    f"{ADAPT} --set replay=true": "replay needs labelled source images",
    f"{ADAPT} --recluster -1": "recluster is -1; give a whole number from 0",
    f"{ADAPT} --before 2": "is 2.0 of the images; give a share between 0 and 1",
    "adapt {made}/run {world} --out {made}/features --set pseudo.eps=0.5": "features: is not empty",
    # extract
    f"{EXTRACT} --views sideways": "'sideways' is unknown; choose among original, flip",
    f"{EXTRACT} --views ,": "choose among original, flip",
    f"{EXTRACT} --views flip,flip": "one is named twice",
    f"{EXTRACT} --device meta": "--device meta: this machine has no such device",
    "extract {made}/features {world} --out {new}/f": "features: holds no trained model",
    "extract {made}/features/query.safetensors {world} --out {new}/f": "query.safetensors: is not a trained model",
    # rank, evaluate, report
    f"rank {FEATURES} --out {{new}}/lists.txt": "lists.txt: give a name that ends in .csv or .safetensors",
    f"rank {FEATURES} --out {{new}}/lists.csv --top-k 0": "top_k is 0; give a whole number of at least 1",
    f"evaluate {FEATURES} --post rerank=7,2": "--post: step '2': is unknown; write the values of a step between colons",
    f"evaluate {FEATURES} --post rerank=a:b:c": "k1 is 'a'; write rerank=K1:K2:LAMBDA",
    f"evaluate {FEATURES} --post rerank=0:2:0.3": "k1 is 0",
    f"evaluate {FEATURES} --post rerank=7:-2:0.3": "k2 is -2",
    f"evaluate {FEATURES} --post rerank=7:2:nan": "lambda_ is nan; give a number from 0 to 1",
    f"evaluate {FEATURES} --post rerank=7:2:1.5": "lambda_ is 1.5",
    f"evaluate {FEATURES} --post tracklets=median": "feature is 'median'; use one of mean, weighted, per-query",
    f"evaluate {FEATURES} --protocol markt": "market",
    f"report {FEATURES} --out {{new}}/p.html --run {{empty}}": "metrics.jsonl: cannot be read (No such file",
    f"tune {FEATURES} --post rerank --on {FEATURES}": "is in validation and test; tune on other images",
    f"report {FEATURES} --out {{new}}/p.html --validation {{empty}}": "need --diagnose; add it",
    f"report {FEATURES} --out {{new}}/p.html --diagnose --validation {{empty}}": "holds no features.json",
    f"report {FEATURES} --out {{new}}/p.html --diagnose --model {{empty}}": "holds no trained model",
    f"report {FEATURES} --out {{new}}/p.html --diagnose --data {{empty}}": "is not a known data set format; looked for",
    f"report {FEATURES} --out {{new}}/p.html --diagnose --seed -1": "seed -1 is negative",
    "export {empty} --out {new}/w.safetensors": "holds no trained model",
    "export {made}/run --out {new}/w.pth": "w.pth: is unknown; use safetensors or onnx",
    "rank {made}/run --out {new}/lists.csv": "run: holds no features.json",
    f"evaluate {FEATURES} {FEATURES} --weights 1,2,3": "--weights 1,2,3: give 2 comma-separated numbers above 0",
    f"evaluate {FEATURES} {FEATURES} --weights 1,much": "--weights 1,much: give 2 comma-separated numbers above 0",
    "evaluate {made}/features {made}/features --fusion sum": "--fusion sum: unknown fusion; use mean or rank",
    "evaluate {made}/features --weights 1": "need the features of several models",
    "evaluate {made}/features --ablate --post rerank": "--ablate is now a separate command: vreid ablate /",
    "evaluate {made}/features --tune=v --json": "/features --on v --json",
    f"evaluate --fpir 0.1 {FEATURES} --calibrate t.json": "separate command: vreid calibrate --fpir 0.1 /",
    f"submission write {FEATURES} {FEATURES} --weights 1 --out {{new}}/t.txt": "--weights 1: give 2 comma-separated",
    "evaluate {made}/features --post scene-groups=labels:{new}/none": "none: does not exist",
    f"evaluate {FEATURES} --by nope": "slices by 'nope' are unknown; use one of",
    f"evaluate {FEATURES} --open-set": "remove vehicles from the gallery",
    f"evaluate {FEATURES} --leave-out 2": "share is 2.0; give a number above 0 and below 1",
    f"evaluate {FEATURES} --leave-out nan": "share is nan",
    f"evaluate {FEATURES} --leave-out 0.5 --seed -1": "seed is -1; give a whole number of at least 0",
    f"calibrate {FEATURES} --leave-out 0.5 --out {{new}}/t.json --fpir 2": "fpir is 2.0",
    f"calibrate {FEATURES} --leave-out 0.5 --out {{new}}/t.json --miss-rate nan": "miss_rate is nan",
    f"evaluate {FEATURES} --protocol vehicle-id": "query and gallery images are different",
    f"evaluate {FEATURES} --records {{empty}}/a.csv": "give no table",
    "evaluate s3://bucket/features": "s3://bucket/features: features are read from this machine; copy the folder here",
    "evaluate file:///nowhere/features": "/nowhere/features: holds no features.json",
    f"evaluate {FEATURES}/query.safetensors": "query.safetensors: holds one matrix and no labels",
    # data split, submission
    "data split {world} --out {new}/s --hold-out scenes": "scene",
    "data split {world} --out {new}/s --seed -1": "seed -1 is negative",
    "data split {world} --out {new}/s --hold-out cameras=c999": "c999",
    "data split {world} --out {new}/s --hold-out identities --count 100000": "100",
    "data split {world} --out {new}/s --hold-out identities --count -1": "-1",
    # data translate
    f"{TRANSLATE} --recipe spgam": "did you mean 'spgan'",
    f"{TRANSLATE} --set cycel=1": "did you mean 'cycle'",
    f"{TRANSLATE} --set size=30": "size is 30; the generators halve it twice",
    f"{TRANSLATE} --set cycle=-1": "cycle is -1.0; give a number from 0",
    "data translate train {world} {world}/AIC21_Track2_ReID_Simulation --out {new}/t": "give the synthetic ones first",
    "data translate apply {made}/run {world} --out {new}/t": "holds no translation; give the run of",
    "data translate apply {made}/features {world} --out {new}/t": "features: holds no trained translation",
    "submission score {made}/features/features.json --data {world} --protocol markt": "market",
    # table
    "table --out {new}/t": "Missing argument 'NAME...'",
    "table dmt.7 --out {new}/t": "other teams' results; it is printed in docs/results/published.md",
    "table dmt.1 dmt.9 --out {new}/t": "There is no table 'dmt.9'; did you mean 'dmt.",
    "table dmt.1 --scale big --out {new}/t": "scale 'big': unknown scale; use one of smoke, gpu, paper",
    "table dmt.1 --scale paper --out {new}/t": "needs the real data sets; give --data",
    "table dmt.1 --data {world} --out {new}/t": "give --data with --scale paper only",
    "table dmt.1 --seeds 0 --out {new}/t": "--seeds",
    "table dmt.4 --only nonsense --out {new}/t": "No row of dmt.4 has 'nonsense' in its name",
    "table dmt.1 --merge {empty}/a.jsonl --out {new}/t": "a.jsonl: cannot be read",
    # data crop
    "data crop {made}/run {world} --out {new}/c.csv": "run/model.safetensors: is for images of 32 x 32; boxes need",
    "data crop {made}/run {world} --out {new}/c.csv --config vox": "no crop config 'vox'; choose among voc, even",
    "data crop {made}/run {world} --out {new}/c.csv --set ratio=-1": "crop ratio is -1.0; give a number from 0 to 100",
    "data crop {made}/features {world} --out {new}/c.csv": "features: holds no trained model",
    f"{EXTRACT} --views original,crop": "show crops; say where these are (--crops CROPS)",
    f"{EXTRACT} --views original,crop --crops {{world}}": "has no crop (16 of 16 images have none)",
}


@pytest.fixture
def places(made: Path, tiny_world: Path, tmp_path: Path) -> dict[str, Path]:
    """Values of the braces in a line."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return {"made": made, "world": tiny_world, "empty": empty, "new": tmp_path / "new"}


@pytest.mark.parametrize("line", LINES)
def test_wrong_options(line: str, run: Run, places: dict[str, Path], tmp_path: Path) -> None:
    before = state(tmp_path)
    reported(run(line.format(**places)), LINES[line])
    assert state(tmp_path) == before


SETTINGS = {
    "epochs=-1": "epochs is -1; give a whole number from 1 to 100,000",
    "epochs=many": "epochs=many: 'many' is not a whole number",
    "epochs=": "epochs=: '' is not a whole number",
    "epochs=1e3": "'1e3' is not a whole number",
    "epocs=1": "did you mean 'epochs'",
    "lerning_rate=1": "did you mean 'optimiser.learning_rate'",
    "transform.heigth=64": "did you mean 'transform.height'",
    "zzz=1": "There is no setting 'zzz'; there are recipe, model.backbone, ",
    "=1": "There is no setting ''",
    "model=resnet50": "There is no setting 'model'",
    "optimiser.learning_rate=nan": "'nan' is not a number",
    "optimiser.learning_rate=0": "optimiser.learning_rate is 0.0; give a number from 1e-12",
    "optimiser.learning_rate=inf": "optimiser.learning_rate is inf",
    "optimiser.momentum=1": "optimiser.momentum is 1.0; give a number from 0 to 0.9999",
    "optimiser.weight_decay=-1": "optimiser.weight_decay is -1.0; give a number from 0",
    "optimiser.kind=adagrad": "'adagrad' is not sgd or adam or adamw",
    "losses.label_smoothing=2": "losses.label_smoothing is 2.0; give a number from 0 to 1",
    "losses.triplet=-1": "losses.triplet is -1.0",
    "losses.triplet_squared=maybe": "'maybe' is not true or false",
    "clip_norm=0": "clip_norm is 0.0",
    "clip_norm=big": "'big' is not a number or none",
    "num_instances=1": "num_instances is 1; the triplet loss needs 2 or more in a batch",
    "num_identities=1": "num_identities is 1; the triplet loss needs 2 or more in a batch",
    "num_identities=13": "A batch needs 13 identities but the training images have 12; lower num_identities",
    "num_instances=0": "num_instances is 0; give a whole number from 1",
    "seed=-1": "seed is -1; give a whole number from 0",
    "transform.height=0": "transform.height is 0; give a whole number from 1",
    "transform.width=1000000": "transform.width is 1000000; give a whole number from 1 to 4,096",
    "transform.pad=1000": "pad is 1000",
    "transform.flip=2": "transform.flip is 2.0; give a number from 0 to 1",
    "transform.std=0,1,1": "transform.std is 0.0; give a number from 1e-06",
    "transform.mean=1,2": "not 3 values separated by commas",
    "transform.erase_ratio=3,1": "transform.erase_ratio is (3.0, 1.0); give the smaller number first",
    "transform.erase_ratio=0,1": "transform.erase_ratio is 0.0; give a number from 0.001",
    "schedule.final_factor=-1": "schedule.final_factor is -1.0; give a number from 0 to 1",
    "schedule.milestones=3": "There is no setting 'schedule.milestones'",
    "precision=float8": "'float8' is not auto or float32 or bfloat16",
    "model.backbone=resnet5": "did you mean 'resnet50'",
    "model.pooling=max": "'max' is not average or gem",
    "model.weights=nowhere.pth": "nowhere.pth: cannot be read (No such file or directory); check the name",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_wrong_settings_of_a_recipe(setting: str, run: Run, places: dict[str, Path], tmp_path: Path) -> None:
    before = state(tmp_path)
    reported(run(f"{TRAIN} --set {setting}".format(**places)), SETTINGS[setting])
    assert state(tmp_path) == before  # the same line without the mistake can follow


# ---------------------------------------------------------------- training data that do not suffice


def colours(folder: Path, vehicles: int, each: int = 2) -> str:
    """Rows of a table of `each` tiny images of each vehicle, written into `folder`."""
    from PIL import Image

    rows = ["path,identity,camera,split"]
    for number in range(vehicles * each):
        Image.new("RGB", (24, 24), (10 * number, 100, 200)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{number // each},{number % each},train")
    return "\n".join(rows) + "\n"


def test_training_images_without_or_with_one_vehicle(run: Run, tmp_path: Path) -> None:
    one = colours(tmp_path, 1)
    table = tmp_path / "vehicles.csv"
    for text, sentence in (
        (one, "A batch needs 12 identities but the training images have 1; lower num_identities or add identities"),
        (one.replace(",0,", ",,"), "no training image with a known identity; training needs labels"),
        (one.replace(",0,", ",junk,"), "no training image with a known identity"),
        (one.replace("train", "gallery"), "no training image"),
    ):
        table.write_text(text)
        before = state(tmp_path)
        reported(run(f"train small --data {table} --out {tmp_path}/r"), sentence)
        assert state(tmp_path) == before


def test_more_instances_than_images_are_drawn_with_replacement(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vehicles.csv").write_text(colours(tmp_path, 4))
    line = f"train small --data {tmp_path}/vehicles.csv --out {tmp_path}/r {SMALLEST} --set num_instances=5"
    assert run(line).code == 0


def test_a_damaged_training_image_can_be_fixed_and_the_command_repeated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vehicles.csv").write_text(colours(tmp_path, 4))
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[:40])
    line = f"train small --data {tmp_path}/vehicles.csv --out {tmp_path}/r {SMALLEST}"
    reported(run(line), "3.png: ")
    assert not (tmp_path / "r").exists()
    (tmp_path / "3.png").write_bytes(whole)
    assert run(line).code == 0


# ---------------------------------------------------------------- sources of every kind that is none


def crossed(some: list[str], every: list[str], faults: Iterable[str], one: str) -> list[tuple[str, str]]:
    """Pairs of command and fault: `some` commands with all faults, every other command with `one` of them."""
    return [*product(some, faults), *((line, one) for line in every if line not in some)]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


SOURCES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "empty_folder": Path.mkdir,
    "text": lambda path: path.write_text("hello"),
    "picture.jpg": lambda path: path.write_text("no"),
    "table.csv": lambda path: path.write_bytes(bytes(range(256))),
    "nothing.csv": lambda path: path.write_text(""),
    "folder.csv": Path.mkdir,
    "null.csv": lambda path: path.write_bytes(b"path\0\n\0\n"),
    "zero.safetensors": lambda path: path.write_bytes(b""),
    "garbage.safetensors": lambda path: path.write_bytes(b"\xff" * 100),
    "deep.safetensors": lambda path: path.write_bytes((10**15).to_bytes(8, "little") + b"{}"),
    "garbage.pth": lambda path: path.write_bytes(b"\x80\x02garbage"),
    "zip.pth": lambda path: path.write_bytes(b"PK\x03\x04garbage"),
    "garbage.npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00garbage"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to("loop"),
    "pipe.csv": _fifo,
    "pipe.safetensors": _fifo,
    "socket.csv": _socket,
    "device.csv": lambda path: path.symlink_to("/dev/zero"),
    "device.safetensors": lambda path: path.symlink_to("/dev/zero"),
    "n" * 300: lambda path: None,
    "a\udc80b": lambda path: None,
    "Straße": lambda path: None,
    "two\nlines": lambda path: None,
}
READERS = [
    "check {source}",
    "train small --data {source} --out {new}/r",
    "extract {made}/run {source} --out {new}/f",
    "extract {source} {world} --out {new}/f",
    "extract {made}/run {world} --labels {source} --out {new}/f",
    "train small --data {world} --out {new}/r --set model.weights={source}",
    "evaluate {source}",
    "rank {source} --out {new}/a.csv",
    "rank {made}/features --threshold {source} --out {new}/a.csv",
    "evaluate {made}/features/query.safetensors --records {source}",
    "report {source} --out {new}/a.html",
    "report {made}/features --run {source} --out {new}/a.html",
    "report {made}/features --diagnose --data {source} --out {new}/a.html",
    "report {made}/features --diagnose --without-plates {source} --out {new}/a.html",
    "data split {source} --out {new}/s",
    "data crop {source} {world} --out {new}/c.csv",
    "data crop {made}/run {source} --out {new}/c.csv",
    "extract {made}/run {world} --crops {source} --out {new}/f",
    "submission write {source} --out {new}/track2.txt",
    "submission check {source} --data {world}",
    "submission score {made}/features/features.json --data {source}",
]


@pytest.mark.parametrize(
    ("reader", "source"),
    crossed(["check {source}", "evaluate {source}"], READERS, SOURCES, "table.csv"),
    ids=lambda name: ascii(name[:40]),
)
def test_invalid_sources(source: str, reader: str, run: Run, places: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / source
    SOURCES[source](path)
    before = state(tmp_path) if not source.startswith("n" * 300) else None
    if reader.startswith("submission check") and before is not None and path.is_file() and path.stat().st_size:
        pytest.skip("that each line is wrong is a finding")
    outcome = run(reader.format(source=f"'{path}'", **places))
    shown = source.encode("utf-8", "backslashreplace").decode().replace("\n", " ")
    reported(outcome, shown)
    assert before is None or state(tmp_path) == before


# ---------------------------------------------------------------- outputs that cannot be written

IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "below_a_file": lambda path: path.parent.write_text("in the way"),
    "a_folder": lambda path: path.mkdir(parents=True),
    "a_pipe": lambda path: (path.parent.mkdir(), os.mkfifo(path)),
    "a_device": lambda path: (path.parent.mkdir(), path.symlink_to("/dev/null")),
    "a_loop": lambda path: (path.parent.mkdir(), path.symlink_to(path.name)),
    "below_a_loop": lambda path: path.parent.symlink_to(path.parent.name),
    "below_a_device": lambda path: path.parent.symlink_to("/dev/null"),
    "below_proc": lambda path: path.parent.symlink_to("/proc"),
}
FILES = {
    "sheet {out} --kind closeup": ".png",
    f"rank {FEATURES} --out {{out}}": ".csv",
    f"rank {FEATURES} --out {{out}} --json": ".safetensors",
    f"report {FEATURES} --out {{out}}": ".html",
    f"submission write {FEATURES} --out {{out}}": ".txt",
    "check {table} --page {out}": ".html",
}
FOLDERS = [
    "simulate {out} --preset tiny --workers 1",
    f"train small --data {{world}} --out {{out}} {SMALLEST}",
    "extract {made}/run {world} --out {out}",
    "data split {world} --out {out}",
    f"demo --out {{out}} --preset tiny {SMALLEST}",
]


@pytest.mark.parametrize(
    ("line", "way"),
    crossed(
        [f"rank {FEATURES} --out {{out}}", "data split {world} --out {out}"],
        [*FILES, *FOLDERS],
        IN_THE_WAY,
        "below_a_file",
    ),
)
def test_outputs_that_are_blocked(
    line: str, way: str, run: Run, sketch: object, places: dict[str, Path], tmp_path: Path
) -> None:
    if line in FOLDERS and way == "a_folder":
        pytest.skip("a folder is what the command makes")
    if line in FILES and way == "a_loop":
        pytest.skip("the link is replaced")
    (tmp_path / "vehicles.csv").write_text(colours(tmp_path, 2))
    out = tmp_path / "parent" / f"out{FILES.get(line, '')}"
    IN_THE_WAY[way](out)
    before = state(tmp_path)
    reported(run(line.format(out=out, table=tmp_path / "vehicles.csv", **places)), "parent")
    assert state(tmp_path) == before
    assert Path("/dev/null").is_char_device()


def test_a_link_to_a_file_stays_a_link(run: Run, made: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "page.html").symlink_to("disk/real.html")
    for _ in range(2):  # first the link leads nowhere, then to a file
        assert run(f"report {made}/features --out {tmp_path}/page.html").code == 0
        assert (tmp_path / "page.html").is_symlink()
        assert (tmp_path / "disk" / "real.html").read_text(encoding="utf-8").startswith("<!")
    assert sorted(os.listdir(tmp_path / "disk")) == ["real.html"]
