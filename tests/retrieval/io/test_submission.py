"""AI City submissions: every form in circulation is read, every defect found with its line, scores equal evaluate's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from oracles.metrics import judge as judge_by_definition
from support.command_line import Run
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    AI_CITY,
    AI_CITY_MIN,
    CAMERA_LESS,
    MARKET,
    PROTOCOLS,
    SUBMISSION,
    Distances,
    FeatureSet,
    PostProcessing,
    check_submission,
    evaluate_distances,
    rank,
    score_submission,
    write_submission,
)
from vreid.retrieval.io.submission import image_numbers
from vreid.retrieval_run import RetrievalRun


def images(folder: str, numbers, **columns) -> Records:
    names = [f"{number:06d}" for number in numbers]
    return Records.of(
        path=[f"image_{folder}/{name}.jpg" for name in names],
        image_key=[f"{folder}/{name}" for name in names],
        **columns,
    )


QUERY = images("query", [1, 2, 3], identity=["a", "b", "c"], camera=["1", "1", "2"])
GALLERY = images("test", [1, 2, 3, 4], identity=["a", "b", "a", "b"], camera=["1", "2", "2", "2"])
PLAIN = [[3, 1, 2, 4], [1, 2, 3, 4], [4, 3, 2, 1]]


def saved(folder: Path, text: str | bytes) -> Path:
    path = folder / "track2.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


FORMS = {
    "plain": "3 1 2 4\n1 2 3 4\n4 3 2 1\n",
    "without a final newline": "3 1 2 4\n1 2 3 4\n4 3 2 1",
    "with empty lines behind": "3 1 2 4\n1 2 3 4\n4 3 2 1\n\n \n",
    "leading zeros": "000003 000001 000002 000004\n000001 000002 000003 000004\n000004 000003 000002 000001\n",
    "file names": "000003.jpg 1.JPG 000002.jpg 4.jpg\n000001.jpg 2 000003.jpg 4\n4.jpeg 3.png 2 1\n",
    "tabs": "3\t1\t2\t4\n1\t2\t3\t4\n4\t3\t2\t1\n",
    "commas": "3,1,2,4\n1, 2, 3, 4\n4;3;2;1\n",
    "blanks around": "  3 1  2 4 \n1 2 3 4\t\n 4 3 2 1\n",
    "CRLF": "3 1 2 4\r\n1 2 3 4\r\n4 3 2 1\r\n",
    "CR": "3 1 2 4\r1 2 3 4\r4 3 2 1\r",
    "a mark at the start": b"\xef\xbb\xbf3 1 2 4\n1 2 3 4\n4 3 2 1\n",
    "UTF-16": "3 1 2 4\r\n1 2 3 4\r\n4 3 2 1\r\n".encode("utf-16"),
}


def written(path: Path) -> list[list[int]]:
    """The numbers on each line of a file in the plain form."""
    return [[int(number) for number in line.split()] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_circulation_is_read(form, tmp_path):
    path = saved(tmp_path, FORMS[form])
    assert check_submission(path, QUERY, GALLERY) == []
    plain = saved(tmp_path, FORMS["plain"])
    assert written(plain) == PLAIN
    expected = score_submission(plain, QUERY, GALLERY).average_precision_at_k
    path = saved(tmp_path, FORMS[form])
    np.testing.assert_array_equal(score_submission(path, QUERY, GALLERY).average_precision_at_k, expected)


def test_the_plain_form_is_written(tmp_path):
    distances = Distances.from_matrix([[2, 3, 1, 4], [1, 2, 3, 4], [4, 3, 2, 1]], QUERY, GALLERY)
    write_submission(rank(distances, SUBMISSION), tmp_path / "new" / "track2.txt")
    assert (tmp_path / "new" / "track2.txt").read_bytes() == FORMS["plain"].encode()


def test_lines_are_in_order_of_query_number(tmp_path):
    query, gallery = QUERY[[2, 0, 1]], GALLERY[[3, 1, 2, 0]]
    distances = Distances.from_matrix([[1, 3, 2, 4], [4, 3, 1, 2], [4, 2, 3, 1]], query, gallery)
    write_submission(rank(distances, SUBMISSION), tmp_path / "track2.txt")
    assert (tmp_path / "track2.txt").read_text() == FORMS["plain"]
    score = score_submission(tmp_path / "track2.txt", query, gallery)
    assert np.isnan(score.average_precision_at_k[0])  # c, the first record but the last line, has no mate
    assert score.mAP_at_k == score_submission(tmp_path / "track2.txt", QUERY, GALLERY).mAP_at_k


def test_numbers_come_from_key_or_file_name():
    records = Records.of(
        path=["x/000007.jpg", "000009.png", r"c:\data\12.JPG", "frame.jpg"],
        image_key=["car", "test/000008", "y", "0000000000011"],
    )
    assert image_numbers(records).tolist() == [7, 8, 12, 11]
    with pytest.raises(InputError, match=r"0001_c002_3\.jpg \(image 2\): its name is not a number"):
        image_numbers(Records.of(path=["1.jpg", "0001_c002_3.jpg"]))
    with pytest.raises(InputError, match=r"b/01\.jpg \(image 2\): has the same number as a/1\.jpg"):
        image_numbers(Records.of(path=["a/1.jpg", "b/01.jpg"]))


@st.composite
def rankings(draw):
    """A ranking of random distances with ties and non-candidates, records in any order, numbers with gaps."""
    sizes = draw(st.integers(1, 5)), draw(st.integers(1, 130))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sides = [
        images(
            name,
            rng.choice(10**6, size, replace=False) + 1,
            identity=rng.choice(["", "junk", "x", "y"], size),
            camera=rng.choice(["", "1", "2"], size),
        )
        for name, size in zip(("query", "test"), sizes, strict=True)
    ]
    matrix = rng.integers(0, draw(st.integers(1, 300)), sizes).astype(np.float32)
    matrix[rng.random(sizes) < draw(st.sampled_from([0, 0.3]))] = np.inf
    return rank(Distances.from_matrix(matrix, *sides), SUBMISSION)


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranking=rankings())
def test_what_is_written_is_read_again(ranking, tmp_path):
    path = tmp_path / "track2.txt"
    write_submission(ranking, path)
    query, gallery = ranking.query, ranking.gallery
    assert [finding for finding in check_submission(path, query, gallery) if finding.check != "order"] == []
    lines = written(path)
    numbers = image_numbers(gallery)
    for line, row in zip(lines, np.argsort(image_numbers(query)), strict=True):
        listed = numbers[ranking.indices[row, : ranking.lengths[row]]].tolist()
        assert line[: len(listed)] == listed
        rest = sorted(set(numbers.tolist()) - set(listed))
        assert line[len(listed) :] == rest[: len(line) - len(listed)]


DEFECTS = {
    "number": ("3 1 2 4\n1 two 3 4 2\n4 3 2 1\n", "line 2: 'two' is not an image number; correct it."),
    "fraction": ("3 1 2 4\n1 2 3 4\n4 3 2 1 1.5\n", "line 3: '1.5' is not an image number; correct it."),
    "negative": ("3 1 2 4\n1 2 3 4 -1\n4 3 2 1\n", "line 2: '-1' is not an image number; correct it."),
    "huge": ("3 1 2 4 12345678901\n1 2 3 4\n4 3 2 1\n", "line 1: '12345678901' is not an image number; correct it."),
    "digits": ("3 1 2 4 \u0663\n1 2 3 4\n4 3 2 1\n", "line 1: '\u0663' is not an image number; correct it."),
    "bytes": (b"3 1 2 4\n1 2 3 4 \xff\n4 3 2 1\n", "line 2: '\ufffd' is not an image number; correct it."),
    "few": ("3 1 2 4\n1 2 3 4\n4 3 2\n", "line 3: has 3 numbers; give 4."),
    "none": ("3 1 2 4\n\n4 3 2 1\n", "line 2: has 0 numbers; give 4."),
    "too few lines": ("3 1 2 4\n1 2 3 4\n", "track2.txt: has 2 lines for 3 queries; give one line"),
    "too many lines": (FORMS["plain"] + "1 2 3 4", "track2.txt: has 4 lines for 3 queries; give one line"),
    "beyond": ("3 1 2 5\n1 2 3 4\n4 3 2 1\n", "number 5 is not the number of a gallery image (from 1 to 4)"),
    "from zero": (
        "3 1 2 4\n0 1 2 3\n4 3 2 1\n",
        "line 2: number 0 is not the number of a gallery image (from 1 to 4); add 1 to all numbers",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found_alone_with_its_line(defect, tmp_path):
    text, reported = DEFECTS[defect]
    path = saved(tmp_path, text)
    findings = check_submission(path, QUERY, GALLERY)
    assert len(findings) == 1
    assert reported in str(findings[0])
    assert str(findings[0]).startswith(str(path))
    if defect not in ("few", "none"):
        with pytest.raises(InputError) as caught:
            score_submission(path, QUERY, GALLERY)
        assert str(caught.value) == str(findings[0])


def test_several_defects_are_reported_in_line_order(tmp_path):
    path = saved(tmp_path, "1 1 9 8 1\nx y 1 2 3 4\n4 3 2 1\n1\n")
    findings = check_submission(path, QUERY, GALLERY)
    reported = [(finding.check, finding.where.removeprefix(str(path))) for finding in findings]
    assert reported == [
        ("length", ", line 1"),
        ("range", ", line 1"),
        ("twice", ", line 1"),
        ("not a number", ", line 2"),
        ("length", ", line 4"),
        ("lines", ""),
    ]
    assert findings[1].message.startswith("number 9 (and 1 more) is not the number of a gallery image")
    assert findings[2].message == "number 1 is listed more than once"


def test_a_line_sorted_by_number_is_no_ranking(tmp_path):
    gallery = images("test", range(1, 13))
    path = saved(tmp_path, " ".join(map(str, range(1, 13))) + "\n" + " ".join(map(str, range(12, 0, -1))))
    (finding,) = check_submission(path, QUERY[:2], gallery)
    assert str(finding) == f"{path}, line 1: is sorted by number; list the nearest image first."
    labelled = gallery.with_(identity=["a"] * 12, camera=["2"] * 12)
    assert score_submission(path, QUERY[:2], labelled).mAP_at_k == 1  # suspicious, but it can be judged


def test_a_large_gallery_wants_100_numbers_on_a_line(tmp_path):
    gallery = images("test", range(1, 102))
    (finding,) = check_submission(saved(tmp_path, " ".join(map(str, range(101, 0, -1)))), QUERY[:1], gallery)
    assert (finding.message, finding.fix) == ("has 101 numbers", "give 100")


def test_score_by_hand(tmp_path):
    # AI City: query 1 (a, camera 1) loses image 1, its own pass; of 3 2 4 image 3 is its mate: AP 1. Query 2 (b): of
    # 1 2 3 4 its mates are 2 and 4: AP (1/2 + 2/4) / 2. Query 3 (c) has no mate.
    score = score_submission(saved(tmp_path, FORMS["plain"]), QUERY, GALLERY)
    assert score.average_precision_at_k[:2].tolist() == [1.0, 0.5]
    assert (score.mAP_at_k, score.rank1, score.num_queries, score.num_skipped) == (0.75, 0.5, 2, 1)
    # Camera-less: query 1 keeps image 1; of 3 1 2 4 both mates come first: AP 1.
    assert score_submission(tmp_path / "track2.txt", QUERY, GALLERY, CAMERA_LESS).mAP_at_k == 0.75
    # Short lines: what is not listed is a miss. Query 1: nothing; query 2: mate 2 at place 1, mate 4 missing: AP 1/2.
    score = score_submission(saved(tmp_path, "1\n2 1\n\n3 4\n".replace("\n\n", "\n")), QUERY, GALLERY)
    assert score.average_precision_at_k[:2].tolist() == [0.0, 0.5]
    assert score.first_hit.tolist() == [0, 1, 0]


def test_a_protocol_without_cut_is_cut_at_100_with_a_note(tmp_path):
    score = score_submission(saved(tmp_path, FORMS["plain"]), QUERY, GALLERY, MARKET)
    assert score.protocol.metric == "mAP@100"
    assert score.steps == ("as submitted",)


def test_what_needs_full_lists_is_not_known(tmp_path):
    score = score_submission(saved(tmp_path, FORMS["plain"]), QUERY, GALLERY)
    assert np.isnan([score.mAP, score.mINP, score.of(np.array([True, False, False])).mAP]).all()
    assert "mAP nan, mAP@100 75.0" in str(score)


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranking=rankings())
def test_score_equals_the_definition(ranking, tmp_path):
    query, gallery = ranking.query, ranking.gallery
    query = query.with_(identity=["x"] * len(query), camera=["1"] * len(query))
    assume((gallery.identity.values[gallery.camera.values != "1"] == "x").any())
    path = tmp_path / "track2.txt"
    write_submission(ranking, path)
    numbers = image_numbers(gallery).tolist()
    known = dict(zip(numbers, zip(gallery.identity.values, gallery.camera.values, strict=True), strict=True))
    relevant = {number for number, (identity, camera) in known.items() if identity == "x" and camera != "1"}
    for protocol in (AI_CITY, AI_CITY_MIN):
        score = score_submission(path, query, gallery, protocol)
        for line, row in zip(written(path), np.argsort(image_numbers(query)), strict=True):
            order = [n for n in line if known[n] != ("x", "1") and known[n][0] != "junk"]
            expected = judge_by_definition(order, relevant, 100, protocol.normaliser)
            assert score.average_precision_at_k[row] == pytest.approx(expected[0])
            assert score.first_hit[row] == expected[1]


EXCLUDED = PostProcessing(exclude_same_camera=True)


@pytest.mark.parametrize(
    ("size", "post", "protocol"),
    [
        (90, PostProcessing(), AI_CITY),  # every list is whole
        (90, EXCLUDED, AI_CITY_MIN),
        (150, EXCLUDED, AI_CITY),  # nothing on the lines is of the query's own pass
        (150, EXCLUDED, AI_CITY_MIN),
        (150, PostProcessing(), CAMERA_LESS),  # nothing is removed
        (150, PostProcessing(), replace(CAMERA_LESS, top_k=20)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_score_equals_evaluate_to_the_last_bit(size, post, protocol, seed, tmp_path):
    rng = np.random.default_rng(seed)
    query, gallery = (
        FeatureSet(
            rng.normal(size=(count, 4)),
            images(
                name,
                rng.choice(999, count, replace=False) + 1,
                identity=rng.choice(list("abcde"), count),
                camera=rng.choice(list("123"), count),
            ),
        )
        for name, count in (("query", 12), ("test", size))
    )
    distances = post.apply(query, gallery)
    write_submission(rank(distances, SUBMISSION), tmp_path / "track2.txt")
    expected = evaluate_distances(distances, protocol)
    score = score_submission(tmp_path / "track2.txt", query.records, gallery.records, protocol)
    assert score.mAP_at_k == expected.mAP_at_k
    assert score.average_precision_at_k.tolist() == expected.average_precision_at_k.tolist()
    assert score.cmc.tolist() == expected.cmc.tolist()


# The commands, on a simulated world.


@pytest.fixture(scope="module")
def features(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of every picture of the test that know its vehicle a little."""
    data = open_dataset(tiny_world, labels="auto")
    rng = np.random.default_rng(0)
    names = {name: rng.normal(size=16) for name in sorted(set(data.gallery.identity.values))}
    folder = tmp_path_factory.mktemp("features")
    sides = []
    for side, records in (("query", data.query), ("gallery", data.gallery)):
        values = [names[name] + rng.normal(size=16) for name in records.identity.values]
        sides.append(FeatureSet(np.array(values), records))
        sides[-1].save(folder / f"{side}.safetensors")
    RetrievalRun(*sides, protocol=data.protocol).save_facts(folder)
    return folder


