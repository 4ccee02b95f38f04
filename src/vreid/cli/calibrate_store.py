"""Calibration of a store, in `vreid calibrate`, and command label."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.options import Json, Seed, print_json
from vreid.cli.store import StoreAddress
from vreid.console import echo
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.store.store import Store


def store_address(argument: Path | str) -> str | None:
    """Return the address of the store that a command's first argument names, None if it names something else."""
    from vreid.store.store import store_exists

    text = str(argument)
    for scheme in ("http:/", "https:/"):  # a Path holds one slash of two
        if text.startswith(scheme) and not text.startswith(scheme + "/"):
            text = scheme + "/" + text.removeprefix(scheme)
    return text if store_exists(text) else None


def calibrate_store(address: str, *, as_json: bool) -> None:
    """Fit the threshold of a store to its own data, and print it with the offsets of its clocks."""
    from vreid.store.site_calibration import calibrate_site
    from vreid.store.store import Store

    with Store.open(address) as store:
        found = calibrate_site(store.vectors)
    if as_json:
        print_json(found.as_dict())
        return
    for sentence in found.sentences:
        echo(sentence)
    if found.offsets:
        echo("Offsets are not applied; correct the column offset of cameras.csv and ingest again.")


def label_command(
    store: StoreAddress,
    answers: Annotated[
        Path | None, typer.Option(help="Take the answers from this CSV (first, second, answer) instead of asking.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with the pairs to answer in a browser; it saves such a CSV.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Answers that are wanted in all.")] = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Label pairs of tracklets as the same vehicle or not, and calibrate the store with the answers.

    Asks the pairs whose answers say most about the share of wrong matches. Answers are kept at once; stop and go on at
    any time.
    """
    from vreid.store.labelling import answered_pairs, put_answer, questions, read_answers
    from vreid.store.site_calibration import calibrate_site
    from vreid.store.store import Store

    with Store.open(store) as opened:
        if answers is not None:
            for first, second, same in read_answers(answers):
                opened.tracklet(first), opened.tracklet(second)  # an unknown id is an error
                put_answer(opened.vectors, first, second, same)
        elif page is not None:
            from vreid.store.label_page import write_label_page

            asked = questions(opened.vectors, count, seed=seed)
            write_label_page(opened, asked, page)
            if as_json:
                print_json({"page": str(page), "pairs": len(asked)})
                return
            echo(
                f"{page}: {plural(len(asked), 'pair')}. Answer them in a browser, save the answers, and give them "
                f"back with `vreid label {store} --answers answers.csv`."
            )
            return
        else:
            _ask(opened, questions(opened.vectors, count, seed=seed))
        found = calibrate_site(opened.vectors)
        total = len(answered_pairs(opened.vectors))
    if as_json:
        print_json({"answers": total, **found.as_dict()})
        return
    for sentence in (f"{plural(total, 'answer')} in all.", *found.sentences):
        echo(sentence)


def _ask(store: Store, pairs: Sequence[tuple[str, str]]) -> None:
    """Ask the pairs in the terminal until "q"; the crops of each are shown by one image file."""
    from vreid.errors import InputError
    from vreid.store.label_page import pair_image
    from vreid.store.labelling import ANSWER_WORDS, put_answer

    if pairs and not sys.stdin.isatty():
        raise InputError("label: there is no terminal to ask in; use --page FILE, or --answers FILE.")
    with TemporaryDirectory(prefix="vreid-label-") as folder:
        image = Path(folder) / "pair.png"
        for number, (first, second) in enumerate(pairs, start=1):
            pair_image(store, first, second).save(image)
            echo(f"{number} of {len(pairs)}: {first} and {second}, see {image}")
            word = ""
            while word not in ANSWER_WORDS and word != "q":
                word = input("The same vehicle? [y]es, [n]o, [u]nsure, [q]uit: ").strip().lower()
            if word == "q":
                return
            put_answer(store.vectors, first, second, ANSWER_WORDS[word])
