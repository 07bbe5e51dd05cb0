"""Bodies: the tracks of one person of a clip put together, and taken apart again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asma.data.source import Clip, Track

__all__ = ["Body", "bodies_of", "runs", "share_a_frame", "tracks_of"]


@dataclass(eq=False)
class Body:
    """What the source calls one person: its frames (F,) rising, and their joints (F, V, C)."""

    number: int
    frames: NDArray[np.int64]
    data: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_]) -> Body:
        return Body(self.number, self.frames[chosen], self.data[chosen])


def bodies_of(clip: Clip) -> list[Body]:
    bodies = []
    for number in sorted({track.person for track in clip.tracks}):
        tracks = sorted((track for track in clip.tracks if track.person == number), key=lambda track: track.start)
        frames = np.concatenate([np.arange(track.start, track.start + len(track.data)) for track in tracks])
        data = tracks[0].data if len(tracks) == 1 else np.concatenate([track.data for track in tracks])
        bodies.append(Body(number, frames, data))
    return bodies


def share_a_frame(person: list[Body], body: Body) -> bool:
    return any(np.isin(body.frames, part.frames).any() for part in person)


def runs(frames: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of consecutive frames, as places in `frames`."""
    edges = np.flatnonzero(np.diff(frames) != 1) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(frames)], strict=True)


def tracks_of(persons: Mapping[int, list[Body]], kept: NDArray[np.bool_]) -> Iterator[Track]:
    """Tracks of the persons in the clip that has the frames `kept` only."""
    place = np.cumsum(kept) - 1
    for person, bodies in persons.items():
        frames = np.concatenate([body.frames for body in bodies])
        data = np.concatenate([body.data for body in bodies]) if len(bodies) > 1 else bodies[0].data
        order = np.argsort(frames)
        order = order[kept[frames[order]]]
        new = place[frames[order]]
        if len(new):
            for begin, end in runs(new):
                yield Track(person, int(new[begin]), data[order[begin:end]])
