"""Preprocessing of clips at a fixed number of frames: where the body stands, where it faces, how large it is.

All functions take `x` (N, 3, T, V, M), real numbers, and return a new (N, 3, T, V, M) float32 array; none changes its
input, and all are deterministic. The axes are Kinect's: x to the right of a person who faces the camera, **y up**, z
away from the camera; data with another axis up must be turned before `face_forward`, the others do not mind. The first
person says where the clip is; the others keep their place relative to that person. A person whose joints are all
exactly zero in a frame is not there (padding of the usual data sets) and stays zero, and "the first frame" is the first
one in which the first person is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["centre_clips", "centre_frames", "face_forward", "scale_body"]

DEGENERATE = 1e-6
"""Lengths (of the data's unit) below which a direction or a body size means nothing."""


def centre_clips(x: ArrayLike, centre_joint: int) -> NDArray[np.float32]:
    """Subtract the place of one joint in the first frame from the whole clip, so that motion through the room stays.

    Source: CTR-GCN's and NW-UCLA's preprocessing.

    Raises:
        ValueError: x is not (N, 3, T, V, M) of finite real numbers, or the joint is not in [0, V).

    >>> x = np.ones((1, 3, 2, 2, 1), np.float32)
    >>> float(np.abs(centre_clips(x, centre_joint=0)).max())
    0.0
    """
    data, present = _checked("centre_clips", x, (centre_joint,))
    first = _first_frame(present)
    centre = np.take_along_axis(data[:, :, :, centre_joint, 0], first[:, None, None], 2)
    return _shift(data, centre, present)


def centre_frames(x: ArrayLike, centre_joint: int) -> NDArray[np.float32]:
    """Subtract the place of one joint in each frame, so that only motion relative to that joint stays.

    Frames without the first person stay as they are. Source: PSTL's preprocessing.

    Raises:
        ValueError: as `centre_clips`.

    >>> x = np.arange(1.0, 7.0).reshape(1, 3, 2, 1, 1)
    >>> float(np.abs(centre_frames(x, centre_joint=0)).max())
    0.0
    """
    data, present = _checked("centre_frames", x, (centre_joint,))
    return _shift(data, data[:, :, :, centre_joint, 0], present)


def face_forward(x: ArrayLike, left_joint: int, right_joint: int) -> NDArray[np.float32]:
    """Turn each clip about the vertical axis y so that left to right points along +x in the first frame.

    The two joints are a pair such as both hips or both shoulders; with Kinect's axes the person then faces the camera,
    towards -z. The turn is about the origin and the same for all frames. A clip whose pair has no horizontal distance
    (below 1e-6) is left as it is.

    Raises:
        ValueError: x is not (N, 3, T, V, M) of finite real numbers, a joint is not in [0, V), or both are the same.

    >>> x = np.zeros((1, 3, 1, 2, 1))
    >>> x[0, 2, 0, 1, 0] = 1
    >>> face_forward(x, left_joint=0, right_joint=1)[0, :, 0, 1, 0].tolist()
    [1.0, 0.0, 0.0]
    """
    data, present = _checked("face_forward", x, (left_joint, right_joint))
    if left_joint == right_joint:
        raise ValueError(f"face_forward: the left and the right joint must differ, both are {left_joint}")
    first = _first_frame(present)[:, None, None]
    pair = np.take_along_axis(data[:, :, :, right_joint, 0] - data[:, :, :, left_joint, 0], first, 2)[..., 0]
    across, along = pair[:, 0].astype(np.float64), pair[:, 2].astype(np.float64)
    length = np.hypot(across, along)
    usable = length > DEGENERATE
    safe = np.where(usable, length, 1)
    cosine = np.where(usable, across / safe, 1).astype(np.float32)[:, None, None, None]
    sine = np.where(usable, along / safe, 0).astype(np.float32)[:, None, None, None]
    out = np.empty_like(data)
    out[:, 0] = cosine * data[:, 0] + sine * data[:, 2]
    out[:, 1] = data[:, 1]
    out[:, 2] = cosine * data[:, 2] - sine * data[:, 0]
    return out


def scale_body(x: ArrayLike, edges: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Divide each clip by the mean bone length of the first person, over all bones and the frames that person is in.

    Bones are the edges of the skeleton. A clip whose mean is below 1e-6 is left as it is.

    Raises:
        ValueError: x is not (N, 3, T, V, M) of finite real numbers, there is no edge, or one is not a pair of joints in
            [0, V).

    >>> x = np.zeros((1, 3, 1, 2, 1))
    >>> x[0, 1, 0, 1, 0] = 4
    >>> scale_body(x, edges=[(0, 1)])[0, :, 0, 1, 0].tolist()
    [0.0, 1.0, 0.0]
    """
    pairs = list(edges)
    if not pairs or any(not isinstance(pair, Sequence) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"scale_body: edges must be a list of at least one pair of joints, got {edges!r}")
    data, present = _checked("scale_body", x, [joint for pair in pairs for joint in pair])
    starts, ends = (list(joints) for joints in zip(*pairs, strict=True))
    bones = np.linalg.norm(data[:, :, :, starts, 0] - data[:, :, :, ends, 0], axis=1).astype(np.float64)
    there = present[:, :, 0]
    mean = (bones.mean(2) * there).sum(1) / np.maximum(there.sum(1), 1)
    scale = np.where(mean > DEGENERATE, mean, 1).astype(np.float32)
    return data / scale[:, None, None, None, None]


def _checked(op: str, x: ArrayLike, joints: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """x as float32, and (N, T, M) bool: which person is there in which frame."""
    array = np.asarray(x)
    if array.ndim != 5 or array.shape[1] != 3 or 0 in array.shape[2:]:
        raise ValueError(f"{op}: x must be (N, 3, T, V, M), got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{op}: x must be of real numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        data = array.astype(np.float32)
    if not np.isfinite(data).all():
        clip, axis, frame, joint, person = np.argwhere(~np.isfinite(data))[0].tolist()
        found = data[clip, axis, frame, joint, person]
        raise ValueError(f"{op}: x must be finite, got {found} at clip {clip}, frame {frame}, joint {joint}")
    for joint in joints:
        if isinstance(joint, bool) or not isinstance(joint, int | np.integer) or not 0 <= joint < array.shape[3]:
            raise ValueError(f"{op}: a joint must be in [0, {array.shape[3]}), got {joint!r}")
    return data, (data != 0).any((1, 3))


def _first_frame(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N) the first frame with the first person, 0 where there is none."""
    return present[:, :, 0].argmax(1)


def _shift(data: NDArray[np.float32], centre: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Subtract (N, 3, T or 1) from every joint of every person who is there."""
    return np.asarray(np.where(present[:, None, :, None], data - centre[..., None, None], data))
