"""Post-processing in words: "camera-mean, tracklets=weighted, rerank=7:2:0.6, other-cameras", read and written.

A step is NAME or NAME=VALUE:VALUE:..., the values being those of its configuration in the order of its fields; values
at the end may be left out and are then the defaults. The order of steps does not matter: they run in their own.
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
"""The field of `PostProcessing` that holds the configurations of all steps of plugins."""


@dataclass(frozen=True)
class Step:
    """A post-processing step.

    Attributes:
        field: of `PostProcessing`; `ADDED` for a step that a plugin has added.
        config: what the field holds; None for a field that is on or off.
        run: the function that does it, called as run(state, config).
        shown: how many values are written even where they are the defaults.
        why: why the result for one query depends on more than it and single gallery images; "" if it does not.
        other: the prefix of another state that `run` takes as its third argument; see `prefix_cache.Action`.
    """

    field: str
    config: type[Any] | None
    run: Callable[..., SearchState]
    shown: int = 0
    why: str = ""
    other: Callable[[Prefix, Any], Prefix] | None = None

    def of(self, post: Any) -> Any:
        """The configuration of this step in a `PostProcessing`; None or False where it is off."""
        if self.field != ADDED:
            return getattr(post, self.field)
        return next((config for config in post.added if type(config) is self.config), None)

    def put(self, post: Post, config: Any) -> Post:
        """A copy of a `PostProcessing` with this configuration of the step, or without the step (None, False)."""
        if self.field != ADDED:
            return replace(post, **{self.field: config})  # type: ignore[type-var]
        others = [other for other in post.added if type(other) is not self.config]  # type: ignore[attr-defined]
        return replace(post, added=(*others, config) if config else tuple(others))  # type: ignore[type-var]


_STATISTICS = "camera statistics are fitted on the gallery's test images"
_OWN = "queries are mixed with the tracklet of their own passage"
_GALLERY = "gallery features are mixed with their nearest"
_QUERY = "queries are mixed with their nearest gallery images"
_LISTS = "re-ranking compares the neighbour lists of all queries and gallery images"
_TIMES = "gaps in time are learned from the gallery's images"
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
"""By the name that is written, in the order in which they run; `pipeline.plan` has the two exceptions."""

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
"""Published settings by name; a name stands for its steps, and more may follow.

dmt: the code of the AI City 2021 winner with its constants, cameras 41 to 46 of CityFlow (by number) apart from all
others; without its camera and orientation bias, which need those models' features: add
"camera-bias=0.1:after:FOLDER, orientation-bias=0.05:after:FOLDER". dmt-paper: the steps of the paper's text, which has
no scene groups. dmt-images: dmt where there are no tracklets. dmt-2020: its predecessor's tracklets and re-ranking,
which divides distances by their maxima twice. (That code also re-ranks a zero vector as one more tracklet, by mistake;
this is not repeated.) voc: VOC-ReID of 2020, to which belong
"camera-bias=0.1:before:FOLDER, orientation-bias=0.1:before:FOLDER". vreid: dmt-paper and what was found to add to it
without times, vreid-timed: and with them (`studies/beyond_dmt.py`; docs/guides/postprocessing.md has the gains).
"""


def read_steps(text: str) -> dict[str, Any]:
    """Fields of `PostProcessing` from words.

    Raises:
        InputError: an unknown step (the near one is named), one written twice, or values that do not fit.
    """
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for name, equals, values in _pieces(text):
        step = STEPS[name]
        if name in seen:
            raise InputError(f"step {name}: is written twice; write it once.")
        seen.add(name)
        if equals and (step.config is None or not fields(step.config)):
            raise InputError(f"step {name}: takes no values; write {name}.")
        if equals and not values:
            raise InputError(f"step {name}=: has no value; write {_usage(name)}.")
        config = True if step.config is None else _read(name, step.config, values)
        found[step.field] = (*found.get(ADDED, ()), config) if step.field == ADDED else config
    return found


def write_steps(post: object) -> tuple[str, ...]:
    """The steps of a `PostProcessing` that are on, as `read_steps` reads them, in the order in which they run."""
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
    """(name, "=" or "", values) of each step; presets stand for their steps."""
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
    """A configuration from its values; the last field takes what is left, colons included."""
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
