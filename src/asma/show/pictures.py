"""A clip as a strip of frames (PNG) and as a moving GIF: itself, what each encoder drops, and how much it moves."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.anatomy import anatomy
from ..data.runs import runs
from ..extras import extra
from ..mask_picture import Mask
from ..page import PERSONS
from ..plots import BACKGROUND, ENCODER_COLOURS, FAINT, INK, MUTED, PALETTE, new_figure, png, styled
from .clip import ShownClip

__all__ = ["clip_gif", "clip_strip"]

ENERGY = PALETTE[1]
POSES = 9
"""Skeletons in a strip."""
FAR = 3
"""How many quartile ranges from the middle half of all joints a joint may be to be on paper."""
MOST_FRAMES = 600
"""Frames of a GIF, which holds each of them as a picture; longer clips are thinned."""
PANEL, TITLE, CURVE, SCALE = 300, 34, 70, 2
"""Sizes in a GIF, and how much larger it is drawn, so that lines are smooth."""


def clip_strip(shown: ShownClip) -> bytes:
    """A PNG: even frames of the clip with the motion energy of joints, what each encoder drops, and the curve."""
    return png(_strip_figure(shown), dpi=110)


def clip_gif(shown: ShownClip, frames_per_second: float = 30.0) -> bytes:
    """A GIF that repeats for ever, of 600 frames at most."""
    T = shown.clip.frames
    frames = np.unique(np.linspace(0, T - 1, min(T, MOST_FRAMES)).round().astype(int))
    paper, palette = _paper(shown), _palette()
    pictures = [_gif_frame(shown, paper, int(frame), palette) for frame in frames]
    buffer = io.BytesIO()
    # Browsers slow down what is faster than 20 ms; the format counts hundredths of a second.
    duration = max(20, round(T / len(frames) * 100 / frames_per_second) * 10)
    pictures[0].save(
        buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, disposal=1
    )
    return buffer.getvalue()


def _paper(shown: ShownClip) -> NDArray[np.float64]:
    """(M, T, V, 2) as the camera sees it, y up, from -1 to 1 but for joints that are far off the others."""
    # Kinect's x grows to the camera's left; in pictures y grows downwards.
    flat = shown.data[..., :2].astype(np.float64) * ((1, -1) if shown.flat else (-1, 1))
    known = flat[np.isfinite(flat).all(-1)]
    if not len(known):
        return flat
    # Not a share of the joints: a head is a small one of those who stand up at the end.
    lower, upper = np.percentile(known, (25, 75), axis=0)
    reach = FAR * (upper - lower).max()
    near = np.where((known >= lower - reach) & (known <= upper + reach), known, np.nan)
    low, high = np.nanmin(near, axis=0), np.nanmax(near, axis=0)
    return np.asarray((flat - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-9))


def _bodies(shown: ShownClip) -> tuple[list[tuple[int, int]], list[int]]:
    head = anatomy(shown.header.skeleton).head
    return list(shown.header.skeleton.edges), head if len(head) == 1 else []


@styled
def _strip_figure(shown: ShownClip) -> Any:
    figure = new_figure(12.4, 7.2)
    grid = figure.add_gridspec(
        4, 1, height_ratios=(1, 1, 1, 0.5), left=0.012, right=0.988, top=0.895, bottom=0.045, hspace=0.2
    )
    rows: list[tuple[str, str, Mask | None]] = [("The clip, and how much its joints move", INK, None)]
    rows += [(mask.title, colour, mask) for mask, colour in zip(shown.masks, ENCODER_COLOURS, strict=True)]
    paper = _paper(shown)
    frames = np.linspace(0, shown.clip.frames - 1, min(POSES, shown.clip.frames)).round().astype(int)
    for row, (title, colour, mask) in enumerate(rows):
        axes = figure.add_subplot(grid[row])
        axes.set_title(title, loc="left", fontsize=10.5, color=colour, fontweight="bold", pad=4)
        _bare(axes)
        for place, frame in enumerate(frames):
            _pose(axes, shown, paper[:, frame], int(frame), 2.1 * place, mask, colour)
            axes.text(2.1 * place + 0.98, -1.08, str(frame), fontsize=8, color=MUTED, ha="right", va="bottom")
        axes.set_xlim(-1.05, 2.1 * (POSES - 1) + 1.05)
        axes.set_ylim(-1.12, 1.12)
        axes.set_aspect("equal")
    _curve(figure.add_subplot(grid[3]), shown, frames)
    facts = ", ".join(f"{name} {value}" for name, value in shown.facts.items() if name not in ("set", "class"))
    what = " · ".join([shown.clip.name, *(shown.facts[name] for name in ("class", "set") if name in shown.facts)])
    figure.text(0.014, 0.985, _short(what, 110), fontsize=12, color=INK, va="top", fontweight="bold")
    figure.text(0.014, 0.951, _short(facts, 150), fontsize=9.5, color=MUTED, va="top")
    return figure


def _pose(
    axes: Any, shown: ShownClip, pose: NDArray[np.float64], frame: int, x: float, mask: Mask | None, colour: str
) -> None:
    edges, head = _bodies(shown)
    dropped = mask.joints if mask is not None else np.zeros(pose.shape[1], np.bool_)
    gone = mask is not None and mask.frames[frame]
    if gone:
        axes.axvspan(x - 1.02, x + 1.02, color=colour, alpha=0.13, linewidth=0, zorder=0)
    # Who walks stays in the middle of the place that the frame has on paper.
    known = pose[np.isfinite(pose).all(-1)]
    middle = (known[:, 0].min() + known[:, 0].max()) / 2 if len(known) else 0.0
    most = max(float(shown.joint_energy.max(initial=0)), float(np.finfo(np.float32).tiny))
    for person, points in enumerate(pose - np.array([middle - x, 0])):
        there = np.isfinite(points).all(-1)
        ink = FAINT if gone else PERSONS[person % len(PERSONS)]
        for a, b in edges:
            if there[a] and there[b]:
                lost = dropped[a] or dropped[b]
                axes.plot(
                    *points[[a, b]].T, color=FAINT if lost else ink, linewidth=0.9 if lost else 1.5,
                    linestyle=(0, (1, 1.6)) if lost else "-", solid_capstyle="round", zorder=2,
                )  # fmt: skip
        size = np.full(len(points), 6.0)
        size[head] = 26
        here = there & ~dropped
        axes.scatter(*points[here].T, s=size[here], color=ink, zorder=3, linewidths=0)
        here = there & dropped
        axes.scatter(*points[here].T, s=size[here] * 2, facecolor=BACKGROUND, edgecolor=colour, linewidths=1, zorder=4)
        if mask is None:
            moved = np.sqrt(shown.joint_energy[person, frame] / most)
            axes.scatter(*points[there].T, s=90 * moved[there], color=ENERGY, alpha=0.75, zorder=1, linewidths=0)


def _curve(axes: Any, shown: ShownClip, frames: NDArray[np.int64]) -> None:
    energy = _root(shown)
    axes.plot(energy, color=INK, linewidth=1.5, marker="o" if len(energy) == 1 else None, markersize=3)
    axes.fill_between(np.arange(len(energy)), energy, color=INK, alpha=0.07, linewidth=0)
    axes.scatter(frames, energy[frames], s=16, color=ENERGY, zorder=3)
    for number, (mask, colour) in enumerate(zip(shown.masks, ENCODER_COLOURS, strict=True)):
        for begin, end in runs(mask.frames):
            low = -0.14 - 0.14 * number
            axes.fill_between((begin - 0.5, end - 0.5), low - 0.09, low, color=colour, linewidth=0)
    axes.set_xlim(-0.6, max(len(energy) - 0.4, 0.6))
    axes.set_ylim(-0.42, 1.1)
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=2, labelsize=8.5, pad=1)
    title = "Motion energy of each frame (square-root scale), and the frames that each encoder drops"
    axes.set_title(title, loc="left", fontsize=10.5, pad=4)


def _gif_frame(shown: ShownClip, paper: NDArray[np.float64], frame: int, palette: Any) -> Any:
    image_module, draw_module = extra("PIL.Image"), extra("PIL.ImageDraw")
    width, height = 3 * PANEL * SCALE, (TITLE + PANEL + CURVE) * SCALE
    image = image_module.new("RGB", (width, height), BACKGROUND)
    pen = draw_module.Draw(image)
    panels: list[tuple[str, str, Mask | None]] = [(_short(shown.clip.name, 30), INK, None)]
    for number, colour in enumerate(ENCODER_COLOURS):
        panels.append((f"encoder {number + 1} drops", colour, shown.masks[number]))
    for place, (title, colour, mask) in enumerate(panels):
        _gif_panel(image, pen, shown, paper[:, frame], frame, place, mask, colour)
        at = ((place + 0.5) * PANEL * SCALE, TITLE * SCALE / 2)
        pen.text(at, title, fill=colour, font=_font(), anchor="mm")
    _gif_curve(pen, shown, frame)
    small = image.reduce(SCALE)
    return small.quantize(palette=palette, dither=image_module.Dither.NONE)


def _palette() -> Any:
    """All colours of a GIF and the steps between them that smooth edges need, the same for all frames."""
    papers = [(255, 255, 255), *(_pale(colour) for colour in ENCODER_COLOURS)]
    inks = [_rgb(colour) for colour in (INK, FAINT, ENERGY, *ENCODER_COLOURS, *PERSONS)]
    ends = [(ink, paper) for ink in inks for paper in papers]
    steps = np.linspace(0, 1, 9)[:, None, None] * np.diff(np.array(ends), axis=1)[:, 0] + [ink for ink, _ in ends]
    colours = np.unique(np.rint(steps).reshape(-1, 3).astype(np.uint8), axis=0)
    image = extra("PIL.Image").new("P", (1, 1))
    image.putpalette(np.resize(colours, (256, 3)).tobytes())
    return image


def _gif_panel(
    image: Any, pen: Any, shown: ShownClip, pose: NDArray[np.float64], frame: int, place: int, mask: Mask | None,
    colour: str,
) -> None:  # fmt: skip
    edges, head = _bodies(shown)
    dropped = mask.joints if mask is not None else np.zeros(pose.shape[1], np.bool_)
    gone = mask is not None and mask.frames[frame]
    left, top = place * PANEL * SCALE, TITLE * SCALE
    if gone:
        pen.rectangle((left + 6, top, left + PANEL * SCALE - 6, top + PANEL * SCALE), fill=_pale(colour))
    half = PANEL * SCALE / 2
    points = np.stack([left + half + pose[..., 0] * 0.88 * half, top + half - pose[..., 1] * 0.88 * half], -1)
    for person, joints in enumerate(points):
        there = np.isfinite(joints).all(-1)
        ink = FAINT if gone else PERSONS[person % len(PERSONS)]
        for a, b in edges:
            if there[a] and there[b]:
                lost = dropped[a] or dropped[b]
                ends = [*joints[a], *joints[b]]
                pen.line(ends, fill=FAINT if lost else ink, width=(1 if lost else 3) * SCALE)
        for joint in np.flatnonzero(there):
            x, y = joints[joint]
            radius = (7 if joint in head else 3.5 if dropped[joint] else 2.5) * SCALE
            box = (x - radius, y - radius, x + radius, y + radius)
            if dropped[joint]:
                pen.ellipse(box, fill=BACKGROUND, outline=colour, width=2 * SCALE)
            else:
                pen.ellipse(box, fill=ink)


def _gif_curve(pen: Any, shown: ShownClip, frame: int) -> None:
    energy = _root(shown)
    left, right = 16 * SCALE, (3 * PANEL - 16) * SCALE
    top, floor = (TITLE + PANEL + 4) * SCALE, (TITLE + PANEL + CURVE - 22) * SCALE
    step = (right - left) / max(len(energy) - 1, 1)
    for number, (mask, colour) in enumerate(zip(shown.masks, ENCODER_COLOURS, strict=True)):
        for begin, end in runs(mask.frames):
            low = floor + (5 + 7 * number) * SCALE
            box = (left + (begin - 0.45) * step, low, left + (end - 0.55) * step, low + 4 * SCALE)
            pen.rectangle(box, fill=colour)
    line = [(left + t * step, floor - value * (floor - top)) for t, value in enumerate(energy)]
    pen.line([(left, floor), (right, floor)], fill=FAINT, width=SCALE // 2)
    if len(line) > 1:
        pen.line(line, fill=INK, width=3 * SCALE // 2, joint="curve")
    x, y = line[frame]
    pen.line([(x, top), (x, floor + 18 * SCALE)], fill=ENERGY, width=SCALE)
    pen.ellipse((x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE), fill=ENERGY)


def _root(shown: ShownClip) -> NDArray[np.float32]:
    """(T) from 0 to 1; the square root, so that what little moves can be told from what moves less."""
    most = max(float(shown.energy.max(initial=0)), float(np.finfo(np.float32).tiny))
    return np.asarray(np.sqrt(shown.energy / most))


def _font() -> Any:
    font = extra("matplotlib.font_manager").findfont("DejaVu Sans")
    return extra("PIL.ImageFont").truetype(font, 14 * SCALE)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _pale(colour: str) -> tuple[int, ...]:
    return tuple(255 - (255 - part) // 7 for part in _rgb(colour))


def _short(text: str, most: int) -> str:
    """One line that fits."""
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
