"""`import vreid`: the names that it offers, how light it is, and what type checkers see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vreid
from vreid.data.dataset import Dataset
from vreid.data.records import Records
from vreid.retrieval import MARKET, FeatureSet, Metrics

ROOT = Path(__file__).parents[1]
OFFERED = {
    "Embedder",
    "PostProcessing",
    "RetrievalRun",
    "Store",
    "adapt",
    "evaluate",
    "evaluate_features",
    "extract",
    "load_model",
    "open_dataset",
    "rank",
    "recipe",
    "rerank",
    "simulate",
    "train",
}


def test_import_loads_neither_numpy_nor_torch_and_names_come_on_first_use() -> None:
    code = """if True:
        import sys, vreid
        assert not {"numpy", "torch", "scipy", "PIL"} & set(sys.modules), sorted(sys.modules)
        assert set(vreid.__all__) <= set(dir(vreid))
        from vreid import PostProcessing, RetrievalRun, evaluate, rank, rerank
        assert "numpy" in sys.modules and "torch" not in sys.modules
        assert vreid.rank is rank
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src")})


def test_every_name_is_there_and_none_is_a_package() -> None:
    assert set(vreid.__all__) == OFFERED
    modules = {path.stem for path in (ROOT / "src" / "vreid").iterdir()}
    for name in vreid.__all__:
        assert getattr(vreid, name).__name__ == name
        assert name not in modules
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        vreid.serach  # noqa: B018


def test_type_checkers_see_the_names(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    uses = "\n".join(f"reveal_type(vreid.{name})" for name in vreid.__all__)
    snippet.write_text(f"import vreid\n{uses}\nvreid.PostProcessing.parse(1)\nvreid.serach\n")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(snippet)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    revealed = [line for line in result.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(vreid.__all__)
    assert not [line for line in revealed if '"Any"' in line or '"object"' in line]
    assert "snippet.py:17: error" in result.stdout and "snippet.py:18: error" in result.stdout, result.stdout
    assert "Found 2 errors" in result.stdout, result.stdout


def test_the_way_from_a_simulated_city_to_a_report(tmp_path: Path, one_thread: None) -> None:
    vreid.simulate(tmp_path / "city", preset="tiny", seed=1, workers=1)
    data = vreid.open_dataset(tmp_path / "city", labels="auto")
    assert isinstance(data, Dataset)
    settings = {"epochs": "1", "num_identities": "4", "transform.height": "32", "transform.width": "32"}
    model = vreid.train("small", data, tmp_path / "run", settings=settings, device="cpu")
    same = vreid.train(vreid.recipe("small", settings), data.train, tmp_path / "again", device="cpu")
    assert model.read_bytes() != b"" and vreid.load_model(model).hash == vreid.load_model(same).hash

    run = vreid.extract(model, data, tmp_path / "features")
    assert isinstance(run, vreid.RetrievalRun)
    in_memory = vreid.extract(vreid.load_model(model), data)
    features = vreid.extract(tmp_path / "run", data.query)
    assert isinstance(features, FeatureSet)
    for other in (in_memory.query, features, vreid.RetrievalRun.load(tmp_path / "features").query):
        assert np.array_equal(other.features, run.query.features)

    steps = "tracklets, rerank=4:2:0.6"
    evaluation = run.evaluate(steps)
    assert evaluation.overall.reranked
    assert evaluation.overall.mAP == run.evaluate(vreid.PostProcessing.parse(steps)).overall.mAP
    ranking = run.rank(steps, top_k=3)
    assert np.array_equal(ranking.indices, vreid.rank(run.distances(steps), data.protocol, top_k=3).indices)
    run.report(tmp_path / "report.html", steps, run=tmp_path / "run")
    assert "rerank=4:2:0.6" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_adapt_takes_a_data_set_or_records(monkeypatch: pytest.MonkeyPatch) -> None:
    import vreid.adaptation.repeated as adaptation

    given = []
    monkeypatch.setattr(adaptation, "adapt", lambda model, target, config, **how: given.append((target, how)))
    query, gallery, train = (Records.of(path=[name]) for name in ("q.jpg", "g.jpg", "t.jpg"))
    data = Dataset("by hand", train, query, gallery, MARKET)
    vreid.adapt("run", data, "out", source=data, device="cpu")
    vreid.adapt("run", gallery, "out", "v1", source=train, device="cpu")
    assert [target.path.tolist() for target, _ in given] == [["q.jpg", "g.jpg"], ["g.jpg"]]
    assert [how["source"].path.tolist() for _, how in given] == [["t.jpg"], ["t.jpg"]]


def test_plain_arrays() -> None:
    features = np.eye(4, 3, dtype=np.float32) + 0.1
    labels = {"query_identity": [0], "gallery_identity": [0, 1, 2], "query_camera": [1], "gallery_camera": [2, 2, 2]}
    assert isinstance(vreid.evaluate_features(features[:1], features[1:], **labels), Metrics)
    distances = vreid.rerank(features[:1], features[1:], k1=2, k2=1, lambda_=0.3)
    assert vreid.evaluate(distances, **labels).num_queries == 1
