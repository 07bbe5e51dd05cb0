"""Clips of one person each, all of them in memory."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asma.data._clip_checks import INTEGER_FIELDS, checked_fields
from asma.data.clip_base import Clips
from asma_kernels.skeleton import Skeleton

__all__ = ["ClipSet"]


@dataclass(frozen=True, eq=False)
class ClipSet(Clips):
    """N clips of one person each, of different lengths, F frames altogether.

    Coordinates are what the source gives: metres in Kinect's axes (x to the right of a person who faces the camera, y
    up, z away from the camera) for the sets of this project. Everything is checked when a set is made. Arrays that
    already have the type below are not copied.

    Attributes:
        data: (F, V, 3) float32, finite; the frames of clip 0, then those of clip 1 and so on.
        offsets: (N + 1) int64, from 0 to F, strictly increasing; clip i is `data[offsets[i]:offsets[i + 1]]`.
        label: (N) int64 in [0, number of classes).
        subject: (N) int64, who acts.
        view: (N) int64, which camera; zeros where unknown.
        name: (N) strings.
        classes: names of the classes.
        skeleton: of the V joints.
        title: what tables and reports call the set.
        usual_split: the split that the set's owners use, in words or as `split` takes it.
        splits: the splits that the set brings along: name -> (N) bool, which clips are in it.

    Raises:
        ValueError: a field has the wrong shape or type or breaks a rule above; the message names the field and, where
            there is one, the clip.

    >>> clips = ClipSet(data=np.zeros((5, 2, 3), np.float32), offsets=[0, 2, 5], label=[0, 1], subject=[1, 2],
    ...                 view=[0, 0], name=["a", "b"], classes=("sit", "stand"),
    ...                 skeleton=Skeleton.from_edges([(0, 1)]), title="two clips")
    >>> len(clips), clips.lengths.tolist(), clips.clip(1).shape, clips.resample(16).shape
    (2, [2, 3], (3, 2, 3), (2, 3, 16, 2, 1))
    """

    data: NDArray[np.float32]
    offsets: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    view: NDArray[np.int64]
    name: NDArray[np.str_]
    classes: tuple[str, ...]
    skeleton: Skeleton
    title: str
    usual_split: str = ""
    splits: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = {each: getattr(self, each) for each in ("data", "name", "classes", "splits", *INTEGER_FIELDS)}
        for name, value in checked_fields("ClipSet", fields, self.skeleton).items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """N, the number of clips."""
        return len(self.label)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N) int64, the number of frames of each clip, at least 1."""
        return np.diff(self.offsets)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of `splits`."""
        return tuple(self.splits)

    @property
    def channels(self) -> str:
        """Always "xyz"."""
        return "xyz"

    def clip(self, i: int) -> NDArray[np.float32]:
        """The frames of clip i as a view of `data`: (T_i, V, 3) float32.

        Raises:
            ValueError: i is not in [0, N).
        """
        (index,) = self._clip_index("ClipSet.clip", [i])
        return self.data[self.offsets[index] : self.offsets[index + 1]]

    def members(self, split: str) -> NDArray[np.bool_]:
        """(N) bool, the clips of one of `split_names`."""
        return self.splits[split]

    def gather(
        self, index: NDArray[np.int64], times: NDArray[np.int64], persons: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Clips.gather`; the one person is in every frame."""
        inside = (times >= 0) & (times < self.lengths[index][:, None])
        there = np.zeros((len(index), persons, times.shape[1]), bool)
        there[:, 0] = inside
        rows = np.where(inside, self.offsets[index][:, None] + times, 0)
        frames = self.data[rows]
        frames[~inside] = 0
        if persons == 1:
            return frames[:, None], there
        out = np.zeros((*there.shape, *self.data.shape[1:]), np.float32)
        out[:, 0] = frames
        return out, there

    def checksum(self) -> int:
        """See `Clips.checksum`."""
        return zlib.crc32(self.offsets.tobytes(), zlib.crc32(self.data.data))

    def _take(self, index: NDArray[np.int64]) -> ClipSet:
        lengths = self.lengths[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], lengths)
        return ClipSet(
            data=self.data[rows],
            offsets=offsets,
            label=self.label[index],
            subject=self.subject[index],
            view=self.view[index],
            name=self.name[index],
            classes=self.classes,
            skeleton=self.skeleton,
            title=self.title,
            usual_split=self.usual_split,
            splits={name: there[index] for name, there in self.splits.items()},
        )
