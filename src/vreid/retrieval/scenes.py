"""Scene groups: cameras between which vehicles travel; candidates of another group are removed.

A constraint of the place, not of the model (DMT's code: cameras numbered 40 and above against all others). Groups are
given, by the column `scene` or camera by camera, or come from labelled training images of the same cameras; test images
without labels do not tell which cameras are connected, so nothing is guessed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records, joint_codes
from vreid.errors import InputError
from vreid.retrieval.cameras import Masked
from vreid.retrieval.distances import Distances


@dataclass(frozen=True)
class SceneGroups:
    """Which cameras belong together.

    Attributes:
        cameras: groups of camera names, none in two; () takes the column `scene`. A camera (or scene) that is not
            named is of no group: it is compared with all, and no candidate of it is removed.

    Raises:
        InputError: a camera in two groups, or an empty group.

    Example:
        >>> SceneGroups((("c041", "c042"), ("c006", "c007"))).cameras[1]
        ('c006', 'c007')
    """

    cameras: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(tuple(group) for group in self.cameras))
        names = [name for group in self.cameras for name in group]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"scene groups: camera {twice} is named twice; put each camera in one group.")
        if not all(self.cameras) or "" in names:
            raise InputError("scene groups: a group or a camera has no name; name at least one camera a group.")

    @classmethod
    def from_labels(cls, records: Records) -> SceneGroups:
        """Groups of cameras that labelled images of the same place connect: two that share a vehicle are of one group.

        Raises:
            InputError: no image has both a camera and an identity, or all cameras are connected.
        """
        both = (records.camera.codes >= 0) & (records.identity.codes >= 0)
        if not both.any():
            raise InputError(
                "scene groups: no image has both a camera and an identity; give the groups themselves, or a column "
                "`scene`: images without labels do not say which cameras vehicles travel between."
            )
        camera, identity = records.camera.codes[both], records.identity.codes[both]
        group = np.arange(camera.max() + 1)
        for vehicle in np.unique(identity):
            seen = np.unique(group[camera[identity == vehicle]])
            group[np.isin(group, seen)] = seen[0]
        names, codes = records.camera.names, np.unique(camera)
        groups = [
            tuple(sorted(str(names[code]) for code in codes[group[codes] == one])) for one in np.unique(group[codes])
        ]
        if len(groups) < 2:
            raise InputError("scene groups: vehicles connect all cameras, so there is one group; leave the step out.")
        return cls(tuple(sorted(groups)))

    def of(self, query: Records, gallery: Records) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Group of each query (Q,) and gallery image (G,), negative where there is none.

        Raises:
            InputError: no image of a side has a group.
        """
        if self.cameras:
            number = {name: code for code, group in enumerate(self.cameras) for name in group}
            sides = [
                np.array([number.get(name, -1) for name in side.camera.values], dtype=np.int32)
                for side in (query, gallery)
            ]
            mend = "name the cameras as the data does, or switch scene groups off"
        else:
            sides = list(joint_codes(query.scene, gallery.scene))
            mend = "give the column `scene`, or name the cameras of each group (`from_labels` finds labelled ones)"
        for name, codes in zip(("query", "gallery"), sides, strict=True):
            if not (codes >= 0).any():
                raise InputError(f"no {name} image has a scene group; {mend}.")
        return sides[0], sides[1]


def exclude_other_scenes(distances: Distances, groups: SceneGroups | None = None) -> Distances:
    """Units of another scene group than the query's are no candidates any more (removed, not pushed back).

    Raises:
        InputError: no groups, or a tracklet with images of two.
    """
    query, gallery = (groups or SceneGroups()).of(distances.query, distances.gallery)
    _, first = np.unique(distances.unit_of_image, return_index=True)
    mixed = gallery != gallery[first][distances.unit_of_image]
    if mixed.any():
        row = int(np.argmax(mixed))
        raise InputError(
            f"{distances.gallery.path[row]} (image {row + 1}): its tracklet holds images of two scenes; correct one."
        )
    source = Masked(distances.source, query, gallery[first], same=False)
    return replace(distances, source=source, steps=(*distances.steps, "scene-groups"))
