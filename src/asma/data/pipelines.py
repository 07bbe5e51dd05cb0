"""Clips as three projects of the field prepare them, for any set and any number of persons.

Each pipeline is a few named steps over (B, M, T, V, C), clips padded with zeros. An absent person is all zeros, here as
there. Which bodies a clip has is a matter of how the set was made, not of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asma.data.clip_base import Clips
from asma.data.joints import shoulders, spine
from asma.data.samplers import (
    Sample,
    centre_crop,
    even_frames,
    even_test_frames,
    random_crop,
    resize,
    take_frames,
)

__all__ = ["PIPELINES", "Pipeline", "ctrgcn", "pstl", "pyskl"]

BLOCK_BYTES = 1 << 20
"""Of padded clips that are worked on at a time: what the processor's cache holds."""
CLOSE = 1e-8
"""numpy.isclose's distance from 0, by which pyskl says that nobody is in a frame."""
PICTURE = (1920, 1080)
"""Width and height that pyskl takes where a clip does not tell: NTU RGB+D's."""
SEEN = 0.01
"""Score above which pyskl takes a joint for seen."""
WIDE = 10
"""Pixels that joints must spread over, in both directions, to be scaled by their range."""
TINY = 1e-6

Float = NDArray[np.float32]


class Pipeline(Protocol):
    """A pipeline by its arguments."""

    def __call__(
        self,
        clips: Clips,
        frames: int,
        persons: int = 2,
        index: ArrayLike | None = None,
        sample: Sample | None = None,
    ) -> Float: ...


def pstl(
    clips: Clips, frames: int = 50, persons: int = 2, index: ArrayLike | None = None, sample: Sample | None = None
) -> Float:
    """Each person about its own centre joint in every frame, resized, turned so that the shoulders lie along x.

    As many frames are taken from the start as have a first joint of the first person that is not 0. The turn about y
    has an angle for every frame and person, but one direction for the clip: that of the sum over its frames. Nothing is
    random, `sample` changes nothing.

    Source: PSTL takes AimCLR's data; AimCLR, feeder/preprocess_ntu.py and feeder/NTUDatasets.py (NTUMotionProcessor
    with "relative", "resize" and y_rotation).

    Args:
        clips: a set with coordinates xyz, y up.
        frames: T.
        persons: M, the first persons of each clip.
        index: the clips as `subset` takes them, or all.
        sample: unused.

    Returns:
        (N, 3, T, V, M) float32, contiguous.

    Raises:
        ValueError: the channels are not xyz, or the skeleton has no shoulders.
    """
    centre, (left, right) = clips.skeleton.centre, shoulders("pstl", clips.skeleton)

    def steps(x: Float, number: NDArray[np.int64]) -> Float:
        length = (x[:, 0, :, 0] != 0).any(2).sum(1)
        x = x - x[:, :, :, centre : centre + 1]
        x = resize(x, np.zeros_like(length), length, frames)
        return _shoulders_along_x(x, left, right)

    return _in_blocks("pstl", clips, frames, persons, index, steps)


def ctrgcn(
    clips: Clips, frames: int = 64, persons: int = 2, index: ArrayLike | None = None, sample: Sample | None = None
) -> Float:
    """The first person's joint 1 of the first frame at 0; without a sample the middle 95 %, with one a random crop.

    Frames that nobody is in are dropped. The crop has a uniform share of the clip in [.5, 1], but at least 64 frames,
    and is resized. MAMP does the same with T = 120. Their random rotation is a matter of `asma_kernels.skeleton_view`.

    Source: CTR-GCN, data/ntu/get_raw_skes_data.py, data/ntu/seq_transformation.py, feeders/tools.py
    (valid_crop_resize). One difference: a clip of one person that misses that person in some frames keeps zeros there.

    Args:
        clips: a set with coordinates xyz.
        frames: T.
        persons: M, the first persons of each clip.
        index: the clips as `subset` takes them, or all.
        sample: which random crops; None for what they test on.

    Returns:
        (N, 3, T, V, M) float32, contiguous.

    Raises:
        ValueError: the channels are not xyz, or there is no joint 1.
    """
    if clips.skeleton.num_joints < 2:
        raise ValueError(f"ctrgcn: the skeleton must have a joint 1, {clips.skeleton.name} has one joint")

    def steps(x: Float, number: NDArray[np.int64]) -> Float:
        there = np.asarray((x != 0).any((3, 4)))
        order, length = _in_a_row(np.asarray(there.any(1)))
        origin = x[np.arange(len(x)), 0, there[:, 0].argmax(1), 1]
        x -= origin[:, None, None, None] * there[..., None, None]
        begin, length = centre_crop(length) if sample is None else random_crop(length, sample, number)
        return resize(x, begin, length, frames, order)

    return _in_blocks("ctrgcn", clips, frames, persons, index, steps)


