"""Networks: backbones, instance-batch normalisation, the re-identification model and its weights files."""

from vreid.models.backbones import BACKBONES, build_backbone
from vreid.models.ibn import IBN
from vreid.models.keys import load_pretrained, load_state, read_state
from vreid.models.published import PUBLISHED, get_weights
from vreid.models.reid_model import GeM, ModelConfig, ReidModel, TrainOutputs, build, build_from
from vreid.models.transreid import TransReID, TransReIDOptions
from vreid.models.weights import load_strict, load_weights, save_weights, weights_hash

__all__ = [
    "BACKBONES",
    "IBN",
    "PUBLISHED",
    "GeM",
    "ModelConfig",
    "ReidModel",
    "TrainOutputs",
    "TransReID",
    "TransReIDOptions",
    "build",
    "build_backbone",
    "build_from",
    "get_weights",
    "load_pretrained",
    "load_state",
    "load_strict",
    "load_weights",
    "read_state",
    "save_weights",
    "weights_hash",
]
