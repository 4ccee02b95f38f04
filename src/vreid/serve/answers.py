"""From values of the store to the models of the API."""

from __future__ import annotations

from urllib.parse import quote

from vreid.data.cameras import Camera
from vreid.serve.audit import AuditEntry
from vreid.serve.cases import VehicleCase
from vreid.serve.live import Watch, notice_facts
from vreid.serve.query_cache import CachedQuery
from vreid.serve.schemas import (
    AuditAnswer,
    CameraAnswer,
    CaseAnswer,
    DecisionAnswer,
    HitAnswer,
    NoticeAnswer,
    PointAnswer,
    QueryAnswer,
    SearchAnswer,
    ThresholdAnswer,
    TrackletAnswer,
    WatchAnswer,
)
from vreid.store.confidence import SearchThreshold
from vreid.store.interface import TrackletBatch
from vreid.store.search import Hit, Query, SearchResult, iso_time, seconds_of

API = "/api/v1"
"""Prefix of the paths of this version of the API."""
_INTERNAL = ("signature", "source", "listed_in")  # facts that name files of the operator


def crop_path(tracklet: str, number: int = 0) -> str:
    """Path of a crop's image."""
    return f"{API}/crops/{number}/{quote(tracklet, safe='/')}"


def upload_path(key: str) -> str:
    """Path of the image of an uploaded query."""
    return f"{API}/uploads/{quote(key, safe='')}/image"


def tracklet_answers(batch: TrackletBatch) -> list[TrackletAnswer]:
    """Answers of N tracklets."""
    return [
        TrackletAnswer(
            id=str(batch.id[row]),
            camera=str(batch.camera[row]),
            start=iso_time(seconds_of(int(batch.start[row]))),
            end=iso_time(seconds_of(int(batch.end[row]))),
            color=str(batch.color[row]),
            vehicle_type=str(batch.vehicle_type[row]),
            crops=[crop_path(str(batch.id[row]), number) for number in range(_crops(batch, row))],
            facts=_public(batch.facts[row]),
        )
        for row in range(len(batch))
    ]


def _crops(batch: TrackletBatch, row: int) -> int:
    if batch.crops is not None:
        return len(batch.crops[row])
    count = batch.facts[row].get("crops", 1)
    return count if isinstance(count, int) and 0 < count <= 100 else 1


def _public(facts: object) -> dict[str, object]:
    return {name: value for name, value in dict(facts).items() if name not in _INTERNAL}  # type: ignore[call-overload]


def hit_answer(hit: Hit) -> HitAnswer:
    """Answer of one hit."""
    found = hit.as_dict() | {"crop": crop_path(hit.tracklet), "facts": _public(hit.facts)}
    return HitAnswer(**found)


def search_answer(result: SearchResult, query: Query, upload: CachedQuery | None) -> SearchAnswer:
    """Answer of a search for a tracklet, or for an upload."""
    about = QueryAnswer(
        tracklet=query.tracklet or None,
        upload=upload.key if upload else None,
        camera=query.camera or None,
        image=upload_path(upload.key) if upload else crop_path(query.tracklet),
    )
    return SearchAnswer(
        query=about,
        hits=[hit_answer(hit) for hit in result.hits],
        candidates=result.candidates,
        threshold=threshold_answer(result.threshold),
        notes=list(result.notes),
    )


def threshold_answer(threshold: SearchThreshold | None) -> ThresholdAnswer | None:
    """Answer of a threshold."""
    if threshold is None:
        return None
    return ThresholdAnswer(
        tracklet=PointAnswer(**threshold.tracklet.__dict__),
        image=PointAnswer(**threshold.image.__dict__),
        source=threshold.source,
        tracklets=threshold.tracklets,
        answers=threshold.answers,
        sentence=f"{threshold}.",
    )


def camera_answer(camera: Camera, tracklets: int) -> CameraAnswer:
    """Answer of a camera with the number of its tracklets."""
    return CameraAnswer(
        name=camera.name,
        tracklets=tracklets,
        latitude=camera.latitude,
        longitude=camera.longitude,
        heading=camera.heading,
        time_zone=camera.zone or "UTC",
    )


def audit_answer(entry: AuditEntry) -> AuditAnswer:
    """Answer of an entry of the audit log."""
    return AuditAnswer(**(entry.__dict__ | {"time": iso_time(entry.time), "what": dict(entry.what)}))


def case_answer(case: VehicleCase) -> CaseAnswer:
    """Answer of a case."""
    return CaseAnswer(
        number=case.number,
        name=case.name,
        note=case.note,
        by=case.by,
        created=iso_time(case.created),
        confirmed=case.confirmed,
        rejected=case.rejected,
        decisions=[DecisionAnswer(**(one.__dict__ | {"time": iso_time(one.time)})) for one in case.decisions],
    )


def watch_answer(watch: Watch) -> WatchAnswer:
    """Answer of a watched vehicle."""
    return WatchAnswer(
        number=watch.number,
        name=watch.name,
        tracklet=watch.tracklet or None,
        image=crop_path(watch.tracklet) if watch.tracklet else f"{API}/watches/{watch.number}/image",
        webhook=watch.webhook,
        by=watch.by,
        created=iso_time(watch.created),
        sightings=[
            NoticeAnswer(**notice_facts(one), crop=crop_path(one.tracklet)) for one in reversed(watch.sightings)
        ],
    )
