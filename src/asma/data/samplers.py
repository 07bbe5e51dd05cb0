"""Which frames of a clip a model sees: crops that are resized, and frames drawn evenly over the clip.

What is drawn at random depends on the seed, the epoch and the clip alone: an epoch is the same on any number of
workers, in any order, and on any machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "centre_crop", "even_frames", "even_test_frames", "random_crop", "resize"]

PYSKL_TEST_SEED = 255


class Sample(NamedTuple):
    """Which random draws: those of an epoch."""

    seed: int
    epoch: int

    def words(self, clips: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
        """(B, count) uint64, Philox4x64 with key (seed, epoch) and the clip's number in the counter.

        Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.

        >>> both, second = (Sample(7, 0).words(np.array(clips), 3) for clips in ([4, 9], [9]))
        >>> bool((both[1] == second[0]).all()), bool((both[0] == second[0]).any())
        (True, False)
        """
        out = np.empty((len(clips), count), np.uint64)
        for place, clip in enumerate(clips.tolist()):
            out[place] = philox_words(self.seed, self.epoch, clip, count)
        return out


def philox_words(seed: int, epoch: int, stream: int, count: int) -> NDArray[np.uint64]:
    """(count) uint64, Philox's own words: they stay the same whatever NumPy does to its generators.

    Raises:
        ValueError: seed, epoch or stream is not in [0, 2^63).
    """
    for name, value in (("seed", seed), ("epoch", epoch), ("stream", stream)):
        if not 0 <= value < 2**63:
            raise ValueError(f"philox_words: {name} must be in [0, 2^63), got {value}")
    # As uint64 from the start: a list of small and large numbers would become float64.
    key, counter = (np.array(words, np.uint64) for words in ([seed, epoch], [0, stream, 0, 0]))
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def _shares(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Words as numbers in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _below(words: NDArray[np.uint64], limit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words as integers in [0, limit)."""
    return (_shares(words) * limit).astype(np.int64)


def centre_crop(lengths: NDArray[np.int64], share: float = 0.95) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and length of the middle of clips of `lengths` (B): what CTR-GCN and MAMP test on.

    >>> [part.tolist() for part in centre_crop(np.array([100, 3]))]
    [[2, 0], [96, 3]]
    """
    begin = ((1 - share) * lengths / 2).astype(np.int64)
    return begin, lengths - 2 * begin


def random_crop(
    lengths: NDArray[np.int64],
    sample: Sample,
    clips: NDArray[np.int64],
    shares: tuple[float, float] = (0.5, 1.0),
    least: int = 64,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and length of a random part of each clip, of a share p of it but at least `least` frames.

    Source: CTR-GCN, feeders/tools.py, valid_crop_resize; MAMP has the same, with 64 frames for clips of 120 too.

    Args:
        lengths: (B) int64.
        sample: which draws.
        clips: (B) int64, the numbers of the clips in their set.
        shares: p is uniform between them.
        least: frames.
    """
    words = sample.words(clips, 2)
    share = shares[0] + (shares[1] - shares[0]) * _shares(words[:, 0])
    length = np.minimum(np.maximum((lengths * share).astype(np.int64), least), lengths)
    return _below(words[:, 1], lengths - length + 1), length


def resize(
    x: NDArray[np.float32],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    frames: int,
    order: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Parts of clips at a fixed number of frames, by linear interpolation between the middles of frames.

    That is cv2.resize's INTER_LINEAR (AimCLR) and torch's bilinear interpolation without aligned corners (CTR-GCN).
    Zeros of an absent person are interpolated as they come, as both projects do.

    Args:
        x: (B, M, T, V, C).
        begin, length: (B) int64, the part of each clip; one of length 0 becomes zeros.
        frames: T of the result.
        order: (B, T') int64, the frames that the parts are of; those of x as they are if None.

    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1, 1)
    >>> resize(x, np.array([0]), np.array([4]), 2).ravel().tolist()
    [0.5, 2.5]
    """
    last = np.maximum(length - 1, 0)[:, None]
    at = ((np.arange(frames) + 0.5) * (length[:, None] / frames) - 0.5).clip(0, last)
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)[:, None, :, None, None]
    times = [begin[:, None] + place for place in (low, np.minimum(low + 1, last))]
    if order is not None:
        times = [np.take_along_axis(order, each, 1) for each in times]
    before, after = (take_frames(x, each) for each in times)
    after -= before
    after *= share
    after += before
    after[length == 0] = 0
    return after


def take_frames(x: NDArray[np.float32], times: NDArray[np.int64]) -> NDArray[np.float32]:
    """Frames `times` (B, T) of clips (B, M, T', V, C)."""
    B, M, T, V, C = x.shape
    rows = (np.arange(B * M) * T).reshape(B, M, 1) + times[:, None]
    return x.reshape(B * M * T, V * C)[rows.reshape(-1)].reshape(B, M, -1, V, C)


def even_frames(lengths: NDArray[np.int64], frames: int, sample: Sample, clips: NDArray[np.int64]) -> NDArray[np.int64]:
    """One random frame of each of `frames` equal parts of a clip; shorter clips begin again from their start.

    Source: pyskl, datasets/pipelines/sampling.py, UniformSampleFrames in training.

    Args:
        lengths: (B) int64, at least 1.
        frames: T.
        sample: which draws.
        clips: (B) int64, the numbers of the clips in their set.

    Returns:
        (B, T) int64 in [0, length).
    """
    words = sample.words(clips, frames + 1)
    step = np.arange(frames)
    looped = _below(words[:, 0], lengths)[:, None] + step
    # Of T + 1 places in front of, between and behind T frames, as many skip a frame as the clip has more than T.
    skipping = words.argsort(axis=1, kind="stable").argsort(axis=1) < (lengths - frames)[:, None]
    skipped = step + np.cumsum(skipping, axis=1)[:, :-1]
    bounds = np.arange(frames + 1) * lengths[:, None] // frames
    drawn = bounds[:, :-1] + _below(words[:, 1:], np.diff(bounds))
    long = lengths[:, None]
    times: NDArray[np.int64] = np.select([long < frames, long < 2 * frames], [looped, skipped], drawn) % long
    return times


def even_test_frames(lengths: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """The frames that pyskl tests one view of a clip on: its draws by NumPy's old generator with seed 255.

    Source: pyskl, datasets/pipelines/sampling.py, UniformSampleFrames._get_test_clips with num_clips = 1.

    Args:
        lengths: (B) int64, at least 1.
        frames: T.

    Returns:
        (B, T) int64 in [0, length), the same for clips of the same length.
    """
    different, which = np.unique(lengths, return_inverse=True)
    return np.stack([_test_frames(length, frames) for length in different.tolist()])[which.reshape(-1)]


def _test_frames(length: int, frames: int) -> NDArray[np.int64]:
    if length < frames:
        return np.arange(frames) % length
    generator = np.random.RandomState(PYSKL_TEST_SEED)
    generator.rand(), generator.randint(1)  # a crop of the whole clip, which is drawn all the same
    if length < 2 * frames:
        skipping = np.zeros(frames + 1, np.int64)
        skipping[generator.choice(frames + 1, length - frames, replace=False)] = 1
        return np.arange(frames) + np.cumsum(skipping)[:-1]
    bounds = np.arange(frames + 1) * length // frames
    times: NDArray[np.int64] = bounds[:-1] + generator.randint(np.diff(bounds))
    return times
