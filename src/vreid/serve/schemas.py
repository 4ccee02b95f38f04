"""What the API answers and takes, as models of pydantic with examples."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TrackletId = Annotated[str, StringConstraints(min_length=1, max_length=512), Field(examples=["north/17"])]
"""Id of a tracklet."""
Time = Annotated[str | None, Field(examples=["2026-05-01T07:12:03.400Z"])]
"""ISO 8601 in UTC; null unknown."""


class Answer(BaseModel):
    """Base of the models: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


NEXT_BEFORE: Any = Field(description="Give it as `before` to get the next page; null: there is none.")


class ErrorAnswer(Answer):
    """What is wrong, in one sentence."""

    error: str = Field(examples=["tracklet 'north/99' is not in the store."])


class TrackletAnswer(Answer):
    """One tracklet: a vehicle in the view of a camera, from its first frame to its last."""

    id: TrackletId
    camera: str = Field(examples=["north"])
    start: Time
    end: Time
    color: str = Field(description='As the model sees it; "" unknown.', examples=["white"])
    vehicle_type: str = Field(description='As the model or the detector sees it; "" unknown.', examples=["van"])
    crops: list[str] = Field(description="Paths of its images, best first.", examples=[["/api/v1/crops/0/north/17"]])
    facts: dict[str, Any] = Field(description="Confidences, orientation, source, number of boxes, ...")


class TrackletsAnswer(Answer):
    """A page of a list of tracklets."""

    tracklets: list[TrackletAnswer]
    next: str | None = Field(description="Give it as `after` to get the next page; null: there is none.")


class HitAnswer(Answer):
    """One tracklet that may show the vehicle of the query."""

    tracklet: TrackletId
    camera: str = Field(examples=["south"])
    start: Time
    end: Time
    distance: float = Field(description="Squared distance of the unit features, 0 to 4.", examples=[0.2143])
    relative_distance: float | None = Field(
        description="Distance divided by what other vehicles reach; decides.", examples=[0.5321]
    )
    decision: str = Field(description="MATCH, UNCERTAIN, NO MATCH, or empty without a threshold.", examples=["MATCH"])
    color: str = Field(examples=["white"])
    vehicle_type: str = Field(examples=["van"])
    crop: str = Field(description="Path of its best image.", examples=["/api/v1/crops/0/south/4"])
    facts: dict[str, Any]


class QueryAnswer(Answer):
    """What was searched: a tracklet, or an uploaded image that is kept for a while."""

    tracklet: str | None = Field(default=None, examples=["north/17"])
    upload: str | None = Field(default=None, description="Give it as `upload` to search again with other filters.")
    camera: str | None = Field(default=None, examples=["north"])
    image: str = Field(description="Path of the query's image.", examples=["/api/v1/crops/0/north/17"])


class PointAnswer(Answer):
    """Relative distances of MATCH and NO MATCH, and the share of wrong ones among the MATCHes."""

    match: float = Field(examples=[0.61])
    no_match: float = Field(examples=[0.93])
    false_match_share: float = Field(description="Estimated share of wrong MATCHes.", examples=[0.01])
    low: float = Field(description="Lower end of its 95 % interval.")
    high: float = Field(description="Upper end of its 95 % interval.")
    matches: int = Field(description="Number of MATCHes it was estimated on.")


class ThresholdAnswer(Answer):
    """What MATCH, UNCERTAIN and NO MATCH mean in this store."""

    tracklet: PointAnswer
    image: PointAnswer
    source: str = Field(examples=["this site, without labels"])
    tracklets: int = Field(description="Size of the store at calibration.")
    answers: int = Field(description="Number of labelled pairs.")
    sentence: str


class SearchAnswer(Answer):
    """Hits of a search, the most likely first."""

    query: QueryAnswer
    hits: list[HitAnswer]
    candidates: int = Field(description="Tracklets that the filters left.")
    threshold: ThresholdAnswer | None
    notes: list[str] = Field(description="Sentences on what limits the answer.")


