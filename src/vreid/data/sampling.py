"""Batch samplers, deterministic in (seed, epoch): P identities x K images, with half of the identities from each of
two domains, or random images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.seeds import generator
from vreid.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """The part of each batch for one of several processes: every `size`-th identity from the `rank`-th on.

    A batch holds its identities one after another, `num_instances` images each.

    Raises:
        InputError: there is no such process.

    Example:
        >>> Share(rank=1, size=2, num_instances=2).of(["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"])
        ['b1', 'b2', 'd1', 'd2']
    """

    rank: int = 0
    size: int = 1
    num_instances: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise InputError(f"There is no process {self.rank} among {self.size}; they are numbered from 0.")

    def of(self, batch: Sequence[Item]) -> list[Item]:
        """The items of a batch that are this process's, in their order."""
        return [item for place, item in enumerate(batch) if place // self.num_instances % self.size == self.rank]

    def sizes(self, batch: int) -> list[int]:
        """Return the number of items of each process in a batch of `batch` items.

        Example:
            >>> Share(rank=1, size=2, num_instances=4).sizes(12)
            [8, 4]
        """
        return [len(replace(self, rank=rank).of(range(batch))) for rank in range(self.size)]


class BatchSampler(Protocol):
    """Lists of row numbers, one list a batch, for the epoch that was set."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[int]]: ...


class PKSampler:
    """Batches of `num_identities` (P) x `num_instances` (K) image indices; the sampler of DMT (methods: section 4).

    In every epoch the images of each identity are shuffled and cut into chunks of K (an identity with fewer than K
    images is drawn K times with replacement; what is left over after the last full chunk waits for another epoch). Each
    batch draws P identities at random among those with chunks left, one chunk each, until fewer than P remain.
    Negative codes (unknown, junk) are never sampled. The state is (seed, epoch) and nothing else.

    Args:
        identities: (N,) identity code of each image, for example `records.identity.codes`.
        num_identities: P, identities in a batch.
        num_instances: K, images of an identity in a batch.
        seed: seed of all epochs.
        name: names the draws beside the seed: samplers of other names draw independently.
        what: name of the images in error messages.

    Raises:
        InputError: P or K below 1, or fewer than P known identities.

    Example:
        >>> sampler = PKSampler([0, 0, 1, 1, 2, 2, -1], num_identities=3, num_instances=2, seed=0)
        >>> len(sampler), [sorted(batch) for batch in sampler]
        (1, [[0, 1, 2, 3, 4, 5]])
    """

    def __init__(
        self,
        identities: ArrayLike,
        num_identities: int,
        num_instances: int,
        seed: int = 0,
        *,
        name: str = "pk-sampler",
        what: str = "training images",
    ) -> None:
        codes = np.asarray(identities)
        self._images = np.flatnonzero(codes >= 0)
        _, self._identity = np.unique(codes[self._images], return_inverse=True)
        self._counts = np.bincount(self._identity)
        if num_identities < 1 or num_instances < 1:
            raise InputError(f"P x K is {num_identities} x {num_instances}; both must be at least 1.")
        if len(self._counts) < num_identities:
            raise InputError(
                f"A batch needs {num_identities} identities but the {what} have {len(self._counts)}; "
                "lower num_identities or add identities."
            )
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.name = name
        self.epoch = 0
        self._made: tuple[int, NDArray[np.intp]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Exact number of batches of the current epoch (it differs a little from epoch to epoch)."""
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches().tolist()

    def _batches(self) -> NDArray[np.intp]:
        """(B, P * K) image indices of the current epoch."""
        if self._made is None or self._made[0] != self.epoch:
            self._made = (self.epoch, self._draw(generator(self.seed, self.name, self.epoch)))
        return self._made[1]

    def _draw(self, rng: np.random.Generator) -> NDArray[np.intp]:
        size = self.num_instances
        shuffled = rng.permutation(len(self._images))
        by_identity = self._images[shuffled[np.argsort(self._identity[shuffled], kind="stable")]]
        starts = np.cumsum(self._counts) - self._counts
        chunks_left = np.maximum(self._counts // size, 1)
        available = np.arange(len(self._counts))
        batches = []
        while len(available) >= self.num_identities:
            batch = []
            for identity in rng.choice(available, self.num_identities, replace=False):
                start, count = starts[identity], self._counts[identity]
                if count < size:
                    chunk = by_identity[start + rng.integers(count, size=size)]
                else:
                    end = start + int(chunks_left[identity]) * size
                    chunk = by_identity[end - size : end]
                chunks_left[identity] -= 1
                batch.append(chunk)
            batches.append(np.concatenate(batch))
            available = available[chunks_left[available] > 0]
        return np.stack(batches)


class DomainSampler:
    """P x K batches, P / 2 identities of each of two domains, the first domain's in front: the sampler of StRDAN.

    Each domain is sampled as `PKSampler` does; the epoch ends when one of them runs out.

    Args:
        identities: (N,) identity code of each image; no identity lies in both domains.
        domains: (N,) domain of each image, two different ones.
        num_identities: P, even.
        num_instances: K.
        seed: seed of all epochs.

    Raises:
        InputError: P is odd, there are not two domains, or one (it is named) has fewer than P / 2 identities.

    Example:
        >>> sampler = DomainSampler([0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1], num_identities=2, num_instances=2)
        >>> len(sampler), sorted(next(iter(sampler))[2:])
        (1, [4, 5])
    """

    def __init__(
        self, identities: ArrayLike, domains: ArrayLike, num_identities: int, num_instances: int, seed: int = 0
    ) -> None:
        codes, domains = np.asarray(identities), np.asarray(domains)
        present = np.unique(domains[codes >= 0])
        if len(present) != 2:
            raise InputError(
                f"Batches of half real and half synthetic images need both domains, but the training images are of "
                f"{len(present)}; add a data set of the other, or set batches=identities."
            )
        if num_identities % 2:
            raise InputError(f"num_identities is {num_identities}; half of them come from each domain: make it even.")
        self._parts = [
            PKSampler(
                np.where(domains == domain, codes, -1),
                num_identities // 2,
                num_instances,
                seed,
                name=f"pk-sampler {place}",
                what=f"{domain} training images",
            )
            for place, domain in enumerate(present)
        ]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        for part in self._parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        """Exact number of batches of the current epoch."""
        return min(len(part) for part in self._parts)

    def __iter__(self) -> Iterator[list[int]]:
        for halves in zip(*self._parts, strict=False):  # until one domain runs out
            yield [image for half in halves for image in half]


class ImageSampler:
    """Batches of `batch_size` of the `count` images at random, each at most once an epoch; what is left over waits.

    Raises:
        InputError: fewer than two images in a batch (batch normalisation needs two), or fewer images than that.

    Example:
        >>> sampler = ImageSampler(5, batch_size=2)
        >>> len(sampler), [len(batch) for batch in sampler]
        (2, [2, 2])
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0) -> None:
        if not 2 <= batch_size <= count:
            raise InputError(
                f"A batch of {batch_size} images cannot be drawn from {count} training images; "
                "num_identities x num_instances must be at least 2 and at most that many."
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = generator(self.seed, "image-sampler", self.epoch).permutation(self.count)
        yield from order[: len(self) * self.batch_size].reshape(len(self), self.batch_size).tolist()


class InOrder:
    """Batch sampler of 0, 1, ..., `count` - 1 in order; the last batch may be smaller."""

    def __init__(self, count: int, batch_size: int) -> None:
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is too small; give 1 or more.")
        self.count, self.batch_size = count, batch_size

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.count, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.count)))


class GivenBatches:
    """Batch sampler of batches that are given, the same in every epoch."""

    def __init__(self, batches: Sequence[NDArray[np.intp]]) -> None:
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self._batches)


class Counted:
    """`count` batches an epoch of another sampler: as many of its own epochs as they take, or the first part of one.

    Example:
        >>> sampler = Counted(ImageSampler(5, batch_size=2), 3)
        >>> len(sampler), [len(batch) for batch in sampler]
        (3, [2, 2, 2])
    """

    def __init__(self, sampler: BatchSampler, count: int) -> None:
        self.sampler, self.count = sampler, count
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        left = self.count
        for part in range(self.count):  # each has a batch at least
            self.sampler.set_epoch(self.epoch * self.count + part)
            batches = list(islice(self.sampler, left))
            yield from batches
            left -= len(batches)
            if not left:
                return


class PairedSampler:
    """Batches of `batch_size` images of each of two sets at random: rows of the first set, then those of the second.

    An epoch ends when the smaller set has been seen once; its last batch may hold fewer of that set than of the other.

    Args:
        first, second: images in either set; rows of the second count on from those of the first.
        batch_size: of each set.
        seed: of all epochs.

    Raises:
        InputError: an empty set, or a batch of nothing.

    Example:
        >>> sampler = PairedSampler(3, 5, batch_size=2)
        >>> len(sampler), [sum(row < 3 for row in batch) for batch in sampler], [len(batch) for batch in sampler]
        (2, [2, 1], [4, 3])
    """

    def __init__(self, first: int, second: int, batch_size: int, seed: int = 0) -> None:
        if min(first, second) < 1 or batch_size < 1:
            raise InputError(
                f"Batches of {batch_size} images of either domain cannot be drawn from {first:,} and {second:,} "
                "images; give 1 or more of each."
            )
        self.first, self.second, self.batch_size, self.seed = first, second, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are given next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-min(self.first, self.second) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        first, second = (
            generator(self.seed, "paired-sampler", place, self.epoch).permutation(count)
            for place, count in enumerate((self.first, self.second))
        )
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            part = slice(start, start + self.batch_size)
            yield [*first[part].tolist(), *(self.first + second[part]).tolist()]
