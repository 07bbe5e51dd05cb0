"""A clip as pages and pictures need it: one array, how much it moves, and what both encoders drop of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import asma_kernels

from ..config import DataConfig, MaskConfig
from ..data.dense import dense
from ..data.source import UNKNOWN, Clip, Header, LeftOut, Source
from ..mask_picture import Mask, draw_masks

__all__ = ["ShownClip", "find_clip", "shown"]

MOST_NAMES = 3


@dataclass(frozen=True, eq=False)
class ShownClip:
    """One clip of M persons, T frames and V joints.

    Attributes:
        data: (M, T, V, 3) float32, NaN where a joint is not known; y is up, or down in pictures ("xys").
        persons: (M) their numbers in the clip.
        joint_energy: (M, T, V) motion energy, 0 where it is not known.
        energy: (T) its mean over joints and the persons who are there.
        masks: what each encoder drops.
    """

    clip: Clip
    header: Header
    data: NDArray[np.float32]
    persons: tuple[int, ...]
    joint_energy: NDArray[np.float32]
    energy: NDArray[np.float32]
    masks: tuple[Mask, Mask]

    @property
    def flat(self) -> bool:
        """Whether it is of a picture: two coordinates and a score."""
        return self.header.channels == "xys"

    @property
    def facts(self) -> dict[str, str]:
        """What is known of the clip, in words."""
        clip, header = self.clip, self.header
        found = {"set": header.title}
        if 0 <= clip.label < len(header.classes):
            found["class"] = header.classes[clip.label]
        for name, value in (("subject", clip.subject), ("view", clip.view)):
            if value != UNKNOWN:
                found[name] = str(value)
        if clip.splits:
            found["splits"] = ", ".join(clip.splits)
        found |= {"frames": str(clip.frames), "persons": str(len(self.persons))}
        found["joints"] = f"{header.skeleton.num_joints} of {header.skeleton.name}, {'2D' if self.flat else '3D'}"
        return found


def find_clip(source: Source, which: str = "0") -> Clip:
    """A clip by its name, or by its number from 0 in the order of the source.

    A name goes before a number. Parts whose name holds the clip's are read first, then all from the beginning on.

    Raises:
        ValueError: there is no such clip; the message says which names are near, or why it was left out.
    """
    number = int(which) if which.isascii() and which.isdigit() else -1
    likely = [part for part in source.parts if which in part] if number < 0 else []
    names: list[str] = []
    refusals: list[LeftOut] = []
    for part in [*likely, *(part for part in source.parts if part not in set(likely))]:
        numbered = None
        for entry in _entries(source, part):
            if isinstance(entry, LeftOut):
                refusals.append(entry)
            elif entry.name == which:
                return entry
            else:
                numbered = entry if len(names) == number else numbered
                names.append(entry.name)
        if numbered is not None:
            return numbered
    for refusal in refusals:
        if number < 0 and which in refusal.source:
            where = "" if refusal.reason.startswith(refusal.source) else f"{refusal.source}: "
            raise ValueError(f"show: clip {which!r} cannot be read: {where}{refusal.reason}")
    if number >= 0:
        raise ValueError(f"show: a clip's number must be in [0, {len(names)}), got {number}")
    near = difflib.get_close_matches(which, names, MOST_NAMES) or names[:MOST_NAMES]
    raise ValueError(f"show: no clip is called {which!r}, others are {', '.join(map(repr, near)) or 'not there'}")


def shown(clip: Clip, header: Header, seed: int = 0) -> ShownClip:
    """A clip with its motion energy and both encoders' masks, by the ops that make them in training.

    Frames are dropped in the share that training drops by motion, of the clip as it is: training resamples it first.
    Energy is within a track, so that a person who enters does not count as motion, and of pictures without the score.

    Args:
        seed: of the joints, which are drawn.
    """
    body = dense(clip, header)
    data = np.where(np.isfinite(body.data).all(3, keepdims=True), body.data, np.nan)
    joint_energy = np.zeros(data.shape[:3], np.float32)
    for person, frames in enumerate(data[..., : 2 if header.channels == "xys" else 3]):
        known = np.isfinite(frames).all(2)
        x = torch.from_numpy(np.where(known[..., None], frames, 0).transpose(2, 0, 1).copy())[None, ..., None]
        moved = asma_kernels.motion_energy(x, "frame_joint")[0].numpy()
        # A place that is not known is no motion.
        moved[:-1][~(known[1:] & known[:-1])] = 0
        joint_energy[person] = np.nan_to_num(moved)
    energy = joint_energy.mean(2, dtype=np.float64).sum(0) / np.maximum(body.there.sum(0), 1)
    energy = energy.clip(max=np.finfo(np.float32).max).astype(np.float32)
    joints = min(MaskConfig.joints, max(1, header.skeleton.num_joints // 2))
    sizes = MaskConfig(joints=joints, frames=clip.frames * MaskConfig.frames // DataConfig.frames, extra_frames=0)
    masks = draw_masks(torch.from_numpy(energy)[None], header.skeleton, sizes, seed)
    return ShownClip(clip, header, data, tuple(body.persons), joint_energy, energy, masks)


def _entries(source: Source, part: str) -> Iterator[Clip | LeftOut]:
    """What can be read of a part, and at its end why the rest cannot."""
    try:
        yield from source.read(part)
    except (ValueError, OSError) as error:
        yield LeftOut(part, " ".join(str(error).split()))
