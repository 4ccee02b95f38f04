"""Networks: trunks, instance-batch normalisation, the re-identification model and its weight files."""

from vreid.models.backbones import TRUNKS, build_trunk
from vreid.models.ibn import IBN
from vreid.models.reid_model import GeM, ModelConfig, ReidModel, TrainOutputs, build
from vreid.models.weights import load_pretrained, load_strict, load_weights, save_weights, weights_hash

__all__ = [
    "IBN",
    "TRUNKS",
    "GeM",
    "ModelConfig",
    "ReidModel",
    "TrainOutputs",
    "build",
    "build_trunk",
    "load_pretrained",
    "load_strict",
    "load_weights",
    "save_weights",
    "weights_hash",
]
