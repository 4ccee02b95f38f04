"""Pretrain the small backbones whose weights ship with the package, on a simulated world used by no test.

The world (about 8,300 images of 1,800 vehicles by day) is simulated once, in four minutes on one core; each backbone
takes three to five more. Results are kept: a stopped run is resumed, and a changed backbone is trained alone. With a
labelled data set, --check measures the loss of int8 weights: cosine between the features of int8 and float32 weights,
and mAP of plain search with both.

    python studies/pretrain_small.py [--backbones resnet18_ibn_a_small ...] [--check runs/world/AIC21_Track2_ReID]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from vreid.data.dataset import Dataset, join
from vreid.data.open import open_dataset
from vreid.models import load_weights
from vreid.models.published import SIMULATED_FOLDER, simulated_weights
from vreid.models.weights import save_compact
from vreid.progress_bars import ProgressBars
from vreid.recipes.pretrain import WORLD, pretrain
from vreid.retrieval import PostProcessing, evaluate_retrieval
from vreid.simulator import simulate
from vreid.simulator.city.presets import PRETRAINING_SEED, SIMULATOR_VERSION
from vreid.training.extract import extract, load_trained
from vreid.training.supervised import train

PREFIX = "backbone."


def train_backbone(backbone: str, data: Dataset, out: Path, into: Path, bars: ProgressBars) -> Path:
    """Train `backbone` in the folder `out` and write its compact file into the folder `into`."""
    run = train(pretrain(backbone), data.train, out=out / backbone, resume=True, progress=bars)
    state, facts = load_weights(run)
    backbone_state = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    kept = {key: facts[key] for key in ("model", "transform", "recipe", "seed", "fingerprint", "vreid", "revision")}
    lines = [json.loads(line) for line in (out / backbone / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["event"] == "epoch"][-1]
    names = ("identity", "triplet", "head color", "head vehicle_type", "head orientation")
    budget = {"epochs": last["epoch"], "losses of the last epoch": {name: round(last[name], 4) for name in names}}
    path = into / f"{backbone}.safetensors"
    world = {"preset": WORLD.name, "world seed": PRETRAINING_SEED, "simulator version": SIMULATOR_VERSION}
    save_compact(path, backbone_state, {"kind": "start", "backbone": backbone, **kept, **world, **budget})
    return path


def int8_loss(backbone: str, out: Path, path: Path, data: Dataset, bars: ProgressBars) -> dict[str, float]:
    """Compare features of the float32 model with those of the same model with the compact (int8) backbone."""
    loaded = load_trained(out / backbone)
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
    parser.add_argument("--backbones", nargs="+", default=list(simulated_weights()), metavar="NAME")
    parser.add_argument("--check", metavar="DATA", help="labelled data set on which the loss of int8 is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ProgressBars() as bars:
        world = options.out / "world"
        simulate(world, preset=WORLD, seed=PRETRAINING_SEED, progress=bars)
        real = open_dataset(world / "AIC21_Track2_ReID", labels="auto")
        data = join(real, open_dataset(world / "AIC21_Track2_ReID_Simulation"))
        check = open_dataset(options.check, labels="auto") if options.check else None
        for backbone in options.backbones:
            path = train_backbone(backbone, data, options.out, options.into, bars)
            line = {"backbone": backbone, "bytes": path.stat().st_size}
            if check is not None:
                line |= int8_loss(backbone, options.out, path, check, bars)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
