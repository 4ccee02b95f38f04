"""TransReID: a vision transformer over overlapping patches, with side information (SIE) and jigsaw patches (JPM).

Source: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021; DMT uses it without SIE and JPM.

Shape legend: B images in a batch, N patches, T = 1 + N tokens (the class token first), D feature length, L local
features, R rows of the table of side information.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vreid.errors import InputError

LOCAL_FEATURES = 4
"""Number of patch groups of the jigsaw module (JPM), each with one local feature."""
SHUFFLE_GROUPS = 2


@dataclass(frozen=True)
class TransReIDOptions:
    """Options of a TransReID; the defaults are DMT's, without JPM and SIE.

    Attributes:
        image_size: height and width of the images for which position embeddings are learned; they are resized for
            other sizes.
        jpm: add four local features from shifted and shuffled patches to the global one.
        jpm_shift: shift of the patches as counted in the official code (patch 1 moves to position 1 - shift); 8 for
            VeRi.
        sie_cameras: number of training cameras, each with a learned embedding; 0 or 1 for none. Cameras are matched by
            name in extraction and adaptation; a camera without an embedding takes the mean of all.
        sie_views: number of viewpoints with a learned embedding: equal sectors of the circle, the first centred at 0
            degrees; 8 for VeRi. With `sie_cameras`, each pair has an embedding; an unknown view takes the mean of all.
        sie_weight: factor of the embedding (lambda).
    """

    image_size: tuple[int, int] = (256, 256)
    jpm: bool = False
    jpm_shift: int = 5
    sie_cameras: int = 0
    sie_views: int = 0
    sie_weight: float = 3.0


class TransReID(nn.Module):
    """TransReID backbone: images (B, 3, H, W) to the class token (B, D), or to (B, 1 + L, D) with JPM, global first.

    State keys are those of timm's vision transformers and of the published files. With JPM, `blocks[-1]` and `norm`
    compute the global feature; `local_block` and `local_norm`, initialised as their copies, compute the local ones.

    Args:
        options: options that vary between experiments.
        patch, stride: side of a patch and distance between patches, in pixels.
        dim, depth, heads, mlp_ratio, qkv_bias: D, number of blocks, and their structure.
        qk_scale: factor of query-key products; None: (D / heads)^-0.5.
        drop_path: stochastic-depth rate of the last block; it increases linearly from 0 over the blocks.

    Raises:
        InputError: the image size or the shift leaves too few patches.
    """

    pools = True
    published_keys = ((r"(head|fc)\.(weight|bias)$", None),)

    def __init__(
        self,
        options: TransReIDOptions | None = None,
        *,
        patch: int = 16,
        stride: int = 14,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.options = options = options or TransReIDOptions()
        self.num_features = dim
        self.num_local = LOCAL_FEATURES if options.jpm else 0
        self.patch, self.stride = patch, stride
        self.grid = self._grid(*options.image_size)
        patches = self.grid[0] * self.grid[1]
        if options.jpm and not (1 <= options.jpm_shift <= patches and patches >= LOCAL_FEATURES):
            raise InputError(
                f"transreid.jpm_shift is {options.jpm_shift}; give a number from 1 to {patches}, the number of patches."
            )
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, kernel_size=patch, stride=stride)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, dim))
        sides = max(options.sie_cameras, 1) * max(options.sie_views, 1)
        self.sie_embed = nn.Parameter(torch.zeros(sides, 1, dim)) if sides > 1 else None
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.Sequential(
            *(
                Block(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, drop_path=rate, norm_layer=norm)
                for rate in rates
            )
        )
        self.norm = norm(dim)
        if qk_scale is not None:
            for block in cast(Iterable[Any], self.blocks):
                # timm's fused kernel multiplies by (D / heads)^-0.5 and ignores `scale`.
                block.attn.q_norm = _Times(qk_scale * (dim / heads) ** 0.5)
        self._initialise()
        if options.jpm:
            self.local_block, self.local_norm = copy.deepcopy(self.blocks[-1]), copy.deepcopy(self.norm)

    def forward(self, images: Tensor, camera: Tensor | None = None, view: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, D), or (B, 1 + L, D) with JPM.

        Args:
            images: images of at least the size of a patch.
            camera, view: (B,) integers, required if there are embeddings for them; -1 for unknown.

        Raises:
            InputError: cameras or views are required but not given.
        """
        patches_BNhw: Tensor = self.patch_embed["proj"](images)
        tokens_BTD = torch.cat(
            (self.cls_token.expand(images.shape[0], -1, -1), patches_BNhw.flatten(2).transpose(1, 2)), dim=1
        )
        grid = (patches_BNhw.shape[2], patches_BNhw.shape[3])
        tokens_BTD = tokens_BTD + resize_positions(self.pos_embed, self.grid, grid)
        if self.sie_embed is not None:
            tokens_BTD = tokens_BTD + self.options.sie_weight * self._side(self.sie_embed, camera, view)
        if not self.options.jpm:
            return self._normed(self.norm, self.blocks(tokens_BTD))
        for block in self.blocks[:-1]:
            tokens_BTD = block(tokens_BTD)
        features = [self._normed(self.norm, self.blocks[-1](tokens_BTD))]
        token_B1D, patches_BND = tokens_BTD[:, :1], tokens_BTD[:, 1:]
        size = patches_BND.shape[1] // LOCAL_FEATURES
        shuffled = rearrange(patches_BND, self.options.jpm_shift, SHUFFLE_GROUPS)
        for group in range(LOCAL_FEATURES):
            part = torch.cat((token_B1D, shuffled[:, group * size : (group + 1) * size]), dim=1)
            features.append(self._normed(self.local_norm, self.local_block(part)))
        return torch.stack(features, dim=1)

    def adapt_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert the state of a published vision transformer, without its head, to the keys of this backbone.

        Position embeddings are resized, the last block is copied for the local features, and camera embeddings keep
        their present values.
        """
        adapted = dict(state)
        positions = state.get("pos_embed")
        if positions is not None and positions.ndim == 3 and positions.shape != self.pos_embed.shape:
            side = math.isqrt(positions.shape[1] - 1)
            if side * side == positions.shape[1] - 1:  # otherwise loading reports the shapes
                adapted["pos_embed"] = resize_positions(positions, (side, side), self.grid)
        if self.options.jpm:
            last = f"blocks.{len(self.blocks) - 1}."
            for old, new in ((last, "local_block."), ("norm.", "local_norm.")):
                copies = {new + key.removeprefix(old): value for key, value in state.items() if key.startswith(old)}
                adapted = {**copies, **adapted}
        if self.sie_embed is not None:
            adapted.setdefault("sie_embed", self.sie_embed.detach())
        return adapted

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of patches in an image."""
        if min(height, width) < self.patch:
            raise InputError(
                f"transreid.image_size is {height} x {width}; give at least one patch, {self.patch} x {self.patch}."
            )
        return (height - self.patch) // self.stride + 1, (width - self.patch) // self.stride + 1

    def _side(self, table_RD: Tensor, camera: Tensor | None, view: Tensor | None) -> Tensor:
        """Look up the embeddings (B, 1, D): row camera * views + view; the mean over cameras or views for -1."""
        counts = max(self.options.sie_cameras, 1), max(self.options.sie_views, 1)
        table = table_RD.view(*counts, -1)
        table = torch.cat((table, table.mean(dim=0, keepdim=True)))
        table = torch.cat((table, table.mean(dim=1, keepdim=True)), dim=1)
        for name, number, count in zip(("camera", "view"), (camera, view), counts, strict=True):
            if count > 1 and number is None:
                raise InputError(f"transreid.sie_{name}s is {count}, but the images have no known {name}; set it to 0.")
        row, column = (number if count > 1 else 0 for number, count in zip((camera, view), counts, strict=True))
        return table[row, column][:, None]

    @staticmethod
    def _normed(norm: nn.Module, tokens_BTD: Tensor) -> Tensor:
        feature: Tensor = norm(tokens_BTD[:, 0])
        return feature

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / (self.patch**2 * module.out_channels)) ** 0.5)
        for parameter in (self.cls_token, self.pos_embed, self.sie_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)


