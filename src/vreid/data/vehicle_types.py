"""Class names of detectors and trackers that are not road vehicles (COCO, KITTI, OpenTrafficCam, DeepStream)."""

from __future__ import annotations

import re

_NAMES = """
    person people pedestrian person_sitting rider cyclist bicycle bicyclist bike bicyclist_with_trailer cargo_bike
    cargo_bike_driver scooter_driver e_scooter escooter skateboard stroller wheelchair
    airplane aeroplane train boat ship
    traffic_light traffic_sign road_sign roadsign stop_sign fire_hydrant parking_meter bench
    animal bird cat dog horse sheep cow elephant bear zebra giraffe
    backpack umbrella handbag tie suitcase bag face license_plate licence_plate
    frisbee skis snowboard sports_ball kite baseball_bat baseball_glove surfboard tennis_racket
    bottle wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake
    chair couch potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster
    sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush
    dontcare dont_care
"""
NOT_VEHICLES = frozenset(_NAMES.split())
"""Names in small letters, with "_" for blanks and hyphens."""


def is_vehicle(name: str) -> bool:
    """Whether boxes of the class `name` may show a road vehicle; true of names that are not known, and of "".

    Example:
        >>> is_vehicle("Car"), is_vehicle("traffic light"), is_vehicle("delivery_van"), is_vehicle("")
        (True, False, True, True)
    """
    return re.sub(r"[\s_-]+", "_", name.strip().lower()) not in NOT_VEHICLES
