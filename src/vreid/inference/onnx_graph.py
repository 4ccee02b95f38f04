"""A trained model as one ONNX graph: uint8 images of any size in, unit features out.

Resizing is written as products with matrices that the graph makes from the size of its input: Pillow's antialiased
filters with its rounding after each pass, which the operator Resize offers in some runtimes only (not in TensorRT).
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from vreid.data.augment import TestTransform
from vreid.errors import InputError
from vreid.inference.model_facts import ADVERSARIAL_HEADS
from vreid.inference.onnx_backend import FEATURE, IMAGES, NECK
from vreid.models.reid_model import ReidModel
from vreid.training.extract import TrainedModel

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""Version of the ONNX operators."""
PREFIX = "network."
"""What the names of the model's weights begin with in the graph."""


class Preprocessing(nn.Module):
    """Resize (N, H, W, 3) uint8 images as Pillow does and normalise them as `TestTransform.finish` does.

    Pillow filters rows and then columns, or the other way round where the height shrinks by more than twice as many
    pixels as the width (Pillow 13; earlier versions always begin with rows, which differs by rounding).
    """

    def __init__(self, transform: TestTransform) -> None:
        super().__init__()
        self.height, self.width = transform.height, transform.width
        self.bicubic = transform.interpolation == "bicubic"
        self.mean, self.std = transform.mean, transform.std

    def forward(self, images_NHW3: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, 3, height, width) float32."""
        levels = self.resize(images_NHW3)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return levels.div(255).sub(mean).div(std)

    def resize(self, images_NHW3: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, 3, height, width) float32 of whole levels, 0 to 255."""
        images = images_NHW3.permute(0, 3, 1, 2).float()
        rows, row_count = self._filter(images.shape[2], self.height)
        columns, column_count = self._filter(images.shape[3], self.width)
        columns = columns.transpose(0, 1)
        across = _levels(rows @ _levels(images @ columns))
        down = _levels(_levels(rows @ images) @ columns)
        lost = row_count - self.height, column_count - self.width
        first_down = (lost[0] > 0) & (2 * lost[1] < lost[0])
        return torch.where(first_down, down, across)

    def _filter(self, size: int, out: int) -> tuple[Tensor, Tensor]:
        """The matrix (out, size) of Pillow's filter, whose rows add up to 1, and `size` as a tensor.

        Distances between pixel centres are whole numbers over 2 max(size, out) until the last division: rounded ones
        would move a level in a hundred.
        """
        pixels = torch.arange(size)  # a dynamic size in the graph, so no Python numbers
        count = pixels[-1] + 1
        apart = ((2 * pixels + 1)[None] * out - (2 * torch.arange(out) + 1)[:, None] * count).abs()
        x = apart.float() / (2 * count.clamp(min=out)).float()
        if self.bicubic:  # a = -0.5
            near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
            weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        else:
            weights = (1 - x).clamp(min=0.0)
        return weights / weights.sum(dim=1, keepdim=True), count


class GraphModule(nn.Module):
    """Everything between uint8 images and unit features."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.prepare = Preprocessing(trained.transform)
        self.network = _fixed_size(trained.model, trained.transform)

    def forward(self, images_NHW3: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, 3) uint8 -> unit features and raw ones (N, D), and the outputs of each head (N, K)."""
        features, heads = self.network.describe(self.prepare(images_NHW3))
        shown = [outputs for name, outputs in heads.items() if name not in ADVERSARIAL_HEADS]
        return functional.normalize(features), features, *shown


def _fixed_size(model: ReidModel, transform: TestTransform) -> ReidModel:
    """Return a copy whose position embeddings are those of the transform's size, if it resizes them for each batch.

    Networks of timm do so, with an operator that ONNX does not have.
    """
    backbone: Any = model.backbone
    resizes = getattr(backbone, "dynamic_img_size", False) and getattr(backbone, "pos_embed", None) is not None
    if not resizes or getattr(backbone, "rope", None) is not None:
        return model
    model = deepcopy(model)
    backbone = model.backbone
    patch = backbone.patch_embed.patch_size
    sides = (transform.height, transform.width)
    backbone.set_input_size(img_size=[math.ceil(side / of) * of for side, of in zip(sides, patch, strict=True)])
    backbone.dynamic_img_size = False
    backbone.patch_embed.flatten = True  # tokens in one row, as networks of one size expect them
    return model


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what the exporter's compiled part prints: all of a graph, before the error that says what is wrong."""
    saved = {stream: os.dup(stream) for stream in (1, 2)}
    try:
        with open(os.devnull, "w") as nowhere:
            for stream in saved:
                os.dup2(nowhere.fileno(), stream)
        yield
    finally:
        for stream, copy in saved.items():
            os.dup2(copy, stream)
            os.close(copy)


def _levels(values: Tensor) -> Tensor:
    """Round to whole levels and clip to 0..255, as Pillow does after each pass."""
    return (values + 0.5).floor().clamp(0.0, 255.0)


def make_graph(trained: TrainedModel) -> ModelProto:
    """Build the graph of a model on the CPU in float32; its weights are initialisers named `PREFIX` + their name.

    Cameras and views of which a TransReID has embeddings are unknown to the graph; it takes the mean embedding.
    """
    heads = [name for name in trained.model.heads if name not in ADVERSARIAL_HEADS]
    outputs = [FEATURE, NECK, *heads]
    example = torch.zeros(2, trained.transform.height + 3, trained.transform.width + 5, 3, dtype=torch.uint8)
    axes = {name: {0: "N"} for name in outputs} | {IMAGES: {0: "N", 1: "H", 2: "W"}}
    written: Any = io.BytesIO()  # torch takes files too, which its types do not say
    with warnings.catch_warnings(), _silent():
        warnings.simplefilter("ignore")
        # The exporter by tracing: a second instead of a minute, and it keeps weights as they are under their names
        # (PRESERVE and no folding), so that a graph can refer to a file of weights.
        try:
            torch.onnx.export(
                GraphModule(trained).eval(),
                (example,),
                written,
                dynamo=False,
                input_names=[IMAGES],
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{trained.source}: this backbone cannot be written as ONNX ({reason}).") from error
    model: ModelProto = onnx.load_model_from_string(written.getvalue())
    return model
