"""Camera scenarios and fixed cameras: mounting, view, lens and sensor.

World frame of a camera: metres, z up, ground z = 0, the road passes the origin. Angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.light import LightSpec

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Scenario:
    """Weather, time of day and mounting shared by the cameras of a scene."""

    light: LightSpec
    exposure: float = 1.0  # multiplies the light before the tone curve
    lamps: float = 0.0  # brightness of head and tail lamps
    wet: float = 0.0  # 0 dry road .. 1 mirror
    rain: float = 0.0  # strength of rain streaks
    glare: float = 0.0  # strength of the bloom around bright lamps
    cast: float = 0.0  # strength of the street-lamp colour casts, which differ from camera to camera
    noise: float = 1.0  # factor on the sensor noise
    height: tuple[float, float] = (3.8, 10.0)  # metres
    distance: tuple[float, float] = (11.0, 24.0)  # metres on the ground to the point looked at
    lens: tuple[float, float] = (0.75, 1.4)  # focal length over frame width
    unseen: bool = False  # true: only in the test split


SCENARIOS: dict[str, Scenario] = {  # sun elevation, azimuth (radians), sun, sky, overcast, warmth
    "day_a": Scenario(LightSpec(0.90, 0.6, 1.20, 0.40, 0.15, 0.10)),
    "day_b": Scenario(LightSpec(0.80, 2.0, 0.12, 0.98, 0.95, 0.10)),
    "day_c": Scenario(LightSpec(0.38, 3.6, 1.40, 0.46, 0.15, 0.75)),
    "day_d": Scenario(LightSpec(0.65, 5.2, 0.75, 0.60, 0.55, 0.10)),
    # Chosen so that a model trained on day cameras loses far more than ten points of mAP here, but a model trained with
    # labels from these cameras does not (docs/results/measurements.md).
    "night": Scenario(
        LightSpec(1.05, 0.0, 0.62, 0.34, 0.0, 0.0, night=True),
        exposure=1.15,
        lamps=1.0,
        wet=0.5,
        rain=0.15,
        glare=0.25,
        cast=0.3,
        height=(4.5, 10.0),
        unseen=True,
    ),
}
# Linear gains of lamp kinds: sodium orange, mercury green, LED blue, tungsten amber, metal-halide magenta.
LAMP_CASTS: tuple[tuple[float, float, float], ...] = (
    (1.55, 0.95, 0.42),
    (0.72, 1.20, 0.80),
    (0.70, 0.95, 1.50),
    (1.35, 1.02, 0.62),
    (1.15, 0.86, 1.12),
)


@dataclass(frozen=True)
class Lane:
    """A path that vehicles follow: a start and pieces of constant curvature (1/metre, positive to the left)."""

    x: float
    y: float
    heading: float
    pieces: tuple[tuple[float, float], ...]  # (length in metres, curvature)

    @property
    def length(self) -> float:
        """Metres from start to end."""
        return sum(length for length, _ in self.pieces)

    def pose(self, s: float) -> tuple[float, float, float]:
        """Return x, y and heading at `s` metres along the lane (a straight run-on beyond both ends)."""
        x, y, heading = self.x, self.y, self.heading
        if s < 0:
            return x + s * math.cos(heading), y + s * math.sin(heading), heading
        for length, curvature in self.pieces:
            step = min(s, length)
            turn = curvature * step
            chord = step if abs(turn) < 1e-9 else 2 * math.sin(turn / 2) / curvature
            x += chord * math.cos(heading + turn / 2)
            y += chord * math.sin(heading + turn / 2)
            heading += turn
            s -= step
            if s <= 0:
                return x, y, heading
        return x + s * math.cos(heading), y + s * math.sin(heading), heading

    def between(self, start: float, end: float) -> Lane:
        """Return the part of the lane from `start` to `end` metres."""
        x, y, heading = self.pose(start)
        pieces, at = [], 0.0
        for length, curvature in self.pieces:
            low, high = max(start, at), min(end, at + length)
            if high > low:
                pieces.append((high - low, curvature))
            at += length
        return Lane(x, y, heading, tuple(pieces))


@dataclass(frozen=True)
class RoadStrip:
    """A road of constant width whose middle line passes (x, y) in direction `heading` with `curvature`."""

    x: float
    y: float
    heading: float
    curvature: float
    lanes: int
    lane_width: float

    @property
    def half_width(self) -> float:
        """Metres from the middle line to the kerb."""
        return self.lanes * self.lane_width / 2

    def coordinates(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Float, Float]:
        """Return metres along the road and metres to the left of its middle line."""
        c, s = math.cos(self.heading), math.sin(self.heading)
        dx, dy = x - self.x, y - self.y
        along, left = dx * c + dy * s, dy * c - dx * s
        if abs(self.curvature) > 1e-6:
            radius = 1 / self.curvature
            sign = math.copysign(1.0, radius)
            angle = np.arctan2(along * sign, (radius - left) * sign)
            left = radius - sign * np.hypot(along, radius - left)
            along = angle * radius
        return along.astype(np.float32), left.astype(np.float32)

    def lane(self, left: float, *, forwards: bool, reach: float) -> Lane:
        """Return the lane `left` metres beside the middle line, `reach` metres to both sides of (x, y)."""
        factor = 1 - self.curvature * left
        curvature = self.curvature / factor
        start = Lane(self.x, self.y, self.heading, ((reach, self.curvature),))
        back = Lane(self.x, self.y, self.heading + math.pi, ((reach, -self.curvature),))
        if forwards:
            x, y, heading = back.pose(reach)
            heading += math.pi
            return Lane(
                x - left * math.sin(heading), y + left * math.cos(heading), heading, ((2 * reach * factor, curvature),)
            )
        x, y, heading = start.pose(reach)
        return Lane(
            x - left * math.sin(heading),
            y + left * math.cos(heading),
            heading + math.pi,
            ((2 * reach * factor, -curvature),),
        )


@dataclass(frozen=True)
class Sensor:
    """Lens and sensor parameters; lengths in pixels of a 128-pixel crop."""

    exposure: float
    balance: tuple[float, float, float]  # linear gains
    bend: tuple[float, float, float]  # per-channel exponents
    gamma: float
    contrast: float
    saturation: float
    blur: float
    noise: float
    haze: float
    sharpen: float


@dataclass(frozen=True)
class CameraSpec:
    """A fixed camera with its static surroundings."""

    scenario: str
    lanes: tuple[Lane, ...]  # the stretches on which vehicles are seen well
    ways: tuple[Lane, ...]  # the whole lanes that these are parts of
    frame_size: tuple[int, int]  # width, height in pixels
    jpeg_quality: int
    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    focal: float  # pixels
    roll: float
    crop_scale: float  # pixels of a 128-pixel crop per pixel of the frame
    looseness: float  # margin of given boxes, share of the box
    sensor: Sensor
    roads: tuple[RoadStrip, ...]
    seed: int  # seed of the surroundings: asphalt, buildings, trees
    pole: tuple[float, float, float] | None  # x, y, diameter of a pole in front


class Pinhole:
    """A pinhole camera: x right, y down, pixels of a frame whose centre is the principal point."""

    def __init__(
        self,
        position: tuple[float, float, float],
        look_at: tuple[float, float, float],
        focal: float,
        frame_size: tuple[int, int],
        roll: float = 0.0,
    ) -> None:
        forward = np.subtract(look_at, position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        c, s = math.cos(roll), math.sin(roll)
        self.position = np.asarray(position, np.float32)
        self.axes = np.stack([c * right + s * down, c * down - s * right, forward]).astype(np.float32)
        self.focal = focal
        self.centre = np.array(frame_size, np.float32) / 2

    def project(self, points_N3: NDArray[np.floating]) -> Float:
        """Return (N, 3): x, y in pixels and nearness (1 / depth; 0 where the point is not in front)."""
        local = np.einsum("nk,ck->nc", points_N3.astype(np.float32) - self.position, self.axes)
        depth = local[:, 2]
        front = depth > 0.3
        nearness = np.where(front, 1 / np.where(front, depth, 1), 0).astype(np.float32)
        pixels = local[:, :2] * nearness[:, None] * np.float32(self.focal) + self.centre
        return np.concatenate([pixels, nearness[:, None]], axis=1)

    def rays(self, x: Float, y: Float) -> Float:
        """Return (3, N) directions through pixels, scaled to unit depth (not unit length)."""
        a, b = (x - self.centre[0]) / np.float32(self.focal), (y - self.centre[1]) / np.float32(self.focal)
        right, down, forward = self.axes
        return np.stack([a * right[k] + b * down[k] + forward[k] for k in range(3)])


def _sample_sensor(rng: np.random.Generator, scenario: Scenario, lamp: int | None) -> Sensor:
    gains = np.exp(rng.normal(0, 1, 3) * (0.10, 0.04, 0.12))
    bend = np.exp(rng.normal(0, 0.05, 3))
    if scenario.cast:
        lamp = int(rng.integers(len(LAMP_CASTS))) if lamp is None else lamp % len(LAMP_CASTS)
        cast = np.array(LAMP_CASTS[lamp]) * np.exp(rng.normal(0, 0.08, 3))
        gains = gains * cast**scenario.cast
        bend = np.exp(rng.normal(0, 0.05 + 0.05 * scenario.cast, 3))
    return Sensor(
        exposure=float(rng.uniform(1.05, 1.55) * scenario.exposure),
        balance=(float(gains[0]), float(gains[1]), float(gains[2])),
        bend=(float(bend[0]), float(bend[1]), float(bend[2])),
        gamma=float(rng.uniform(1.95, 2.4)),
        contrast=float(rng.uniform(0.95, 1.25)),
        saturation=float(rng.uniform(0.75, 1.25)),
        blur=float(rng.choice([0.35, 0.5, 0.7, 0.95])),
        noise=float(rng.uniform(0.003, 0.014) * scenario.noise),
        haze=float(rng.choice([0.0, rng.uniform(0, 0.12)])),
        sharpen=float(rng.choice([0.0, 0.5, 1.0])),
    )


def _visible_part(lane: Lane, pinhole: Pinhole, frame: tuple[int, int], nearest: float, farthest: float) -> Lane | None:
    """Return the longest stretch of a lane on which a car stands inside the frame at a useful distance."""
    steps = np.arange(0, lane.length, 0.5)
    poses = np.array([lane.pose(float(s)) for s in steps])
    pixels = pinhole.project(np.column_stack([poses[:, :2], np.full(len(steps), 0.7)]))
    margin = 1.6 * pinhole.focal * pixels[:, 2]  # a car's half length in pixels, roughly
    inside = (pixels[:, 2] > 1 / farthest) & (pixels[:, 2] < 1 / nearest)
    for axis in (0, 1):
        inside &= (pixels[:, axis] > margin) & (pixels[:, axis] < frame[axis] - margin)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    if len(edges) == 0:
        return None
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    start, end = float(starts[best]) * 0.5, float(ends[best] - 1) * 0.5
    return lane.between(start, end) if end - start >= 9 else None


def _lanes_of(rng: np.random.Generator, road: RoadStrip, side: RoadStrip | None) -> list[Lane]:
    """Return the lanes of a road (right-hand traffic) and, with a side road, a turn into it."""
    both_ways = rng.random() < 0.6 and road.lanes > 1
    lanes, forward = [], []
    for index in range(road.lanes):
        left = (index + 0.5) * road.lane_width - road.half_width
        forwards = not both_ways or index < road.lanes / 2
        lanes.append(road.lane(left, forwards=forwards, reach=60))
        forward += [lanes[-1]] if forwards else []
    if side is not None:
        turn = math.remainder(side.heading - road.heading, 2 * math.pi)
        turning = _turn(
            forward[0 if turn < 0 else -1],
            side.lane(-side.lane_width / 2, forwards=True, reach=60),
            float(rng.uniform(6.5, 11.0)),
        )
        lanes += [turning] if turning is not None else []
    return lanes


def _turn(start: Lane, end: Lane, radius: float) -> Lane | None:
    """Return the lane that turns from one straight lane into another along an arc; None if they do not cross."""
    turn = math.remainder(end.heading - start.heading, 2 * math.pi)
    dx, dy = end.x - start.x, end.y - start.y
    crossing = (dx * math.sin(end.heading) - dy * math.cos(end.heading)) / math.sin(turn)
    before = crossing - radius * math.tan(abs(turn) / 2)
    if before < 5:
        return None
    return replace(start, pieces=((before, 0.0), (abs(turn) * radius, math.copysign(1 / radius, turn)), (45.0, 0.0)))


def _car_pixels(lane: Lane, pinhole: Pinhole) -> float:
    """Return the longest side in frame pixels of a usual car's box halfway along a lane."""
    x, y, heading = lane.pose(lane.length / 2)
    corners = np.array([(i, j, k) for i in (-2.25, 2.25) for j in (-0.9, 0.9) for k in (0.0, 1.45)])
    cos, sin = math.cos(heading), math.sin(heading)
    world = np.stack(
        [corners[:, 0] * cos - corners[:, 1] * sin + x, corners[:, 0] * sin + corners[:, 1] * cos + y, corners[:, 2]], 1
    )
    pixels = pinhole.project(world)[:, :2]
    return float((pixels.max(axis=0) - pixels.min(axis=0)).max())


