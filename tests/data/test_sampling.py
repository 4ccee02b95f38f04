from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.sampling import pk_batches
from vreid.data.sampling import DomainSampler, ImageSampler, PKSampler
from vreid.data.seeds import generator
from vreid.errors import InputError

codes = st.lists(st.integers(-2, 12), min_size=1, max_size=120)


def sampler_of(identities: list[int], p: int, k: int, seed: int = 0) -> PKSampler | None:
    if len({i for i in identities if i >= 0}) < p:
        with pytest.raises(InputError, match="lower num_identities"):
            PKSampler(identities, p, k, seed)
        return None
    return PKSampler(identities, p, k, seed)


@given(codes, st.integers(1, 5), st.integers(1, 6), st.integers(0, 3), st.integers(0, 3))
def test_a_batch_has_p_identities_with_k_images(identities: list[int], p: int, k: int, seed: int, epoch: int) -> None:
    sampler = sampler_of(identities, p, k, seed)
    if sampler is None:
        return
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) >= 1
    sizes = Counter(i for i in identities if i >= 0)
    used: Counter[int] = Counter()
    chunks: Counter[int] = Counter()
    for batch in batches:
        assert len(batch) == p * k
        groups = [batch[start : start + k] for start in range(0, p * k, k)]
        names = [identities[group[0]] for group in groups]
        assert len(set(names)) == p and min(names) >= 0
        for group, name in zip(groups, names, strict=True):
            assert {identities[i] for i in group} == {name}
            chunks[name] += 1
            if sizes[name] >= k:
                used.update(group)
    assert all(count == 1 for count in used.values())  # no image twice, unless its identity has too few
    left = [name for name, size in sizes.items() if chunks[name] < max(size // k, 1)]
    assert len(left) < p  # it went on as long as it could
    assert all(chunks[name] <= max(sizes[name] // k, 1) for name in sizes)


@given(codes, st.integers(1, 4), st.integers(1, 5), st.integers(0, 5))
def test_batches_are_those_of_the_slow_sampler(identities: list[int], p: int, k: int, epoch: int) -> None:
    sampler = sampler_of(identities, p, k, seed=7)
    if sampler is None:
        return
    sampler.set_epoch(epoch)
    assert list(sampler) == pk_batches(identities, p, k, generator(7, "pk-sampler", epoch))


def test_a_resumed_epoch_gives_the_same_batches() -> None:
    identities = np.repeat(np.arange(20), 9)
    first = PKSampler(identities, 4, 4, seed=3)
    epochs = []
    for epoch in range(3):
        first.set_epoch(epoch)
        epochs.append(list(first))
    resumed = PKSampler(identities, 4, 4, seed=3)
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert epochs[0] != epochs[1]
    assert list(PKSampler(identities, 4, 4, seed=4)) != epochs[0]


def test_every_image_comes_up_over_the_epochs() -> None:
    sampler = PKSampler(np.repeat(np.arange(6), 7), 3, 4, seed=0)  # 3 of 7 images are left over in each epoch
    seen: set[int] = set()
    for epoch in range(12):
        sampler.set_epoch(epoch)
        seen.update(i for batch in sampler for i in batch)
    assert seen == set(range(42))


def test_identities_are_drawn_evenly() -> None:
    sampler = PKSampler(np.repeat(np.arange(30), 4), 4, 4, seed=5)
    drawn = Counter()
    for epoch in range(300):
        sampler.set_epoch(epoch)
        drawn.update(batch[0] // 4 for batch in sampler)  # the first identity of each batch
    # 300 epochs x 7 batches over 30 identities: 70 each, standard deviation 8.
    assert min(drawn.values()) > 40 and max(drawn.values()) < 100


@pytest.mark.parametrize(("p", "k"), [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_batch_is_rejected(p: int, k: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        PKSampler([0, 1, 2, 3], p, k)


# ---------------------------------------------------------------- half real, half synthetic


@given(
    real=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    synthetic=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    k=st.integers(1, 4),
    epoch=st.integers(0, 2),
)
def test_half_of_a_batch_is_of_either_domain(real: list[int], synthetic: list[int], k: int, epoch: int) -> None:
    """`real` and `synthetic` are numbers of images of each identity; images of both lie in one random order."""
    identities = np.repeat(np.arange(len(real) + len(synthetic)), [*real, *synthetic])
    domains = (identities >= len(real)).astype(int)
    order = np.random.default_rng(0).permutation(len(identities))
    identities, domains = identities[order], domains[order]
    sampler = DomainSampler(identities, domains, num_identities=4, num_instances=k, seed=3)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    halves = [PKSampler(np.where(domains == d, identities, -1), 2, k, 3, name=f"pk-sampler {d}") for d in (0, 1)]
    for half in halves:
        half.set_epoch(epoch)
    assert len(batches) == len(sampler) == min(len(half) for half in halves) >= 1  # until one domain runs out
    for batch in batches:
        assert domains[batch].tolist() == [0] * 2 * k + [1] * 2 * k
        assert sorted(Counter(identities[batch].tolist()).values()) == [k] * 4


def test_the_papers_batches() -> None:
    identities, domains = np.repeat(np.arange(40), 6), np.repeat([0, 1], 120)
    for num_identities, size in ((16, 64), (4, 16)):  # (8 + 8) x 4 and (2 + 2) x 4
        batch = next(iter(DomainSampler(identities, domains, num_identities, 4)))
        assert len(batch) == size and domains[batch].sum() == size // 2
        assert len(set(identities[batch].tolist())) == num_identities


def test_the_domains_are_drawn_independently_and_again_the_same() -> None:
    identities, domains = np.repeat(np.arange(20), 4), np.repeat([0, 1], 40)
    first = [batch for batch in DomainSampler(identities, domains, 4, 4, seed=1)]
    again = [batch for batch in DomainSampler(identities, domains, 4, 4, seed=1)]
    assert first == again != list(DomainSampler(identities, domains, 4, 4, seed=2))
    assert [image + 40 for image in first[0][:8]] != first[0][8:]


def test_unknown_images_are_in_no_batch_of_domains() -> None:
    sampler = DomainSampler([0, 0, -1, 1, 1, -2], [0, 0, 0, 1, 1, 1], num_identities=2, num_instances=2)
    assert sorted(next(iter(sampler))) == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("identities", "domains", "p", "sentence"),
    [
        ([0, 1, 2, 3], [0, 0, 0, 0], 4, "training images are of 1; add a data set"),
        ([0, 1, -1, -1], [0, 0, 1, 1], 4, "training images are of 1; add a data set"),
        ([0, 1, 2, 3], [0, 0, 1, 1], 3, "num_identities is 3; .* make it even"),
        ([0, 1, 2, 2], [0, 0, 1, 1], 4, "needs 2 identities but the 1 training images have 1"),
    ],
)
def test_domains_that_make_no_batch_are_rejected(
    identities: list[int], domains: list[int], p: int, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        DomainSampler(identities, domains, p, 2)


# ---------------------------------------------------------------- any images


@given(count=st.integers(2, 60), size=st.integers(2, 20), epoch=st.integers(0, 3))
def test_random_batches_hold_each_image_at_most_once(count: int, size: int, epoch: int) -> None:
    if size > count:
        with pytest.raises(InputError, match="cannot be drawn"):
            ImageSampler(count, size)
        return
    sampler = ImageSampler(count, size, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) == count // size
    drawn = [image for batch in batches for image in batch]
    assert {len(batch) for batch in batches} == {size}
    assert len(set(drawn)) == len(drawn) and set(drawn) <= set(range(count))


def test_random_batches_differ_by_epoch_and_cover_all_images() -> None:
    sampler = ImageSampler(10, 4, seed=2)
    epochs = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] != epochs[1] and {image for batches in epochs for batch in batches for image in batch} == set(
        range(10)
    )
    sampler.set_epoch(3)
    assert list(sampler) == epochs[3]
    with pytest.raises(InputError, match="at least 2"):
        ImageSampler(10, 1)


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.lists(st.text(max_size=5) | st.integers(0, 2**31), max_size=3))
def test_a_generator_is_named_by_its_keys(seed: int, keys: list[str | int]) -> None:
    draws = generator(seed, *keys).integers(2**63, size=2)
    assert draws.tolist() == generator(seed, *keys).integers(2**63, size=2).tolist()
    assert draws.tolist() != generator(seed, *keys, "other").integers(2**63, size=2).tolist()
    assert draws.tolist() != generator(seed + 1, *keys).integers(2**63, size=2).tolist()


def test_a_negative_seed_is_rejected() -> None:
    with pytest.raises(InputError, match="seed -1 is negative"):
        generator(-1)
