"""Further losses by name (ArcFace, CosFace, ...) from pytorch-metric-learning, an optional dependency."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from vreid.errors import InputError, nearest_name

ADDED_LOSSES: dict[str, Callable[[int, int], nn.Module]] = {}
"""Losses that plugins add, by name: called with the number of classes and the feature length (`vreid.plugins`)."""


def metric_loss(name: str, *, num_classes: int, num_features: int) -> nn.Module:
    """Build the loss `name` of `pytorch_metric_learning.losses`: (features (B, D), identities (B,)) -> scalar.

    Losses of plugins come first. The library's default settings are used. Losses with learned class weights or
    proxies (ArcFaceLoss, CosFaceLoss, ProxyAnchorLoss) receive the number of classes and the feature length; their
    weights are parameters of the module.

    Raises:
        InputError: the library is not installed, has no such loss, or the loss requires other arguments.

    Example:
        >>> metric_loss("ArcFaceLoss", num_classes=576, num_features=2048)                        # doctest: +SKIP
    """
    if name in ADDED_LOSSES:
        return ADDED_LOSSES[name](num_classes, num_features)
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise InputError(
            f"losses.metric={name} is a loss of pytorch-metric-learning, which is not installed; "
            "pip install 'vehicle-reid[losses]', or leave losses.metric empty."
        ) from error
    known = sorted(key for key in vars(losses) if key.endswith("Loss"))
    if name not in known:
        raise InputError(f"pytorch-metric-learning has no loss {name!r}; did you mean {nearest_name(name, known)!r}?")
    kind: Any = getattr(losses, name)
    accepted = {key for base in kind.__mro__ for key in inspect.signature(base.__init__).parameters}
    sizes = {"num_classes": num_classes, "embedding_size": num_features}
    try:
        return cast(nn.Module, kind(**{key: size for key, size in sizes.items() if key in accepted}))
    except TypeError as error:
        raise InputError(
            f"losses.metric={name}: requires more than the number of classes and the feature length ({error}); "
            "choose another loss."
        ) from error
