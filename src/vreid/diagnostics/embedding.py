"""Embedding: a t-SNE map of some vehicles, and what nearest neighbours in feature space share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import joint_codes
from vreid.diagnostics.diagnosis import Part, ScatterChart
from vreid.diagnostics.estimates import means
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet

VEHICLES, CAMERAS = 10, 12
"""Maximum number of vehicles (distinguishable colours) and of cameras (markers) in the map."""
POINTS = 600
PERPLEXITY = 15
MOST = 3000
"""Maximum number of images whose neighbours are counted, drawn by the seed."""


def embedding(query: FeatureSet, gallery: FeatureSet, *, seed: int = 0) -> Part:
    """Compute a t-SNE map (van der Maaten & Hinton 2008) of the vehicles at most cameras, and neighbour statistics.

    The numbers are computed from features, not from the map: among all images that differ in vehicle or camera, how
    often the nearest one shares the vehicle, how often it shares the camera, and how often it would share the camera by
    chance.

    Raises:
        InputError: fewer than three vehicles at two cameras.
    """
    features = np.concatenate([query.normalise().features, gallery.normalise().features])
    identity = np.concatenate(joint_codes(query.records.identity, gallery.records.identity))
    camera = np.concatenate(joint_codes(query.records.camera, gallery.records.camera))
    names = np.concatenate([query.records.identity.values, gallery.records.identity.values])
    places = np.concatenate([query.records.camera.values, gallery.records.camera.values])
    rng = np.random.default_rng([seed, 8])
    usable = np.flatnonzero((identity >= 0) & (camera >= 0))
    usable = np.sort(rng.permutation(usable)[:MOST])
    features, identity, camera = features[usable], identity[usable], camera[usable]
    names, places = names[usable], places[usable]
    neighbours = _neighbours(features, identity, camera)
    evaluated = ~np.isnan(neighbours[:, 0])
    if not evaluated.any():
        raise InputError("neighbours: no vehicle occurs at two cameras with other vehicles; give more images.")
    same_vehicle, same_camera, chance, more = means(
        np.column_stack([neighbours, neighbours[:, 1] - neighbours[:, 2]])[evaluated], identity[evaluated], seed=seed
    )
    shown = _shown(identity, camera, rng)
    if len(np.unique(identity[shown])) < 3:
        raise InputError("t-SNE: fewer than three vehicles occur at two cameras; give more images.")
    return Part(
        name="neighbours",
        sentence="Among images that differ in vehicle or camera, the nearest one shows the same vehicle in "
        f"{same_vehicle} % of cases and is of the same camera in {same_camera} % ({chance} % by chance).",
        numbers={
            "same vehicle": same_vehicle,
            "same camera": same_camera,
            "same camera by chance": chance,
            "same camera beyond chance": more,
        },
        needs="identities, cameras",
        limits="Computed from L2-normalised features, even if they are compared raw. In a t-SNE map only "
        "neighbourhoods are meaningful, not the size of gaps and clusters; it depends on the seed.",
        chart=ScatterChart(_tsne(features[shown], seed), names[shown].tolist(), places[shown].tolist()),
    )


def _neighbours(
    features: NDArray[np.float32], identity: NDArray[np.integer], camera: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return (N, 3): whether the nearest image that differs in vehicle or camera shares the vehicle, whether it shares
    the camera, and the chance of the latter; NaN for vehicles at a single camera."""
    out = np.full((len(features), 3), np.nan)
    for row in range(len(features)):
        same_vehicle, same_camera = identity == identity[row], camera == camera[row]
        others = ~(same_vehicle & same_camera)
        if (same_vehicle & others).any() and (same_camera & others).any():
            likeness = np.where(others, features @ features[row], -np.inf)
            nearest = int(likeness.argmax())
            out[row] = same_vehicle[nearest], same_camera[nearest], same_camera[others].mean()
    return out


def _shown(identity: NDArray[np.integer], camera: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.intp]:
    """Select images of the vehicles at most cameras, ties at random; equal numbers of each, within `POINTS`."""
    vehicles = rng.permutation(np.unique(identity))
    cameras = [len(np.unique(camera[identity == vehicle])) for vehicle in vehicles]
    order = np.argsort([-count for count in cameras], kind="stable")
    chosen = [vehicles[place] for place in order if cameras[place] > 1][:VEHICLES]
    each = POINTS // max(len(chosen), 1)
    own = [rng.permutation(np.flatnonzero(identity == vehicle))[:each] for vehicle in chosen]
    shown: NDArray[np.intp] = np.sort(np.concatenate(own)) if own else np.empty(0, dtype=np.intp)
    return shown[np.isin(camera[shown], np.unique(camera[shown])[:CAMERAS])]


def _tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, max((len(features) - 1) / 3, 1.0))
    made = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(features)
    return np.asarray(made, dtype=np.float32)