def pyskl(
    clips: Clips,
    frames: int = 100,
    persons: int = 2,
    index: ArrayLike | None = None,
    sample: Sample | None = None,
    picture: tuple[int, int] = PICTURE,
) -> Float:
    """Spine to z and shoulders to x by the first frame, joint 1 of it at 0; then T frames drawn evenly.

    Only the frames with the person who is in more of them are kept, and that person comes first. Of 25 joints, joint 1
    is the centre, of others the last one.

    Of clips of pictures (xys), all frames are kept, the picture's middle comes to 0, its edges to -1 and 1, and joints
    with a score of at most 0.01 to 0; scores stay. Where no size of the picture is given, the range of each clip's own
    joints stands for it, if it is more than 10 pixels in both directions.

    Source: pyskl, datasets/pipelines/pose_related.py (PreNormalize3D, PreNormalize2D with mode "fix" or "auto") and
    sampling.py (UniformSample).

    Args:
        clips: a set.
        frames: T.
        persons: M, the first persons of each clip; 1 or 2 where the coordinates are xyz.
        index: the clips as `subset` takes them, or all.
        sample: which random frames; None for those that pyskl tests on.
        picture: width and height in pixels, (0, 0) for none; for clips with channels xys.

    Returns:
        (N, 3, T, V, M) float32, contiguous.

    Raises:
        ValueError: of xyz, persons is not 1 or 2, or the skeleton has no spine or no shoulders; of xys, the picture has
            a side that is negative, or only one.
    """
    if clips.channels == "xys":
        return _of_pictures(clips, frames, persons, index, sample, picture)
    if persons not in (1, 2):
        raise ValueError(f"pyskl: persons must be 1 or 2, got {persons!r}")
    bottom, top = spine("pyskl", clips.skeleton)
    left, right = shoulders("pyskl", clips.skeleton)
    centre = 1 if clips.skeleton.num_joints == 25 else -1

    def steps(x: Float, number: NDArray[np.int64]) -> Float:
        there = np.asarray((np.abs(x) > CLOSE).any((3, 4)))
        swap = there[:, 0].sum(1) < there[:, 1].sum(1)
        x[swap], there[swap] = x[swap, ::-1], there[swap, ::-1]
        order, length = _in_a_row(there[:, 0])
        first = x[np.arange(len(x)), 0, order[:, 0]].astype(np.float64)
        middle = first[:, centre, None].copy()
        first -= middle * (first != 0).any(2, keepdims=True)
        upright = _turn(first[:, top] - first[:, bottom], (0, 0, 1))
        first = first @ upright.transpose(0, 2, 1)
        level = _turn(first[:, right] - first[:, left], (1, 0, 0))
        length = np.maximum(length, 1)
        times = even_test_frames(length, frames) if sample is None else even_frames(length, frames, sample, number)
        x = take_frames(x, np.take_along_axis(order, times, 1))
        placed = (x - middle[:, None, None]) * (x != 0).any(4, keepdims=True)
        turned = placed.reshape(len(x), -1, 3) @ (level @ upright).transpose(0, 2, 1)
        return turned.reshape(x.shape).astype(np.float32)

    return _in_blocks("pyskl", clips, frames, persons, index, steps, read=2)


def _of_pictures(
    clips: Clips,
    frames: int,
    persons: int,
    index: ArrayLike | None,
    sample: Sample | None,
    picture: tuple[int, int],
) -> Float:
    if min(picture) < 0 or (picture[0] == 0) != (picture[1] == 0):
        raise ValueError(f"pyskl: picture must be a width and a height, or 0 and 0 for none, got {picture}")
    half = np.array(picture, np.float32) / 2

    def steps(x: Float, number: NDArray[np.int64]) -> Float:
        seen = x[..., 2:] > SEEN
        middle, scale = (half, half) if half.any() else _ranges(x[..., :2], seen)
        x[..., :2] = np.where(seen, (x[..., :2] - middle) / scale, 0)
        length = clips.lengths[number]
        times = even_test_frames(length, frames) if sample is None else even_frames(length, frames, sample, number)
        return take_frames(x, times)

    return _in_blocks("pyskl", clips, frames, persons, index, steps, channels="xys")


