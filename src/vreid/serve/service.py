"""`Service`: what the API and the pages share: searching, browsing and images of one store."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from PIL import Image

from vreid.data.cameras import Camera
from vreid.errors import InputError, nearest_name
from vreid.serve.http_errors import HttpError
from vreid.serve.query_cache import CachedQuery, QueryCache
from vreid.serve.settings import ServeConfig
from vreid.serve.uploads import Upload
from vreid.store.interface import LONGEST_TEXT, StoredCrop, TrackletBatch
from vreid.store.plates import BLURS
from vreid.store.search import Query, SearchConfig, SearchResult, make_filter, search_tracklets
from vreid.store.store import Store

ListOrder = Literal["id", "time"]
"""Order of a list of tracklets: by id, or by start and id."""
PAGE = 100
"""Most tracklets of a page of a list."""
BLURRED = 64 << 20
"""Bytes of blurred crops that are kept in memory."""

_TIME = re.compile(r"-?\d{1,19}", re.ASCII)  # milliseconds at the beginning of a place in a list by time
_SIDE = 320  # pixels of the longer side of a query image that is shown
_EARLIEST, _LATEST = -62_135_596_800.0, 253_402_300_800.0  # years 1 to 9999


@dataclass(frozen=True)
class Selection:
    """Which tracklets a client wants: names, and UTC seconds; empty and None select everything."""

    cameras: tuple[str, ...] = ()
    not_cameras: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    colors: tuple[str, ...] = ()
    vehicle_types: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrackletPage:
    """A page of a list of tracklets.

    Attributes:
        found: the tracklets.
        next: where the next page begins; None: there is none.
    """

    found: TrackletBatch
    next: str | None


@dataclass(frozen=True, eq=False)
class Picture:
    """A JPEG that leaves the service, with the entity tag of its contents."""

    jpeg: bytes
    etag: str


class Service:
    """Search, lists and images of one store, within the limits of its settings; it may be used by several threads.

    Args:
        store: open for writing.
        config: the settings.
    """

    def __init__(self, store: Store, config: ServeConfig) -> None:
        self.store = store
        self.config = config
        self.queries = QueryCache(config.queries, 60 * config.query_minutes)
        self._slots = threading.BoundedSemaphore(config.searches_at_once)
        self._blurred: OrderedDict[str, Picture] = OrderedDict()
        self._guard = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to use the processor for long.

        Raises:
            HttpError: 503 after `ServeConfig.busy_seconds`.
        """
        if not self._slots.acquire(timeout=self.config.busy_seconds):
            raise HttpError(503, "the service is busy; try again in a few seconds.", retry_after=5)
        try:
            yield
        finally:
            self._slots.release()

    # ------------------------------------------------------------------------------------------------ searching

    def query_of_tracklet(self, name: str) -> Query:
        """Return the query of a tracklet of the store.

        Raises:
            HttpError: 404 there is none.
        """
        found = self.tracklet(name)
        return Query(name, found.vector[0], name, str(found.camera[0]), int(found.start[0]), int(found.end[0]))

    def query_of_upload(
        self, upload: Upload, owner: str, *, box: tuple[float, float, float, float] | None = None, camera: str = ""
    ) -> CachedQuery:
        """Compute the feature of an uploaded image and keep it for `ServeConfig.query_minutes`."""
        image = upload.cut(box)
        self.check_cameras([camera] if camera else [])
        with self.turn():
            query = self.store.query(image, camera=camera)
        small = image.copy()
        small.thumbnail((_SIDE, _SIDE))
        return self.queries.put(owner, replace(query, name="upload"), self.encode(small))

    def cached_query(self, key: str, owner: str) -> CachedQuery:
        """Return a query that was uploaded before.

        Raises:
            HttpError: 404 it is unknown, another user's or too old.
        """
        found = self.queries.get(key, owner)
        if found is None:
            raise HttpError(404, "the query image is no longer kept; upload it again.")
        return found

    def search(self, query: Query, selection: Selection, config: SearchConfig) -> SearchResult:
        """Search the store.

        Raises:
            HttpError: 404 an unknown camera; 422 the filters contradict each other; 503 too many searches at once.
        """
        self.check(selection)
        if query.camera and query.tracklet and not config.same_camera and set(selection.cameras) == {query.camera}:
            raise HttpError(
                422, f"camera {query.camera!r} is the query's own, whose tracklets are left out; add same_camera=true."
            )
        where = make_filter(**selection.__dict__)
        with self.turn():
            return search_tracklets(self.store.vectors, query, where, config, self.store.threshold())

    # ------------------------------------------------------------------------------------------------ reading

    def check(self, selection: Selection) -> None:
        """Raise unless the cameras exist and the interval is not empty.

        Raises:
            HttpError: 404 or 422.
        """
        self.check_cameras([*selection.cameras, *selection.not_cameras])
        if selection.start is not None and selection.end is not None and selection.start >= selection.end:
            raise HttpError(422, "the interval of time is empty; `start` must be before `end`.")

    def check_cameras(self, names: Sequence[str]) -> None:
        """Raise unless all cameras exist.

        Raises:
            HttpError: 404.
        """
        known = self.cameras() if names else {}
        for name in names:
            if name not in known:
                near = f"; did you mean {nearest_name(name, known)!r}" if known else ""
                raise HttpError(404, f"camera {name!r} is not in the store{near}.")

    def cameras(self) -> dict[str, Camera]:
        """Cameras by name."""
        return self.store.cameras()

    def attributes(self) -> dict[str, list[str]]:
        """Colours and types that the model of the store tells apart."""
        labels = self.store.embedder.backend.facts.labels
        return {"colors": list(labels.get("color", ())), "vehicle_types": list(labels.get("vehicle_type", ()))}

    def tracklet(self, name: str, *, crops: bool = False) -> TrackletBatch:
        """Return one tracklet.

        Raises:
            HttpError: 404 there is none.
        """
        found = self.store.vectors.fetch([name], crops=crops) if _is_text(name) else ()
        if not len(found):
            raise HttpError(404, f"tracklet {name[:100]!r} is not in the store.")
        assert isinstance(found, TrackletBatch)
        return found

    def tracklets(
        self, selection: Selection, *, order: ListOrder = "id", after: str = "", limit: int = PAGE
    ) -> TrackletPage:
        """Return the first `limit` tracklets of a list, or those that follow the page whose `next` is `after`.

        Raises:
            HttpError: 404 an unknown camera; 422 an empty interval, or `after` is of no page in this order.
        """
        self.check(selection)
        where, vectors = make_filter(**selection.__dict__), self.store.vectors
        start, slash, name = after.partition("/") if order == "time" else ("0", "/", after)
        if after and not (slash and _is_text(name) and _TIME.fullmatch(start) and -(2**63) <= int(start) < 2**63):
            raise HttpError(422, "`after` is of no page in this order; give the `next` of the page before.")
        if order == "time":
            found = vectors.list_by_time(where, after=(int(start), name) if after else None, limit=limit)
        else:
            found = next(iter(vectors.scan(where, after=name, limit=limit)), vectors.fetch([]))
        if len(found) < limit:
            return TrackletPage(found, None)
        last = str(found.id[-1])
        return TrackletPage(found, f"{found.start[-1]}/{last}" if order == "time" else last)

    def crop(self, name: str, number: int) -> tuple[StoredCrop, Picture]:
        """Return a crop of a tracklet and its image as it leaves the service; number 0 is the best.

        Raises:
            HttpError: 404 there is none.
        """
        found = self.tracklet(name, crops=True)
        crops = (found.crops or [[]])[0]
        if not 0 <= number < len(crops):
            raise HttpError(404, f"tracklet {name[:100]!r} has crops 0 to {len(crops) - 1}.")
        return crops[number], self.picture(crops[number].jpeg)

    # ------------------------------------------------------------------------------------------------ images

    def picture(self, jpeg: bytes) -> Picture:
        """Return a stored JPEG as it leaves the service: with blurred plates if the settings say so."""
        tag = hashlib.sha256(jpeg).hexdigest()[:32]
        if not self.config.blur:
            return Picture(jpeg, f'"{tag}"')
        with self._guard:
            found = self._blurred.get(tag)
        if found is None:
            with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
                found = Picture(self.encode(image.convert("RGB")), f'"{tag}-{self.config.blur}"')
            with self._guard:
                self._blurred[tag] = found
                while sum(len(kept.jpeg) for kept in self._blurred.values()) > BLURRED:
                    self._blurred.popitem(last=False)
        return found

    def forget_images(self, *, uploads: bool = False) -> None:
        """Forget blurred crops, which are only a cache, and with `uploads` all uploaded images."""
        with self._guard:
            self._blurred.clear()
        if uploads:
            self.queries.clear()

    def encode(self, image: Image.Image) -> bytes:
        """Encode an RGB image as a JPEG that may leave the service."""
        if self.config.blur:
            image = BLURS[self.config.blur](image)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=88)
        return file.getvalue()


