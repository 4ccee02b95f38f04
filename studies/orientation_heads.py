"""StRDAN's open question: is orientation better learned as n classes or as a point on the circle?

Its authors took six bins, never tuned them, and report that regression did not converge. Here one model (recipe `small`
at 64 x 64, with StRDAN's domain head) learns with an orientation head of 6, 12 or 36 bins, with one of sine and cosine,
and with none, on the labelled pictures of both domains of a simulated world; a fifth of its synthetic vehicles is left
out. Measured are the error in degrees on the pictures of those, and plain search among the real ones. Bins say the
centre of the likeliest of them, or the mean direction under their softmax. All start from the shipped trunk, which has
learned twelve bins elsewhere; the heads are new. Figures are of simulated pictures.

    python studies/orientation_heads.py --out runs/orientation [--seeds 1 2]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vreid.console import ProgressBars
from vreid.data.dataset import join
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.files import write_json
from vreid.recipes import dmt
from vreid.retrieval import PostProcessing
from vreid.simulator import simulate
from vreid.training.extract import load_model
from vreid.training.supervised import train
from vreid.training.train_config import LabelConfig, TrainConfig
from vreid.workflow import extract

KINDS = {
    "none": None,
    "6 bins": LabelConfig(attributes_on="labelled", bins=6),
    "12 bins": LabelConfig(attributes_on="labelled", bins=12),
    "36 bins": LabelConfig(attributes_on="labelled", bins=36),
    "sine and cosine": LabelConfig(attributes_on="labelled", orientation="circle"),
}


def error(said: NDArray[np.float64], degrees: NDArray[np.float32]) -> dict[str, float]:
    """Mean and median of the angles between, and the share of more than 90 degrees: front taken for rear."""
    apart = np.abs((said - degrees + 180) % 360 - 180)
    return {"mean": float(apart.mean()), "median": float(np.median(apart)), "over 90": float((apart > 90).mean())}


def angles(run: Path, labels: LabelConfig, pictures: Records, bars: ProgressBars) -> dict[str, dict[str, float]]:
    """Errors of the orientation head, which sees the feature before the neck."""
    loaded = load_model(run)
    loaded.model.neck = torch.nn.Identity()
    features = extract(loaded, pictures, views=("original",), normalise=False, progress=bars).features
    with torch.inference_mode():
        said = loaded.model.heads["orientation"](torch.from_numpy(features))
    if labels.orientation == "circle":
        point = said.double().numpy()
        return {"as said": error(np.degrees(np.arctan2(point[:, 0], point[:, 1])), pictures.orientation)}
    centres = (np.arange(labels.bins) + 0.5) * 360 / labels.bins
    direction = said.double().softmax(dim=1).numpy() @ np.exp(1j * np.radians(centres))
    return {
        "likeliest": error(centres[said.argmax(dim=1).numpy()], pictures.orientation),
        "mean direction": error(np.degrees(np.angle(direction)), pictures.orientation),
    }


def configuration(labels: LabelConfig | None, epochs: int, seed: int) -> TrainConfig:
    small = dmt.small()
    base = replace(small, epochs=epochs, seed=seed, transform=replace(small.transform, height=64, width=64, pad=3))
    if labels is None:
        return replace(base, heads=("domain",))
    return replace(base, heads=("domain", "orientation"), labels=labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/orientation"))
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--world", type=int, default=100, help="seed of the world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of training")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ProgressBars() as bars:
        world = options.out / "world"
        simulate(world, preset=options.preset, seed=options.world, progress=bars)
        real = open_dataset(world / "AIC21_Track2_ReID", labels="auto")
        synthetic = open_dataset(world / "AIC21_Track2_ReID_Simulation")
        held_out = synthetic.train.identity.codes % 5 == 0
        data = join(real, replace(synthetic, train=synthetic.train[~held_out]))
        results = []
        for name, labels in KINDS.items():
            for seed in options.seeds:
                folder = options.out / f"{name.replace(' ', '-')}-{seed}"
                config = configuration(labels, options.epochs, seed)
                train(config, data.train, out=folder / "run", resume=True, progress=bars)
                search = extract(folder / "run", real, folder / "features", progress=bars)
                retrieval = {part: 100 * m.mAP for part, m in search.evaluate(PostProcessing()).items()}
                said = angles(folder / "run", labels, synthetic.train[held_out], bars) if labels else {}
                results.append({"head": name, "seed": seed, "mAP": retrieval, "degrees": said})
                errors = "; ".join(
                    f"{how}: mean {e['mean']:.1f}, median {e['median']:.1f}, over 90: {100 * e['over 90']:.1f} %"
                    for how, e in said.items()
                )
                bars.note(f"{name}, seed {seed}: mAP {retrieval}; {errors}")
    write_json(options.out / "results.json", results)


if __name__ == "__main__":
    main()
