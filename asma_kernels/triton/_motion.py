"""Differences between frames, as every kernel of motion energy sums them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _power(difference, P: tl.constexpr):
    if P == 2:
        return difference * difference
    elif P == 1:
        return tl.abs(difference)
    else:
        return tl.exp2(P * tl.log2(tl.abs(difference)))


@triton.jit
def length_of(lengths, n, T):
    if lengths is None:
        return T.to(tl.int64)
    else:
        return tl.minimum(tl.maximum(tl.load(lengths + n), 0), T)


@triton.jit
def add_differences(
    total, clip, length, t, v, C, V, M, stride, x_c, x_t, x_v, x_m, P: tl.constexpr, COPY_FIRST: tl.constexpr
):
    """``total`` (frames t, joints v) and what these carry, over the channels and persons of a clip."""
    u = tl.maximum(t - stride, 0) if COPY_FIRST else t
    inside = ((t < length) & (u + stride < length))[:, None] & (v < V)[None, :]
    here = clip + u[:, None] * x_t + v[None, :] * x_v
    for i in range(C * M):
        at = here + (i // M).to(tl.int64) * x_c + (i % M).to(tl.int64) * x_m
        now = tl.load(at, mask=inside, other=0).to(total.dtype)
        then = tl.load(at + stride.to(tl.int64) * x_t, mask=inside, other=0).to(total.dtype)
        total += _power(then - now, P)
    return total
