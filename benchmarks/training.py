"""Benchmark the overhead of the training engine over the network: `PYTHONPATH=src python benchmarks/training.py`.

Three variants are timed in turn, round after round, in CPU seconds of one thread, and compared by their medians:
  bare    forward, cross-entropy + triplet, backward, optimiser on one ready batch, written out in ten lines
  engine  `Trainer.step` and the meters on the same batch
  loop    `Trainer.step` fed by the loader (images cached after the first epoch)
The goal is engine <= 1.05 bare; the loop adds augmentation, which worker processes can take over.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vreid.configuration import plain_values
from vreid.data.loading import train_loader
from vreid.data.records import Records
from vreid.losses import classification_loss, triplet_loss
from vreid.models import build
from vreid.progress import Progress
from vreid.recipes import recipe
from vreid.training.meter import Meter
from vreid.training.objective import Objective
from vreid.training.optimiser import build_optimiser
from vreid.training.precision import autocast, choose_precision
from vreid.training.run_folder import RunFolder
from vreid.training.supervised import Trainer, make_sampler
from vreid.training.targets import batch_labels, make_targets


def pictures(folder: Path, count: int, side: int) -> Records:
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(folder / f"{number:04d}.jpg")
    return Records.of(path=sorted(folder.glob("*.jpg")), identity=[f"{number // 4}" for number in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = recipe(options.recipe)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as name:
        records = pictures(Path(name), 4 * 2 * config.num_identities, 128)
        targets = make_targets(records, "identity", (), config.labels, flips=True)
        loader = train_loader(records, config.transform, make_sampler(config, records, targets), seed=0)
        classes = records.identity.distinct
        run = RunFolder(Path(name) / "run", config=plain_values(config), data={}, resume=False)
        model = build(config.model.backbone, classes)
        precision = choose_precision(config.precision, device, model, training=True).dtype
        trainer = Trainer(config, model, Objective(config.losses), run, device, precision, Progress())
        plain = build(config.model.backbone, classes).to(memory_format=torch.channels_last).train()
        optimiser = build_optimiser(plain, config.optimiser)
        images, rows, flipped = next(iter(loader))
        labels = batch_labels(targets, rows, flipped, device)
        identities = labels["identity"]
        meters = Meter(), Meter()

        def bare() -> None:
            with autocast(precision, device):
                outputs = plain(images.contiguous(memory_format=torch.channels_last))
                loss = classification_loss(outputs.logits, identities) + triplet_loss(outputs.pooled, identities)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), config.clip_norm)
            optimiser.step()

        def engine() -> None:
            terms = trainer.step(images, labels, 0)
            for meter in meters:
                meter.add(terms, len(images))

        for epoch in range(2):  # fills the cache
            loader.set_epoch(epoch)
            for _ in loader:
                pass
        batches = iter(loader)

        def loop() -> None:
            nonlocal batches
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            terms = trainer.step(batch.images, batch_labels(targets, batch.rows, batch.flipped, device), 0)
            for meter in meters:
                meter.add(terms, len(batch.images))

        seconds: dict[str, list[float]] = {"bare": [], "engine": [], "loop": []}
        for number in range(options.rounds + 2):
            for step in (bare, engine, loop):
                start = time.process_time()
                step()
                if number >= 2:
                    seconds[step.__name__].append(time.process_time() - start)
    print(f"{options.recipe}, {precision}, {options.threads} thread(s), batch {len(images)}, CPU seconds, medians")
    for name, values in seconds.items():
        middle = statistics.median(values)
        ratio = statistics.median(value / other for value, other in zip(values, seconds["bare"], strict=True))
        print(f"{name:7s} {1000 * middle:7.1f} ms  {len(images) / middle:6.0f} images/s  ratio to bare {ratio:.3f}")


if __name__ == "__main__":
    main()
