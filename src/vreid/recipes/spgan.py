"""Recipes of image translation (SPGAN): the published settings, and a small variant for CPUs.

Source: Deng et al., SPGAN, CVPR 2018, with the constants of its PyTorch port for VehicleX, whose images DMT used as
"Type 4" without tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vreid.configuration import with_overrides
from vreid.errors import named
from vreid.training.translate import TranslateConfig


def spgan() -> TranslateConfig:
    """SPGAN as published: 256-pixel crops of 286-pixel images, 64 filters, 9 blocks, 20 epochs.

    The VehicleX port crops from 512 pixels: `--set load=512`.

    Figure: Type 4 (translated) compared with Type 3 (as rendered), DMT's Table 1.
    Cost: 29 million parameters in total; needs a GPU.
    Command: vreid data translate train VEHICLEX CITY --recipe spgan --out RUN
    """
    return TranslateConfig()


def spgan_small() -> TranslateConfig:
    """`spgan` for CPUs: the same losses at 64 pixels with a quarter of the filters, in minutes instead of days.

    Such a short schedule is not enough to generate whole vehicles. The generators therefore blend their output into the
    image by a mask, upsample by repeating pixels, and are updated in every step. The cycle loss has a lower weight,
    because the random background of a rendering cannot be recovered from a road.

    Figure: none in a paper; docs/guides/translation.md describes the effect on simulated images.
    Cost: 0.3 million parameters per generator; about 4 CPU minutes for the 1,200 and 1,718 images of preset smoke.
    Command: vreid data translate train SYNTHETIC REAL --out RUN
    """
    return replace(
        spgan(),
        recipe="spgan_small",
        size=64,
        load=72,
        filters=16,
        blocks=3,
        masked=True,
        repeat=True,
        patch_layers=2,
        metric_stages=2,
        epochs=3,
        batch_size=2,
        learning_rate=1e-3,
        cycle=0.3,
        identity=1.0,
        generator_every=1,
    )


TRANSLATIONS: Mapping[str, Callable[[], TranslateConfig]] = {"spgan": spgan, "spgan_small": spgan_small}


def translation(name: str, overrides: Mapping[str, str] | None = None) -> TranslateConfig:
    """Return the configuration of the translation `name`, with fields overridden by strings.

    Example:
        >>> translation("spgan_small", {"epochs": "3"}).epochs
        3

    Raises:
        InputError: unknown name or key (the nearest is suggested), or an invalid value.
    """
    return with_overrides(named("translation", TRANSLATIONS, name)(), overrides or {})
