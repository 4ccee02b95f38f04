"""Painting vehicle surfaces with Pillow: colour and finish together, in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vreid.simulator.vehicle.mesh import ATLAS_SIZE, Patch

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

# Finishes by number: reflectance seen straight on, gloss, glow of lit lamps (shares).
FINISHES: tuple[tuple[float, float, float], ...] = (
    (0.055, 0.92, 0.0),
    (0.11, 1.0, 0.0),
    (0.04, 0.24, 0.0),
    (0.55, 0.85, 0.0),
    (0.11, 0.88, 0.22),
    (0.11, 0.88, 1.0),
    (0.06, 0.75, 0.42),
    (0.015, 0.04, 0.0),
    (0.025, 0.08, 0.0),
    (0.04, 0.35, 0.0),
    (0.04, 0.35, 0.04),
    (0.03, 0.1, 0.5),
    (0.20, 0.45, 0.0),
    (0.10, 0.3, 0.0),
    (0.03, 0.25, 0.0),
)
(PAINT, GLASS, PLASTIC, CHROME, LAMP, BULB, TAIL, RUBBER, MATT, SATIN, PLATE, SIGN, ALLOY, DULL_ALLOY, DUST) = range(15)
MIP_LEVELS = 4

# 5 x 7 dots of each character, one number per row, the highest bit on the left.
_GLYPHS: dict[str, tuple[int, ...]] = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 14),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "Z": (31, 1, 2, 4, 8, 16, 31),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "-": (0, 0, 0, 14, 0, 0, 0),
    " ": (0, 0, 0, 0, 0, 0, 0),
}


@lru_cache(maxsize=512)
def _stencil(text: str) -> Image.Image:
    rows = np.zeros((7, 6 * len(text)), np.uint8)
    for place, letter in enumerate(text):
        for row, bits in enumerate(_GLYPHS[letter]):
            for column in range(5):
                rows[row, 6 * place + column] = 255 * (bits >> (4 - column) & 1)
    return Image.fromarray(rows[:, :-1])


@dataclass(frozen=True)
class Level:
    """One mip level of an atlas."""

    colour: NDArray[np.uint8]  # (H, W, 3) sRGB
    finish: NDArray[np.uint8]  # (H, W) rows of FINISHES


class Canvas:
    """One patch of the atlas being painted; positions and sizes are metres of the patch's plane."""

    def __init__(self, patch: Patch, colour: Colour, finish: int = PAINT) -> None:
        self.patch = patch
        self.colour = Image.new("RGB", (patch.width, patch.height), colour)
        self.finish = Image.new("L", (patch.width, patch.height), finish)
        self._draw, self._draw_finish = ImageDraw.Draw(self.colour), ImageDraw.Draw(self.finish)
        self._across = patch.width / (patch.x1 - patch.x0)
        self._down = patch.height / (patch.y1 - patch.y0)
        self.per_metre = abs(self._across)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        patch, across, down = self.patch, self._across, self._down
        return [((x - patch.x0) * across - 0.5, (patch.y1 - y) * down - 0.5) for x, y in points]

    def polygon(self, points: Points, colour: Colour, finish: int | None = None) -> None:
        """Fill a polygon; without a finish, the surface keeps the one below."""
        pixels = self._pixels(points)
        self._draw.polygon(pixels, fill=colour)
        if finish is not None:
            self._draw_finish.polygon(pixels, fill=finish)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, finish: int | None = None) -> None:
        """Fill an upright rectangle between two corners."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, finish)

    def line(self, points: Points, colour: Colour, width: float, finish: int | None = None) -> None:
        """Draw a line of `width` metres, at least one texel."""
        pixels, texels = self._pixels(points), max(1, round(width * self.per_metre))
        self._draw.line(pixels, fill=colour, width=texels)
        if finish is not None:
            self._draw_finish.line(pixels, fill=finish, width=texels)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, finish: int | None = None) -> None:
        """Fill an upright ellipse."""
        (a, b), (c, d) = self._pixels([(x - rx, y + ry), (x + rx, y - ry)])
        bounds = (min(a, c), min(b, d), max(a, c), max(b, d))
        self._draw.ellipse(bounds, fill=colour)
        if finish is not None:
            self._draw_finish.ellipse(bounds, fill=finish)

    def text(
        self, words: str, x: float, y: float, width: float, height: float, colour: Colour, finish: int | None = MATT
    ) -> None:
        """Write `words` (capitals, digits, blanks) centred on (x, y), readable from outside the vehicle."""
        ((px, py),) = self._pixels([(x, y)])
        size = max(1, round(width * self.per_metre)), max(1, round(height * self._down))
        stencil = _stencil(words).resize(size, Image.Resampling.BILINEAR).point(lambda value: 255 if value > 110 else 0)
        corner = (round(px - size[0] / 2), round(py - size[1] / 2))
        self.colour.paste(colour, (*corner, corner[0] + size[0], corner[1] + size[1]), stencil)
        if finish is not None:
            self.finish.paste(finish, (*corner, corner[0] + size[0], corner[1] + size[1]), stencil)

    def tint(self, strength: NDArray[np.floating], colour: Colour) -> None:
        """Blend the whole patch towards a colour by `strength` (H, W) in 0..1, dull where it is strong (dirt)."""
        mask = Image.fromarray((np.clip(strength, 0, 1) * 255).astype(np.uint8))
        self.colour.paste(colour, (0, 0, self.patch.width, self.patch.height), mask)
        self.finish.paste(
            DUST, (0, 0, self.patch.width, self.patch.height), mask.point(lambda value: 255 * (value > 90))
        )


class Atlas:
    """All patches of one vehicle."""

    def __init__(self) -> None:
        self._colour = Image.new("RGB", ATLAS_SIZE, (12, 12, 13))
        self._finish = Image.new("L", ATLAS_SIZE, PLASTIC)

    def put(self, canvas: Canvas) -> None:
        """Paste a finished canvas."""
        corner = (canvas.patch.left, canvas.patch.top)
        self._colour.paste(canvas.colour, corner)
        self._finish.paste(canvas.finish, corner)

    def plain(self, patch: Patch, colour: Colour, finish: int) -> None:
        """Fill a patch with one material."""
        box = (patch.left, patch.top, patch.left + patch.width, patch.top + patch.height)
        self._colour.paste(colour, box)
        self._finish.paste(finish, box)

    def levels(self) -> tuple[Level, ...]:
        """Return the mip levels, halving in size."""
        finish, colour, levels = np.asarray(self._finish), self._colour, []
        for _ in range(MIP_LEVELS):
            levels.append(Level(np.asarray(colour), finish))
            colour, finish = colour.reduce(2), np.ascontiguousarray(finish[::2, ::2])
        return tuple(levels)
