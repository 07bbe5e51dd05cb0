"""Views drawn: a program for a block of clips, a lane for each, which draws its clip's words and writes its pieces.

Bytes: what is written, 8 (T + V) + 36 a clip; flops: about 150 a clip.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._common import philox_word
from ._config import LAUNCH

# Which word of a clip draws what: the same on every backend (asma_kernels/reference/view_draw.py).
_CROP, _SHEAR, _AXIS, _ANGLE, _FLIP = (tl.constexpr(word) for word in (0, 1, 7, 8, 11))


@triton.jit
def _uniform(word):
    """In [0, 1), exact in float32."""
    return (word >> 8).to(tl.float32) * (1 / (1 << 24))


@triton.jit
def _sine_and_cosine(angle):
    """tl.sin has a table for huge angles, in local memory; quarter turns, reduced in float64, need none."""
    quarters = angle.to(tl.float64) * 0.6366197723675814
    whole = tl.floor(quarters + 0.5)
    x = (quarters - whole).to(tl.float32) * 1.5707963267948966
    z = x * x
    sine = x + x * z * (-1 / 6 + z * (1 / 120 + z * (-1 / 5040 + z / 362880)))
    cosine = 1 + z * (-1 / 2 + z * (1 / 24 + z * (-1 / 720 + z / 40320)))
    quarter = (whole - 4 * tl.floor(whole / 4)).to(tl.int32)
    first = tl.where(quarter % 2 == 0, sine, cosine)
    second = tl.where(quarter % 2 == 0, cosine, sine)
    return tl.where(quarter < 2, first, -first), tl.where((quarter == 1) | (quarter == 2), -second, second)


@triton.jit
def _turned(p, q, sine, cosine):
    return cosine * p + sine * q, cosine * q - sine * p


@triton.jit
def _sheared(rng, rng_step, n, row, shear, ROW: tl.constexpr, COLUMN: tl.constexpr):
    if ROW == COLUMN:
        return tl.full(n.shape, 1, tl.float32)
    else:
        word: tl.constexpr = _SHEAR + 2 * ROW + COLUMN - (1 if COLUMN > ROW else 0)
        return (2 * _uniform(philox_word(rng, rng_step, n * 0 + word, row)) - 1) * shear


@triton.jit(do_not_specialize=["N", "T", "pad", "flip_below"])
def view_draw_kernel(
    rng, flip, frames, joints, matrix, N, T, pad, V, shear, main, other, flip_below, rng_step,
    MIRROR: tl.constexpr, PER_CLIP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = n < N
    row = n if PER_CLIP else n * 0
    flipped = philox_word(rng, rng_step, n * 0 + _FLIP, row) < flip_below

    # A place of the clip that is reflected by pad frames at both ends, the end frames repeated.
    start = (philox_word(rng, rng_step, n * 0 + _CROP, row) * (2 * pad.to(tl.int64) + 1) >> 32) - pad
    for first in range(0, T, BLOCK_T):
        t = first + tl.arange(0, BLOCK_T).to(tl.int64)[None, :]
        place = start[:, None] + t
        place = tl.where(place < 0, -1 - place, tl.where(place < T, place, 2 * T.to(tl.int64) - 1 - place))
        tl.store(frames + n[:, None] * T + t, place, mask=exists[:, None] & (t < T))
    if flip is not None:
        for first in range(0, V, BLOCK_T):
            v = first + tl.arange(0, BLOCK_T).to(tl.int64)[None, :]
            mirrored = tl.load(flip + v, mask=v < V, other=0)
            tl.store(joints + n[:, None] * V + v, tl.where(flipped[:, None], mirrored, v), exists[:, None] & (v < V))

    # Three rows, sheared, then turned about x, y and z; a turn mixes the other two rows.
    drawn = philox_word(rng, rng_step, n * 0 + _AXIS, row) * 3 >> 32
    about_x = _uniform(philox_word(rng, rng_step, n * 0 + _ANGLE, row)) * tl.where(drawn == 0, main, other)
    about_y = _uniform(philox_word(rng, rng_step, n * 0 + (_ANGLE + 1), row)) * tl.where(drawn == 1, main, other)
    about_z = _uniform(philox_word(rng, rng_step, n * 0 + (_ANGLE + 2), row)) * tl.where(drawn == 2, main, other)
    sine_x, cosine_x = _sine_and_cosine(about_x)
    sine_y, cosine_y = _sine_and_cosine(about_y)
    sine_z, cosine_z = _sine_and_cosine(about_z)
    for column in tl.static_range(3):
        x = _sheared(rng, rng_step, n, row, shear, 0, column)
        y = _sheared(rng, rng_step, n, row, shear, 1, column)
        z = _sheared(rng, rng_step, n, row, shear, 2, column)
        y, z = _turned(y, z, sine_x, cosine_x)
        z, x = _turned(z, x, sine_y, cosine_y)
        x, y = _turned(x, y, sine_z, cosine_z)
        if MIRROR:
            x = tl.where(flipped, -x, x)
        to = matrix + n * 9 + column
        tl.store(to, x, mask=exists)
        tl.store(to + 3, y, mask=exists)
        tl.store(to + 6, z, mask=exists)


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
    V = 0 if flip is None else flip.shape[0]
    frames, joints = rng.new_empty((N, T)), rng.new_empty((N, V))
    matrix = rng.new_empty((N, 3, 3), dtype=torch.float32)
    if N:
        launch = LAUNCH["view_draw"]
        view_draw_kernel[(triton.cdiv(N, launch["BLOCK"]),)](
            rng, flip, frames, joints, matrix, N, T, pad, V, shear, main, other, flip_below, rng.stride(0),
            MIRROR=mirror, PER_CLIP=per_clip, **launch,
        )  # fmt: skip
    return frames, joints, matrix
