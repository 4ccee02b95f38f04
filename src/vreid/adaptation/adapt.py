"""One unsupervised adaptation: extract features, cluster them, fine-tune on the clusters; identities are never used.

RUN/config.json, data.json  configuration and fingerprint of the images
RUN/pseudo_labels.csv       image and cluster (-1: noise) of the last round
RUN/pseudo_labels.html      report on the quality of the clusters, with images
RUN/pseudo.json             clusters, noise, settings with their reasons, batches, the gate's decision
RUN/round-0/                run folder of the fine-tuning; also round-1, ... with re-clustering
RUN/model.safetensors       the adapted model, or the old one if the gate did not accept it
RUN/rejected.safetensors    the adapted model if the gate did not accept it

Several processes (see `vreid.training.distributed`) extract and fine-tune together; the first one clusters and writes.

Source: DMT, section 3.3 and code (methods: section 8). Shapes: N images, D feature dimensions, C clusters.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vreid.adaptation.adapt_config import AdaptConfig
from vreid.adaptation.clustering_features import two_views, without_answers
from vreid.adaptation.gate import GateDecision, gate_adaptation
from vreid.adaptation.holdout import hold_out
from vreid.adaptation.pseudo import PseudoLabels, cluster_means, pseudo_labels
from vreid.adaptation.pseudo_label_report import examine_pseudo_labels, neighbouring_labels, write_pseudo_report
from vreid.configuration import plain_values
from vreid.data.augment import TrainTransform
from vreid.data.dataset import Dataset, fingerprint
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.files import atomic_write, copy_file, parse_errors, read_json, write_json
from vreid.formats.facts import fact
from vreid.models.keys import EMBEDDINGS
from vreid.models.reid_model import CLASSIFIERS, ModelConfig, ReidModel
from vreid.models.transreid import match_cameras, matched_cameras
from vreid.models.weights import load_weights
from vreid.progress import Progress
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.scene_groups import SceneGroups
from vreid.training.distributed import ProcessGroup
from vreid.training.extract import TrainedModel, extract, load_trained
from vreid.training.optimiser import OptimiserConfig
from vreid.training.run_folder import RunFolder
from vreid.training.schedules import StepSchedule
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig

LABELS, PAGE, FACTS, REJECTED = "pseudo_labels.csv", "pseudo_labels.html", "pseudo.json", "rejected.safetensors"
BATCH = 96
"""Images per batch if K is chosen from the clusters."""
PATH, RATES = 4e-4 * 900, (4e-4, 1e-2)
"""Learning rate times number of batches, and the limits of the rate, if it is chosen from the number of batches."""


def adapt_once(
    model: Path | str,
    target: Records,
    config: AdaptConfig,
    *,
    out: Path | str,
    device: str = "cpu",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    source: Records | None = None,
) -> Path:
    """Cluster the images of `target` and fine-tune the model on the clusters; return the path of the model to use.

    Arguments and errors are those of `vreid.adaptation.repeated.adapt`; see the module's docstring for the contents of
    `out`.
    """
    world = ProcessGroup.current()
    progress = progress if progress and world.first else Progress()
    old, identity, target = load_trained(model), target.identity, without_answers(target)
    if old.model.cameras:
        progress.note(matched_cameras(old.model.cameras, tuple(map(str, target.camera.compact().names))))
    config = with_scene_groups(config, target, source)
    run = adaptation_run(old, target, config, source, out=out, resume=resume)
    job = _Job(config, target, identity, source if config.replay else None, run.path, device, workers, progress)
    try:
        if run.model.exists():
            progress.note(f"{run.path} is complete; nothing is left to adapt.")
            return run.model
        try:
            first = job.label(old, 0)  # find wrong input before anything is written
            if world.first:
                run.begin()
            new, pseudo = job.rounds(old, first)
        except InputError:
            if world.first:
                job.forget()
                run.abandon()
            raise
        job.finish(old, new, pseudo, run.model)
        world.wait()  # until the model is there
    finally:
        run.close()
    return run.model


def adaptation_run(
    old: TrainedModel, target: Records, config: AdaptConfig, source: Records | None, *, out: Path | str, resume: bool
) -> RunFolder:
    """Open the run folder of an adaptation of `old` to `target`, new or resumed; of several processes, one writes.

    Raises:
        InputError: the settings do not fit the model or the source images; or see `RunFolder`.
    """
    if config.new_cameras and not old.model.cameras:
        raise InputError(f"{old.source}: has no camera embeddings (SIE); set new_cameras=false.")
    if config.replay and (source is None or not source.identity.known.any()):
        raise InputError("replay needs labelled source images; name the data the model was trained on (--source).")
    data = {
        "fingerprint": fingerprint(target),
        "images": len(target),
        "model": old.hash,
        "source": fingerprint(source) if config.replay and source is not None else "",
    }
    world = ProcessGroup.current()
    run = RunFolder(out, config=plain_values(config), data=data, resume=resume, writes=world.first)
    world.wait()  # all processes check the folder before the first one writes
    return run


def target_images(dataset: Dataset) -> Records:
    """Return query and gallery images of a data set together, each once."""
    if dataset.query == dataset.gallery:
        return dataset.gallery.with_(split=["gallery"] * len(dataset.gallery))
    return Records.concat([dataset.query, dataset.gallery])


@dataclass(frozen=True, eq=False)
class _Job:
    """State of one adaptation."""

    config: AdaptConfig
    target: Records
    identity: Labels
    source: Records | None
    path: Path
    device: str
    workers: int | None
    progress: Progress
    world: ProcessGroup = field(default_factory=ProcessGroup.current)

    def view(self, trained: TrainedModel, name: str, *, shifted: bool = False) -> FeatureSet:
        """Extract raw features (N, D) of one view: "original", "flip", or flipped and `shifted` at random."""
        return raw_view(
            trained,
            self.target,
            name,
            shifted=shifted,
            device=self.device,
            workers=self.workers,
            progress=self.progress,
        )

    @cached_property
    def held_out(self) -> NDArray[np.bool_]:
        """(N,) images excluded from training, the same in every round."""
        return hold_out(self.target, self.config.held_out, self.config.seed)

    def label(self, trained: TrainedModel, number: int) -> tuple[FeatureSet, PseudoLabels]:
        """Extract the features of both views for round `number`, and cluster them."""
        features = two_views(self.view(trained, "original"), self.view(trained, "original", shifted=True))
        pseudo = self.world.agree(lambda: pseudo_labels(features, self.config.pseudo, held_out=self.held_out))
        for reason in pseudo.reasons:
            self.progress.note(reason)
        self.progress.note(
            f"round {number + 1}: {pseudo.clusters:,} clusters of {len(self.target):,} images, "
            f"{pseudo.noise:.0%} of them noise."
        )
        return features, pseudo

    def rounds(
        self, old: TrainedModel, first: tuple[FeatureSet, PseudoLabels]
    ) -> tuple[TrainedModel | None, PseudoLabels]:
        """Fine-tune, with re-clustering if configured; return the adapted model (None: no clusters) and its labels."""
        every = self.config.recluster or self.config.epochs
        trained: TrainedModel | None = None
        learned = first[1]
        for number in range(math.ceil(self.config.epochs / every)):
            features, pseudo = self.label(trained, number) if trained else first
            if pseudo.clusters < 2:
                self.progress.note(
                    f"Training needs at least 2 clusters, found {pseudo.clusters}; "
                    f"the model of the previous round is kept."
                    if number
                    else f"Training needs at least 2 clusters, found {pseudo.clusters}; the model is unchanged."
                )
                break
            epochs = min(every, self.config.epochs - number * every)
            trained, learned = self.tune(trained or old, features, pseudo, epochs, number), pseudo
        return trained, learned

    def tune(
        self, trained: TrainedModel, features: FeatureSet, pseudo: PseudoLabels, epochs: int, number: int
    ) -> TrainedModel:
        """Fine-tune `trained` on clusters, with a classifier initialised from their means."""
        records = clustered(pseudo)
        centres_CD = pseudo.centres
        if self.config.classifier == "plain":
            centres_CD = self.world.agree(lambda: cluster_means(features.normalise().features, pseudo.labels))
        if self.source is not None:
            records, centres_CD = self.with_source(trained, records, centres_CD)
        config = tuning(self.config, trained, pseudo, epochs, halves=self.source is not None)
        weights, cameras = initial_weights(trained.model, centres_CD), trained.model.cameras
        if self.config.new_cameras:
            weights, cameras = with_new_cameras(weights, cameras, records)
            options = replace(config.model.transreid, sie_cameras=len(cameras))
            config = replace(config, model=replace(config.model, transreid=options))
        self.progress.note(
            f"{config.epochs} x {config.iterations} batches of {config.num_identities} x "
            f"{config.num_instances} at rate {config.optimiser.learning_rate:.2g}."
        )
        if self.world.first:
            self.write_labels(pseudo, config)
            others = neighbouring_labels(features, pseudo, self.config.pseudo)
            known = self.identity if self.identity.known.any() else None
            write_pseudo_report(examine_pseudo_labels(pseudo, others=others, identity=known), self.path / PAGE)
        path = train(
            config,
            records,
            out=self.path / f"round-{number}",
            device=self.device,
            workers=self.workers,
            resume=True,
            progress=self.progress,
            initial_weights=weights,
            cameras=cameras,
        )
        return load_trained(path)

    def with_source(
        self, trained: TrainedModel, records: Records, centres_CD: NDArray[np.float32]
    ) -> tuple[Records, NDArray[np.float32]]:
        """Combine clusters with labelled source images, whose identities get classifier rows too."""
        assert self.source is not None
        source = self.source[self.source.identity.known]
        source = source.with_(identity=Labels.of([f"source {name}" for name in source.identity.values]))
        features = extract(
            trained.model,
            source,
            transform=trained.transform,
            views=("original",),
            device=self.device,
            workers=self.workers,
            progress=self.progress,
        )
        # DomainSampler splits batches by the column `domain`, so it marks the two halves here
        both = Records.concat(
            [records.with_(domain=["real"] * len(records)), source.with_(domain=["synthetic"] * len(source))]
        )
        means_CD = self.world.agree(lambda: cluster_means(features.features, source.identity.compact().codes))
        return both, np.concatenate([centres_CD, means_CD])

    def write_labels(self, pseudo: PseudoLabels, tuned: TrainConfig | None = None) -> None:
        """Write pseudo_labels.csv and pseudo.json."""
        with (
            atomic_write(self.path / LABELS) as temporary,
            open(temporary, "w", encoding="utf-8", newline="", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("image", "cluster"))
            writer.writerows(zip(pseudo.records.image_key, pseudo.labels.tolist(), strict=True))
        write_json(
            self.path / FACTS,
            {
                "preset": self.config.preset,
                "images": len(pseudo.records),
                "clusters": pseudo.clusters,
                "noise": round(pseudo.noise, 4),
                "median size": float(np.median(pseudo.sizes)) if pseudo.clusters else 0,
                "k1": pseudo.k1,
                "eps": pseudo.eps,
                "min_samples": pseudo.min_samples,
                "reasons": list(pseudo.reasons),
                **(
                    {}
                    if tuned is None
                    else {
                        "num_identities": tuned.num_identities,
                        "iterations": tuned.iterations,
                        "num_instances": tuned.num_instances,
                        "epochs": self.config.epochs,
                        "learning_rate": tuned.optimiser.learning_rate,
                    }
                ),
            },
        )

    def finish(self, old: TrainedModel, new: TrainedModel | None, pseudo: PseudoLabels, model: Path) -> None:
        """Write the adapted model, or the old one if the gate does not accept it."""
        if new is None:
            if self.world.first:
                self.write_labels(pseudo)
                copy_file(old.source, model)
            return
        how: dict[str, Any] = {"device": self.device, "workers": self.workers, "progress": self.progress}
        decision = gate_models(old, new, self.target, pseudo, **how) if self.config.gate else None
        if not self.world.first:
            return
        kept = new
        if decision is not None:
            write_json(self.path / FACTS, {**read_json(self.path / FACTS), "verdict": decision.as_dict()})
            for line in (*decision.evidence_lines, f"{decision.decision}: {decision.reason}"):
                self.progress.note(line)
            if not decision.accepted:
                copy_file(new.source, self.path / REJECTED)
                kept = old
        copy_file(kept.source, model)

    def forget(self) -> None:
        """Remove the files of a failed adaptation, except its rounds."""
        for name in (LABELS, PAGE, FACTS):
            (self.path / name).unlink(missing_ok=True)


def raw_view(
    trained: TrainedModel,
    target: Records,
    name: str,
    *,
    shifted: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> FeatureSet:
    """Extract raw features (N, D) of one view: "original", "flip", or flipped and `shifted` at random."""
    transform = second_view(trained) if shifted else trained.transform
    return extract(
        trained.model,
        target,
        transform=transform,
        views=(name,),
        normalise=False,
        device=device,
        workers=workers,
        progress=progress,
    )


def gate_models(
    old: TrainedModel,
    new: TrainedModel,
    target: Records,
    pseudo: PseudoLabels,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> GateDecision:
    """Extract both views of `target` by both models and decide (`vreid.adaptation.gate`) which one is kept."""
    (before, old_flip), (after, new_flip) = (
        [
            raw_view(one, target, name, device=device, workers=workers, progress=progress)
            for name in ("original", "flip")
        ]
        for one in (old, new)
    )
    decide = partial(gate_adaptation, before, after, pseudo, flipped=(old_flip, new_flip))
    return ProcessGroup.current().agree(decide)


def read_pseudo_labels(folder: Path, target: Records) -> PseudoLabels:
    """Read the clusters that an adaptation to `target` wrote into `folder`; their centres (C, 0) are not stored.

    Raises:
        InputError: the files are absent, damaged or of other images.
    """
    facts = read_json(folder / FACTS)
    with parse_errors(folder / LABELS), open(folder / LABELS, encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
        labels = np.array([int(row["cluster"]) for row in rows], dtype=np.int32)
        if [row["image"] for row in rows] != [str(key) for key in target.image_key]:
            raise InputError(f"{folder / LABELS}: lists other images than the target's; adapt into another folder.")
    with parse_errors(folder / FACTS):
        settings = (fact(facts, "eps", float), fact(facts, "min_samples", int), fact(facts, "k1", int))
    centres_CD = np.zeros((int(labels.max(initial=-1)) + 1, 0), dtype=np.float32)
    return PseudoLabels(labels, *settings, (), target, centres_CD)


def clustered(pseudo: PseudoLabels) -> Records:
    """Return the clustered images with their clusters as identities, numbered like the clusters."""
    names = np.array([f"cluster {number:06d}" for number in range(pseudo.clusters)], dtype=object)
    return replace(pseudo.records, identity=Labels(names, pseudo.labels))[pseudo.labels >= 0]


def tuning(
    config: AdaptConfig, trained: TrainedModel, pseudo: PseudoLabels, epochs: int, *, halves: bool = False
) -> TrainConfig:
    """Build the training configuration for fine-tuning `trained` on two or more clusters.

    If K is chosen from the data, it is the median cluster size, from 2 to 8, and P fills a batch of 96. P is at most
    the number of clusters, and even if `halves` of a batch are source images.
    """
    size = config.num_instances or int(np.clip(np.median(pseudo.sizes), 2, 8))
    wanted = config.num_identities if config.num_instances else BATCH // size
    many = max(2, min(wanted, 2 * pseudo.clusters if halves else pseudo.clusters))
    many -= many % 2 if halves else 0
    images = int(pseudo.sizes.sum())
    iterations = config.iterations or max(1, round(config.visits * images / (many * size * config.epochs)))
    rate = config.learning_rate or float(np.clip(PATH / (iterations * config.epochs), *RATES))
    return TrainConfig(
        recipe="adapt",
        model=replace(ModelConfig.of(load_weights(trained.source)[1]["model"]), weights=""),
        batches="domains" if halves else "identities",
        num_identities=many,
        num_instances=size,
        epochs=epochs,
        iterations=iterations,
        transform=_augmentation(trained),
        optimiser=OptimiserConfig(learning_rate=rate),
        schedule=StepSchedule(milestones=(), warmup_epochs=0),
        fresh_optimiser=True,
        ema=config.ema,
        seed=config.seed,
    )


def initial_weights(model: ReidModel, centres_CD: NDArray[np.float32]) -> Mapping[str, Tensor]:
    """Return the weights of `model` with a classifier whose rows are `centres_CD`; further heads are dropped.

    A model with local features (JPM) has one classifier per feature; each takes its part of the centres.
    """
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(("heads.", *CLASSIFIERS))}
    parts = torch.from_numpy(centres_CD).chunk(1 + model.num_local, dim=1)
    for name, part in zip(
        ["classifier", *(f"local_classifiers.{i}" for i in range(model.num_local))], parts, strict=True
    ):
        state[f"{name}.weight"] = part.clone()
        if "neck.weight" not in state:  # without a neck the classifier has a bias
            state[f"{name}.bias"] = torch.zeros(len(part))
    return state


def with_new_cameras(
    weights: Mapping[str, Tensor], cameras: Sequence[str], records: Records
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Add an embedding, the mean of the others, for each new camera of `records`; return weights and all names."""
    extended = (*cameras, *(name for name in map(str, records.camera.compact().names) if name not in cameras))
    return {**weights, EMBEDDINGS: match_cameras(weights[EMBEDDINGS], cameras, extended)}, extended


def second_view(trained: TrainedModel) -> TrainTransform:
    """Return the transform of the second view: flip, padding and random crop."""
    return replace(_augmentation(trained), flip=1.0, erase=0.0)


def _augmentation(trained: TrainedModel) -> TrainTransform:
    """Return the augmentation: flip, padding of 10 pixels (1/25 of the side of small images), random crop, erasing."""
    shape = trained.transform
    return TrainTransform(**asdict(shape), pad=min(10, max(1, round(min(shape.height, shape.width) / 25))))


def with_scene_groups(config: AdaptConfig, target: Records, source: Records | None) -> AdaptConfig:
    """Set scene groups, if they are used and not given, from the column `scene` or from labels of source images."""
    pseudo = config.pseudo
    if not pseudo.scenes or pseudo.scene_groups:
        return config
    return replace(config, pseudo=replace(pseudo, scene_groups=SceneGroups.for_images(target, source).cameras))
