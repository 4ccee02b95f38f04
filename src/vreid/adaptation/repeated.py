"""Repeated adaptation: adapt, cluster anew with the adapted model, adapt again, until the gate stops accepting.

OUT/config.json, data.json  configuration and fingerprint of the images
OUT/step-1/, step-2/, ...   one adaptation each (`vreid.adaptation.adapt`), from the model of the step before
OUT/pseudo_labels.csv, pseudo_labels.html, pseudo.json  those of the last accepted step; pseudo.json lists all steps
OUT/model.safetensors       the model of the last accepted step, or the old one if the gate does not accept the whole
OUT/rejected.safetensors    the adapted model if the gate did not accept it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vreid.adaptation.adapt import (
    FACTS,
    LABELS,
    PAGE,
    REJECTED,
    adapt_once,
    adaptation_run,
    gate_models,
    read_pseudo_labels,
    with_scene_groups,
)
from vreid.adaptation.adapt_config import PRESETS, AdaptConfig
from vreid.adaptation.clustering_features import without_answers
from vreid.adaptation.gate import ACCEPT
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import copy_file, parse_errors, read_json, write_json
from vreid.formats.facts import fact
from vreid.progress import Progress
from vreid.training.distributed import ProcessGroup
from vreid.training.extract import load_trained
from vreid.training.run_folder import RunFolder


def adapt(
    model: Path | str,
    target: Records,
    config: AdaptConfig | None = None,
    *,
    out: Path | str,
    device: str = "cpu",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    source: Records | None = None,
) -> Path:
    """Adapt a trained model to the unlabelled images of `target`; return the path of the model to use.

    With `config.repeats` above 1 the adapted model is adapted again, as long as the gate accepts each step against the
    model before it and the steps stay within `config.most_images`; then the gate compares the last accepted model with
    the old one and keeps the old one unless the whole is an improvement.

    Args:
        model: a run folder or the .safetensors file of a trained model; it is not changed.
        target: N images of the new cameras. Identities, and tracklets of queries, are not used, except that the report
            on the clusters evaluates them against known identities.
        config: the settings; None: preset "auto", which chooses settings from the data.
        out: the folder of the adaptation; a run folder like any other.
        device: "cpu", "cuda", ...
        workers: processes that load images.
        resume: continue the adaptation in `out`, or start it; it continues to bit-identical weights.
        progress: listener for settings, cost and steps.
        source: labelled images that the model was trained on, for `config.replay` and to infer scene groups.

    Raises:
        InputError: there is no model or no image, the settings do not fit the data, or `out` holds something else.

    Example:
        >>> from vreid.data.open import open_dataset                             # doctest: +SKIP
        >>> images = target_images(open_dataset("AIC21_Track2_ReID", labels=None))  # doctest: +SKIP
        >>> adapt("runs/first", images, out="runs/adapted")                         # doctest: +SKIP
        PosixPath('runs/adapted/model.safetensors')
    """
    world, config = ProcessGroup.current(), config or PRESETS["auto"]
    progress = progress if progress and world.first else Progress()
    shared: dict[str, Any] = {"device": device, "workers": workers, "progress": progress, "source": source}
    if config.repeats == 1:
        return adapt_once(model, target, config, out=out, resume=resume, **shared)
    config = with_scene_groups(config, target, source)
    run = adaptation_run(load_trained(model), target, config, source, out=out, resume=resume)
    try:
        if run.model.exists():
            progress.note(f"{run.path} is complete; nothing is left to adapt.")
            return run.model
        steps = _steps(model, target, config, run, shared)
        accepted = [step for step in steps if step.accepted or not config.gate]
        kept = accepted[-1] if accepted else steps[0]
        facts: dict[str, Any] = {"steps": [step.verdict for step in steps]}
        if config.gate and len(accepted) > 1:
            kept, facts["verdict"] = _against_old(model, accepted, without_answers(target), device, workers, progress)
        if world.first:
            for name in (LABELS, PAGE, REJECTED):
                if (kept.folder / name).exists():
                    copy_file(kept.folder / name, run.path / name)
            write_json(run.path / FACTS, {**read_json(kept.folder / FACTS), **facts})
            copy_file(kept.folder / run.model.name, run.model)
        world.wait()  # until the model is there
    finally:
        run.close()
    return run.model


def steps_within(config: AdaptConfig, images: int) -> int:
    """Return the largest number of steps: `config.repeats`, and at most `config.most_images` trained images in all.

    Example:
        >>> auto = PRESETS["auto"]
        >>> [steps_within(auto, images) for images in (100, 1000, 100_000)]
        [8, 3, 1]
    """
    return max(1, min(config.repeats, int(config.most_images / (config.visits * max(images, 1)))))


@dataclass(frozen=True)
class _Repeat:
    """One adaptation of several: its folder and what the gate decided."""

    folder: Path
    verdict: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.verdict.get("decision") == ACCEPT


def _steps(
    model: Path | str, target: Records, config: AdaptConfig, run: RunFolder, shared: dict[str, Any]
) -> list[_Repeat]:
    """Adapt step by step until the gate does not accept one or the number of steps is reached."""
    world, steps = ProcessGroup.current(), list[_Repeat]()
    most = steps_within(config, len(target))
    for number in range(1, most + 1):
        shared["progress"].note(f"adaptation {number} of at most {most}")
        folder = run.path / f"step-{number}"
        last = steps[-1].folder if steps else model
        try:
            adapt_once(last, target, replace(config, repeats=1), out=folder, resume=True, **shared)
        except InputError:
            if world.first:
                run.abandon()
            raise
        if world.first:
            run.begin()
        with parse_errors(folder / FACTS):
            verdict = fact(read_json(folder / FACTS), "verdict", dict[str, Any], {})
        steps.append(_Repeat(folder, verdict))
        if config.gate and not steps[-1].accepted:
            break
    return steps


def _against_old(
    model: Path | str, accepted: list[_Repeat], target: Records, device: str, workers: int | None, progress: Progress
) -> tuple[_Repeat, dict[str, Any]]:
    """Return the last step that the gate also accepts against the old model, and that decision.

    The first step needs no second decision: it was compared with the old model.
    """
    old, pseudo = load_trained(model), read_pseudo_labels(accepted[0].folder, target)
    for step in reversed(accepted[1:]):
        new = load_trained(step.folder)
        decision = gate_models(old, new, target, pseudo, device=device, workers=workers, progress=progress)
        progress.note(f"{step.folder.name} against the old model: {decision.decision}: {decision.reason}")
        if decision.accepted:
            return step, decision.as_dict()
    return accepted[0], accepted[0].verdict
