"""Data loaders: batches on a device, with worker processes and a cache of decoded images.

A batch is a pure function of (seed, epoch, position): the number of workers, the cache and the point of resumption
do not affect it. Images travel as uint8 and become float32 on the device, which keeps the
pipes between processes and the shared memory four times smaller.

Shapes: B batch, H height, W width.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from vreid.data.augment import TestTransform, TrainTransform
from vreid.data.devices import to_device
from vreid.data.record_images import RecordImages
from vreid.data.records import Records
from vreid.data.sampling import BatchSampler, GivenBatches, InOrder, Share
from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.machine import memory, processors

CACHE = "VREID_IMAGE_CACHE"
"""Environment variable: bound of the cache of decoded images of each process, in GB (10^9 bytes); 0: no cache."""
CACHE_SHARE, UNKNOWN_MEMORY = 4, 4 * 10**9
"""The cache takes at most one part of so many of the available memory; the memory of a system that does not tell."""
MAX_WORKERS = 16
"""Most worker processes that are chosen: one GPU does not take images faster than so many cores decode them."""
ALL = Share()


class Draw(NamedTuple):
    """One image to load: its `row` of the records, and the (epoch, position) that name its randomness.

    The position in the epoch, not the row, seeds the augmentation: an identity with few images is drawn several times
    for one batch, and its copies must differ.
    """

    epoch: int
    position: int
    row: int


class Batch(NamedTuple):
    """`images` (B, 3, H, W) float32 on the device; `rows` (B,) of the records and `flipped` (B,) are numpy arrays."""

    images: Tensor
    rows: NDArray[np.int64]
    flipped: NDArray[np.bool_]


class _RawBatch(NamedTuple):
    """Output of a worker: (B, 3, H, W) uint8, (B,) rows, (B,) flipped, (B, 4) regions to erase."""

    images: Tensor
    rows: Tensor
    flipped: Tensor
    erased: Tensor


class ImageCache:
    """The first `limit // item size` prepared images of a data set, kept after their first decoding.

    One anonymous shared memory map: workers made by fork fill and read the same one. A process made otherwise (spawn)
    gets an empty one of its own of the same bound.
    """

    def __init__(self, count: int, shape: Sequence[int], limit: int) -> None:
        self._count, self._shape, self._limit = count, tuple(shape), limit
        size = int(np.prod(shape))
        self.slots = min(count, limit // size)
        self._lock = multiprocessing.Lock()  # orders "is filled" after the pixels, on every processor
        if self.slots:
            self._memory = mmap.mmap(-1, self.slots * (size + 1))  # pages are committed when they are first written
            self._pixels = np.frombuffer(self._memory, np.uint8, self.slots * size).reshape(self.slots, *self._shape)
            self._filled = np.frombuffer(self._memory, np.uint8, self.slots, offset=self.slots * size)

    def get(self, index: int) -> Tensor | None:
        """Return the image (a view: do not write to it) or None."""
        if index >= self.slots:
            return None
        with self._lock:
            filled = self._filled[index]
        return torch.from_numpy(self._pixels[index]) if filled else None

    def put(self, index: int, image: Tensor) -> None:
        """Keep an image, if there is a slot for it."""
        if index < self.slots:
            self._pixels[index] = image.numpy()
            with self._lock:
                self._filled[index] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageCache, (self._count, self._shape, self._limit)


class ImageDataset:
    """Map-style data set over records: `dataset[draws]` reads, prepares and augments a batch of uint8 images.

    A record with a box is that part of its image. The boxes of one frame are cut out of one decoding where they
    follow each other, and in a batch in any case.

    Args:
        records: N images.
        transform: `TrainTransform` or `TestTransform`.
        seed: of the augmentation.
        cache_bytes: bound of the cache of prepared images; 0 switches it off.
    """

    def __init__(
        self,
        records: Records,
        transform: TestTransform,
        *,
        seed: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self.transform = transform
        self.seed = seed
        self._count = len(records)
        self._images = RecordImages(records)
        self._cache = ImageCache(len(records), (3, transform.height, transform.width), cache_bytes)

    def __len__(self) -> int:
        return self._count

    def prepared(self, index: int) -> Tensor:
        """(3, H, W) uint8 image number `index` before augmentation.

        Raises:
            InputError: the file cannot be read; the sentence names it.
        """
        return self._prepared([index])[index]

    def _prepared(self, rows: Iterable[int]) -> dict[int, Tensor]:
        cached = {row: self._cache.get(row) for row in rows}
        found = {row: image for row, image in cached.items() if image is not None}
        for row, image in self._images.read(cached.keys() - found.keys()):
            found[row] = self.transform.prepare(image)
            self._cache.put(row, found[row])
        return found

    def __getitem__(self, draw: Draw) -> _RawBatch:
        return self._load([draw])

    def __getitems__(self, draws: list[Draw]) -> _RawBatch | InputError:
        """Load one batch in a worker; wrong input is returned, since torch would wrap an exception in its traceback."""
        try:
            return self._load(draws)
        except InputError as error:
            return error

    def _load(self, draws: list[Draw]) -> _RawBatch:
        images = torch.empty((len(draws), 3, self.transform.height, self.transform.width), dtype=torch.uint8)
        flipped, erased = [], []
        prepared = self._prepared({draw.row for draw in draws})
        for place, (epoch, position, row) in enumerate(draws):
            rng = generator(self.seed, "augment", epoch, position)
            augmented = self.transform.augment(prepared[row], rng)
            images[place] = augmented.image
            flipped.append(augmented.flipped)
            erased.append(augmented.erased)
        rows = [draw.row for draw in draws]
        return _RawBatch(images, torch.tensor(rows), torch.tensor(flipped), torch.tensor(erased))


class _Draws:
    """Batch sampler of torch's loader: turns a sampler's rows into `Draw`s, from a given batch on; a share of each.

    With `by_row` the row is the position too, so that it does not matter which batches are loaded.
    """

    def __init__(self, sampler: BatchSampler, share: Share, by_row: bool) -> None:
        self.sampler = sampler
        self.share = share
        self.by_row = by_row
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        return max(len(self.sampler) - self.first_batch, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        begun = 0
        for number, rows in enumerate(self.sampler):
            if number >= self.first_batch:
                positions = rows if self.by_row else range(begun, begun + len(rows))
                draws = [Draw(self.epoch, int(at), row) for at, row in zip(positions, rows, strict=True)]
                yield self.share.of(draws)
            begun += len(rows)


class Loader:
    """Iterable over the batches of one epoch, on `device`; iterate again for the same epoch, `set_epoch` for another.

    Use `train_loader` or `test_loader` to make one.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: BatchSampler,
        *,
        workers: int,
        device: torch.device | str = "cpu",
        share: Share = ALL,
        by_row: bool = False,
    ) -> None:
        if workers < 0:
            raise InputError(f"{workers} worker processes are too few; give 0 (none) or more.")
        self.dataset = dataset
        self.device = torch.device(device)
        self._draws = _Draws(sampler, share, by_row)
        # Forked workers share the cache. They never touch CUDA and use one thread each.
        context = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        self._loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=self._draws,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else it draws from torch's global one, and resuming would change dropout
            multiprocessing_context=context if workers else None,
        )

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch; with `first_batch` the batches before it are skipped without reading an image."""
        self._draws.epoch, self._draws.first_batch = epoch, first_batch
        self._draws.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Exact number of batches that iteration will give."""
        return len(self._draws)

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of the epoch.

        Raises:
            InputError: an image cannot be read; with the message of `read_image`, also from a worker process.
        """
        for raw in self._loader:
            if isinstance(raw, InputError):
                raise raw
            images = to_device(raw.images, self.device)
            yield Batch(self.dataset.transform.finish(images, raw.erased), raw.rows.numpy(), raw.flipped.numpy())


def train_loader(
    records: Records,
    transform: TrainTransform,
    sampler: BatchSampler,
    *,
    seed: int,
    workers: int | None = None,
    cache_bytes: int | None = None,
    device: torch.device | str = "cpu",
    share: Share = ALL,
) -> Loader:
    """Return the loader of augmented batches; labels are looked up by `batch.rows` in any column.

    Args:
        records: training images.
        transform: augmentation.
        sampler: which images make a batch; see `vreid.data.sampling`.
        seed: of the augmentation.
        workers: worker processes; None chooses for this machine and device, 0 works in this process.
        cache_bytes: bound of the cache of decoded images; 0 switches it off, None: see `image_cache_bytes`.
        device: where the batches go.
        share: what of each batch is loaded, where several processes train together; augmented as in the whole batch.

    Example:
        >>> sampler = PKSampler(records.identity.codes, 12, 8)                                    # doctest: +SKIP
        >>> loader = train_loader(records, TrainTransform(), sampler, seed=0)                     # doctest: +SKIP
        >>> loader.set_epoch(3)                                                                   # doctest: +SKIP
        >>> for images, rows, flipped in loader:                                                  # doctest: +SKIP
        ...     identities = records.identity.codes[rows]
    """
    bound = image_cache_bytes() if cache_bytes is None else cache_bytes
    dataset = ImageDataset(records, transform, seed=seed, cache_bytes=bound)
    return Loader(dataset, sampler, workers=number_of_workers(workers, device), device=device, share=share)


def test_loader(
    records: Records,
    transform: TestTransform,
    *,
    batch_size: int = 64,
    batches: Sequence[NDArray[np.intp]] | None = None,
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> Loader:
    """Return the loader of all records in their order, or of given batches of them, resized and normalised.

    Args:
        records: images; an empty set gives no batch.
        transform: size and normalisation.
        batch_size: images in a batch; the last may be smaller.
        batches: rows (B,) of each batch, instead of all in their order.
        workers: worker processes; None chooses for this machine and device, 0 works in this process.
        device: where the batches go.
    """
    dataset = ImageDataset(records, transform)
    sampler = InOrder(len(records), batch_size) if batches is None else GivenBatches(batches)
    return Loader(dataset, sampler, workers=number_of_workers(workers, device), device=device, by_row=True)


test_loader.__test__ = False  # type: ignore[attr-defined]  # keeps pytest from collecting this class


def number_of_workers(workers: int | None, device: torch.device | str) -> int:
    """Return the number of worker processes; 0 on the CPU, where the network uses all cores itself."""
    if workers is not None:
        return workers
    return 0 if torch.device(device).type == "cpu" else min(processors(), MAX_WORKERS)


def image_cache_bytes() -> int:
    """Return the bound of the cache of decoded images of this process in bytes.

    It is `VREID_IMAGE_CACHE` in GB, by default a quarter of the memory that is available to the process (see
    `vreid.machine.memory`). An image of 256 x 256 takes 0.2 MB; memory is taken as images are read.

    Raises:
        InputError: the variable is no number, or negative.
    """
    text = os.environ.get(CACHE)
    if text is None:
        available = memory()
        return (UNKNOWN_MEMORY if available is None else available) // CACHE_SHARE
    try:
        bound = float(text)
    except ValueError:
        bound = -1.0
    if not 0 <= bound < float("inf"):
        raise InputError(f"{CACHE}={text}: is not a number of GB; set it to 0 or more, for example {CACHE}=16.")
    return int(bound * 10**9)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops the workers
