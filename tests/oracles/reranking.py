"""k-reciprocal re-ranking and Jaccard distance as published, in plain loops and float64.

"zhong": the code beside Zhong et al., CVPR 2017. "dmt-2020": `re_ranking_numpy` of AICITY2020_DMT_VehicleReID.
"openunreid": the Jaccard distance of DMT's adaptation, which OpenUnReID's equals for L2-normalised features. Only the
order of equal distances is settled here: the point itself first, then the smaller index.
"""

import math


def squared_distances(points):
    return [[sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True)) for y in points] for x in points]


def ranking(squared):
    return [sorted(range(len(row)), key=lambda j, i=i, row=row: (j != i, row[j], j)) for i, row in enumerate(squared)]


def divided(matrix):
    """The matrix over the maxima of its columns, transposed."""
    largest = [max(column) or 1.0 for column in zip(*matrix, strict=True)]
    over = [[value / by for value, by in zip(row, largest, strict=True)] for row in matrix]
    return [list(column) for column in zip(*over, strict=True)]


def original_distances(points, neighbours):
    """N lists of N original distances, divided as the convention says."""
    squared = squared_distances(points)
    times = {"openunreid": 0, "zhong": 1, "dmt-2020": 2}[neighbours]
    for _ in range(times):
        squared = divided(squared)
    return squared


def encode(points, k1, k2, neighbours="zhong"):
    """N lists of N weights."""
    count = len(points)
    original = original_distances(points, neighbours)
    # dividing rows changes no order but by rounding
    initial_rank = ranking(original if neighbours == "dmt-2020" else squared_distances(points))
    if neighbours == "openunreid":
        initial_rank = [row[:k1] for row in initial_rank]  # the index is asked for k1, so [:k1 + 1] below cuts nothing

    def reciprocal(i, length):
        return [j for j in initial_rank[i][:length] if i in initial_rank[j][:length]]

    def similarity(i, j):
        if neighbours != "openunreid":
            return math.exp(-original[i][j])
        return math.exp(-(2 - 2 * sum(float(a) * float(b) for a, b in zip(points[i], points[j], strict=True))))

    half = round(k1 / 2) + 1  # Python rounds half to even, as np.around does
    weights = []
    for i in range(count):
        own = reciprocal(i, k1 + 1)
        expanded = set(own)
        for candidate in own:
            theirs = reciprocal(candidate, half)
            if 3 * len(set(theirs) & set(own)) > 2 * len(theirs):
                expanded |= set(theirs)
        raw = {j: similarity(i, j) for j in expanded}
        total = sum(raw.values())
        weights.append([raw.get(j, 0.0) / total for j in range(count)])
    if k2 > 1:
        if neighbours == "openunreid":
            initial_rank = ranking(squared_distances(points))
        averaged = []
        for i in range(count):
            rows = [weights[j] for j in initial_rank[i][:k2]]
            averaged.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
        weights = averaged
    return weights


def jaccard(points, k1, k2, neighbours="zhong"):
    """N lists of N Jaccard distances."""
    weights = encode(points, k1, k2, neighbours)

    def distance(a, b):
        shared = sum(min(x, y) for x, y in zip(a, b, strict=True))
        return 1 - shared / (2 - shared)

    return [[distance(a, b) for b in weights] for a in weights]


def mixed(points, k1, k2, cosine_weight, neighbours="openunreid"):
    """DMT's adaptation: (1 - w) Jaccard + w (1 - cos) / 2 divided by its row's maximum, clipped to [0, 1]."""
    out = []
    for x, line in zip(points, jaccard(points, k1, k2, neighbours), strict=True):
        norm = math.hypot(*map(float, x))
        cosine = [
            sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / norm / math.hypot(*map(float, y))
            for y in points
        ]
        far = [(1 - c) / 2 for c in cosine]
        largest = max(far) or 1.0
        out.append(
            [
                min(max((1 - cosine_weight) * j + cosine_weight * f / largest, 0.0), 1.0)
                for j, f in zip(line, far, strict=True)
            ]
        )
    return out


def rerank(query_features, gallery_features, k1=20, k2=6, lambda_=0.3, neighbours="zhong"):
    """Q lists of G re-ranked distances."""
    points = [*query_features, *gallery_features]
    queries = len(query_features)
    shared = jaccard(points, k1, k2, neighbours)
    original = original_distances(points, neighbours)
    return [
        [(1 - lambda_) * shared[i][g] + lambda_ * original[i][g] for g in range(queries, len(points))]
        for i in range(queries)
    ]
