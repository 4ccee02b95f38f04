"""How much of retrieval is background, how much is the number plate?

A simulated world is rendered again without its background and again with blank plates: the same vehicles, poses and
boxes, byte for byte the same plan. One model, trained on the world as it is, extracts all three. Figures are of
simulated pictures. Every stage keeps what it made, so a stopped run goes on; the folders of features also serve
`vreid report FEATURES --diagnose --without-background ... --without-plates ...`.

    python studies/ablated_worlds.py WORLD RUN --out runs/ablated
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from vreid.console import ProgressBars
from vreid.data.open import open_dataset
from vreid.diagnostics.renderings import ORIGINAL, compare_renderings
from vreid.errors import InputError
from vreid.files import read_json, write_json
from vreid.report.contents import SIMULATED_NOTICE
from vreid.retrieval_run import RetrievalRun
from vreid.simulator import simulate
from vreid.simulator.city.presets import SIMULATOR_VERSION, Preset, Scene
from vreid.workflow import extract

RENDERINGS: dict[str, dict[str, Any]] = {
    "without background": {"background": False},
    "without plates": {"plate": False},
}


def preset_of(world: Path) -> tuple[Preset, dict[str, object]]:
    """The preset and the facts of a simulated world, from its simulator.json."""
    facts = read_json(world / "simulator.json")
    if facts["simulator_version"] != SIMULATOR_VERSION:
        raise InputError(f"{world}: made by version {facts['simulator_version']} of the simulator; simulate it again.")
    fields = dict(facts["preset"])
    scenes = tuple(Scene(**scene) for scene in fields.pop("scenes"))
    new = fields.pop("new_scene")
    ranges = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Preset(**{**fields, **ranges, "scenes": scenes, "new_scene": new and Scene(**new)}), facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path, help="folder that vreid simulate has made")
    parser.add_argument("run", type=Path, help="model trained on it")
    parser.add_argument("--out", type=Path, default=Path("runs/ablated"))
    options = parser.parse_args()
    preset, facts = preset_of(options.world)
    found: dict[str, RetrievalRun] = {}
    with ProgressBars() as bars:
        for name, change in {ORIGINAL: {}, **RENDERINGS}.items():
            folder, world = options.out / name.replace(" ", "-"), options.world
            if change:
                world = folder / "world"
                again = replace(preset, synthetic_identities=0, **change)  # nobody looks at the synthetic pictures
                simulate(
                    world,
                    preset=again,
                    seed=int(str(facts["seed"])),
                    layout=str(facts["layout"]),
                    progress=bars,
                )
            dataset = open_dataset(world, labels="auto")
            found[name] = extract(options.run, dataset, folder / "features", progress=bars)
    sides = {name: (search.query, search.gallery) for name, search in found.items()}
    original = sides.pop(ORIGINAL)
    part = compare_renderings(original, sides, found[ORIGINAL].protocol)
    print(f"{SIMULATED_NOTICE}\n{found[ORIGINAL].protocol.description}")
    for name, number in part.numbers.items():
        print(f"  {name}: {number}")
    write_json(options.out / "results.json", part.as_dict())


if __name__ == "__main__":
    main()
