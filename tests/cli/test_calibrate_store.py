"""vreid calibrate and label on a store."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path

import pytest

from support.command_line import Run, reported
from support.simulated_site import D, simulated_site
from support.tracklets import jpeg
from vreid.store.centering import refit_means
from vreid.store.engines import open_vectors


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "store"
    vectors = open_vectors(folder, dimensions=D, model="m", create=True)
    vectors.upsert(simulated_site(vehicles=400, jpeg=jpeg(0)).batch)
    refit_means(vectors)
    vectors.close()
    return folder


def test_calibrate_a_store_and_label_its_pairs_on_a_page(site: Path, tmp_path: Path, run: Run) -> None:
    calibrated = run(f"calibrate {site} --json")
    assert calibrated.code == 0, calibrated.err
    assert json.loads(calibrated.out)["threshold"]["source"] == "this site, without labels"
    written = run(f"label {site} --page {tmp_path}/label.html --count 30")
    assert written.code == 0, written.err
    page = (tmp_path / "label.html").read_text()
    pairs = re.findall(r'data-first="(.*?)" data-second="(.*?)"', page)
    assert len(pairs) > 20
    assert "<fieldset" in page and page.count("data:image/jpeg;base64,") == len(pairs)
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in unescape(page)
    answers = tmp_path / "answers.csv"
    answers.write_text("first,second,answer\n" + "".join(f'"{a}","{b}",y\n' for a, b in pairs))
    told = run(f"label {site} --answers {answers} --json")
    assert told.code == 0, told.err
    facts = json.loads(told.out)
    assert (facts["answers"], facts["threshold"]["answers"]) == (len(pairs), len(pairs))
    assert "answers" in run(f"calibrate {site}").out


def test_wrong_input_of_label(site: Path, tmp_path: Path, run: Run) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("first,second,answer\nc0/9999,c1/0000,y\n")
    reported(run(f"label {site} --answers {answers}"), "c0/9999", "is not in")
    reported(run(f"label {tmp_path}/absent"), "absent")
    empty = tmp_path / "empty"
    open_vectors(empty, dimensions=4, model="m", create=True).close()
    reported(run(f"label {empty} --page {tmp_path}/p.html"), "no pairs to ask about")
    reported(run(f"calibrate {site}/store.sqlite"), "--out")
    reported(run(f"label {site}"), "no terminal", "--page")
    reported(run(f"adapt {site} --resume"), "--out")
    reported(run(f"adapt {site} --before 0.5"), "--before")
    reported(run("adapt default"), "SOURCE")
