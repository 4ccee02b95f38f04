"""k-reciprocal re-ranking and Jaccard distance the textbook way: lists of neighbours, N x N arrays, float32.

What the field's implementations do, written plainly: the measure of speed and memory, and an oracle for more points
than plain loops can take. Ties are broken by index, the point itself first.
"""

import numpy as np


def squared_distances(points):
    squares = (points * points).sum(axis=1)
    squared = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    np.fill_diagonal(squared, 0)
    return squared


def encode(points, squared, k1, k2, neighbours="zhong"):
    """(N, N) weights."""
    count = len(points)
    if neighbours == "zhong":
        similarity = np.exp(-squared / np.maximum(squared.max(axis=1, keepdims=True), 1e-30))
    else:
        similarity = np.exp(2 * points @ points.T - 2)
    own = squared.copy()
    np.fill_diagonal(own, -1)
    ranks = np.argsort(own, axis=1, kind="stable")
    lists = ranks[:, : k1 + 1] if neighbours == "zhong" else ranks[:, :k1]
    half = int(np.around(k1 / 2)) + 1

    def reciprocal(i, length):
        forward = lists[i, :length]
        return forward[(lists[forward, :length] == i).any(axis=1)]

    near = [reciprocal(i, k1 + 1) for i in range(count)]
    near_half = [reciprocal(i, half) for i in range(count)]
    weights = np.zeros((count, count), dtype=np.float32)
    for i in range(count):
        expanded = near[i]
        for candidate in near[i]:
            theirs = near_half[candidate]
            if 3 * len(np.intersect1d(theirs, near[i])) > 2 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        weights[i, expanded] = similarity[i, expanded] / similarity[i, expanded].sum()
    if k2 > 1:
        weights = np.stack([weights[ranks[i, :k2]].mean(axis=0) for i in range(count)])
    return weights


def jaccard(weights, rows):
    """(rows, N) Jaccard distances of the first rows to all points."""
    holders = [np.flatnonzero(column) for column in weights.T]
    out = np.empty((rows, len(weights)), dtype=np.float32)
    for i in range(rows):
        shared = np.zeros(len(weights), dtype=np.float32)
        for j in np.flatnonzero(weights[i]):
            shared[holders[j]] += np.minimum(weights[i, j], weights[holders[j], j])
        out[i] = 1 - shared / (2 - shared)
    return out


def rerank(query_features, gallery_features, k1=20, k2=6, lambda_=0.3):
    """(Q, G) re-ranked distances, "zhong"."""
    points, queries = np.concatenate([query_features, gallery_features]), len(query_features)
    squared = squared_distances(points)
    shared = jaccard(encode(points, squared, k1, k2), queries)
    original = squared[:queries] / squared[:queries].max(axis=1, keepdims=True)
    return ((1 - lambda_) * shared + lambda_ * original)[:, queries:]


def jaccard_matrix(points, k1=30, k2=6, neighbours="openunreid"):
    """(N, N) Jaccard distances."""
    weights = encode(points, squared_distances(points), k1, k2, neighbours)
    return np.maximum(jaccard(weights, len(points)), 0)
