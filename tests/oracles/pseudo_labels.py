"""DMT's pseudo labels with dense matrices and plain loops (methods: section 8, steps 2 to 7)."""

import numpy as np
from sklearn.cluster import DBSCAN

from oracles.reranking import mixed


def whiten(features, cameras, ridge, centred=False):
    """P_c (x - m_c), P_c = (X_c^T X_c + n_c ridge I)^-1, by an explicit inverse in float64; then unit length."""
    features = np.asarray(features, dtype=np.float64)
    out = np.empty_like(features)
    for camera in set(cameras):
        mine = np.flatnonzero(np.array(cameras) == camera)
        mean = features.mean(axis=0) if len(mine) < 2 else features[mine].mean(axis=0)
        out[mine] = features[mine] - mean
        if len(mine) >= 2:
            x = features[mine] - (mean if centred else 0)
            inverse = np.linalg.inv(x.T @ x + len(mine) * ridge * np.eye(features.shape[1]))
            out[mine] = out[mine] @ inverse
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def mix(features, tracklets, own_share):
    """a y + (1 - a) mean of the tracklet; "" is no tracklet."""
    out = np.array(features, dtype=np.float64)
    for i, tracklet in enumerate(tracklets):
        if tracklet:
            mates = [j for j, other in enumerate(tracklets) if other == tracklet]
            out[i] = own_share * features[i] + (1 - own_share) * np.mean([features[j] for j in mates], axis=0)
    return out


def labels(features, k1, k2, eps, min_samples, scenes=None):
    """DBSCAN of 0.9 Jaccard + 0.1 cosine; + 10 between images of two scenes."""
    distances = np.array(mixed(np.asarray(features, dtype=np.float64), k1, k2, 0.1))
    if scenes is not None:
        distances += 10 * (np.array(scenes)[:, None] != np.array(scenes)[None])
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distances)
