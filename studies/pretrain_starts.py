"""Make the trunks that the package ships: pretrained on a simulated world that no test shows.

The world (some 8,300 pictures of 1,800 vehicles by day) is simulated once, four minutes of one core; a trunk takes
three to five more. Everything is kept, so a stopped run goes on and a changed trunk is made alone. With a labelled data
set, --check tells beside each file what int8 costs: how far its features turn (cosine with those of the float32
weights), and mAP of plain search with both.

    python studies/pretrain_starts.py [--trunks resnet18_ibn_a_small ...] [--check runs/world/AIC21_Track2_ReID]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from vreid.console import ProgressBars
from vreid.data.dataset import Dataset, join
from vreid.data.open import open_dataset
from vreid.models import load_weights
from vreid.models.published import SIMULATED_FOLDER, simulated_weights
from vreid.models.weights import save_compact
from vreid.recipes.pretrain import WORLD, pretrain
from vreid.retrieval import PostProcessing, evaluate_retrieval
from vreid.simulator import simulate
from vreid.simulator.city.presets import PRETRAINING_SEED, SIMULATOR_VERSION
from vreid.training.extract import extract, load_model
from vreid.training.supervised import train

TRUNK = "backbone."


def start(backbone: str, data: Dataset, out: Path, into: Path, bars: ProgressBars) -> Path:
    """Train `backbone` in the folder `out` and write its compact file into the folder `into`."""
    run = train(pretrain(backbone), data.train, out=out / backbone, resume=True, progress=bars)
    state, facts = load_weights(run)
    backbone_state = {name.removeprefix(TRUNK): value for name, value in state.items() if name.startswith(TRUNK)}
    kept = {key: facts[key] for key in ("model", "transform", "recipe", "seed", "fingerprint", "vreid", "revision")}
    lines = [json.loads(line) for line in (out / backbone / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["event"] == "epoch"][-1]
    names = ("identity", "triplet", "head color", "head vehicle_type", "head orientation")
    budget = {"epochs": last["epoch"], "losses of the last epoch": {name: round(last[name], 4) for name in names}}
    path = into / f"{backbone}.safetensors"
    world = {"preset": WORLD.name, "world seed": PRETRAINING_SEED, "simulator version": SIMULATOR_VERSION}
    save_compact(path, backbone_state, {"kind": "start", "backbone": backbone, **kept, **world, **budget})
    return path


def harm(backbone: str, out: Path, path: Path, data: Dataset, bars: ProgressBars) -> dict[str, float]:
    """Compare features of the float32 model with those of the same model whose trunk is the compact one."""
    loaded = load_model(out / backbone)
    halves = []
    for compact in (False, True):
        if compact:
            loaded.model.get_submodule("backbone").load_state_dict(load_weights(path)[0], strict=False)
        sides = (data.query, data.gallery)
        halves.append([extract(loaded.model, side, transform=loaded.transform, progress=bars) for side in sides])
    cosines = np.concatenate(
        [np.einsum("nd,nd->n", one.features, other.features) for one, other in zip(*halves, strict=True)]
    )
    found = {"least cosine": float(cosines.min()), "mean cosine": float(cosines.mean())}
    for name, (query, gallery) in zip(("mAP", "mAP compact"), halves, strict=True):
        found[name] = 100 * evaluate_retrieval(query, gallery, PostProcessing(), data.protocol).mAP
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain"))
    parser.add_argument("--into", type=Path, default=SIMULATED_FOLDER)
    parser.add_argument("--trunks", nargs="+", default=list(simulated_weights()), metavar="NAME")
    parser.add_argument("--check", metavar="DATA", help="a labelled data set to measure the harm of int8 on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ProgressBars() as bars:
        world = options.out / "world"
        simulate(world, preset=WORLD, seed=PRETRAINING_SEED, progress=bars.counter("simulate"))
        real = open_dataset(world / "AIC21_Track2_ReID", labels="auto")
        data = join(real, open_dataset(world / "AIC21_Track2_ReID_Simulation"))
        check = open_dataset(options.check, labels="auto") if options.check else None
        for backbone in options.trunks:
            path = start(backbone, data, options.out, options.into, bars)
            line = {"trunk": backbone, "bytes": path.stat().st_size}
            if check is not None:
                line |= harm(backbone, options.out, path, check, bars)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
