"""Random crops, shears, rotations and flips of clips in plain PyTorch."""

from __future__ import annotations

import torch

from .philox import philox

# Which word of a clip draws what: the same on every backend (csrc/cpu/view_draw.cpp).
_CROP, _SHEAR, _AXIS, _ANGLE, _FLIP, _WORDS = 0, 1, 7, 8, 11, 12


def view_draw(
    rng: torch.Tensor,
    N: int,
    T: int,
    pad: int,
    shear: float,
    main: float,
    other: float,
    flip: torch.Tensor | None,
    flip_below: int,
    mirror: bool,
    per_clip: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    words = philox(rng, N, _WORDS) if per_clip else philox(rng, 1, _WORDS).expand(N, _WORDS)
    frames = _crop(words[:, _CROP], T, pad)
    matrix = _rotated(_sheared(words[:, _SHEAR:_AXIS], shear), words[:, _AXIS], words[:, _ANGLE:_FLIP], main, other)
    flipped = words[:, _FLIP:] < flip_below
    if mirror:
        matrix = torch.cat([torch.where(flipped[:, :, None], -matrix[:, :1], matrix[:, :1]), matrix[:, 1:]], 1)
    if flip is None:
        return frames, frames.new_empty(N, 0), matrix
    joint = torch.arange(flip.shape[0], device=rng.device)
    return frames, torch.where(flipped, flip, joint), matrix


def _uniform(words: torch.Tensor) -> torch.Tensor:
    """In [0, 1), exact in float32."""
    return (words >> 8).float() * 2.0**-24


def _whole(words: torch.Tensor, count: int) -> torch.Tensor:
    """Uniform in [0, count), count < 2^31."""
    return (words * count) >> 32


def _crop(words: torch.Tensor, T: int, pad: int) -> torch.Tensor:
    """(N, T): a window of the clip that is reflected by ``pad`` frames at both ends, the end frames repeated."""
    start = _whole(words, 2 * pad + 1)
    place = start[:, None] + torch.arange(-pad, T - pad, device=words.device)
    return torch.where(place < 0, -1 - place, torch.where(place < T, place, 2 * T - 1 - place))


def _sheared(words: torch.Tensor, amplitude: float) -> torch.Tensor:
    off_diagonal = (2 * _uniform(words) - 1) * amplitude
    one = torch.ones_like(off_diagonal[:, :1])
    # Rows of the matrix, one after another.
    entries = [one, off_diagonal[:, :3], one, off_diagonal[:, 3:], one]
    return torch.cat(entries, 1).view(-1, 3, 3)


def _rotated(
    matrix: torch.Tensor, axis_word: torch.Tensor, angle_words: torch.Tensor, main: float, other: float
) -> torch.Tensor:
    """``R_z @ R_y @ R_x @ matrix``; a turn about an axis mixes the other two rows."""
    axes = torch.arange(3, device=matrix.device)
    largest = torch.where(axes == _whole(axis_word, 3)[:, None], main, other).float()
    angles = _uniform(angle_words) * largest
    rows = list(matrix.unbind(1))
    for axis in range(3):
        cosine, sine = angles[:, axis, None].cos(), angles[:, axis, None].sin()
        first, second = (axis + 1) % 3, (axis + 2) % 3
        rows[first], rows[second] = (
            cosine * rows[first] + sine * rows[second],
            cosine * rows[second] - sine * rows[first],
        )
    return torch.stack(rows, 1)
