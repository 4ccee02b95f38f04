"""Scene groups: exclude candidates of cameras between which vehicles do not travel.

Groups are a property of the location, not of the model (DMT's code separates cameras 41 to 46 of CityFlow from all
others). They are given by the column `scene`, by camera names, or by labelled training images: training cameras that
share a vehicle form a group, and all cameras that do not occur in training form another one. They are never inferred
from unlabelled test images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Labels, Records, connected_cameras, joint_codes
from vreid.data.spellings import spelling
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.postprocessing.camera_verification import Masked
from vreid.retrieval.postprocessing.state import SearchState, joint_cameras

OTHERS = "*"
"""In a group: all cameras that are not named in any group."""
_NUMBER = re.compile(r"#(\d+)")
_LAST_NUMBER = re.compile(r"(\d+)\Z")
_SHOWN = 4
"""Maximum number of cameras of a group that are listed by name."""


@dataclass(frozen=True)
class SceneGroups:
    """Groups of cameras between which vehicles travel.

    Attributes:
        cameras: disjoint groups of camera names; (): the column `scene`. `#41` is the camera whose name ends in the
            number 41 (c041, 41, 0041), `*` all cameras that are not named. Without `*`, images of other cameras (or of
            unknown scenes) have no group and are never excluded.

    Raises:
        InputError: a camera is in two groups, or a group is empty.

    Example:
        >>> groups = SceneGroups((("#41", "#42"), ("*",)))
        >>> images = Records.of(path=["a", "b", "c"], camera=["c041", "42", "c007"])
        >>> groups.of(images, images)[0].tolist()
        [0, 0, 1]
    """

    cameras: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(tuple(group) for group in self.cameras))
        names = [name for group in self.cameras for name in group]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"scene groups: camera {twice} is named twice; put each camera in one group.")
        if not all(self.cameras) or "" in names:
            raise InputError("scene groups: a group is empty or a camera has no name; name the cameras of each group.")

    @classmethod
    def from_labels(cls, training: Records) -> SceneGroups:
        """Infer groups of training cameras that share vehicles, and one group of all cameras not seen in training.

        Synthetic images are ignored, because they do not show the location. All training cameras may form one group.

        Raises:
            InputError: no real image has both a camera and an identity.
        """
        groups = connected_cameras(_real(training))
        if not groups:
            raise InputError(
                "scene groups: no real training image has both a camera and an identity; name the groups, or give the "
                "column `scene`."
            )
        return cls((*groups, (OTHERS,)))

    @classmethod
    def for_images(cls, images: Records, training: Records | None) -> SceneGroups:
        """Use the column `scene` if all `images` have it, otherwise infer groups from labelled `training` images."""
        if training is None or images.scene.known.all():
            return cls()
        return cls.from_labels(training) if connected_cameras(_real(training)) else cls()

    def of(self, query: Records, gallery: Records) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the group of each query (Q,) and gallery image (G,), negative without a group.

        Raises:
            InputError: no image of a side has a group (or, with `*`, a camera), or the images spell the name of a
                camera differently.
        """
        if not self.cameras:
            sides = joint_codes(query.scene, gallery.scene)
            fix = (
                "give the column `scene`, name the cameras of each group, or give labelled training images of the same "
                "place (scene-groups=labels:SOURCE, vreid adapt --source SOURCE)"
            )
        else:
            if any(OTHERS in group for group in self.cameras):
                joint_cameras(query, gallery)
            sides = self._codes(query.camera), self._codes(gallery.camera)
            fix = "name the cameras as in the data, or disable scene groups"
        for name, codes in zip(("query", "gallery"), sides, strict=True):
            if not (codes >= 0).any():
                raise InputError(f"no {name} image has a scene group; {fix}.")
        return sides[0], sides[1]

    def describe(self, query: Records, gallery: Records) -> str:
        """Describe in a sentence the groups of these images and the number of excluded pairs.

        Raises:
            InputError: as `of`.
        """
        return self._described(query, gallery, *self.of(query, gallery))

    def _described(
        self, query: Records, gallery: Records, of_query: NDArray[np.int32], of_gallery: NDArray[np.int32]
    ) -> str:
        every = range(int(max(of_query.max(initial=-1), of_gallery.max(initial=-1))) + 1)
        column = "camera" if self.cameras else "scene"
        labels = [(codes, getattr(side, column)) for codes, side in ((of_query, query), (of_gallery, gallery))]
        listed = [self._listed(group, labels) for group in every]
        shown = " | ".join(filter(None, listed))
        removed = _pairs_apart(of_query, of_gallery)
        if not removed:
            return f"scene-groups: all images are of one group ({shown}), so nothing is excluded."
        pairs = len(query) * len(gallery)
        sentence = f"scene-groups: {removed:,} of {pairs:,} pairs of images are excluded, between the groups {shown}."
        wrong = _pairs_of_one_vehicle(query, gallery, of_query, of_gallery)
        if wrong:
            sentence += f" {wrong:,} of them show the same vehicle, so vehicles do travel between these groups."
        return sentence

    def _listed(self, group: int, sides: Sequence[tuple[NDArray[np.int32], Labels]]) -> str:
        """Format the cameras (or scenes) of a group that occur in the images."""
        names = sorted({str(name) for codes, labels in sides for name in set(labels.values[codes == group])})
        many = f"{names[0]} to {names[-1]} ({len(names)})" if len(names) > _SHOWN else ", ".join(names)
        return f"not named: {many}" if names and self.cameras and OTHERS in self.cameras[group] else many

    def _codes(self, camera: Labels) -> NDArray[np.int32]:
        """Return the group of each image by its camera, -1 without a group."""
        named = {name: group for group, names in enumerate(self.cameras) for name in names}
        numbers = {int(found[1]): group for name, group in named.items() if (found := _NUMBER.fullmatch(name))}
        spelled = {spelling(name, "camera"): name for name in named}
        camera, of_name = camera.compact(), []
        for name in map(str, camera.names):
            digits = _LAST_NUMBER.search(name)
            number = int(digits[1]) if digits else -1
            alike = spelled.get(spelling(name, "camera"))
            if name not in named and number not in numbers and alike:
                raise InputError(
                    f"scene groups: camera {name} of the images looks like {alike} of the groups; use one spelling."
                )
            of_name.append(named.get(name, numbers.get(number, named.get(OTHERS, -1))))
        table = np.array([*of_name, -1, -1], dtype=np.int32)  # junk, unknown
        codes: NDArray[np.int32] = table[camera.codes]
        return codes


