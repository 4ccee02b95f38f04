"""Camera and tracklet steps as their formulas read, one image at a time, in float64."""

import numpy as np


def unit(vector):
    return vector / np.linalg.norm(vector)


def camera_mean(features, cameras, gallery_features, gallery_cameras, alpha=1.0):
    out = []
    for feature, camera in zip(np.float64(features), cameras, strict=True):
        same = [g for g, c in zip(np.float64(gallery_features), gallery_cameras, strict=True) if c == camera]
        mean = np.mean(same if camera and len(same) >= 2 else np.float64(gallery_features), axis=0)
        out.append(unit(feature - alpha * mean))
    return np.array(out)


def camera_whitening(features, cameras, gallery_features, gallery_cameras, ridge):
    out = []
    for feature, camera in zip(np.float64(features), cameras, strict=True):
        same = np.array([g for g, c in zip(np.float64(gallery_features), gallery_cameras, strict=True) if c == camera])
        if camera and len(same) >= 2:
            inverse = np.linalg.inv(same.T @ same + len(same) * ridge * np.eye(same.shape[1]))
            out.append(unit(inverse @ (feature - same.mean(axis=0))))
        else:
            out.append(unit(feature - np.float64(gallery_features).mean(axis=0)))
    return np.array(out)


def weighted_tracklet(query_features, frames, threshold=0.6, epsilon=0.01):
    distance = [[float(((np.float64(q) - np.float64(f)) ** 2).sum()) for f in frames] for q in query_features]
    nearest = [min(row) for row in distance]
    near = [q for q, d in enumerate(nearest) if d < threshold]
    if not near:
        near = [q for q, d in enumerate(nearest) if d == min(nearest)]
    weights = [1 / (sum(distance[q][j] for q in near) / len(near) + epsilon) for j in range(len(frames))]
    return sum(w * np.float64(f) for w, f in zip(weights, frames, strict=True)) / sum(weights)


def per_query_distance(query, frames, epsilon=0.01, renormalise=False):
    """Squared distance of one query to a tracklet that is weighted for this query alone."""
    feature = weighted_tracklet([query], frames, threshold=0.0, epsilon=epsilon)
    if renormalise:
        feature = unit(feature)
    return float(((np.float64(query) - feature) ** 2).sum())


def expanded(feature, others, neighbours, alpha):
    """A unit feature and its nearest of `others`, weighted by the power `alpha` of their cosine, L2-normalised."""
    feature, others = unit(np.float64(feature)), [unit(np.float64(other)) for other in others]
    order = sorted(range(len(others)), key=lambda i: (-float(feature @ others[i]), i))[:neighbours]
    return unit(feature + sum(max(float(feature @ others[i]), 0.0) ** alpha * others[i] for i in order))


def ranks(row):
    """1 + how many are nearer, of each number in a row."""
    return [1 + sum(other < value for other in row) for value in row]