def _ranges(x: Float, seen: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Middle and half of the range of the joints that are seen, (B, 1, 1, 1, 2); 0 and 1 where it is too small."""
    axes = (1, 2, 3)
    high = np.where(seen, x, -np.inf).max(axes, keepdims=True, initial=-np.inf)
    low = np.where(seen, x, np.inf).min(axes, keepdims=True, initial=np.inf)
    wide = (high - low > WIDE).all(-1, keepdims=True)
    high, low = np.where(wide, high, 1), np.where(wide, low, -1)
    return (high + low) / 2, (high - low) / 2


PIPELINES: dict[str, Pipeline] = {"pstl": pstl, "ctrgcn": ctrgcn, "pyskl": pyskl}


def _in_blocks(
    where: str,
    clips: Clips,
    frames: int,
    persons: int,
    index: ArrayLike | None,
    steps: Callable[[Float, NDArray[np.int64]], Float],
    read: int = 1,
    channels: str = "xyz",
) -> Float:
    """The steps over all clips, those of like lengths together so that little is padded.

    They see at least `read` persons, of whom the first `persons` are kept."""
    if clips.channels != channels:
        raise ValueError(f"{where}: clips must have channels {channels}, got {clips.channels}")
    for name, value in (("frames", frames), ("persons", persons)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{where}: {name} must be a positive integer, got {value!r}")
    chosen = np.arange(len(clips)) if index is None else clips._clip_index(where, index)
    joints, lengths = clips.skeleton.num_joints, clips.lengths[chosen]
    out = np.empty((len(chosen), 3, frames, joints, persons), np.float32)
    order, seen, begin = lengths.argsort(kind="stable"), max(persons, read), 0
    while begin < len(order):
        # The longest clip of the block is its last one, so its size is known from its end.
        sizes = (np.arange(len(order) - begin) + 1) * np.maximum(lengths[order[begin:]], frames)
        end = begin + max(1, int(np.searchsorted(sizes * seen * joints * 12, BLOCK_BYTES, "right")))
        block = order[begin:end]
        x = steps(clips.padded(chosen[block], seen), chosen[block])
        out[block] = x[:, :persons].transpose(0, 4, 2, 3, 1)
        begin = end
    return out


def _in_a_row(kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the frames `kept` (B, T), then those of the others, and how many are kept of each clip."""
    return np.argsort(~kept, axis=1, kind="stable"), kept.sum(1)


def _shoulders_along_x(x: Float, left: int, right: int) -> Float:
    across = (x[..., right, :] - x[..., left, :]).astype(np.float64)
    length = np.hypot(across[..., 0], across[..., 2])
    angle = np.arccos(across[..., 0] / (length + 0.0001))
    angle = np.where(across[..., 2].sum(2, keepdims=True) >= 0, -angle, angle)
    cosine, sine = np.cos(angle)[..., None], np.sin(angle)[..., None]
    out = x.copy()
    out[..., 0] = cosine * x[..., 0] - sine * x[..., 2]
    out[..., 2] = sine * x[..., 0] + cosine * x[..., 2]
    return out


def _turn(vector: NDArray[np.float64], axis: tuple[int, int, int]) -> NDArray[np.float64]:
    """(B, 3, 3): the rotation that takes each vector (B, 3) to the direction of a main axis, by half-angle formulas."""
    to = np.array(axis, np.float64)
    length = np.linalg.norm(vector, axis=1, keepdims=True)
    cosine = (vector / np.where(length > 0, length, 1) @ to).clip(-1, 1)
    angle = np.where(np.abs(vector).sum(1) < TINY, 0, np.arccos(cosine))
    about = np.cross(vector, to)
    small = (np.abs(about).sum(1) < TINY) | (np.abs(angle) < TINY)
    about /= np.where(small, 1, np.linalg.norm(about, axis=1))[:, None]
    a = np.cos(angle / 2)
    b, c, d = -about.T * np.sin(angle / 2)
    rows = [
        [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
        [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
        [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c],
    ]
    turned: NDArray[np.float64] = np.where(small[:, None, None], np.eye(3), np.array(rows).transpose(2, 0, 1))
    return turned
