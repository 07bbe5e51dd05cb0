"""From clips of different lengths to the tensors that encoders take: one way for training, tests and predictions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from asma_kernels import Skeleton

from .config import DataConfig
from .data import Clips, centre_clips, centre_frames, face_forward, open_clips, scale_body
from .data.joints import joint_pair
from .data.mapped import MappedClips
from .data.pipelines import PIPELINES, pyskl
from .data.samplers import Sample


class Prepared:
    """Clips of a set as encoders take them, each made when it is asked for; the same whichever others are."""

    def __init__(self, clips: Clips, config: DataConfig) -> None:
        """
        Raises:
            ValueError: the clips cannot be prepared in this way.
        """
        self.clips, self.config = clips, config
        self.rows(np.zeros(1, np.int64))  # what cannot be done is said now

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, T, V, M)."""
        config, joints = self.config, self.clips.skeleton.num_joints
        return len(self.clips), len(self.clips.channels), config.frames, joints, config.persons

    @property
    def drawn(self) -> bool:
        """Whether a sample makes a difference."""
        return self.config.draw

    def rows(self, index: NDArray[np.int64], sample: Sample | None = None) -> torch.Tensor:
        """Clips of `index` (B): (B, 3, T, V, M) float32, drawn by a sample, or as tests take them."""
        return prepare(self.clips, self.config, index, sample if self.drawn else None)


class Split:
    """Training and test clips, as they are and, made at first use, as tensors (N, 3, T, V, M) float32."""

    def __init__(self, train: Clips, test: Clips, config: DataConfig) -> None:
        self.train, self.test = train, test
        self.prepared, self._test = Prepared(train, config), Prepared(test, config)

    @cached_property
    def train_x(self) -> torch.Tensor:
        """All training clips."""
        return self.prepared.rows(np.arange(len(self.train)))

    @cached_property
    def test_x(self) -> torch.Tensor:
        """All test clips."""
        return self._test.rows(np.arange(len(self.test)))


def open_split(config: DataConfig, skeleton: Skeleton | None = None) -> Split:
    """Open the clips that the config names, split them by its protocol and prepare both sides.

    Args:
        config: which clips, and how.
        skeleton: of the encoder that takes them; clips with other joints are mapped to it.

    Raises:
        FileNotFoundError, ValueError: the clips cannot be read, split or prepared.
    """
    clips: Clips = open_clips(config.clips)
    if skeleton is not None and clips.skeleton.names != skeleton.names:
        clips = MappedClips(clips, skeleton)
    try:
        train, test = clips.split(config.protocol or clips.usual_split)
    except ValueError as error:
        if config.protocol:
            raise
        raise ValueError(
            f"{config.clips} names its usual split as {clips.usual_split!r}, which is no protocol: "
            "give one by --data.protocol, for example subject-odd-even"
        ) from error
    return Split(train, test, config)


def prepare(
    clips: Clips, config: DataConfig, index: ArrayLike | None = None, sample: Sample | None = None
) -> torch.Tensor:
    """Cut to T frames, place, turn and scale the body, and take the stream: (N, 3, T, V, M) float32.

    The score of clips with channels xys stays as it is; they cannot be turned.

    Args:
        clips: a set.
        config: how.
        index: the clips as `Clips.subset` takes them, or all.
        sample: which random draws a pipeline makes; None for what it tests on.

    Raises:
        ValueError: the skeleton lacks the joints that the config turns it by, or parents for bones.
    """
    if config.pipeline == "pyskl":
        x = pyskl(clips, config.frames, config.persons, index, sample, config.picture)
    elif config.pipeline != "asma":
        x = PIPELINES[config.pipeline](clips, config.frames, config.persons, index, sample)
    else:
        x = clips.resample(config.frames, config.persons, index)
        if clips.channels == "xys":
            score = x[:, 2:].copy()
            x[:, 2] = 0
            x = place(x, clips.skeleton, config)
            x[:, 2:] = score
        else:
            x = place(x, clips.skeleton, config)
    return torch.from_numpy(np.ascontiguousarray(stream(x, clips.skeleton, config.stream, clips.channels)))


def place(x: NDArray[np.float32], skeleton: Skeleton, config: DataConfig) -> NDArray[np.float32]:
    """Place, turn and scale clips (N, 3, T, V, M) as the config says."""
    if config.centre == "frame":
        x = centre_frames(x, skeleton.centre)
    elif config.centre == "clip":
        x = centre_clips(x, skeleton.centre)
    if config.face != "none":
        x = face_forward(x, *joint_pair("data.face must be none", skeleton, config.face))
    if config.scale:
        x = scale_body(x, skeleton.edges)
    return x


def stream(x: NDArray[np.float32], skeleton: Skeleton, name: str, channels: str = "xyz") -> NDArray[np.float32]:
    """Coordinates; each joint minus its parent; or each frame subtracted from the next, 0 in the last (PSTL).

    A score becomes the mean of both joints' or frames' scores, as pyskl has it (JointToBone, ToMotion).
    """
    if name == "joint":
        return x
    parents = list(skeleton.parents)
    out = x - x[:, :, :, parents] if name == "bone" else np.diff(x, axis=2, append=x[:, :, -1:])
    if channels == "xys" and name == "bone":
        out[:, 2] = (x[:, 2] + x[:, 2][:, :, parents]) / 2
    elif channels == "xys":
        out[:, 2, :-1] = (x[:, 2, :-1] + x[:, 2, 1:]) / 2
    return out