@pytest.mark.parametrize(
    "steps", ["", "--post camera-mean,tracklets,rerank=7:2:0.6,other-cameras", "{again} --weights 2,1"]
)
def test_write_check_score_on_a_simulated_world(steps, run: Run, features: Path, tiny_world: Path, tmp_path: Path):
    file, steps = tmp_path / "track2.txt", steps.format(again=features)
    assert run(f"submission write {features} --out {file} {steps}").code == 0
    assert run(f"submission check {file} --data {tiny_world}").out == "No problems found.\n"
    for protocol in ("ai-city", "ai-city-min", "camera-less"):
        scored = json.loads(run(f"submission score {file} --data {tiny_world} --protocol {protocol} --json").out)
        evaluated = json.loads(run(f"evaluate {features} {steps} --protocol {protocol} --json").out)
        assert list(scored[0]) == list(evaluated[-1]) and scored[0]["protocol"] == evaluated[-1]["protocol"]
        numbers, found = (row["parts"]["all cameras"] for row in (evaluated[-1], scored[0]))
        assert list(found) == list(numbers) and found["mAP"] is None and found["mINP"] is None
        if protocol != "camera-less" or not steps:  # images of the own camera fill the end of a line
            assert found["mAP@100"] == numbers["mAP@100"]
            assert found["cmc"] == numbers["cmc"]
        assert found["num_queries"] == numbers["num_queries"] > 10
        assert found["normaliser"] == ("min" if protocol == "ai-city-min" else "total")
    truth = tiny_world / "ground_truth.csv"
    again = json.loads(run(f"submission score {file} --data {truth} --protocol camera-less --json").out)
    assert again[0]["parts"]["all cameras"] == scored[0]["parts"]["all cameras"]