def match_cameras(table_R1D: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor:
    """Map camera embeddings for the cameras `old` to embeddings for the cameras `new`.

    Rows are matched by camera name, for all views; a camera that is not in `old` gets their mean.

    Args:
        table_R1D: the old table, R = cameras * views.
        old, new: names of the cameras, in the order of their rows.

    Raises:
        InputError: the number of rows is not a multiple of the number of old cameras.
    """
    if not old or len(table_R1D) % len(old):
        raise InputError(
            f"{len(table_R1D)} embeddings do not match {len(old)} cameras: the model file is damaged; train it again."
        )
    cameras = table_R1D.view(len(old), -1, *table_R1D.shape[1:])
    rows = {name: row for name, row in zip(old, cameras, strict=True)}
    mean = cameras.mean(dim=0)
    return torch.cat([rows.get(name, mean) for name in new])


def matched_cameras(old: Sequence[str], new: Sequence[str]) -> str:
    """Describe in a sentence which of the cameras `new` have an embedding among those of `old`.

    Example:
        >>> matched_cameras(("c1", "c2"), ("c2", "c3", "c4"))
        'Camera embeddings: matched by name for 1 of 3 cameras (c2); c3, c4 take the mean of all.'
    """
    known = [name for name in new if name in old]
    others = [name for name in new if name not in old]

    def listed(names: Sequence[str]) -> str:
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    found = f" ({listed(known)})" if known else ""
    rest = f"; {listed(others)} take{'s' if len(others) == 1 else ''} the mean of all" if others else ""
    return f"Camera embeddings: matched by name for {len(known)} of {len(new)} cameras{found}{rest}."


def resize_positions(positions_1TD: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize position embeddings bilinearly from a grid of `old` (rows, columns) to one of `new`.

    (1, 1 + rows * columns, D) in and out; the first, of the class token, is unchanged.
    """
    if old == new:
        return positions_1TD
    token_11D, grid_1ND = positions_1TD[:, :1], positions_1TD[:, 1:]
    grid = grid_1ND.transpose(1, 2).reshape(1, -1, *old)
    resized = functional.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat((token_11D, resized.flatten(2).transpose(1, 2)), dim=1)


def rearrange(patches_BND: Tensor, shift: int, groups: int) -> Tensor:
    """Shift and shuffle patches as in the jigsaw module (JPM).

    Patches 1, ..., N become shift, ..., N, 1, ..., shift - 1; the second-last is repeated until `groups` divides their
    number; the sequence is cut into `groups` pieces from which patches are taken in turn.

    Example (six patches, shift 3, two groups: 3 4 5 | 6 1 2):
        >>> rearrange(torch.arange(1, 7).view(1, 6, 1), 3, 2).flatten().tolist()
        [3, 6, 4, 1, 5, 2]
    """
    shifted = patches_BND.roll(1 - shift, dims=1)
    missing = -shifted.shape[1] % groups
    shifted = torch.cat((shifted, shifted[:, -2:-1].expand(-1, missing, -1)), dim=1)
    batch, count, length = shifted.shape
    return shifted.reshape(batch, groups, count // groups, length).transpose(1, 2).flatten(1, 2)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor
