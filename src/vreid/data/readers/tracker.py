"""Detector and tracker output as text with its frames or videos, a folder or a video per camera.

    north.mp4  north.txt                         a video and its boxes (MOTChallenge, BoxMOT, KITTI) by the same name
    cameras/
        c001/img1/000001.jpg                     frames, by number (also frame_0001.png, img000001.jpg, cam1_1.jpg)
        c001/gt/gt.txt                           or c001.txt (there or beside the folder), mtsc/*.txt, det/det.txt:
                                                 a box a line, as of the MOTChallenge or KITTI (see `box_lines`)
        c001/vdo.avi                             read where the frames are not extracted
        c001/seqinfo.ini                         name, imDir, imExt and seqLength of the MOTChallenge
    train/S01/c001/...                           the same, deeper: CityFlow for multi-camera tracking
    ground_truth_train.txt                       all cameras in one file (AI City), beside or above their folders

Vehicles are cut out of the frames while loading. Frames of a video are numbered from 0 here, where its boxes count from
1 unless they have a frame 0. A tracklet is named by camera and id, "c001/17"; id -1 is none. Lines
of gt.txt whose seventh number is 0 are marked there to be ignored. An id names a track, not a vehicle, unless the ids
are global: in CityFlow's layout, in AI City's files, and where the user says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding, Origin, raise_finding
from vreid.data.protocols import CROSS_CAMERA
from vreid.data.readers.box_lines import Box, describe_text, read_boxes
from vreid.data.readers.common import Listing, files_in, folders_in, images_in, natural, numbered, source_of
from vreid.data.readers.frames import boxes_outside
from vreid.data.readers.sequence import read_sequence
from vreid.data.recordings import recording_of
from vreid.data.records import Records
from vreid.data.video import VIDEOS, frame_times, video_facts
from vreid.errors import InputError

FRAMES, SEQUENCE = "img1", "seqinfo.ini"

Identities = Literal["auto", "global", "local"]
"""Scope of track ids: vehicles over all cameras ("global"), tracks of one camera ("local"), or inferred ("auto")."""

_DEPTH, _FEW = 4, 300  # how deep camera folders lie, and the most folders beside each other that are looked into
_SCENE, _CAMERA = re.compile(r"S\d+", re.IGNORECASE), re.compile(r"c\d+", re.IGNORECASE)


@dataclass(frozen=True)
class _CameraFolder:
    """A camera with its boxes.

    Attributes:
        place: the folder.
        prefix: of the names of its images and tracklets.
        name: of the camera.
        files: of its boxes, the one to read first.
        scene: of CityFlow, or "".
        video: the file by whose name the boxes were found; None: frames are in the folder.
        sequence: entries of its seqinfo.ini.
    """

    place: Path
    prefix: str
    name: str
    files: tuple[Path, ...] = ()
    scene: str = ""
    video: Path | None = None
    sequence: Mapping[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> Path:
        return self.place / self.sequence.get("imdir", FRAMES)


@dataclass
class _Read:
    """Records read so far, with file and line of each."""

    parts: list[Records] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    reported: int = 0


def find(source: Path) -> Path | None:
    """Return `source` if it is a camera folder, a folder of them, or a multi-camera file of boxes; else None.

    Videos with boxes by the same name are left to `find_videos`.

    Raises:
        InputError: a text file of a known format that is not a data set.
    """
    if source.is_file():
        return source if source.suffix.lower() == ".txt" and describe_text(source) == "ai-city" else None
    cameras = _cameras(source)
    return source if any(camera.files for camera in cameras) or (cameras and _one_file(source)) else None


def find_videos(source: Path) -> Path | None:
    """Return the folder, text file or video `source` if it is a video beside a text file of its name, or holds some."""
    if source.is_dir():
        return source if _pairs(source) else None
    return source if any(source in (video, text) for video, text in _pairs(source.parent, source.stem)) else None


def _pairs(folder: Path, stem: str | None = None) -> list[tuple[Path, Path]]:
    """Videos in `folder` (of the name `stem`) and the text files of boxes of the same names."""
    names = files_in(folder)
    texts = {name[:-4]: folder / name for name in names if name.lower().endswith(".txt")}
    videos = [folder / name for name in names if name.lower().endswith(VIDEOS)]
    return [(one, texts[one.stem]) for one in videos if one.stem in texts and stem in (None, one.stem)]


def _cameras(folder: Path) -> list[_CameraFolder]:
    """The cameras in `folder`, which may be that of one."""
    places = [folder] if _is_camera(folder) else []
    level = [] if places else [folder]
    pairs = [] if places else _pairs(folder)
    for depth in range(_DEPTH):
        if depth and len(level) > _FEW:
            break
        inner = [place / name for place in level for name in folders_in(place)]
        found = [place for place in inner if _is_camera(place)]
        places += found
        pairs += [pair for place in inner if place not in found for pair in _pairs(place)]
        level = [place for place in inner if place not in set(found)]
    places.sort(key=lambda place: [natural(part) for part in place.parts])
    names = [place.absolute().name for place in places]
    cameras = []
    for place, name in zip(places, names, strict=True):
        prefix = name if place in (folder, folder / name) else place.relative_to(folder).as_posix()
        scene = place.absolute().parent.name
        of_cityflow = bool(_SCENE.fullmatch(scene) and _CAMERA.fullmatch(name))
        sequence = read_sequence(place / SEQUENCE) if (place / SEQUENCE).is_file() else {}
        known = name if of_cityflow or names.count(name) == 1 else prefix
        known = sequence.get("name") or known
        cameras.append(
            _CameraFolder(place, prefix, known, _files(place), scene if of_cityflow else "", sequence=sequence)
        )
    pairs.sort(key=lambda pair: [natural(part) for part in pair[0].parts])
    folders = defaultdict(set)
    for video, _ in pairs:
        folders[recording_of(video).camera].add(video.parent)
    return cameras + [
        _with_video(video, text, folder if len(folders[recording_of(video).camera]) > 1 else video.parent)
        for video, text in pairs
    ]


def _with_video(video: Path, text: Path, folder: Path) -> _CameraFolder:
    """The camera of a video with its boxes: that of its name, with the folders between it and `folder` before it."""
    recording, inner = recording_of(video), video.parent.relative_to(folder).as_posix()
    if inner != ".":
        recording = replace(recording, camera=f"{inner}/{recording.camera}")
    return _CameraFolder(video.parent, recording.prefix, recording.camera, (text,), video=video)


def _is_camera(folder: Path) -> bool:
    return (
        (folder / FRAMES).is_dir()
        or (folder / SEQUENCE).is_file()
        or bool(any((folder / name).is_dir() for name in ("gt", "det", "mtsc")) and _files(folder) and _video(folder))
    )


def _files(place: Path) -> tuple[Path, ...]:
    own = f"{place.absolute().name}.txt"
    tracked = [place / "mtsc" / name for name in files_in(place / "mtsc") if name.endswith(".txt")]
    files = (place / "gt" / "gt.txt", place / own, place.parent / own, *tracked, place / "det" / "det.txt")
    return tuple(path for path in files if path.is_file())


def _video(place: Path) -> Path | None:
    return next((place / name for name in files_in(place) if name.lower().endswith(VIDEOS)), None)


def _one_file(folder: Path) -> Path | None:
    """The file of boxes of all cameras in `folder`."""
    places = [folder / name for name in files_in(folder)] + [
        folder / "eval" / name for name in files_in(folder / "eval")
    ]
    return next((path for path in places if re.fullmatch(r"ground_truth.*\.txt", path.name)), None)


def read_tracker(
    source: Path | str, *, identities: Identities = "auto", on_finding: OnFinding = raise_finding
) -> Dataset:
    """Read the boxes of all cameras in `source` in the order of camera, frame and line.

    Image keys are "c001/000001/17", where there is no id "c001/000001#left,top,right,bottom". Query and gallery are all
    boxes, each a query against all other cameras (cross-camera).

    Args:
        source: the folder of the cameras, or of one; a file of boxes of several cameras; or a video or its boxes.
        identities: what ids name.
        on_finding: called with each wrong line, box outside its frame, and camera without frames.

    Raises:
        InputError: no boxes, or no frames.
    """
    source = Path(source)
    notes: list[str] = []
    read = _Read()

    def counted(finding: Finding) -> None:
        read.reported += 1
        on_finding(finding)

    folder = source if source.is_dir() else source.parent
    pairs = _pairs(folder, source.stem) if source.is_file() else []
    one_file = source if source.is_file() and not pairs else None
    cameras = [_with_video(*pair, folder) for pair in pairs] or _cameras(folder)
    if one_file is None and not any(camera.files for camera in cameras):
        one_file = _one_file(folder)
    if one_file is not None:
        if not cameras and folder.absolute() != folder.absolute().parent:  # eval/ground_truth_train.txt
            cameras = _cameras(folder.absolute().parent) if folder.name == "eval" else []
        _read_one_file(Listing(one_file, counted), cameras, identities, read, notes)
    else:
        _read_cameras(cameras, identities, read, notes, counted)
    if not read.files and not read.reported:
        raise InputError(f"{folder}: holds no boxes (gt/gt.txt, det/det.txt or <camera>.txt); run the tracker again.")
    records = Records.concat(read.parts)
    if records.camera.distinct == 1:
        notes.append("there is one camera only, so cross-camera search is not possible.")
    origin = Origin(np.array(read.files, dtype=object), np.array(read.lines, dtype=np.int64))
    return Dataset(
        source.absolute().name if source.is_dir() else source.stem,
        records[:0],
        records,
        records,
        CROSS_CAMERA,
        source_of(folder),
        tuple(notes),
        {"query": origin, "gallery": origin},
    )


def _read_cameras(
    cameras: Sequence[_CameraFolder], identities: Identities, read: _Read, notes: list[str], on_finding: OnFinding
) -> None:
    by_layout = False
    for camera in cameras:
        if not camera.files:
            notes.append(f"there are no boxes for camera {camera.name}, its frames are not used.")
            continue
        first = camera.files[0]
        layout = bool(camera.scene) and first.name == "gt.txt"
        by_layout |= layout and identities == "auto"
        listing = Listing(first, on_finding)
        frames = _frames(camera, on_finding)
        if frames is None:
            continue
        vehicles = identities == "global" or (identities == "auto" and layout)
        _add(read, camera, list(read_boxes(listing, notes)), listing, vehicles, notes, frames)
        if len(camera.files) > 1:
            others = ", ".join(path.name for path in camera.files[1:])
            notes.append(f"boxes of camera {camera.name} are those of {first.name}, not of {others}.")
    if by_layout:
        notes.append(
            "ids of gt.txt are taken for vehicles over all cameras, as in CityFlow; --identities local takes them for "
            "tracks of one camera."
        )


def _read_one_file(
    listing: Listing, cameras: Sequence[_CameraFolder], identities: Identities, read: _Read, notes: list[str]
) -> None:
    boxes: dict[int, list[Box]] = {}
    for box in read_boxes(listing, notes, "ai-city"):
        boxes.setdefault(box.camera, []).append(box)
    of_number = {int(digits[0]): camera for camera in cameras if (digits := re.findall(r"\d+", camera.place.name)[-1:])}
    if boxes and not of_number.keys() & boxes.keys():
        raise InputError(
            f"{listing.path}: is an AI City multi-camera file, a result or ground truth (camera id frame left top "
            f"width height ...), but the folder of camera {min(boxes)} with its frames (c{min(boxes):03d}/{FRAMES}) is "
            "not beside it; put the file beside the folders of the cameras."
        )
    for number in sorted(boxes):
        camera = of_number.get(number)
        if camera is None:
            listing.wrong(
                boxes[number][0].line,
                f"camera {number} has no folder with frames (c{number:03d}/{FRAMES})",
                "put its folder beside the file or remove its lines",
            )
        elif (frames := _frames(camera, listing.on_finding)) is not None:
            _add(read, camera, boxes[number], listing, identities != "local", notes, frames)


def _frames(camera: _CameraFolder, on_finding: OnFinding) -> dict[int, str] | Path | None:
    """The images of a camera by frame number, or its video; None and a finding where there is neither."""
    frames, ending = camera.frames, camera.sequence.get("imext", "").lower()
    images = [name for name in images_in(frames) if name.lower().endswith(ending)] if frames.is_dir() else []
    if images and camera.video is None:
        return numbered(images, frames)
    video = camera.video or _video(camera.place)
    if video is None:
        on_finding(
            Finding("no frames", str(frames), "holds no images", "put the frames there, as 000001.jpg and so on")
        )
        return None
    try:
        video_facts(video)
    except (InputError, ModuleNotFoundError) as error:
        reason = str(error).removeprefix(f"{video}: ").removesuffix(".").partition("; ")[0]
        if isinstance(error, ModuleNotFoundError):
            reason = "cannot be read without PyAV (pip install 'vehicle-reid[video]')"
        if camera.video is not None:
            on_finding(Finding("video that cannot be read", str(video), reason, "copy it again"))
            return None
        command = f"mkdir -p {FRAMES}; ffmpeg -i {video.name} -start_number 1 -qscale:v 2 {FRAMES}/%06d.jpg"
        on_finding(
            Finding(
                "video without frames",
                str(video),
                f"its frames are not extracted ({frames.name} holds none), and boxes are cut out of them; it {reason}",
                f"copy it again for vreid ingest, or run in its folder: {command}",
            )
        )
        return None
    return video


def _add(
    read: _Read,
    camera: _CameraFolder,
    boxes: list[Box],
    listing: Listing,
    vehicles: bool,
    notes: list[str],
    frames: dict[int, str] | Path,
) -> None:
    """Add the boxes of a camera, in the order of frames, so that a frame is decoded once."""
    boxes.sort(key=lambda box: box.frame)
    if isinstance(frames, Path):
        boxes = _in_video(boxes, frames, listing)
        paths = [str(frames)] * len(boxes)
        if frames.stem == "tracks":
            notes.append(
                f"{frames} may be the video into which BoxMOT draws boxes; put tracks.txt beside the original."
            )
    elif _shifted(boxes, frames, listing):
        return
    else:
        paths = [f"{camera.frames}/{frames.get(box.frame, f'{box.frame:06d}.jpg')}" for box in boxes]
        if 0 in frames and boxes and boxes[0].frame > 0:
            notes.append(
                f"frames of camera {camera.name} are numbered from 0; its boxes are taken to count from 0 as well."
            )
        length = camera.sequence.get("seqlength", "")
        if length.isdigit() and int(length) != len(frames):
            notes.append(f"{SEQUENCE} of camera {camera.name} says {length} frames, but there are {len(frames):,}.")
    records = Records.of(
        path=paths,
        image_key=[f"{camera.prefix}/{box.key}" for box in boxes],
        identity=[str(box.track) if vehicles and box.track >= 0 else None for box in boxes],
        camera=[camera.name] * len(boxes),
        tracklet=[f"{camera.prefix}/{box.track}" if box.track >= 0 else None for box in boxes],
        frame=[box.frame for box in boxes],
        scene=[camera.scene] * len(boxes),
        vehicle_type=[box.vehicle_type.lower() for box in boxes],
        box=[box.corners for box in boxes] or None,
        split=["gallery"] * len(boxes),
    )
    rows = [box.line for box in boxes]
    outside = boxes_outside(records.path, records.box, listing, rows)
    kept = [row for row in range(len(records)) if row not in outside]
    read.parts.append(records[kept])
    read.lines += [rows[row] for row in kept]
    read.files += [str(listing.path)] * len(kept)


def _in_video(boxes: list[Box], video: Path, listing: Listing) -> list[Box]:
    """The boxes with frames numbered from 0; those after the end of the video are reported and left out."""
    first = 0 if boxes and boxes[0].frame == 0 else 1
    count = len(frame_times(video))
    inside = [box._replace(frame=box.frame - first) for box in boxes if box.frame - first < count]
    if len(inside) < len(boxes):
        lost = boxes[len(inside)]
        listing.wrong(
            lost.line,
            f"frame {lost.frame} and {len(boxes) - len(inside) - 1:,} later boxes come after the end of {video.name}, "
            f"which has {count:,} frames",
            "check that the file belongs to this video, and that the video is complete",
            "frames shifted",
        )
    return inside


def _shifted(boxes: Sequence[Box], name_of: dict[int, str], listing: Listing) -> bool:
    """Detect and report a constant offset between the frame numbers of boxes and files."""
    wanted = {box.frame for box in boxes}
    if not name_of or wanted <= name_of.keys():
        return False
    low, high = min(name_of) - min(wanted), max(name_of) - max(wanted)
    constant = [low] if low == high and len(wanted) > 1 else []
    shift = next((by for by in (1, -1, *constant) if {frame + by for frame in wanted} <= name_of.keys()), None)
    if shift is None:
        return False
    lost = next(box for box in boxes if box.frame not in name_of)
    first = name_of[min(name_of)]
    verb = f"add {shift:,} to" if shift > 0 else f"subtract {-shift:,} from"
    listing.wrong(
        lost.line,
        f"frame {lost.frame} has no file: the boxes lie on frames {min(wanted)} to {max(wanted)}, the files are "
        f"numbered {min(name_of)} to {max(name_of)} (first {first}), so the numbers are shifted by {abs(shift):,}",
        f"{verb} the frame numbers in {listing.path.name}, or renumber the files",
        "frames shifted",
    )
    return True
