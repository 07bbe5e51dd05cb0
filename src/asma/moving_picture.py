"""A clip that plays in a page, beside what each encoder of ASMa sees of it: SVG without a script."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from .mask_picture import MaskedClip, upright
from .plots import BACKGROUND, ENCODER_COLOURS, FAINT, INK

__all__ = ["moving_picture"]

PANEL, HEIGHT, TOP, FLOOR = 340, 300, 54, 18
"""Width of a panel and height of the picture, space for its title and below the feet, in SVG units."""
FRAMES_PER_SECOND = 12
"""Slow enough to see single frames being lost."""


def moving_picture(masked: MaskedClip) -> str:
    """The clip in three panels, as an SVG element that repeats for ever: all of it, and what each encoder loses.

    Lost joints are open circles and their bones are dotted; in a lost frame the body turns pale and the panel's
    background turns to the encoder's colour.
    """
    flat = upright(masked.clip, masked.skeleton.centre)
    scale = min(HEIGHT - TOP - FLOOR, (PANEL - 40) / max(float(2 * np.abs(flat[..., 0]).max()), 1e-6))
    paper = np.stack([flat[..., 0] * scale, HEIGHT - FLOOR - flat[..., 1] * scale], -1)
    nothing = np.zeros(paper.shape[1], np.bool_), np.zeros(len(paper), np.bool_)
    panels = [_panel(0, "The clip", INK, paper, masked, *nothing)]
    for place, (mask, colour) in enumerate(zip(masked.masks, ENCODER_COLOURS, strict=True), 1):
        panels.append(_panel(place, f"Encoder {place} loses", colour, paper, masked, mask.joints, mask.frames))
    return (
        f'<svg viewBox="0 0 {3 * PANEL} {HEIGHT}" role="img" aria-label="The clip and what each encoder loses of it"'
        f' style="max-width:{3 * PANEL}px" font-family="system-ui, DejaVu Sans, sans-serif">{"".join(panels)}</svg>'
    )


def _panel(
    place: int, title: str, colour: str, paper: NDArray[np.float32], masked: MaskedClip, joints: NDArray[np.bool_],
    frames: NDArray[np.bool_],
) -> str:  # fmt: skip
    seconds = len(paper) / FRAMES_PER_SECOND
    moving = paper + np.array([(place + 0.5) * PANEL, 0], np.float32)
    body = []
    for a, b in masked.skeleton.edges:
        gone = joints[a] or joints[b]
        pen = (
            f'stroke="{FAINT}" stroke-width="1.6" stroke-dasharray="2 4"'
            if gone
            else f'stroke="{INK}" stroke-width="3.2"'
        )
        ends = (("x1", a, 0), ("y1", a, 1), ("x2", b, 0), ("y2", b, 1))
        body.append(
            f"<line {pen}>" + "".join(_animate(name, moving[:, v, axis], seconds) for name, v, axis in ends) + "</line>"
        )
    for v, gone in enumerate(joints):
        dot = f'r="5" fill="{BACKGROUND}" stroke="{colour}" stroke-width="2.4"' if gone else f'r="2.9" fill="{INK}"'
        body.append(
            f"<circle {dot}>"
            + _animate("cx", moving[:, v, 0], seconds)
            + _animate("cy", moving[:, v, 1], seconds)
            + "</circle>"
        )
    x = place * PANEL
    style = f'text-anchor="middle" font-size="17" font-weight="600" fill="{colour}"'
    text = f'<text x="{x + PANEL / 2}" y="26" {style}>{escape(title)}</text>'
    if not frames.any():
        return text + f'<g stroke-linecap="round">{"".join(body)}</g>'
    lost = _switch("opacity", np.where(frames, 0.16, 0.0), seconds)
    pale = _switch("opacity", np.where(frames, 0.3, 1.0), seconds)
    shade = f'<rect x="{x + 8}" y="38" width="{PANEL - 16}" height="{HEIGHT - 42}" rx="8" fill="{colour}">{lost}</rect>'
    return shade + text + f'<g stroke-linecap="round">{pale}{"".join(body)}</g>'


def _animate(name: str, values: NDArray[np.float32], seconds: float) -> str:
    listed = ";".join(f"{value:.1f}" for value in values)
    return f'<animate attributeName="{name}" values="{listed}" dur="{seconds:.2f}s" repeatCount="indefinite"/>'


def _switch(name: str, values: NDArray[np.float64], seconds: float) -> str:
    listed = ";".join(f"{value:g}" for value in values)
    return (
        f'<animate attributeName="{name}" values="{listed}" dur="{seconds:.2f}s" calcMode="discrete"'
        ' repeatCount="indefinite"/>'
    )
