"""What passes between the readers of file formats and whatever takes clips: the store, the doctor, the writers.

A reader knows one format. It opens a path as a `Source`, whose parts can be read in any order and by any process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asma_kernels.skeleton import Skeleton

__all__ = ["Clip", "Header", "LeftOut", "Source", "Track", "UNKNOWN"]

UNKNOWN = -1
"""A label, subject or view that the source does not tell."""


class Track(NamedTuple):
    """One person over consecutive frames. Who leaves and comes back has two tracks with the same `person`."""

    person: int
    """From 0: the place of the person on the axis M."""
    start: int
    """Frame of the clip that `data` begins at."""
    data: NDArray[np.float32]
    """(F, V, C) float32, finite, F >= 1."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip of a source, without padding.

    Attributes:
        name: within its source, unique.
        frames: T, at least 1; every track lies in [0, T).
        tracks: of one person they do not overlap; none at all is a clip without a body.
        label, subject, view: integers from 0, or UNKNOWN.
        splits: names of the source's own splits that the clip is in, as "xsub_train".
        source: file, and place in it, that the clip was read from.
    """

    name: str
    frames: int
    tracks: tuple[Track, ...]
    label: int = UNKNOWN
    subject: int = UNKNOWN
    view: int = UNKNOWN
    splits: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What was in the source and is not read, or a step of the clean-up left out."""

    source: str
    """File, and place in it."""
    reason: str
    """One sentence: the rule, and what was found."""


@dataclass(frozen=True)
class Header:
    """What holds for all clips of a source.

    Attributes:
        channels: the last axis of the data: "xyz", or "xys" for two coordinates and the estimator's score.
        classes: names of the classes, empty where the source has no labels.
        usual_split: as `ClipSet.split` takes it, or "TRAIN/TEST", two names of `Clip.splits`; empty where unknown.
    """

    title: str
    skeleton: Skeleton
    channels: str
    classes: tuple[str, ...]
    usual_split: str = ""


class Source(Protocol):
    """An opened path of one format. Can be pickled: every process reads parts of its own."""

    format: str
    header: Header

    @property
    def parts(self) -> Sequence[str]:
        """Names of the parts in the order of the source: files, or ranges of one; each small enough to be in memory."""
        ...

    def read(self, part: str) -> Iterable[Clip | LeftOut]:
        """The clips of a part in the order of the source.

        Raises:
            ValueError, OSError: the part as a whole cannot be read; the message names the file and the place.
        """
        ...
