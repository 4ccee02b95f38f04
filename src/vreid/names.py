"""Names that commands accept, in one module without imports; `tests/test_names.py` compares each list with its table.

Steps and recipes are listed with the class or function that implements them ("module:object"), whose docstring
documents their settings; help reads it from the source without importing the module.
"""

from __future__ import annotations

from collections.abc import Mapping

_POST = "vreid.retrieval.postprocessing"
STEPS: dict[str, str] = {
    "norm": "vreid.retrieval.features:Norm",
    "camera-mean": f"{_POST}.camera_statistics:CameraMean",
    "camera-whitening": f"{_POST}.camera_statistics:CameraWhitening",
    "tracklets": f"{_POST}.tracklet_features:Tracklets",
    "own-tracklet": f"{_POST}.own_tracklet:OwnTracklet",
    "gallery-expansion": f"{_POST}.expansion:Expansion",
    "query-expansion": f"{_POST}.expansion:Expansion",
    "rerank": f"{_POST}.reranking:ReRanking",
    "camera-bias": f"{_POST}.bias:Bias",
    "orientation-bias": f"{_POST}.bias:Bias",
    "transit-times": f"{_POST}.transit_times:TransitTimes",
    "other-cameras": f"{_POST}.camera_verification:exclude_same_camera",
    "scene-groups": f"{_POST}.scene_groups:SceneGroups",
}
"""Steps of `--post` in the order in which they run: `vreid.retrieval.postprocessing.steps.STEPS`."""
STEP_PRESETS = ("dmt", "dmt-paper", "dmt-images", "dmt-2020", "voc", "vreid", "vreid-timed")
"""Published settings of `--post`: `vreid.retrieval.postprocessing.steps.PRESETS`."""
PROTOCOLS = (
    "market",
    "veri",
    "veri-trapezoid",
    "veri-tracks",
    "veri-tracks-mean",
    "vehicle-id",
    "veri-wild",
    "veri-wild-all",
    "vric",
    "ai-city",
    "ai-city-min",
    "camera-less",
    "cross-camera",
)
"""Evaluation protocols: `vreid.data.protocols.PROTOCOLS`."""
SLICES = ("camera-pair", "gap", "camera", "color", "type", "orientation", "size", "hour")
"""Slices of `evaluate --by`: `MATCH_BINS` and `QUERY_BINS` of `vreid.diagnostics.slices`."""
FUSIONS = ("mean", "rank")
"""Ways to join the distances of an ensemble: `vreid.retrieval.postprocessing.ensemble.How`."""
VIEWS = ("original", "flip", "crop", "crop-flip")
"""Views of an image whose features are summed: `vreid.training.views.VIEWS`."""

_DMT, _STRDAN, _BIAS, _CROP = (f"vreid.recipes.{module}" for module in ("dmt", "strdan", "bias", "crop"))
RECIPES: dict[str, str] = {
    "small": f"{_DMT}:small",
    "small_random": f"{_DMT}:small_random",
    "resnet50_ibn_a": f"{_DMT}:resnet50_ibn_a",
    "resnet101_ibn_a": f"{_DMT}:resnet101_ibn_a",
    "resnet101_ibn_a_crop": f"{_DMT}:resnet101_ibn_a_crop",
    "resnext101_ibn_a": f"{_DMT}:resnext101_ibn_a",
    "se_resnet101_ibn_a": f"{_DMT}:se_resnet101_ibn_a",
    "densenet169_ibn_a": f"{_DMT}:densenet169_ibn_a",
    "resnest101": f"{_DMT}:resnest101",
    "transreid": f"{_DMT}:transreid",
    "camera_model": f"{_BIAS}:camera_model",
    "camera_small": f"{_BIAS}:camera_small",
    "orientation_model": f"{_BIAS}:orientation_model",
    "orientation_small": f"{_BIAS}:orientation_small",
    "default": "vreid.recipes.default:default",
    "default_refined": "vreid.recipes.default:refined",
    "pretrain": "vreid.recipes.pretrain:pretrain",
    "crop_model": f"{_CROP}:crop_model",
    "crop_model_small": f"{_CROP}:crop_model_small",
    "strdan": f"{_STRDAN}:strdan",
    "strdan_small": f"{_STRDAN}:strdan_small",
    "strdan_imagenet": f"{_STRDAN}:strdan_imagenet",
    "strdan_random": f"{_STRDAN}:strdan_random",
    "strdan_as_paper": f"{_STRDAN}:as_paper",
    "strdan_as_code": f"{_STRDAN}:as_code",
    "strdan_domain": f"{_STRDAN}:domain_only",
    **{f"strdan_case{number}": f"{_STRDAN}:case" for number in range(1, 9)},
}
"""Training recipes: `vreid.recipes.RECIPES`."""
TRANSLATIONS: Mapping[str, str] = {
    "spgan": "vreid.recipes.spgan:spgan",
    "spgan_small": "vreid.recipes.spgan:spgan_small",
}
"""Recipes of `data translate train`: `vreid.recipes.spgan.TRANSLATIONS`."""
ADAPTATIONS = ("auto", "v1", "v2", "paper")
"""Presets of `adapt`: `vreid.adaptation.adapt_config.PRESETS`."""
CROP_CONFIGS = ("voc", "even")
"""Settings of `data crop`: `vreid.training.crop.CROP_CONFIGS`."""
HOLD_OUTS = ("scene", "cameras", "identities")
"""What `data split` holds out: `vreid.data.split.By`."""

WORLDS = ("tiny", "demo", "smoke", "city")
"""Presets of the simulator: `vreid.simulator.city.presets.PRESETS`."""
TRAFFIC = ("tiny", "demo", "small", "medium", "large")
"""Presets of the layout "trips": `vreid.simulator.city.traffic.TRAFFIC_PRESETS`."""
LAYOUTS = ("cityflow", "cityflow2020", "veri", "videos", "trips")
"""What the simulator writes: folders of data sets (`vreid.simulator.formats.layouts.LAYOUTS`), videos, or trips."""
SHEETS = ("domains", "lookalikes", "closeup")
"""Contact sheets of `sheet`: `vreid.simulator.render.sheet.SHEETS`."""

TABLES = ("dmt.1", "dmt.2", "dmt.3", "dmt.4", "dmt.5", "dmt.6", "strdan.1", "strdan.2", "strdan.3")
"""Tables of the papers: `vreid.reproduce.tables.TABLES`."""
SCALES = ("smoke", "gpu", "paper")
"""Sizes of `table`: `vreid.reproduce.tables.scales.scale_named`."""

RERANKINGS = ("relative", "k-reciprocal", "none")
"""Orders of the hits of `search`: by relative, k-reciprocal or plain distance."""
BLURS = ("likely", "band")
"""Ways of `ingest` to blur licence plates: `vreid.store.plates.BLURS`."""
