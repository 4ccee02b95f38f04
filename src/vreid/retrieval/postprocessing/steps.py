"""Text format of a post-processing: "camera-mean, tracklets=weighted, rerank=7:2:0.6, other-cameras".

A step is NAME or NAME=VALUE:VALUE:..., with the values of its configuration in the order of its fields; omitted values
at the end are the defaults. Steps can be written in any order; their execution order is fixed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_type_hints

from vreid.errors import InputError
from vreid.retrieval.features import Norm
from vreid.retrieval.postprocessing.bias import Bias, bias_step, same_steps_of_bias
from vreid.retrieval.postprocessing.camera_statistics import (
    CameraMean,
    CameraWhitening,
    camera_mean_step,
    camera_whitening_step,
)
from vreid.retrieval.postprocessing.camera_verification import camera_verification_step
from vreid.retrieval.postprocessing.expansion import Expansion, gallery_expansion_step, query_expansion_step
from vreid.retrieval.postprocessing.own_tracklet import OwnTracklet, own_tracklet_step
from vreid.retrieval.postprocessing.prefix_cache import Prefix
from vreid.retrieval.postprocessing.reranking import ReRanking, reranking_step
from vreid.retrieval.postprocessing.scene_groups import SceneGroups, scene_groups_step
from vreid.retrieval.postprocessing.state import SearchState, normalisation_step
from vreid.retrieval.postprocessing.tracklet_features import Tracklets, tracklet_step
from vreid.retrieval.postprocessing.transit_times import TransitTimes, transit_times_step

Post = TypeVar("Post")
ADDED = "added"
"""The field of `PostProcessing` with the configurations of steps added by plugins."""


@dataclass(frozen=True)
class Step:
    """A post-processing step.

    Attributes:
        field: field of `PostProcessing`; `ADDED` for a step added by a plugin.
        config: type of the configuration; None for a boolean field.
        run: the function of the step, called as run(state, config).
        shown: number of values that are written even if they are the defaults.
        why: why the result of a query depends on other queries or on statistics of the gallery; "" if it does not.
        other: prefix of the state that is the third argument of `run`; see `prefix_cache.Action`.
    """

    field: str
    config: type[Any] | None
    run: Callable[..., SearchState]
    shown: int = 0
    why: str = ""
    other: Callable[[Prefix, Any], Prefix] | None = None

    def of(self, post: Any) -> Any:
        """Return the configuration of this step in a `PostProcessing`; None or False if it is disabled."""
        if self.field != ADDED:
            return getattr(post, self.field)
        return next((config for config in post.added if type(config) is self.config), None)

    def put(self, post: Post, config: Any) -> Post:
        """Return a copy of a `PostProcessing` with this configuration of the step; None or False disables it."""
        if self.field != ADDED:
            return replace(post, **{self.field: config})  # type: ignore[type-var]
        others = [other for other in post.added if type(other) is not self.config]  # type: ignore[attr-defined]
        return replace(post, added=(*others, config) if config else tuple(others))  # type: ignore[type-var]


_STATISTICS = "camera statistics are fitted on the gallery's test images"
_OWN = "queries are averaged with their own tracklet"
_GALLERY = "gallery features are averaged with their nearest neighbours"
_QUERY = "queries are averaged with their nearest gallery images"
_LISTS = "re-ranking compares the neighbour lists of all queries and gallery images"
_TIMES = "transit times are learned from the gallery's images"
STEPS: dict[str, Step] = {
    "norm": Step("norm", Norm, normalisation_step, 1),
    "camera-mean": Step("camera_mean", CameraMean, camera_mean_step, 0, _STATISTICS),
    "camera-whitening": Step("camera_whitening", CameraWhitening, camera_whitening_step, 1, _STATISTICS),
    "tracklets": Step("tracklets", Tracklets, tracklet_step, 1),
    "own-tracklet": Step("own_tracklet", OwnTracklet, own_tracklet_step, 0, _OWN),
    "gallery-expansion": Step("gallery_expansion", Expansion, gallery_expansion_step, 2, _GALLERY),
    "query-expansion": Step("query_expansion", Expansion, query_expansion_step, 2, _QUERY),
    "rerank": Step("reranking", ReRanking, reranking_step, 3, _LISTS),
    "camera-bias": Step("camera_bias", Bias, bias_step, 1, other=same_steps_of_bias),
    "orientation-bias": Step("orientation_bias", Bias, bias_step, 1, other=same_steps_of_bias),
    "transit-times": Step("transit_times", TransitTimes, transit_times_step, 1, _TIMES),
    "other-cameras": Step("exclude_same_camera", None, camera_verification_step),
    "scene-groups": Step("scene_groups", SceneGroups, scene_groups_step),
}
"""Steps by name, in execution order; `pipeline.plan` has two exceptions."""

PLAIN = "plain search"
_NEW_CAMERAS = "scene-groups=#41+#42+#43+#44+#45+#46/*"
PRESETS: dict[str, str] = {
    PLAIN: "",
    "plain": "",
    "dmt": f"camera-whitening=0.18:0.5, tracklets=weighted:raw, rerank=7:2:0.6, other-cameras, {_NEW_CAMERAS}",
    "dmt-paper": "camera-whitening=0.18:0.5, tracklets=weighted:raw, rerank=7:2:0.6, other-cameras",
    "dmt-images": f"camera-whitening=0.18:0.5, rerank=50:15:0.3, other-cameras, {_NEW_CAMERAS}",
    "dmt-2020": "tracklets=mean:raw, rerank=7:2:0.6:dmt-2020",
    "voc": "rerank=50:15:0.5",
    "vreid": "camera-whitening=0.18:0.5, tracklets=weighted:raw, own-tracklet=0.5:1, gallery-expansion=2:1:other, "
    "rerank=7:2:0.6, other-cameras",
    "vreid-timed": "camera-whitening=0.18:0.5, tracklets=weighted:raw, own-tracklet=0.5:1, "
    "gallery-expansion=2:1:other, rerank=7:2:0.6, transit-times=0.08, other-cameras",
}
"""Presets by name; further steps can follow a preset.

