"""k-reciprocal re-ranking as published (Zhong et al., CVPR 2017, supplementary code), in plain loops and float64.

Only the order of equal distances is settled here: the point itself first, then the smaller index.
"""

import math


def rerank(query_features, gallery_features, k1=20, k2=6, lambda_=0.3):
    points = [*query_features, *gallery_features]
    queries, count = len(query_features), len(points)
    squared = [[sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True)) for y in points] for x in points]
    distance = [[d / (max(row) or 1.0) for d in row] for row in squared]
    initial_rank = [sorted(range(count), key=lambda j, i=i: (j != i, distance[i][j], j)) for i in range(count)]

    def reciprocal(i, length):
        return [j for j in initial_rank[i][:length] if i in initial_rank[j][:length]]

    half = round(k1 / 2) + 1  # Python rounds half to even, as np.around does
    weights = []
    for i in range(count):
        own = reciprocal(i, k1 + 1)
        expanded = set(own)
        for candidate in own:
            theirs = reciprocal(candidate, half)
            if 3 * len(set(theirs) & set(own)) > 2 * len(theirs):
                expanded |= set(theirs)
        raw = {j: math.exp(-distance[i][j]) for j in expanded}
        total = sum(raw.values())
        weights.append([raw.get(j, 0.0) / total for j in range(count)])
    if k2 > 1:
        averaged = []
        for i in range(count):
            rows = [weights[j] for j in initial_rank[i][:k2]]
            averaged.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
        weights = averaged
    out = []
    for i in range(queries):
        line = []
        for g in range(queries, count):
            shared = sum(min(a, b) for a, b in zip(weights[i], weights[g], strict=True))
            line.append((1 - lambda_) * (1 - shared / (2 - shared)) + lambda_ * distance[i][g])
        out.append(line)
    return out
