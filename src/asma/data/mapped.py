"""Clips of one layout as another layout has them, for an encoder that was trained on that one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asma.data.clip_base import Clips
from asma_kernels.skeleton import Skeleton

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MappedClips"]


class MappedClips(Clips):
    """The clips of a set with the joints of another skeleton; all else is the set's own.

    A joint is the one of the same meaning or the mean of those that define it, as `Skeleton.map_to` has it; one without
    a counterpart is the joint next to it in the body.

    Raises:
        ValueError: no joint of the set corresponds to one of the skeleton.

    >>> from asma.data import builtin_clips
    >>> clips = MappedClips(builtin_clips(classes=2, subjects=2, repeats=1), Skeleton.builtin("ucla20"))
    >>> clips.resample(16).shape
    (12, 3, 16, 20, 1)
    """

    def __init__(self, clips: Clips, skeleton: Skeleton) -> None:
        self.clips, self.skeleton = clips, skeleton
        self.matrix = clips.skeleton.map_to(skeleton, missing="nearest").numpy()

    def __getattr__(self, name: str) -> Any:
        if name in ("clips", "skeleton", "matrix"):  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.clips, name)

    def __len__(self) -> int:
        """N, the number of clips."""
        return len(self.clips)

    def members(self, split: str) -> NDArray[np.bool_]:
        """See `Clips.members`."""
        return self.clips.members(split)

    def gather(
        self, index: NDArray[np.int64], times: NDArray[np.int64], persons: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Clips.gather`."""
        frames, there = self.clips.gather(index, times, persons)
        return np.matmul(self.matrix, frames), there

    def checksum(self) -> int:
        """See `Clips.checksum`."""
        return self.clips.checksum()

    def _take(self, index: NDArray[np.int64]) -> Self:
        return type(self)(self.clips._take(index), self.skeleton)