def parse_time(text: str | None, name: str, zone: str) -> float | None:
    """Return UTC seconds of an ISO 8601 time, which is in `zone` if it names none, or of seconds since 1970.

    Raises:
        HttpError: 422 it is neither.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp()
        except (ValueError, OverflowError):
            seconds = np.nan
    if not _EARLIEST <= seconds < _LATEST:
        raise HttpError(422, f"`{name}` is {text[:40]!r}, which is no time; write it as 2026-05-01T12:00:00.")
    return seconds


def parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    """Return x1, y1, x2, y2 of a text.

    Raises:
        HttpError: 422 it is no box.
    """
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise HttpError(422, f"`box` is {text[:40]!r}, which is no box; write it as x1,y1,x2,y2 in pixels.")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def search_config(**settings: object) -> SearchConfig:
    """Build the settings of a search.

    Raises:
        HttpError: 422 a value is out of range.
    """
    try:
        return SearchConfig(**settings)  # type: ignore[arg-type]  # checked by SearchConfig
    except InputError as error:
        raise HttpError(422, str(error)) from None


def _is_text(name: str) -> bool:
    """Whether a text can be an id: engines need not be asked for others."""
    try:
        return 0 < len(name.encode()) <= LONGEST_TEXT and "\0" not in name
    except UnicodeEncodeError:
        return False
