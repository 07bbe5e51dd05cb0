"""A clip of tracks as one array."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asma.data.source import Clip, Header

__all__ = ["Dense", "dense"]


class Dense(NamedTuple):
    """A clip as one array, M persons over T frames."""

    data: NDArray[np.float32]
    """(M, T, V, 3), NaN where a person is not there."""
    there: NDArray[np.bool_]
    """(M, T)."""
    persons: list[int]
    """(M), their numbers in the clip."""


def dense(clip: Clip, header: Header) -> Dense:
    """All tracks of a clip in one array."""
    persons = sorted({track.person for track in clip.tracks})
    place = {person: row for row, person in enumerate(persons)}
    data = np.full((len(persons), clip.frames, header.skeleton.num_joints, 3), np.nan, np.float32)
    there = np.zeros((len(persons), clip.frames), np.bool_)
    for track in clip.tracks:
        frames = slice(track.start, track.start + len(track.data))
        data[place[track.person], frames] = track.data
        there[place[track.person], frames] = True
    return Dense(data, there, persons)
