"""Answers about links in a store."""

from __future__ import annotations

from pathlib import Path

from vreid.store.engines import open_vectors
from vreid.store.labelling import answered_pairs, put_answer
from vreid.trips.link_answers import link_answers, put_link_answer


def test_answers_about_links(tmp_path: Path) -> None:
    vectors = open_vectors(tmp_path / "site", dimensions=4, model="m", create=True)
    known = {"a/1", "b|1", "c/1", "d/1"}
    put_answer(vectors, "a/1", "d/1", True)  # one vehicle, but not known to be successive
    put_link_answer(vectors, "a/1", "b|1", True)
    put_link_answer(vectors, "c/1", "b|1", False)
    put_link_answer(vectors, "c/1", "gone", False)
    assert link_answers(vectors, known) == ([("a/1", "b|1")], [("b|1", "c/1")])
    put_link_answer(vectors, "a/1", "c/1", True)  # a tracklet has one successor
    assert link_answers(vectors, known)[0] == [("a/1", "c/1")]
    put_answer(vectors, "c/1", "a/1", False)  # a later decision in a search
    assert link_answers(vectors, known) == ([], [("a/1", "c/1"), ("b|1", "c/1")])
    put_link_answer(vectors, "a/1", "c/1", None)
    assert link_answers(vectors, known) == ([], [("b|1", "c/1")])
    assert answered_pairs(vectors)["answers/a/1|b|1"] is True
    vectors.close()
