"""People that an estimator found frame by frame, in any order: who is who, and their tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asma.data.source import Clip, LeftOut, Track

__all__ = ["Pose", "clip_of_poses", "follow", "people_in"]

MEMORY = 30
"""Frames for which somebody who was not found is looked for where they were, a second of most videos."""
REACH = 0.5
"""Farthest way to the next frame in which somebody is found, by the diagonal of their joints: people do not jump."""
MOST_PEOPLE = 256


class Pose(NamedTuple):
    """One person in one frame; `where` is what they are followed by, which may have other axes than `data`."""

    data: NDArray[np.float64]
    """(V, C), all zeros if no joint was found."""
    where: NDArray[np.float64]
    """(V, 2 or 3), zeros for joints that were not found."""
    person: int | None = None
    """What the file itself says who it is."""


def follow(frames: Sequence[Sequence[Pose]]) -> list[list[int]]:
    """The person of each pose, numbered from 0.

    If the file says who everybody is, the numbers are in the order of its own. Otherwise poses are given to those who
    were seen before, nearest first, by the mean distance of the joints that both have; who is too far away from all of
    them, or is left over, is somebody new.
    """
    told = [pose.person for frame in frames for pose in frame]
    if all(person is not None for person in told):
        numbers = {person: number for number, person in enumerate(sorted({p for p in told if p is not None}))}
        return [[numbers[pose.person] for pose in frame if pose.person is not None] for frame in frames]
    seen: dict[int, tuple[int, NDArray[np.float64]]] = {}
    people: list[list[int]] = []
    count = 0
    for at, frame in enumerate(frames):
        known = [person for person, (last, _) in seen.items() if at - last <= MEMORY]
        pairs = sorted(
            (distance, person, index)
            for person in known
            for index, pose in enumerate(frame)
            if (distance := _distance(seen[person][1], pose.where)) is not None
        )
        given: dict[int, int] = {}
        for _, person, index in pairs:
            if index not in given and person not in given.values():
                given[index] = person
        for index in range(len(frame)):
            if index not in given:
                given[index], count = count, count + 1
            seen[given[index]] = at, frame[index].where
        people.append([given[index] for index in range(len(frame))])
    return people


def clip_of_poses(frames: Sequence[Sequence[Pose]], **fields: Any) -> Clip | LeftOut:
    """A clip of the poses of each frame, or why it cannot be one; poses of zeros are nobody.

    Args:
        fields: those of `Clip` but frames and tracks.
    """
    source = str(fields["source"])
    if not frames:
        return LeftOut(source, "a clip must have at least one frame, got none")
    there = [[pose for pose in frame if pose.data.any()] for frame in frames]
    for at, frame in enumerate(there):
        if len(frame) > MOST_PEOPLE:
            return LeftOut(source, f"a frame must have at most {MOST_PEOPLE} people, got {len(frame)} in frame {at}")
        for pose in frame:
            with np.errstate(over="ignore"):
                wrong = np.argwhere(~np.isfinite(pose.data.astype(np.float32)))
            if len(wrong):
                found = pose.data[tuple(wrong[0])]
                return LeftOut(source, f"coordinates must be finite, got {found} at frame {at}, joint {wrong[0][0]}")
    runs: dict[int, list[tuple[int, list[NDArray[np.float64]]]]] = {}
    for at, (frame, persons) in enumerate(zip(there, follow(there), strict=True)):
        if len(set(persons)) < len(persons):
            return LeftOut(source, f"a frame must have a person once, got one twice in frame {at}")
        for pose, person in zip(frame, persons, strict=True):
            mine = runs.setdefault(person, [])
            if mine and mine[-1][0] + len(mine[-1][1]) == at:
                mine[-1][1].append(pose.data)
            else:
                mine.append((at, [pose.data]))
    tracks = tuple(
        Track(person, start, np.stack(poses).astype(np.float32))
        for person in sorted(runs)
        for start, poses in runs[person]
    )
    return Clip(frames=len(frames), tracks=tracks, **fields)


def people_in(where: str, clip: Clip, data: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, M) who is there, for a format that numbers people by their order.

    Raises:
        ValueError: a person never is, but one of a higher number.
    """
    there = np.asarray(data.any((2, 3)))
    if clip.tracks and not there.any(0).all():
        raise ValueError(f"{where}: clip {clip.name!r}: persons must be numbered from 0 without a gap")
    return there


def _distance(before: NDArray[np.float64], now: NDArray[np.float64]) -> float | None:
    """The mean way of the joints that both have, or None if it is too far or there are none."""
    both = before.any(1) & now.any(1)
    if not both.any():
        return None
    seen = before[before.any(1)]
    way = float(np.linalg.norm(before[both] - now[both], axis=1).mean())
    return way if way <= REACH * float(np.linalg.norm(seen.max(0) - seen.min(0))) else None
