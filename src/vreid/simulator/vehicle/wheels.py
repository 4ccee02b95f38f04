"""Painting wheels."""

from __future__ import annotations

import math

from vreid.simulator.vehicle.canvas import ALLOY, DULL_ALLOY, PLASTIC, RUBBER, Canvas
from vreid.simulator.vehicle.marks import Wheel
from vreid.simulator.vehicle.mesh import Patch


def paint_wheel(patch: Patch, wheel: Wheel) -> Canvas:
    """Paint a wheel's face; lengths are shares of its radius."""
    canvas = Canvas(patch.over(-1, 1, -1, 1), (17, 17, 18), RUBBER)
    dark = (int(wheel.colour[0] * 0.22), int(wheel.colour[1] * 0.22), int(wheel.colour[2] * 0.22))
    finish = ALLOY if wheel.shiny else DULL_ALLOY
    canvas.ellipse(0, 0, 0.72, 0.72, (24, 24, 25), PLASTIC)
    canvas.ellipse(0, 0, 0.69, 0.69, wheel.colour if wheel.lip else dark, finish)
    canvas.ellipse(0, 0, 0.63, 0.63, dark, PLASTIC)
    turns = [wheel.phase + 2 * math.pi * k / wheel.spokes for k in range(wheel.spokes)]
    if wheel.kind == 0:
        for turn in turns:
            wide = wheel.spoke_width
            corners = ((0.12, -2 * wide), (0.66, -wide), (0.66, wide), (0.12, 2 * wide))
            canvas.polygon([(r * math.cos(turn + a), r * math.sin(turn + a)) for r, a in corners], wheel.colour, finish)
    else:
        canvas.ellipse(0, 0, 0.62, 0.62, wheel.colour, finish)
        if wheel.kind == 1:
            for turn in turns:
                hole = 0.06 + 0.5 * wheel.spoke_width
                canvas.ellipse(0.43 * math.cos(turn), 0.43 * math.sin(turn), hole, hole, (15, 15, 15), RUBBER)
        else:
            shade = (int(wheel.colour[0] * 0.6), int(wheel.colour[1] * 0.6), int(wheel.colour[2] * 0.6))
            canvas.ellipse(0, 0, 0.36, 0.36, shade, finish)
            for turn in turns:
                canvas.line(
                    [(0.38 * math.cos(turn), 0.38 * math.sin(turn)), (0.6 * math.cos(turn), 0.6 * math.sin(turn))],
                    shade,
                    0.04,
                )
    canvas.ellipse(0, 0, 0.15, 0.15, wheel.colour, finish)
    canvas.ellipse(0, 0, 0.08, 0.08, dark, finish)
    return canvas
