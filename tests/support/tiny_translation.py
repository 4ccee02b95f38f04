"""A style transfer for tests: three epochs of small networks in seconds."""

from __future__ import annotations

from vreid.training.translate import TranslateConfig

TINY_TRANSLATION = TranslateConfig(
    recipe="tiny",
    size=32,
    load=36,
    filters=4,
    blocks=1,
    patch_layers=2,
    metric_stages=2,
    epochs=3,
    batch_size=2,
    pool=3,
    precision="float32",
)