def test_labels_do_not_decide_what_is_written(run: Run, features: Path, tmp_path: Path):
    search = RetrievalRun.load(features)
    for side in ("query", "gallery"):
        part = getattr(search, side)
        hidden = part.records.with_(identity=[""] * len(part))
        replace(part, records=hidden).save(tmp_path / f"{side}.safetensors")
    search.save_facts(tmp_path)
    assert run(f"submission write {features} --out {tmp_path}/with.txt").code == 0
    assert run(f"submission write {tmp_path} --out {tmp_path}/without.txt").code == 0
    assert (tmp_path / "with.txt").read_bytes() == (tmp_path / "without.txt").read_bytes()


def test_feature_files_and_tables_without_images(run: Run, tmp_path: Path):
    np.savez(tmp_path / "f.npz", query=np.eye(4)[:3], gallery=np.eye(4) + 0.1)
    rows = [
        f"image_{side}/{number:06d}.jpg,{name},{camera},{side}"
        for side, records in (("query", QUERY), ("test", GALLERY))
        for number, name, camera in zip(
            image_numbers(records), records.identity.values, records.camera.values, strict=True
        )
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,identity,camera,split", *rows]))
    written = run(f"submission write {tmp_path}/f.npz --records {tmp_path}/t.csv --out {tmp_path}/track2.txt --json")
    assert "protocol submission" in json.loads(written.out)["ranking"]
    assert (tmp_path / "track2.txt").read_text() == "1 2 3 4\n2 1 3 4\n3 1 2 4\n"
    scored = run(f"submission score {tmp_path}/track2.txt --data {tmp_path}/t.csv")
    # query 1 (a, camera 1; its own pass is image 1) has image 3 second of 2 3 4, query 2 has its mates first and last
    assert "mAP@100 62.50 (95 % 50.0-75.0), divided by min(relevant, 100) 62.50, rank-1 50.00" in scored.out
    assert "1 skipped, without a match" in scored.out
    assert AI_CITY.description in scored.out


def test_score_obeys_the_normaliser_of_the_protocol(run: Run, tmp_path: Path):
    # 102 images of the one vehicle at another camera, 100 of them listed: AP 100/102 of all relevant, 1 of min(R, 100)
    names = [f"image_test/{number:06d}.jpg,a,c2,gallery" for number in range(1, 103)]
    table = "\n".join(["path,identity,camera,split", "image_query/000001.jpg,a,c1,query", *names])
    (tmp_path / "t.csv").write_text(table)
    (tmp_path / "track2.txt").write_text(" ".join(map(str, range(100, 0, -1))) + "\n")
    for protocol, value, other in (("ai-city", 100 / 102, 1), ("ai-city-min", 1, 100 / 102), ("market", 100 / 102, 1)):
        line = f"submission score {tmp_path}/track2.txt --data {tmp_path}/t.csv --protocol {protocol}"
        first, second = (row["parts"]["all cameras"]["mAP@100"] for row in json.loads(run(f"{line} --json").out))
        assert (first, second) == pytest.approx((value, other))
        shown = run(line).out
        assert f"mAP@100 {100 * value:.2f} (" in shown
        assert f"divided by {'min(relevant, 100)' if value < 1 else 'all relevant'} {100 * other:.2f}, " in shown


def test_check_tells_findings_and_exits_with_1(run: Run, tiny_world: Path, tmp_path: Path):
    found = run(f"submission check {saved(tmp_path, '1 1 x')} --data {tiny_world} --json")
    assert found.code == 1
    assert [finding["check"] for finding in json.loads(found.out)["findings"]] == [
        "not a number",
        "length",
        "twice",
        "lines",
    ]
    shown = run(f"submission check {tmp_path}/track2.txt --data {tiny_world}")
    assert shown.code == 1
    assert f"{tmp_path}/track2.txt, line 1: number 1 is listed more than once; list each image once." in shown.out
    assert shown.out.endswith("4 problems found.\n")


WRONG = {
    "write {t}/none --out {t}/new.txt": "none: holds no features.json",
    "write {f} --out {t}/file/new.txt": "new.txt: cannot be written",
    "write {f} --out {t}/new.txt --post rerank=x": "K1:K2:LAMBDA",
    "write {t}/f.npz --out {t}/new.txt": "car.jpg (image 1): its name is not a number",
    "check {t}/none.txt --data {w}": "none.txt: cannot be read",
    "check {t} --data {w}": "cannot be read",
    "check {t}/empty.txt --data {w}": "empty.txt: is empty; give one line",
    "check {t}/file --data {t}/none": "does not exist",
    "check {t}/file --data {t}/bare.csv": "the data set has no query or no gallery images",
    "score {t}/file --data {w}": "file, line 1: 'This' is not an image number; correct it.",
    "score {t}/one.txt --data {w}": "one.txt: has 1 lines for",
    "score {t}/one.txt --data {w} --protocol ai-ctiy": "There is no protocol 'ai-ctiy'; did you mean 'ai-city'?",
    "score {t}/one.txt --data {w} --protocol veri-tracks": "a submission ranks images",
    "score {t}/all.txt --data {w} --labels none": "has no identity",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_lines_get_one_sentence(line: str, run: Run, features: Path, tiny_world: Path, tmp_path: Path):
    (tmp_path / "file").write_text("This is no submission.\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "one.txt").write_text("1\n")
    (tmp_path / "all.txt").write_text("1\n" * len(open_dataset(tiny_world).query))
    (tmp_path / "bare.csv").write_text("path,split\n1.jpg,train\n")
    np.savez(tmp_path / "f.npz", query=np.eye(2), gallery=np.eye(2), query_path=["car.jpg", "2"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outcome = run("submission " + line.format(t=tmp_path, f=features, w=tiny_world))
    assert outcome.code == 2, outcome
    assert WRONG[line] in outcome.err
    assert outcome.err.startswith("vreid: ")
    assert outcome.err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_truncated_ranking_is_rejected(tmp_path):
    distances = Distances.from_matrix(np.ones((3, 4)), QUERY, GALLERY)
    with pytest.raises(InputError, match="needs 4 images per query, but the ranking is cut at 2"):
        write_submission(rank(distances, SUBMISSION, top_k=2), tmp_path / "track2.txt")
    assert not (tmp_path / "track2.txt").exists()


def test_only_image_protocols_can_score(tmp_path):
    path = saved(tmp_path, FORMS["plain"])
    for protocol in PROTOCOLS.values():
        if protocol.unit == "tracklet" or protocol.repeats:
            with pytest.raises(InputError, match=protocol.name):
                score_submission(path, QUERY, GALLERY, protocol)
        else:
            assert score_submission(path, QUERY, GALLERY, protocol).num_queries >= 2
