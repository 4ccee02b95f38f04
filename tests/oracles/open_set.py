"""Open-set errors by definition, in plain loops over ranked lists."""

from itertools import pairwise

from oracles.metrics import ranked


def searches(distances, query_identity, gallery_identity, remove):
    """For each query that is not junk: the candidates as (distance, is a mate), nearest first, and whether it has a
    mate. `remove(q, g)` says which gallery images are gone; junk is -2."""
    out = []
    for q in range(len(query_identity)):
        if query_identity[q] < 0:
            continue

        def gone(g, q=q):
            return gallery_identity[g] == -2 or remove(q, g)

        left = [g for g in range(len(gallery_identity)) if not gone(g)]
        order = ranked(distances, q, gallery_identity, gone)
        found = [(distances[q][g], gallery_identity[g] == query_identity[q]) for g in order]
        out.append((found, any(gallery_identity[g] == query_identity[q] for g in left)))
    return out


def errors(searches, threshold):
    """FPIR, FNIR at rank 1 and at any rank, TNR, F1 of refusals."""
    false_positives = mateless = misses = misses_any = mated = 0
    right_refusals = wrong_refusals = 0
    for found, has_mate in searches:
        within = [is_mate for distance, is_mate in found if distance <= threshold]
        if has_mate:
            mated += 1
            misses += not (within and within[0])
            misses_any += not any(within)
            wrong_refusals += not within
        else:
            mateless += 1
            false_positives += bool(within)
            right_refusals += not within
    precision = right_refusals / (right_refusals + wrong_refusals) if right_refusals + wrong_refusals else 0
    recall = right_refusals / mateless
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return {
        "fpir": false_positives / mateless,
        "fnir": misses / mated,
        "fnir_any_rank": misses_any / mated,
        "tnr": recall,
        "refusal_f1": f1,
    }


def fnir_at_fpir(searches, fpir, name="fnir"):
    """The lowest FNIR among all thresholds worth trying whose FPIR is small enough."""
    distances = sorted({distance for found, _ in searches for distance, _ in found})
    between = [(a + b) / 2 for a, b in pairwise(distances)]
    tried = [errors(searches, t) for t in [-1, *distances, *between]]
    return min(e[name] for e in tried if e["fpir"] <= fpir)