class CameraAnswer(Answer):
    """One camera."""

    name: str = Field(examples=["north"])
    tracklets: int
    latitude: float | None = Field(examples=[52.517])
    longitude: float | None = Field(examples=[13.3889])
    heading: float | None = Field(description="Degrees clockwise from north.", examples=[180.0])
    time_zone: str = Field(examples=["Europe/Berlin"])


class CamerasAnswer(Answer):
    """All cameras."""

    cameras: list[CameraAnswer]


class HealthAnswer(Answer):
    """Whether the service can answer."""

    status: str = Field(examples=["ok"])
    version: str | None = Field(description="null without a token.")
    tracklets: int | None = Field(description="null without a token.")


class DeletedAnswer(Answer):
    """How many were deleted."""

    deleted: int


class AuditAnswer(Answer):
    """One entry of the audit log."""

    number: int
    time: Time
    who: str
    address: str
    action: str
    what: dict[str, Any]
    purpose: str


class AuditPage(Answer):
    """A page of the audit log, newest first."""

    entries: list[AuditAnswer]
    next: int | None = NEXT_BEFORE


Name = Annotated[str, StringConstraints(max_length=100, strip_whitespace=True), Field(examples=["grey van"])]
Note = Annotated[str, StringConstraints(max_length=2000)]


class DecisionAnswer(Answer):
    """What a user says about a tracklet."""

    tracklet: TrackletId
    same: bool | None = Field(description="Whether it shows the vehicle of the case; null: open.")
    other: str = Field(description="The tracklet that it was compared with; empty for an uploaded image.")
    by: str
    time: Time


class CaseAnswer(Answer):
    """One vehicle that is followed."""

    number: int = Field(examples=[17])
    name: str = Field(examples=["vehicle 17"])
    note: str
    by: str
    created: Time
    confirmed: list[str] = Field(description="Tracklets of the vehicle.")
    rejected: list[str] = Field(description="Tracklets of other vehicles.")
    decisions: list[DecisionAnswer] = Field(description="Oldest first; the last about a tracklet counts.")


class CasesAnswer(Answer):
    """A page of cases, the newest first."""

    cases: list[CaseAnswer]
    next: int | None = NEXT_BEFORE


class NewCase(Answer):
    """A case to open."""

    name: Name = ""
    note: Note = ""
    tracklet: str = Field(default="", max_length=512, description="First tracklet of the vehicle.")


class CaseChange(Answer):
    """What to change of a case; null leaves it."""

    name: Name | None = None
    note: Note | None = None


class NewDecision(Answer):
    """A decision about a tracklet."""

    tracklet: TrackletId
    same: bool | None = Field(description="true: confirm, false: reject, null: leave open.", examples=[True])
    other: str = Field(
        default="", max_length=512, description="The tracklet that it was compared with: the pair is kept as a label."
    )


class NewWatch(Answer):
    """A vehicle to watch: a tracklet, or an image that was uploaded before."""

    tracklet: str = Field(default="", max_length=512, examples=["north/17"])
    upload: str = Field(default="", max_length=100, description="Key of a search with an image.")
    name: Name = ""
    webhook: str = Field(
        default="", max_length=2000, description="URL that new sightings are posted to; needs the role admin."
    )


class NoticeAnswer(Answer):
    """A new sighting of a watched vehicle."""

    tracklet: TrackletId
    camera: str
    start: Time
    end: Time
    distance: float
    relative_distance: float | None
    found: Time
    sent: bool | None = Field(description="Whether the webhook has accepted it; null: there is none.")
    crop: str = Field(description="Path of its best image.")


class WatchAnswer(Answer):
    """A watched vehicle and its new sightings, the newest first."""

    number: int
    name: str
    tracklet: str | None
    image: str = Field(description="Path of its image.")
    webhook: str
    by: str
    created: Time
    sightings: list[NoticeAnswer]


class WatchesAnswer(Answer):
    """A page of watched vehicles, the newest first."""

    watches: list[WatchAnswer]
    next: int | None = NEXT_BEFORE


class FitAnswer(Answer):
    """The threshold, and whether it is being fitted again."""

    threshold: ThresholdAnswer | None
    answers: int = Field(description="Labelled pairs that are kept.")
    fitting: bool
