"""Style transfer as configuration: the published settings, and a twin for CPUs.

Source: Deng et al., SPGAN, CVPR 2018, with the constants of its PyTorch port for VehicleX, whose images DMT took for
"Type 4" (and says that it tuned nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vreid.configuration import with_overrides
from vreid.errors import named
from vreid.training.translate import TranslateConfig


def spgan() -> TranslateConfig:
    """256 pixels of 286, 64 filters, 9 blocks, 20 epochs; the port's crop of 512 is `--set load=512`.

    Figure: Type 4 (translated) against Type 3 (as rendered), DMT's Table 1.
    Cost: 29 million parameters in all; a GPU.
    Command: vreid data translate train VEHICLEX CITY --recipe spgan --out RUN
    """
    return TranslateConfig()


def spgan_small() -> TranslateConfig:
    """`spgan` for CPUs: the same losses at 64 pixels with a quarter of the filters, in minutes instead of days.

    So short a schedule does not learn to paint vehicles anew. Generators therefore mix by a mask what they change into
    the image, grow without a checkerboard, and move in every step; the cycle weighs less, since the random background
    of a rendering cannot be had back from a road.

    Figure: none in a paper; docs/guides/translation.md tells what it does to simulated pictures.
    Cost: 0.3 million parameters a generator; about 4 CPU minutes on the 1,200 and 1,718 pictures of the preset smoke.
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
    """The configuration of the translation `name`, with fields set from text.

    Example:
        >>> translation("spgan_small", {"epochs": "3"}).epochs
        3

    Raises:
        InputError: unknown name or key (the nearest is named), or a value that does not fit.
    """
    return with_overrides(named("translation", TRANSLATIONS, name)(), overrides or {})