dmt: the code of the AI City 2021 winner with its settings, with cameras 41 to 46 of CityFlow (by number) as a scene
group, and without its camera and orientation bias, which need the features of those models: add
"camera-bias=0.1:after:FOLDER, orientation-bias=0.05:after:FOLDER". dmt-paper: the steps in the paper's text, without
scene groups. dmt-images: dmt without tracklets. dmt-2020: tracklets and re-ranking of its predecessor, which divides
distances by their maxima twice (the mistaken re-ranking of a zero vector as one more tracklet is not reproduced). voc:
VOC-ReID of 2020, to be combined with "camera-bias=0.1:before:FOLDER, orientation-bias=0.1:before:FOLDER". vreid:
dmt-paper plus the improvements found here that do not need times; vreid-timed: with those that do
(docs/guides/postprocessing.md lists the gains).
"""


def read_steps(text: str) -> dict[str, Any]:
    """Parse the fields of `PostProcessing` from text.

    Raises:
        InputError: a step is unknown (the nearest is suggested) or repeated, or values are invalid.
    """
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for name, equals, values in _pieces(text):
        step = STEPS[name]
        if name in seen:
            raise InputError(f"step {name}: occurs twice; write it once.")
        seen.add(name)
        if equals and (step.config is None or not fields(step.config)):
            raise InputError(f"step {name}: takes no values; write {name}.")
        if equals and not values:
            raise InputError(f"step {name}=: has no value; write {_usage(name)}.")
        config = True if step.config is None else _read(name, step.config, values)
        found[step.field] = (*found.get(ADDED, ()), config) if step.field == ADDED else config
    return found


def write_steps(post: object) -> tuple[str, ...]:
    """Format the enabled steps of a `PostProcessing` as text for `read_steps`, in execution order."""
    written = []
    for name, step in STEPS.items():
        value = step.of(post)
        if step.config is not None and value is not None:
            values = [_written(value, field.name) for field in fields(step.config)]
            defaults = [_written(field, "default") for field in fields(step.config)]
            count = max([step.shown, *(i + 1 for i, (v, d) in enumerate(zip(values, defaults, strict=True)) if v != d)])
            name = "=".join([name, ":".join(values[:count])] if count else [name])
        if value:
            written.append(name)
    return tuple(written)


def _pieces(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, "=" or "", values) of each step; presets are replaced by their steps."""
    for piece in filter(None, map(str.strip, text.split(","))):
        name, equals, values = (part.strip() for part in piece.partition("="))
        if piece in PRESETS:
            yield from _pieces(PRESETS[piece])
        elif name in STEPS:
            yield name, equals, values
        else:
            known = [*STEPS, *PRESETS]
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"use some of {', '.join(known)}."
            if name[:1].isdigit():
                fix = "write the values of a step between colons, as in rerank=7:2:0.6."
            raise InputError(f"step {name!r}: is unknown; {fix}")


def _read(name: str, config: type[Any], text: str) -> Any:
    """Build a configuration from its values; the last field takes the rest of the text, including colons."""
    texts = text.split(":", len(fields(config)) - 1) if text else []
    hints = get_type_hints(config)
    values: dict[str, Any] = {}
    for field, written in zip(fields(config), texts, strict=False):
        kind = hints[field.name]
        try:
            if config is SceneGroups:
                values[field.name] = tuple(tuple(group.split("+")) for group in written.split("/"))
            else:
                values[field.name] = kind(written.strip()) if kind in (int, float) else written.strip()
        except ValueError:
            raise InputError(f"step {name}={text}: {field.name} is {written!r}; write {_usage(name)}.") from None
    try:
        return config(**values)
    except InputError as error:
        raise InputError(f"step {name}{'=' * bool(text)}{text}: {error}") from None


def _written(of: Any, field: str) -> str:
    value = getattr(of, field)
    if isinstance(value, tuple):
        return "/".join("+".join(group) for group in value) if all(isinstance(group, tuple) for group in value) else ""
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)


def _usage(name: str) -> str:
    config = STEPS[name].config
    return f"{name}={':'.join(field.name.rstrip('_').upper() for field in fields(config))}" if config else name
