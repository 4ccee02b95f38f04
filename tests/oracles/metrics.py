"""Metrics by definition, in plain loops: sort one list, walk down it."""


def ranked(distances, query, gallery, remove):
    """Gallery indices in order of (distance, index) without those that `remove(gallery index)` names or +inf."""
    kept = [g for g in range(len(gallery)) if not remove(g) and distances[query][g] != float("inf")]
    return sorted(kept, key=lambda g: (distances[query][g], g))


def judge(order, relevant, top_k=None, normaliser="total"):
    """AP over the first top_k of `order`, first hit (0: none), and mates / rank of the last mate (0: missed)."""
    hits, total_precision, first, last = 0, 0.0, 0, 0
    for position, item in enumerate(order, start=1):
        if item in relevant:
            hits += 1
            first = first or position
            last = position
            if top_k is None or position <= top_k:
                total_precision += hits / position
    divisor = len(relevant) if normaliser == "total" else min(len(relevant), top_k or len(relevant))
    return total_precision / divisor, first, (len(relevant) / last if hits == len(relevant) else 0.0)


def evaluate(distances, query_identity, gallery_identity, remove, top_k=None, normaliser="total"):
    """Means over the queries that have a mate; `remove(q, g)` says which gallery images are gone. Junk is -2."""
    precisions, firsts, penalties, skipped = [], [], [], 0
    for q in range(len(query_identity)):

        def gone(g, q=q):
            return gallery_identity[g] == -2 or remove(q, g)

        relevant = {g for g in range(len(gallery_identity)) if gallery_identity[g] == query_identity[q] and not gone(g)}
        if query_identity[q] < 0 or not relevant:
            skipped += 1
            continue
        result = judge(ranked(distances, q, gallery_identity, gone), relevant, top_k, normaliser)
        for values, value in zip((precisions, firsts, penalties), result, strict=True):
            values.append(value)
    count = len(precisions)
    cmc = [sum(0 < first <= k for first in firsts) / count for k in range(1, 51)]
    return {"mAP": sum(precisions) / count, "cmc": cmc, "mINP": sum(penalties) / count, "skipped": skipped}
