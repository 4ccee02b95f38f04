"""The P x K sampler of DMT in plain loops, one image at a time, with the draws made as the fast one makes them."""

from __future__ import annotations

import numpy as np


def pk_batches(identities: list[int], p: int, k: int, rng: np.random.Generator) -> list[list[int]]:
    known = [index for index, identity in enumerate(identities) if identity >= 0]
    names = sorted({identities[index] for index in known})

    images: dict[int, list[int]] = {name: [] for name in names}
    for place in rng.permutation(len(known)):
        images[identities[known[place]]].append(known[place])

    # A chunk of an identity with too few images is drawn when it is used; None stands for it until then.
    chunks: dict[int, list[list[int] | None]] = {}
    for name in names:
        if len(images[name]) < k:
            chunks[name] = [None]
        else:
            whole = len(images[name]) // k
            chunks[name] = [images[name][i * k : (i + 1) * k] for i in range(whole)]

    batches = []
    available = list(names)
    while len(available) >= p:
        batch: list[int] = []
        for place in rng.choice(len(available), p, replace=False):
            name = available[place]
            chunk = chunks[name].pop()
            if chunk is None:
                chunk = [images[name][i] for i in rng.integers(len(images[name]), size=k)]
            batch += chunk
        available = [name for name in available if chunks[name]]
        batches.append(batch)
    return batches
