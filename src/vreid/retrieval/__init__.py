"""Ranking, re-ranking and evaluation on plain arrays; usable by itself, without torch."""

from vreid.retrieval.ablation import AblationRow, ablation
from vreid.retrieval.arrays import evaluate, evaluate_features, evaluate_repeated, evaluate_tracks
from vreid.retrieval.bias import Bias
from vreid.retrieval.cameras import (
    CameraMean,
    CameraWhitening,
    exclude_same_camera,
    subtract_camera_mean,
    whiten_cameras,
)
from vreid.retrieval.cluster import cluster
from vreid.retrieval.core import core_info
from vreid.retrieval.decisions import Decisions, Threshold, calibrate, decide
from vreid.retrieval.distances import Distances
from vreid.retrieval.elsewhere import OwnTracklet, join_own_tracklet, nearest_elsewhere
from vreid.retrieval.ensemble import ensemble
from vreid.retrieval.evaluation import evaluate_distances
from vreid.retrieval.expansion import Expansion, augment_gallery, expand_queries
from vreid.retrieval.features import FeatureSet, Norm
from vreid.retrieval.foreign import load_features
from vreid.retrieval.jaccard import jaccard_graph
from vreid.retrieval.metrics import Metrics, interval
from vreid.retrieval.neighbours import nearest
from vreid.retrieval.open_set import OpenSet, leave_out, open_set
from vreid.retrieval.postprocess import PostProcessing, judge
from vreid.retrieval.protocols import (
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
from vreid.retrieval.ranking import Ranking, rank
from vreid.retrieval.rerank import ReRanking, rerank, rerank_top
from vreid.retrieval.scenes import SceneGroups, exclude_other_scenes
from vreid.retrieval.submission import (
    SUBMISSION,
    check_submission,
    read_submission,
    score_submission,
    write_submission,
)
from vreid.retrieval.tracklets import Tracklets, mean_features, tracklet_units, weighted_features
from vreid.retrieval.transit import TransitPrior, TransitTimes, learn_transit_times

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
    "evaluate_tracks",
    "exclude_other_scenes",
    "exclude_same_camera",
    "expand_queries",
    "interval",
    "jaccard_graph",
    "join_own_tracklet",
    "judge",
    "learn_transit_times",
    "leave_out",
    "load_features",
    "mean_features",
    "nearest",
    "nearest_elsewhere",
    "open_set",
    "rank",
    "read_submission",
    "rerank",
    "rerank_top",
    "score_submission",
    "subtract_camera_mean",
    "tracklet_units",
    "weighted_features",
    "whiten_cameras",
    "write_submission",
]
