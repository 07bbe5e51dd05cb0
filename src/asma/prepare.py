"""From clips of different lengths to the tensors that encoders take: one way for training, tests and predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asma_kernels import Skeleton

from .config import DataConfig
from .data import ClipSet, centre_clips, centre_frames, face_forward, open_clips, scale_body


class Split(NamedTuple):
    """Training and test clips, as they are and as tensors (N, 3, T, V, 1) float32."""

    train: ClipSet
    test: ClipSet
    train_x: torch.Tensor
    test_x: torch.Tensor


def open_split(config: DataConfig) -> Split:
    """Open the clips that the config names, split them by its protocol and prepare both sides.

    Raises:
        FileNotFoundError, ValueError: the clips cannot be read, split or prepared.
    """
    clips = open_clips(config.clips)
    try:
        train, test = clips.split(config.protocol or clips.usual_split)
    except ValueError as error:
        if config.protocol:
            raise
        raise ValueError(
            f"{config.clips} names its usual split as {clips.usual_split!r}, which is no protocol: "
            "give one by --data.protocol, for example subject-odd-even"
        ) from error
    return Split(train, test, prepare(train, config), prepare(test, config))


def prepare(clips: ClipSet, config: DataConfig) -> torch.Tensor:
    """Resample to T frames, place, turn and scale the body, and take the stream: (N, 3, T, V, 1) float32.

    Raises:
        ValueError: the skeleton lacks the joints that the config turns it by, or parents for bones.
    """
    x = clips.resample(config.frames)
    centre = clips.skeleton.centre
    if config.centre == "frame":
        x = centre_frames(x, centre)
    elif config.centre == "clip":
        x = centre_clips(x, centre)
    if config.face != "none":
        x = face_forward(x, *pair(clips.skeleton, config.face))
    if config.scale:
        x = scale_body(x, clips.skeleton.edges)
    return torch.from_numpy(np.ascontiguousarray(stream(x, clips.skeleton, config.stream)))


def stream(x: NDArray[np.float32], skeleton: Skeleton, name: str) -> NDArray[np.float32]:
    """Coordinates; each joint minus its parent; or each frame subtracted from the next, 0 in the last (PSTL)."""
    if name == "bone":
        return x - x[:, :, :, list(skeleton.parents)]
    if name == "motion":
        return np.diff(x, axis=2, append=x[:, :, -1:])
    return x


def pair(skeleton: Skeleton, name: str) -> tuple[int, int]:
    """The left and the right joint of ``hips`` or ``shoulders``, found by their names.

    Raises:
        ValueError: the skeleton has no such names.

    >>> pair(Skeleton.builtin("ntu25"), "hips")
    (12, 16)
    """
    found = []
    for side in ("left", "right"):
        wanted = {side, name.removesuffix("s")}
        matches = [joint for joint, words in enumerate(skeleton.names) if wanted == set(words.lower().split("_"))]
        if len(matches) != 1:
            joint = f"{side}_{name.removesuffix('s')}"
            raise ValueError(f"data.face must be none: the skeleton {skeleton.name} has no joint named {joint}")
        found += matches
    return found[0], found[1]
