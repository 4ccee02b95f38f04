"""Presets of simulated worlds, for `vreid simulate --preset NAME`.

A preset is plain data; a variant is `dataclasses.replace(PRESETS["demo"], train_identities=300)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vreid.errors import InputError, named
from vreid.ranges import bounds, check_settings, in_range

SIMULATOR_VERSION = 2
"""Simulator version, incremented whenever a preset and seed give other bytes; stored in data sets and results."""

PRETRAINING_SEED = 424242
"""Seed reserved for the world that the shipped weights are pretrained on (`vreid.recipes.pretrain`)."""
PRETRAINING = "pretrain"
"""Preset of the pretraining world."""

FIRST_NEW_CAMERA = 41
"""Number of the new scene's first camera, as in CityFlowV2-ReID, whose new scene is c041..c046."""


@dataclass(frozen=True)
class Scene:
    """A district with its own weather and light: `cameras` cameras under one scenario of `camera.SCENARIOS`."""

    scenario: str
    cameras: int


@dataclass(frozen=True)
class Preset:
    """Configuration of a simulated world, without the seed.

    Training identities pass all `scenes`. The test has two equivalent parts: `test_identities` identities at the
    cameras of the last of `scenes` (seen), and as many others at the cameras of `new_scene` (new), which have no
    training images unless `label_new_scene` is set. Without `new_scene` there is only the first part.

    Attributes:
        name: name of the preset.
        scenes: scenes with training images, in the order of their camera numbers.
        new_scene: scene of the new scenario, with as many cameras as the last of `scenes`; None: no new scene.
        train_identities: number of training vehicles over all `scenes`.
        test_identities: number of test vehicles in each of the two parts of the test.
        synthetic_identities: number of vehicles of the synthetic set.
        synthetic_images: images per synthetic vehicle.
        cameras_per_trip: minimum and maximum number of cameras that a vehicle passes.
        train_frames: minimum and maximum number of images of a training tracklet.
        test_frames: the same for test tracklets, including the query image; at least 2.
        longest_side: side of the largest images in pixels; distant vehicles give smaller ones.
        models: number of car models of each vehicle type, shared by all splits.
        bystanders: number of other vehicles in the images that belong to no identity.
        look_alike_share: probability that an identity copies type, colour and model of an earlier one of its split.
        look_alike_group: maximum number of identities of a split with the same type, colour and model.
        motorcycle_share: probability that an identity is a motorcycle, the twelfth type.
        label_new_scene: add training images of further identities at the cameras of the new scene, as many per camera
            as at other training cameras; all other images stay bit-identical.
        background: False renders vehicles on flat grey; poses and boxes do not change.
        plate: False leaves licence plates blank.
        looseness: margin of the given boxes, as a factor of each camera's default (3 to 16 % of the vehicle's width and
            height in total); vehicles, cameras and trips do not change.
    """

    name: str
    scenes: tuple[Scene, ...]
    new_scene: Scene | None
    train_identities: int = field(metadata=bounds(least=1))
    test_identities: int = field(metadata=bounds(least=1))
    synthetic_identities: int = field(metadata=bounds(least=0))
    synthetic_images: int = field(metadata=bounds(least=0))
    cameras_per_trip: tuple[int, int] = field(metadata=bounds(least=2, ascending=True))
    train_frames: tuple[int, int] = field(metadata=bounds(least=1, ascending=True))
    test_frames: tuple[int, int] = field(metadata=bounds(least=2, ascending=True))
    longest_side: int = field(metadata=bounds(least=16, most=1024))
    models: int = field(metadata=bounds(least=1))
    bystanders: int = field(metadata=bounds(least=0))
    look_alike_share: float = in_range(0.5, least=0, most=1)
    look_alike_group: int = in_range(3, least=1)
    motorcycle_share: float = in_range(0.0, least=0, most=1)
    label_new_scene: bool = False
    background: bool = True
    plate: bool = True
    looseness: float = in_range(1.0, least=0, most=20)

    def __post_init__(self) -> None:
        check_settings(self, f"preset {self.name!r}: ")
        new = () if self.new_scene is None else (self.new_scene,)
        fewest = min((scene.cameras for scene in (*self.scenes, *new)), default=0)
        for wrong, fix in (
            (
                not 1 <= len(self.seen_cameras) < FIRST_NEW_CAMERA,
                f"scenes must hold 1 to {FIRST_NEW_CAMERA - 1} cameras in all",
            ),
            (
                any(scene.cameras != there.cameras for scene in new for there in self.scenes[-1:]),
                "new_scene must have as many cameras as the last of scenes",
            ),
            (self.label_new_scene and not new, "label_new_scene needs a new_scene"),
            (
                self.cameras_per_trip[1] > fewest,
                f"cameras_per_trip must not exceed the {fewest} cameras of the smallest scene",
            ),
        ):
            if wrong:
                raise InputError(f"preset {self.name!r}: {fix}.")

    @property
    def seen_cameras(self) -> tuple[str, ...]:
        """Names of the training cameras, c001 and on."""
        return tuple(f"c{number:03d}" for number in range(1, 1 + sum(scene.cameras for scene in self.scenes)))

    @property
    def new_cameras(self) -> tuple[str, ...]:
        """Names of the new scene's cameras, c041 and on."""
        count = self.new_scene.cameras if self.new_scene else 0
        return tuple(f"c{FIRST_NEW_CAMERA + number:03d}" for number in range(count))


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="tiny",
            scenes=(Scene("day_b", 2), Scene("day_a", 2)),
            new_scene=Scene("night", 2),
            train_identities=12,
            test_identities=4,
            synthetic_identities=12,
            synthetic_images=2,
            cameras_per_trip=(2, 2),
            train_frames=(2, 2),
            test_frames=(2, 4),
            longest_side=64,
            models=3,
            bystanders=2,
        ),
        Preset(
            name="demo",
            scenes=(Scene("day_b", 6), Scene("day_a", 6)),
            new_scene=Scene("night", 6),
            train_identities=300,
            test_identities=44,
            synthetic_identities=300,
            synthetic_images=3,
            cameras_per_trip=(3, 4),
            train_frames=(1, 2),
            test_frames=(2, 3),
            longest_side=128,
            models=12,
            bystanders=12,
        ),
        Preset(
            name="smoke",
            scenes=(Scene("day_b", 6), Scene("day_a", 6)),
            new_scene=Scene("night", 6),
            train_identities=240,
            test_identities=40,
            synthetic_identities=300,
            synthetic_images=4,
            cameras_per_trip=(3, 4),
            train_frames=(1, 3),
            test_frames=(4, 8),
            longest_side=128,
            models=12,
            bystanders=12,
        ),
        Preset(
            name="city",
            scenes=(Scene("day_a", 10), Scene("day_b", 10), Scene("day_c", 8), Scene("day_d", 6), Scene("day_a", 6)),
            new_scene=Scene("night", 6),
            train_identities=1500,
            test_identities=250,
            synthetic_identities=1362,
            synthetic_images=8,
            cameras_per_trip=(3, 5),
            train_frames=(2, 6),
            test_frames=(3, 7),
            longest_side=256,
            models=40,
            bystanders=24,
        ),
    )
}
"""All presets by name."""


def check_seed(seed: int, preset: Preset | str | None = None) -> None:
    """Raise if `seed` is negative or reserved for pretraining the shipped weights.

    Raises:
        InputError: `seed` is negative, or that of pretraining for a world that is not of the pretraining `preset`.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more.")
    if seed == PRETRAINING_SEED and getattr(preset, "name", preset) != PRETRAINING:
        raise InputError(f"seed {seed} is reserved for pretraining the simulated weights; give another.")


def preset_named(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    return named("preset", PRESETS, name)
