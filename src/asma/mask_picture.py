"""One clip and what both encoders of ASMa mask in it, as numbers and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import asma_kernels
from asma_kernels import Skeleton

from .config import MASKS, MaskConfig
from .data.runs import runs
from .plots import BACKGROUND, ENCODER_COLOURS, FAINT, INK, MUTED, new_figure, styled

__all__ = ["Mask", "MaskedClip", "draw_masks", "mask_clip", "mask_figure", "upright"]

POSES = 11
"""Skeletons in a strip."""
BODY_WIDTH = 0.86
"""Of a skeleton in a strip, in steps between two of them, at most."""


@dataclass(frozen=True)
class Mask:
    """What one encoder does not see of a clip."""

    title: str
    joints: NDArray[np.bool_]
    """(V) dropped from the graph in the spatial view."""
    frames: NDArray[np.bool_]
    """(T) dropped in the temporal view."""


@dataclass(frozen=True)
class MaskedClip:
    """A clip, how much it moves, and the masks of two encoders."""

    title: str
    clip: NDArray[np.float32]
    """(T, V, 3), y up."""
    skeleton: Skeleton
    energy: NDArray[np.float32]
    """(T) motion energy of each frame, in units of the clip squared."""
    masks: tuple[Mask, Mask]


def mask_clip(
    clip: NDArray[np.float32], skeleton: Skeleton, sizes: MaskConfig | None = None, seed: int = 0, title: str = ""
) -> MaskedClip:
    """Both encoders' masks of one clip, by the ops that make them in training.

    Frames are dropped by motion only: those that training drops by chance besides would hide what the choice is.

    Args:
        clip: (T, V, 3) float32, y up.
        skeleton: of the V joints.
        sizes: how many joints and frames to drop, and how joints are chosen; degree and motion are the encoders' own.
        seed: of the joints, which are drawn.
        title: what the clip is.

    Raises:
        ValueError: clip and skeleton do not fit, or more is to be dropped than there is.
    """
    if clip.ndim != 3 or clip.shape[1:] != (skeleton.num_joints, 3):
        raise ValueError(f"mask_clip: clip must be (T, {skeleton.num_joints}, 3), got shape {clip.shape}")
    x = torch.from_numpy(np.ascontiguousarray(clip.transpose(2, 0, 1)))[None, ..., None]
    energy = asma_kernels.motion_energy(x, "frame")
    masks = draw_masks(energy, skeleton, sizes or MaskConfig(), seed)
    return MaskedClip(title, clip, skeleton, energy[0].numpy(), masks)


def draw_masks(energy: torch.Tensor, skeleton: Skeleton, sizes: MaskConfig, seed: int) -> tuple[Mask, Mask]:
    """What both encoders drop of a clip whose frames have that motion energy, (1, T)."""
    first, second = (replace(sizes, degree=MASKS[name].degree, motion=MASKS[name].motion) for name in ("e1", "e2"))
    return _draw(first, 1, energy, skeleton, seed), _draw(second, 2, energy, skeleton, seed)


def _draw(config: MaskConfig, number: int, energy: torch.Tensor, skeleton: Skeleton, seed: int) -> Mask:
    weights_of = asma_kernels.high_degree_weights if config.degree == "high" else asma_kernels.low_degree_weights
    rng = asma_kernels.rng.seed_tensor(seed, call=number)
    drawn = asma_kernels.joint_mask(weights_of(skeleton.degrees), config.joints, 1, rng, config.joint_mode)
    kept = asma_kernels.frame_mask(energy, config.frames, config.motion)
    frames = np.ones(energy.shape[1], np.bool_)
    frames[kept[0].numpy()] = False
    what = f"{config.joints} {config.degree}-degree joints and {config.frames} {config.motion}-motion frames"
    return Mask(f"Encoder {number} masks {what}", drawn.mask[0].numpy(), frames)


@styled
def mask_figure(masked: MaskedClip) -> Any:
    """The clip as a strip of skeletons for each encoder, with the motion energy curve between them.

    Left, the joints that the encoder loses in its spatial view; right, the frames that it loses in its temporal view.

    Returns:
        A matplotlib Figure.
    """
    figure = new_figure(12.4, 6.7)
    grid = figure.add_gridspec(
        3, 2, width_ratios=(1.0, 5.0), height_ratios=(1.0, 0.5, 1.0),
        left=0.012, right=0.988, top=0.865, bottom=0.02, hspace=0.38, wspace=0.03,
    )  # fmt: skip
    flat = upright(masked.clip, masked.skeleton.centre)
    turned = upright(_widest(masked.clip), masked.skeleton.centre)
    # The pose that hides least of the joints behind one another.
    pose = turned[np.ptp(turned[..., 0], axis=1).argmax()]
    for row, mask, colour in ((0, masked.masks[0], ENCODER_COLOURS[0]), (2, masked.masks[1], ENCODER_COLOURS[1])):
        body = figure.add_subplot(grid[row, 0])
        _joint_panel(body, masked, pose, mask, colour)
        _strip(figure.add_subplot(grid[row, 1]), masked, flat, mask, colour)
        top = body.get_subplotspec().get_position(figure).y1
        figure.text(0.014, top + 0.022, mask.title, fontsize=13, color=colour, fontweight="bold")
    _energy(figure.add_subplot(grid[1, 1]), masked)
    _key(figure.add_subplot(grid[1, 0]))
    figure.text(0.014, 0.978, masked.title, fontsize=11.5, color=MUTED, va="top")
    return figure


def upright(clip: NDArray[np.float32], centre: int) -> NDArray[np.float32]:
    """(T, V, 2): seen along z, each frame's centre joint at x = 0, the clip from 0 to 1 in y."""
    flat = clip[..., :2].astype(np.float32)
    flat[..., 0] -= flat[:, centre, 0][:, None]
    flat[..., 1] -= flat[..., 1].min()
    return flat / max(float(flat[..., 1].max()), float(np.finfo(np.float32).tiny))


