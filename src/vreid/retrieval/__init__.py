"""Ranking, re-ranking and evaluation on plain arrays, without torch."""

from vreid.data.protocols import (
    AI_CITY,
    AI_CITY_MIN,
    CAMERA_LESS,
    CROSS_CAMERA,
    MARKET,
    PROTOCOLS,
    VEHICLE_ID,
    VERI,
    VERI_TRACKS,
    VERI_TRACKS_MEAN,
    VERI_TRAPEZOID,
    VERI_WILD,
    VERI_WILD_ALL,
    VRIC,
    Protocol,
)
from vreid.retrieval.clustering import cluster
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.ablation import AblationRow, ablation
from vreid.retrieval.evaluation.calibration import Decisions, Threshold, calibrate, decide
from vreid.retrieval.evaluation.evaluate import evaluate_distances, evaluate_retrieval
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.evaluation.open_set import OpenSet, leave_out, open_set
from vreid.retrieval.evaluation.plain_arrays import evaluate, evaluate_features, evaluate_repeated, evaluate_tracks
from vreid.retrieval.features import FeatureSet, Norm
from vreid.retrieval.io.external import load_features
from vreid.retrieval.io.submission import (
    SUBMISSION,
    check_submission,
    score_submission,
    write_submission,
)
from vreid.retrieval.nearest import core_info, nearest
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.camera_statistics import (
    CameraMean,
    CameraWhitening,
    subtract_camera_mean,
    whiten_cameras,
)
from vreid.retrieval.postprocessing.camera_verification import exclude_same_camera
from vreid.retrieval.postprocessing.ensemble import ensemble
from vreid.retrieval.postprocessing.expansion import Expansion, augment_gallery, expand_queries
from vreid.retrieval.postprocessing.jaccard import jaccard_graph
from vreid.retrieval.postprocessing.own_tracklet import OwnTracklet, join_own_tracklet, nearest_elsewhere
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.reranking import ReRanking, rerank, rerank_top
from vreid.retrieval.postprocessing.scene_groups import SceneGroups, exclude_other_scenes
from vreid.retrieval.postprocessing.tracklet_features import Tracklets, mean_features, tracklet_units, weighted_features
from vreid.retrieval.postprocessing.transit_times import TransitPrior, TransitTimes, learn_transit_times
from vreid.retrieval.ranking import Ranking, rank
from vreid.retrieval.sharded_neighbours import nearest_in_shards, neighbours_in_shards

__all__ = [
    "AI_CITY",
    "AI_CITY_MIN",
    "CAMERA_LESS",
    "CROSS_CAMERA",
    "MARKET",
    "PROTOCOLS",
    "SUBMISSION",
    "VEHICLE_ID",
    "VERI",
    "VERI_TRACKS",
    "VERI_TRACKS_MEAN",
    "VERI_TRAPEZOID",
    "VERI_WILD",
    "VERI_WILD_ALL",
    "VRIC",
    "AblationRow",
    "Bias",
    "CameraMean",
    "CameraWhitening",
    "Decisions",
    "Distances",
    "Expansion",
    "FeatureSet",
    "Metrics",
    "Norm",
    "OpenSet",
    "OwnTracklet",
    "PostProcessing",
    "Protocol",
    "Ranking",
    "ReRanking",
    "SceneGroups",
    "Threshold",
    "Tracklets",
    "TransitPrior",
    "TransitTimes",
    "ablation",
    "augment_gallery",
    "calibrate",
    "check_submission",
    "cluster",
    "core_info",
    "decide",
    "ensemble",
    "evaluate",
    "evaluate_distances",
    "evaluate_features",
    "evaluate_repeated",
    "evaluate_retrieval",
    "evaluate_tracks",
    "exclude_other_scenes",
    "exclude_same_camera",
    "expand_queries",
    "interval",
    "jaccard_graph",
    "join_own_tracklet",
    "learn_transit_times",
    "leave_out",
    "load_features",
    "mean_features",
    "nearest",
    "nearest_elsewhere",
    "nearest_in_shards",
    "neighbours_in_shards",
    "open_set",
    "rank",
    "rerank",
    "rerank_top",
    "score_submission",
    "subtract_camera_mean",
    "tracklet_units",
    "weighted_features",
    "whiten_cameras",
    "write_submission",
]