def _real(records: Records) -> Records:
    return records[records.domain.values != "synthetic"]


def _pairs_apart(of_query: NDArray[np.int32], of_gallery: NDArray[np.int32]) -> int:
    """Count the pairs of query and gallery images from two groups."""
    size = int(max(of_query.max(initial=-1), of_gallery.max(initial=-1))) + 1
    queries, images = (np.bincount(codes[codes >= 0], minlength=size) for codes in (of_query, of_gallery))
    return int(queries.sum() * images.sum() - queries @ images)


def _pairs_of_one_vehicle(
    query: Records, gallery: Records, of_query: NDArray[np.int32], of_gallery: NDArray[np.int32]
) -> int:
    """Count the pairs from two groups that show the same known vehicle."""
    vehicles = joint_codes(query.identity, gallery.identity)
    sides = [
        np.where((vehicle >= 0) & (group >= 0), vehicle, -1)
        for vehicle, group in zip(vehicles, (of_query, of_gallery), strict=True)
    ]
    every = _pairs_alike(*sides)
    width = int(max(of_query.max(initial=0), of_gallery.max(initial=0))) + 1
    both = [
        np.where(vehicle >= 0, vehicle.astype(np.int64) * width + group, -1)
        for vehicle, group in zip(sides, (of_query, of_gallery), strict=True)
    ]
    return every - _pairs_alike(*both)


def _pairs_alike(one: NDArray[np.integer], other: NDArray[np.integer]) -> int:
    """Count the pairs with the same non-negative code."""
    codes, counts = np.unique(one[one >= 0], return_counts=True)
    others, those = np.unique(other[other >= 0], return_counts=True)
    _, left, right = np.intersect1d(codes, others, return_indices=True)
    return int(counts[left] @ those[right])


def exclude_other_scenes(distances: Distances, groups: SceneGroups | None = None) -> Distances:
    """Exclude units of another scene group than the query's from the candidates (distance +inf).

    If all images are of one group, nothing is excluded; `notes` of the result describe the effect.

    Raises:
        InputError: no image has a group, or a tracklet has images of two groups.
    """
    groups = groups or SceneGroups()
    query, gallery = groups.of(distances.query, distances.gallery)
    _, first = np.unique(distances.unit_of_image, return_index=True)
    mixed = gallery != gallery[first][distances.unit_of_image]
    if mixed.any():
        row = int(np.argmax(mixed))
        raise InputError(
            f"{distances.gallery.path[row]} (image {row + 1}): its tracklet has images of two scenes; correct one."
        )
    source = distances.source
    if _pairs_apart(query, gallery):
        source = Masked(source, query, gallery[first], same=False)
    notes = (*distances.notes, groups._described(distances.query, distances.gallery, query, gallery))
    return replace(distances, source=source, steps=(*distances.steps, "scene-groups"), notes=notes)


def scene_groups_step(state: SearchState, config: SceneGroups) -> SearchState:
    """Exclude units of another scene group than the query's."""
    return replace(state, made=exclude_other_scenes(state.distances, config))
