"""The simulator: a city of cameras and vehicles, rendered and written in the folders of published data sets.

Example:
    >>> from vreid.simulator import simulate
    >>> simulate("data/tiny", preset="tiny", seed=1).counts["train"]   # doctest: +SKIP
    48

Pipeline: `city` (presets, identities, roads, and the plan of the passes of vehicles at cameras) -> `filming` (choice of
frames) -> the renderer (`vehicle`, `render`) -> `formats` (worker processes, layouts, label files, writing).
Videos: `city.video_plan` -> `driving` -> `render.video_frames`, `imperfect_tracker` -> `formats.video_files`.
"""

from vreid.simulator.city.presets import PRESETS, SIMULATOR_VERSION, Preset
from vreid.simulator.city.video_plan import VIDEO_PRESETS, VideoPreset
from vreid.simulator.formats.layouts import LAYOUTS, Layout
from vreid.simulator.formats.write import Simulation, simulate

__all__ = [
    "LAYOUTS",
    "PRESETS",
    "SIMULATOR_VERSION",
    "VIDEO_PRESETS",
    "Layout",
    "Preset",
    "Simulation",
    "VideoPreset",
    "simulate",
]
