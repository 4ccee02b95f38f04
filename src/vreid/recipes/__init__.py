"""Training recipes: functions that return the frozen configuration of an experiment. `RECIPES` lists the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from vreid.configuration import with_overrides
from vreid.errors import named
from vreid.recipes import bias, crop, default, dmt, pretrain, strdan
from vreid.training.train_config import TrainConfig

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "small": dmt.small,
    "small_random": dmt.small_random,
    "resnet50_ibn_a": dmt.resnet50_ibn_a,
    "resnet101_ibn_a": dmt.resnet101_ibn_a,
    "resnet101_ibn_a_crop": dmt.resnet101_ibn_a_crop,
    "resnext101_ibn_a": dmt.resnext101_ibn_a,
    "se_resnet101_ibn_a": dmt.se_resnet101_ibn_a,
    "densenet169_ibn_a": dmt.densenet169_ibn_a,
    "resnest101": dmt.resnest101,
    "transreid": dmt.transreid,
    "camera_model": bias.camera_model,
    "camera_small": bias.camera_small,
    "orientation_model": bias.orientation_model,
    "orientation_small": bias.orientation_small,
    "default": default.default,
    "default_refined": default.refined,
    "pretrain": pretrain.pretrain,
    "crop_model": crop.crop_model,
    "crop_model_small": crop.crop_model_small,
    "strdan": strdan.strdan,
    "strdan_small": strdan.strdan_small,
    "strdan_imagenet": strdan.strdan_imagenet,
    "strdan_random": strdan.strdan_random,
    "strdan_as_paper": strdan.as_paper,
    "strdan_as_code": strdan.as_code,
    "strdan_domain": strdan.domain_only,
    **{f"strdan_case{number}": partial(strdan.case, number) for number in strdan.CASES},
}


def recipe(name: str, overrides: Mapping[str, str] | None = None) -> TrainConfig:
    """Return the configuration of the recipe `name`, with fields overridden by strings.

    Example:
        >>> recipe("resnet50_ibn_a", {"transform.height": "128"}).transform.height
        128

    Raises:
        InputError: unknown recipe or key (the nearest is suggested), or an invalid value.
    """
    return with_overrides(named("recipe", RECIPES, name)(), overrides or {})
