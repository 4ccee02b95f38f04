"""Estimate of bytes, memory, hours and cost for N tracklets, from formulas and measured constants.

Every constant states its source; docs/guides/scaling.md explains the formulas and what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vreid.ranges import check_settings, in_range

ROW = 460
"""Bytes of a tracklet's row in the embedded store beside features and crops (docs/results/performance.md: 792 MB of
100,000 tracklets, 336 MB crops, 410 MB features)."""
NUMBER = {"float32": 4, "float16": 2, "int8": 1}
"""Bytes of a number of a feature by its type; the embedded store and this package's files keep float32."""


@dataclass(frozen=True)
class IndexSize:
    """Memory of a kind of index.

    Attributes:
        bytes_per_vector: of N vectors of D dimensions in float32; (N, D) -> bytes.
        exact: whether it finds what a scan of everything finds.
        formula: the same in words, with its source.
    """

    bytes_per_vector: Callable[[int, int], float]
    exact: bool
    formula: str


LINKS = 16
"""M of HNSW: 2 M links of 4 bytes in the lowest layer, M in the layers above, in which a vector stands 1 / (M - 1)
times on average (Malkov and Yashunin, 2018, section 4.2; hnswlib and FAISS keep 4-byte links)."""
DEGREE, CODES, CACHED = 56, 0.125, 0.1
"""Defaults of DiskANN in Milvus (its documentation, DiskIndex): MaxDegree, PQCodeBudgetGBRatio and
SearchCacheBudgetGBRatio, the shares of the vectors' bytes that are kept in memory as codes and as cached nodes."""
_SECTOR = 4096  # bytes that DiskANN reads at once; a vector with its neighbours does not cross them


def _ivf_overhead(vectors: int, dimensions: int) -> float:
    """Bytes a vector of an inverted file: an 8-byte number each, and sqrt(N) centres of float32."""
    return 8 + 4 * dimensions * math.sqrt(vectors) / vectors


def _disk_node(dimensions: int) -> float:
    """Bytes on disk of a vector of DiskANN: float32, its degree and neighbours, packed in sectors."""
    node = 4 * dimensions + 4 + 4 * DEGREE
    return _SECTOR / (_SECTOR // node) if node <= _SECTOR else math.ceil(node / _SECTOR) * _SECTOR


INDEXES: Mapping[str, IndexSize] = {
    "flat": IndexSize(lambda n, d: 4 * d, True, "4 D"),
    "ivf-flat": IndexSize(lambda n, d: 4 * d + _ivf_overhead(n, d), False, "4 D + 8 + 4 D / sqrt(N)"),
    "ivf-pq": IndexSize(
        lambda n, d: d / 8 + _ivf_overhead(n, d) + 4 * 256 * d / n, False, "D / 8 codes + 8 + 4 D / sqrt(N)"
    ),
    "hnsw": IndexSize(
        lambda n, d: 4 * d + 8 * LINKS + 4 * LINKS / (LINKS - 1) + 16, False, "4 D + 8 M + 4 M / (M - 1) + 16, M = 16"
    ),
    "diskann": IndexSize(lambda n, d: (CODES + CACHED) * 4 * d, False, "0.225 x 4 D; the rest on an SSD"),
}
"""Kinds of index by name: those of Milvus and FAISS."""


@dataclass(frozen=True)
class SizeInputs:
    """What an estimate is made of; the reader changes what differs.

    Attributes:
        tracklets: N.
        dimensions: D of a feature.
        crops: crops a tracklet that are kept.
        crop_bytes: bytes of a JPEG crop.
        images: images a tracklet that go through the network.
        images_per_second: images a second of one device, both views.
        price_hour: of that device.
        memory_price: of a GiB of memory a month.
        disk_price: of a GiB of disk a month.

    Raises:
        InputError: a number is out of range.
    """

    tracklets: int = in_range(100_000, least=1, most=10**15)
    dimensions: int = in_range(1280, least=1, most=10**6)
    crops: int = in_range(3, least=0, most=10**6)
    crop_bytes: int = in_range(3_400, least=0, most=10**12)
    images: int = in_range(3, least=1, most=10**6)
    images_per_second: float = in_range(125.0, least=1e-6, most=1e12)
    price_hour: float = in_range(0.1, least=0, most=1e12)
    memory_price: float = in_range(3.0, least=0, most=1e12)
    disk_price: float = in_range(0.1, least=0, most=1e12)

    def __post_init__(self) -> None:
        check_settings(self, "size: ")


@dataclass(frozen=True)
class Sizes:
    """The estimate: bytes, hours and cost in the currency of the prices."""

    store_disk: float
    store_memory: float
    features: Mapping[str, float]
    indexes: Mapping[str, float]
    diskann_disk: float
    extraction_hours: float
    extraction_cost: float
    store_month: float


def estimate(inputs: SizeInputs) -> Sizes:
    """Estimate what `inputs.tracklets` tracklets take.

    Example:
        >>> round(estimate(SizeInputs(100_000, 512, crops=1)).store_disk / 1e6)   # measured: 792
        796
    """
    count, dimensions = inputs.tracklets, inputs.dimensions
    vector = 4 * dimensions
    disk = count * (ROW + (1 + inputs.crops) * vector + inputs.crops * inputs.crop_bytes)
    hours = count * inputs.images / inputs.images_per_second / 3600
    gib = 2.0**30
    return Sizes(
        store_disk=disk,
        store_memory=count * vector,
        features={name: count * dimensions * size for name, size in NUMBER.items()},
        indexes={name: count * index.bytes_per_vector(count, dimensions) for name, index in INDEXES.items()},
        diskann_disk=count * _disk_node(dimensions),
        extraction_hours=hours,
        extraction_cost=hours * inputs.price_hour,
        store_month=count * vector / gib * inputs.memory_price + disk / gib * inputs.disk_price,
    )
