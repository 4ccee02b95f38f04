"""Slow, readable versions of the tracking metrics: every assignment is tried."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

Box = tuple[str, int, str, tuple[float, float, float, float]]
"""Camera, frame, identity and corners of a box."""


def iou(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    inside = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return inside / (area - inside)


def best(scores: list[list[float]]) -> list[tuple[int, int]]:
    """Pairs of rows and columns, at most one of each, with the largest sum of scores, all tried."""
    rows, columns = len(scores), len(scores[0])
    if rows > columns:
        return [(i, j) for j, i in best([list(column) for column in zip(*scores, strict=True)])]
    choice = max(permutations(range(columns), rows), key=lambda c: sum(scores[i][j] for i, j in enumerate(c)))
    return [(i, j) for i, j in enumerate(choice) if scores[i][j] > 0]


def frames(truth: list[Box], found: list[Box]) -> list[tuple[list[Box], list[Box]]]:
    keys = sorted({box[:2] for box in truth + found})
    return [([b for b in truth if b[:2] == key], [b for b in found if b[:2] == key]) for key in keys]


def idtp(truth: list[Box], found: list[Box]) -> int:
    """Boxes with the right identity, under the best assignment of found identities to true ones."""
    true_names, found_names = sorted({b[2] for b in truth}), sorted({b[2] for b in found})
    shared: Counter[tuple[str, str]] = Counter()
    for of_truth, of_found in frames(truth, found):
        shared.update((a[2], b[2]) for a in of_truth for b in of_found if iou(a[3], b[3]) >= 0.5)
    pairs = best([[float(shared[a, b]) for b in found_names] for a in true_names])
    return sum(shared[true_names[i], found_names[j]] for i, j in pairs)


def hota(truth: list[Box], found: list[Box]) -> tuple[float, float, float, float]:
    """HOTA, DetA, AssA and LocA, equation by equation (Luiten et al. 2021)."""
    size_true, size_found = Counter(b[2] for b in truth), Counter(b[2] for b in found)
    shared: Counter[tuple[str, str]] = Counter()
    for of_truth, of_found in frames(truth, found):
        table = [[iou(a[3], b[3]) for b in of_found] for a in of_truth]
        for i, a in enumerate(of_truth):
            for j, b in enumerate(of_found):
                others = sum(table[i]) + sum(row[j] for row in table) - table[i][j]
                shared[a[2], b[2]] += table[i][j] / others if others else 0.0
    pairs = []
    for of_truth, of_found in frames(truth, found):
        if of_truth and of_found:
            scores = [
                [
                    iou(a[3], b[3]) * shared[a[2], b[2]] / (size_true[a[2]] + size_found[b[2]] - shared[a[2], b[2]])
                    for b in of_found
                ]
                for a in of_truth
            ]
            pairs += [(of_truth[i], of_found[j]) for i, j in best(scores)]
    results = []
    for step in range(1, 20):
        good = [(a, b) for a, b in pairs if iou(a[3], b[3]) >= 0.05 * step - 1e-12]
        count = Counter((a[2], b[2]) for a, b in good)
        accuracy = [count[a[2], b[2]] / (size_true[a[2]] + size_found[b[2]] - count[a[2], b[2]]) for a, b in good]
        assa = sum(accuracy) / max(len(good), 1)
        deta = len(good) / (len(truth) + len(found) - len(good))
        loca = sum(iou(a[3], b[3]) for a, b in good) / len(good) if good else 1.0
        results.append((math.sqrt(deta * assa), deta, assa, loca))
    a, b, c, d = (sum(column) / len(results) for column in zip(*results, strict=True))
    return a, b, c, d


def clear(truth: list[Box], found: list[Box]) -> tuple[int, float, int]:
    """Matches, the sum of their overlaps, and identity switches."""
    matches, overlap, switches = 0, 0.0, 0
    last: dict[str, str] = {}
    before: dict[str, str] = {}
    for of_truth, of_found in frames(truth, found):
        if not of_truth or not of_found:
            continue
        scores = [
            [(s := iou(a[3], b[3])) and (s >= 0.5) * (s + 1000 * (before.get(a[2]) == b[2])) for b in of_found]
            for a in of_truth
        ]
        pairs = [(of_truth[i], of_found[j]) for i, j in best(scores)]
        before = {a[2]: b[2] for a, b in pairs}
        switches += sum(name in last and last[name] != other for name, other in before.items())
        last |= before
        matches += len(pairs)
        overlap += sum(iou(a[3], b[3]) for a, b in pairs)
    return matches, overlap, switches