def _widest(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """The clip turned about y so that the body is widest along x: seen from the front or the back."""
    floor = clip[..., [0, 2]] - clip[..., [0, 2]].mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(np.einsum("tvi,tvj->ij", floor, floor))
    across = directions[:, 1] * (1 if directions[0, 1] >= 0 else -1)
    turned = clip.astype(np.float32)
    turned[..., 0] = clip[..., [0, 2]] @ across
    return turned


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_body(
    axes: Any, pose: NDArray[np.float32], masked: MaskedClip, dropped: NDArray[np.bool_], colour: str,
    ink: str, width: float, joint: float,
) -> None:  # fmt: skip
    """Bones and joints of one pose (V, 2); a bone with a dropped end is gone with it and only dotted."""
    for a, b in masked.skeleton.edges:
        gone = dropped[a] or dropped[b]
        axes.plot(
            *pose[[a, b]].T, color=FAINT if gone else ink, linewidth=width * (0.6 if gone else 1),
            linestyle=(0, (1, 1.6)) if gone else "-", solid_capstyle="round", zorder=2,
        )  # fmt: skip
    axes.scatter(*pose[~dropped].T, s=joint, color=ink, zorder=3, linewidths=0)
    axes.scatter(*pose[dropped].T, s=joint * 2.2, facecolor=BACKGROUND, edgecolor=colour, linewidths=width, zorder=4)


def _joint_panel(axes: Any, masked: MaskedClip, pose: NDArray[np.float32], mask: Mask, colour: str) -> None:
    _bare(axes)
    _draw_body(axes, pose, masked, mask.joints, colour, INK, 1.9, 16)
    axes.set_aspect("equal")
    axes.margins(0.09, 0.05)


def _strip(axes: Any, masked: MaskedClip, flat: NDArray[np.float32], mask: Mask, colour: str) -> None:
    frames = np.linspace(0, len(flat) - 1, POSES).round().astype(int)
    step = (len(flat) - 1) / (POSES - 1)
    none = np.zeros(len(mask.joints), np.bool_)
    # One unit of height is as long on paper as this many frames; narrower where arms would touch the neighbour.
    box = axes.get_position()
    paper = axes.figure.get_size_inches()
    length = (len(flat) + 1.5) * (box.height * paper[1]) / (box.width * paper[0]) / 1.14
    length = min(length, BODY_WIDTH * step * 1.25 / np.ptp(flat[..., 0], axis=1).mean())
    for begin, end in runs(mask.frames):
        axes.axvspan(begin - 0.5, end - 0.5, color=colour, alpha=0.13, linewidth=0, zorder=0)
    for frame in frames:
        pose = flat[frame] * (length, 1) + (frame, 0)
        gone = mask.frames[frame]
        _draw_body(axes, pose, masked, none, colour, FAINT if gone else INK, 1.0 if gone else 1.5, 4 if gone else 8)
    _bare(axes)
    axes.set_xlim(-step / 2 - 0.25, len(flat) - 0.75 + step / 2)
    axes.set_ylim(-0.04, 1.10)


def _energy(axes: Any, masked: MaskedClip) -> None:
    time = np.arange(len(masked.energy))
    # The square root, so that what little moves can be told from what moves less.
    energy = np.sqrt(masked.energy / max(float(masked.energy.max()), float(np.finfo(np.float32).tiny)))
    step = (len(energy) - 1) / (POSES - 1)
    for mask, colour in zip(masked.masks, ENCODER_COLOURS, strict=True):
        for begin, end in runs(mask.frames):
            axes.axvspan(begin - 0.5, end - 0.5, color=colour, alpha=0.13, linewidth=0)
        axes.scatter(time[mask.frames], energy[mask.frames], s=26, color=colour, zorder=4)
    axes.plot(time, energy, color=INK, linewidth=1.6, zorder=3)
    axes.scatter(time, energy, s=7, color=INK, zorder=3, linewidths=0)
    axes.set_xlim(-step / 2 - 0.25, len(energy) - 0.75 + step / 2)
    axes.set_ylim(-0.06, 1.12)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
    axes.set_title("Motion energy of each frame (square-root scale)", fontsize=10.5, color=INK, loc="left", pad=3)


def _key(axes: Any) -> None:
    """What the marks mean, in the corner between the two bodies."""
    _bare(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for height, colour in ((0.92, ENCODER_COLOURS[0]), (0.66, ENCODER_COLOURS[1])):
        axes.scatter([0.07], [height], s=32, facecolor=BACKGROUND, edgecolor=colour, linewidths=1.7)
    axes.text(0.17, 0.79, "joint dropped from the graph", fontsize=9, color=INK, va="center")
    for offset, colour in ((0.0, ENCODER_COLOURS[0]), (0.075, ENCODER_COLOURS[1])):
        axes.axvspan(0.015 + offset, 0.08 + offset, 0.10, 0.42, color=colour, alpha=0.3, linewidth=0)
    axes.text(0.17, 0.26, "  frame dropped", fontsize=9, color=INK, va="center")