def _attempt(rng: np.random.Generator, name: str, lamp: int | None) -> CameraSpec | None:
    scenario = SCENARIOS[name]
    heading = rng.uniform(0, 2 * math.pi)
    curvature = float(rng.choice([0.0, 1.0, -1.0], p=[0.55, 0.225, 0.225]) / rng.uniform(28, 90))
    road = RoadStrip(0.0, 0.0, heading, curvature, int(rng.integers(2, 5)), rng.uniform(3.1, 3.6))
    side = None
    if curvature == 0.0 and rng.random() < 0.6:
        at, angle = rng.uniform(-9, 9), rng.choice([-1, 1]) * rng.uniform(1.2, 1.9)
        side = RoadStrip(at * math.cos(heading), at * math.sin(heading), heading + angle, 0.0, 2, rng.uniform(3.0, 3.5))
    frame = ((1920, 1080), (1280, 960), (1280, 720))[int(rng.integers(3))]
    focal = frame[0] * rng.uniform(*scenario.lens)
    height, distance = rng.uniform(*scenario.height), rng.uniform(*scenario.distance)
    kind = rng.choice(3, p=[0.45, 0.35, 0.20])  # along the road, oblique, across it
    view = rng.uniform(*((0.1, 0.5), (0.5, 1.1), (1.1, 1.57))[kind]) * rng.choice([-1, 1])
    azimuth = heading + rng.choice([0.0, math.pi]) + view
    position = (math.cos(azimuth) * distance, math.sin(azimuth) * distance, height)
    look_at = (rng.uniform(-1, 1), rng.uniform(-1, 1), 0.4)
    roll = rng.normal(0, 0.022)
    pinhole = Pinhole(position, look_at, focal, frame, roll)
    slant = math.hypot(distance, height)
    ways = _lanes_of(rng, road, side)
    parts = [(way, _visible_part(way, pinhole, frame, 0.66 * slant, 1.55 * slant)) for way in ways]
    usable = tuple(part for _, part in parts if part is not None)
    pole = None
    if rng.random() < 0.35:
        share, aside = rng.uniform(0.25, 0.5), rng.uniform(-1.6, 1.6)
        pole = (
            position[0] * share - math.sin(azimuth) * aside,
            position[1] * share + math.cos(azimuth) * aside,
            rng.uniform(0.10, 0.16),
        )
    if not usable:
        return None
    return CameraSpec(
        scenario=name,
        lanes=usable,
        ways=tuple(way for way, part in parts if part is not None),
        frame_size=frame,
        jpeg_quality=int(rng.integers(45, 90)),
        position=position,
        look_at=look_at,
        focal=focal,
        roll=roll,
        crop_scale=float(rng.uniform(84, 112) / np.mean([_car_pixels(lane, pinhole) for lane in usable])),
        looseness=rng.uniform(0.03, 0.16),
        sensor=_sample_sensor(rng, scenario, lamp),
        roads=(road,) if side is None else (road, side),
        seed=int(rng.integers(2**31)),
        pole=pole,
    )


def sample_camera(rng: np.random.Generator, scenario: str, lamp: int | None = None) -> CameraSpec:
    """Draw a fixed camera of a scenario (KeyError if there is none of that name) that sees at least one lane well.

    `lamp` is the index of its street-lamp kind (modulo the number of kinds); None draws one.
    """
    while True:
        camera = _attempt(rng, scenario, lamp)
        if camera is not None:
            return camera
