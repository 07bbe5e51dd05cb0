"""Padded arrays of several persons and the tracks of a clip, either from the other.

The formats of this field say "nobody" with zeros: where all coordinates of a person are exactly 0 in a frame, that
person is not there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.source import Clip, Header, LeftOut, Track

__all__ = [
    "checked_clip", "clip_of", "need_joints", "need_label", "need_layout", "one_person", "padded", "tracks_of",
]  # fmt: skip


def clip_of(
    data: NDArray[Any], *, trim: bool = False, present: NDArray[np.bool_] | None = None, **fields: Any
) -> Clip | LeftOut:
    """A clip from a padded array, or why it cannot be one.

    Args:
        data: (T, M, V, C) numbers of any type.
        trim: frames at the end in which nobody is there are padding and do not belong to the clip.
        present: (T, M) who is there; by default whoever has a coordinate that is not 0.
        fields: those of `Clip` but frames and tracks.
    """
    source = str(fields["source"])
    if not len(data):
        return LeftOut(source, "a clip must have at least one frame, got none")
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(data, np.float32)
    finite = np.isfinite(single)
    if not finite.all():
        frame, person, joint, axis = (int(place[0]) for place in np.nonzero(~finite))
        found = data[frame, person, joint, axis]
        rule = "fit float32" if np.isfinite(found) else "be finite"
        return LeftOut(source, f"coordinates must {rule}, got {found} at frame {frame}, person {person}, joint {joint}")
    there = (single != 0).any((2, 3)) if present is None else present
    if trim:
        used = np.flatnonzero(there.any(1))
        if not used.size:
            return LeftOut(source, "a padded clip must have a frame that is not all zeros, got zeros only")
        single, there = single[: used[-1] + 1], there[: used[-1] + 1]
    return Clip(frames=len(single), tracks=tracks_of(single, there), **fields)


def tracks_of(data: NDArray[np.float32], present: NDArray[np.bool_]) -> tuple[Track, ...]:
    """The runs of frames in which each person is there, person by person; their frames are copied.

    Args:
        data: (T, M, V, C).
        present: (T, M).
    """
    tracks = []
    for person in np.flatnonzero(present.any(0)).tolist():
        edges = np.diff(present[:, person].astype(np.int8), prepend=0, append=0)
        for begin, end in zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True):
            tracks.append(Track(person, begin, np.array(data[begin:end, person], np.float32)))
    return tuple(tracks)


def need_joints(where: str, header: Header, joints: int) -> None:
    """
    Raises:
        ValueError: what is to be written has not so many joints of xyz.
    """
    if header.skeleton.num_joints != joints or header.channels != "xyz":
        found = f"{header.skeleton.num_joints} of {header.channels}"
        raise ValueError(f"{where}: the format holds {joints} joints of xyz, got {found}")


def need_layout(where: str, header: Header, channels: str, *names: str) -> None:
    """
    Raises:
        ValueError: what is to be written is of no layout of these names, or of other channels.
    """
    if header.skeleton.name not in names or header.channels != channels:
        found = f"{header.skeleton.name!r} of {header.channels}"
        raise ValueError(f"{where}: the format holds the layout {' or '.join(names)} of {channels}, got {found}")


def need_label(where: str, clip: Clip) -> None:
    """
    Raises:
        ValueError: the clip has no label.
    """
    if clip.label < 0:
        raise ValueError(f"{where}: clip {clip.name!r}: the format needs a label, got none")


def checked_clip(where: str, clip: Clip, header: Header) -> Clip:
    """The clip as a writer takes it, its tracks by person and time.

    Raises:
        ValueError: a track does not lie in the clip, overlaps another of the same person, has another shape than the
            header says, or is not finite; or the label is not one of the classes.
    """
    place = f"{where}: clip {clip.name!r}"
    joints, channels = header.skeleton.num_joints, len(header.channels)
    if clip.frames < 1:
        raise ValueError(f"{place}: frames must be at least 1, got {clip.frames}")
    if not -1 <= clip.label < max(len(header.classes), 0):
        raise ValueError(f"{place}: label must be in [0, {len(header.classes)}) or unknown (-1), got {clip.label}")
    ends: dict[int, int] = {}
    tracks = sorted(clip.tracks, key=lambda track: (track.person, track.start))
    for track in tracks:
        shape = track.data.shape
        if shape[1:] != (joints, channels) or not shape[0]:
            raise ValueError(f"{place}: a track must be (frames, {joints}, {channels}), got shape {shape}")
        if track.person < 0 or track.start < ends.get(track.person, 0) or track.start + shape[0] > clip.frames:
            span = f"[{track.start}, {track.start + shape[0]})"
            raise ValueError(
                f"{place}: tracks of a person must lie in [0, {clip.frames}) one after the other, got {span}"
            )
        if not np.isfinite(track.data).all():
            raise ValueError(f"{place}: coordinates must be finite, got others in person {track.person}")
        ends[track.person] = track.start + shape[0]
    return replace(clip, tracks=tuple(tracks))


def padded(
    where: str, clip: Clip, header: Header, persons: int | None = None, tail: bool = True
) -> NDArray[np.float32]:
    """A clip as formats write it in which zeros are nobody: (T, M, V, C).

    Args:
        persons: M; None for as many as the clip has, at least one.
        tail: whether the format knows T without the frames' help, so that the last ones may be empty.

    Raises:
        ValueError: what `checked_clip` refuses, more persons than M, a person who is there with all coordinates 0, or
            an empty last frame that cannot be told from padding.
    """
    clip = checked_clip(where, clip, header)
    place = f"{where}: clip {clip.name!r}"
    count = max((track.person + 1 for track in clip.tracks), default=0)
    if persons is not None and count > persons:
        raise ValueError(f"{place}: the format holds {persons} person{'s' * (persons > 1)}, got {count}")
    data = np.zeros(
        (clip.frames, persons or max(count, 1), header.skeleton.num_joints, len(header.channels)), np.float32
    )
    for track in clip.tracks:
        zeros = np.flatnonzero(~track.data.any((1, 2)))
        if zeros.size:
            raise ValueError(
                f"{place}: the format says with zeros that nobody is there, got person {track.person} with all"
                f" coordinates 0 in frame {track.start + zeros[0]}"
            )
        data[track.start : track.start + len(track.data), track.person] = track.data
    if not tail and not data[-1].any():
        raise ValueError(f"{place}: the format pads with zeros, so somebody must be in the last frame, got nobody")
    return data


def one_person(where: str, clip: Clip, header: Header) -> NDArray[np.float32]:
    """A clip as formats write it that have no zeros for nobody: (T, V, C).

    Raises:
        ValueError: what `padded` refuses, a second person, or a frame without anybody.
    """
    data = padded(where, clip, header, persons=1)[:, 0]
    if not data.any((1, 2)).all():
        raise ValueError(f"{where}: clip {clip.name!r}: somebody must be there in every frame")
    return data
