"""Motion energy: a program for each clip and tile of frames x joints, which reads x once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH
from ._motion import add_differences, length_of

# Sizes and the strides that follow from the number of frames: a clip of another length must not compile anew.
_SIZES = ["C", "T", "V", "M", "stride", "x_n", "x_c", "x_t"]


@triton.jit
def _derivative(difference, P: tl.constexpr):
    if P == 2:
        return 2 * difference
    # A difference of 0, or NaN, stays what it is.
    sign = tl.where(difference > 0, 1, tl.where(difference < 0, -1, difference))
    if P == 1:
        return sign
    else:
        return P * tl.exp2((P - 1) * tl.log2(tl.abs(difference))) * sign


@triton.jit
def _numbers(REDUCE: tl.constexpr, length, C, V, M):
    """How many differences one mean is over."""
    numbers = C.to(tl.int64) * M
    if REDUCE == "frame":
        numbers *= V
    if REDUCE == "joint":
        numbers *= length
    return tl.maximum(numbers, 1)


@triton.jit(do_not_specialize=[*_SIZES, "e_n", "e_t"])
def motion_energy_kernel(
    x, lengths, energy, C, T, V, M, stride, x_n, x_c, x_t, x_v, x_m, e_n, e_t, e_v,
    REDUCE: tl.constexpr, P: tl.constexpr, COPY_FIRST: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    tiles_t = 1 if REDUCE == "joint" else tl.cdiv(T, BLOCK_T)
    tiles_v = 1 if REDUCE == "frame" else tl.cdiv(V, BLOCK_V)
    tile = tl.program_id(0)
    n = (tile // (tiles_t * tiles_v)).to(tl.int64)
    first_t = tile // tiles_v % tiles_t * BLOCK_T
    first_v = tile % tiles_v * BLOCK_V
    last_t = T if REDUCE == "joint" else first_t + 1
    last_v = V if REDUCE == "frame" else first_v + 1

    length = length_of(lengths, n, T)
    total = tl.zeros((BLOCK_T, BLOCK_V), wide)
    for t0 in range(first_t, last_t, BLOCK_T):
        t = t0 + tl.arange(0, BLOCK_T).to(tl.int64)
        for v0 in range(first_v, last_v, BLOCK_V):
            v = v0 + tl.arange(0, BLOCK_V).to(tl.int64)
            total = add_differences(
                total, x + n * x_n, length, t, v, C, V, M, stride, x_c, x_t, x_v, x_m, P, COPY_FIRST
            )

    scale = 1 / _numbers(REDUCE, length, C, V, M).to(wide)
    t = first_t + tl.arange(0, BLOCK_T).to(tl.int64)
    v = first_v + tl.arange(0, BLOCK_V).to(tl.int64)
    if REDUCE == "frame":
        tl.store(energy + n * e_n + t * e_t, tl.sum(total, 1) * scale, mask=t < T)
    elif REDUCE == "joint":
        tl.store(energy + n * e_n + v * e_v, tl.sum(total, 0) * scale, mask=v < V)
    else:
        inside = (t < T)[:, None] & (v < V)[None, :]
        tl.store(energy + n * e_n + t[:, None] * e_t + v[None, :] * e_v, total * scale, mask=inside)


@triton.jit(do_not_specialize=[*_SIZES, "g_n", "g_t"])
def motion_energy_backward_kernel(
    grad, x, lengths, grad_x, C, T, V, M, stride, x_n, x_c, x_t, x_v, x_m, g_n, g_t, g_v,
    REDUCE: tl.constexpr, P: tl.constexpr, COPY_FIRST: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    tiles_t, tiles_v = tl.cdiv(T, BLOCK_T), tl.cdiv(V, BLOCK_V)
    tile = tl.program_id(0)
    n = (tile // (tiles_t * tiles_v)).to(tl.int64)
    t = tile // tiles_v % tiles_t * BLOCK_T + tl.arange(0, BLOCK_T).to(tl.int64)
    v = tile % tiles_v * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)

    length = length_of(lengths, n, T)
    inside = (t < T)[:, None] & (v < V)[None, :]
    # Frame t ends the difference t - stride and begins the difference t.
    ends = ((t >= stride) & (t < length))[:, None] & inside
    begins = (t + stride < length)[:, None] & inside
    weights = grad + n * g_n + v[None, :] * g_v
    shift = stride if COPY_FIRST else 0  # difference u is the energy of frame u + shift
    weight_end = tl.load(weights + (t - stride + shift)[:, None] * g_t, mask=ends, other=0).to(wide)
    weight_begin = tl.load(weights + (t + shift)[:, None] * g_t, mask=begins, other=0).to(wide)
    if COPY_FIRST:  # the first difference is also the energy of the frames before
        copies = tl.zeros((1, BLOCK_V), wide)
        for early in range(stride):
            copied = (v < V)[None, :] & (stride < length)
            copies += tl.load(weights + early * g_t, mask=copied, other=0).to(wide)
        weight_end += tl.where((t == stride)[:, None], copies, 0)
        weight_begin += tl.where((t == 0)[:, None], copies, 0)
    scale = 1 / _numbers(REDUCE, length, C, V, M).to(wide)
    weight_end *= scale
    weight_begin *= scale

    step = stride.to(tl.int64) * x_t
    for i in range(C * M):
        c, m = (i // M).to(tl.int64), (i % M).to(tl.int64)
        at = x + n * x_n + c * x_c + t[:, None] * x_t + v[None, :] * x_v + m * x_m
        value = tl.load(at, mask=inside, other=0).to(wide)
        before = tl.load(at - step, mask=ends, other=0).to(wide)
        after = tl.load(at + step, mask=begins, other=0).to(wide)
        total = tl.where(ends, weight_end * _derivative(value - before, P), 0)
        total -= tl.where(begins, weight_begin * _derivative(after - value, P), 0)
        to = grad_x + (((n * C + c) * T + t[:, None]) * V + v[None, :]) * M + m
        tl.store(to, total, mask=inside)


def _options(reduce: str, p: float, boundary: str) -> dict[str, object]:
    return {"REDUCE": reduce, "P": p, "COPY_FIRST": boundary == "copy_first"}


def _strides(energy: torch.Tensor, reduce: str) -> list[int]:
    """Strides over n, t and v of an energy; 0 where ``reduce`` removed the axis."""
    strides = list(energy.stride())
    if reduce != "frame_joint":
        strides.insert(2 if reduce == "frame" else 1, 0)
    return strides


def motion_energy(
    x: torch.Tensor, reduce: str, p: float, stride: int, boundary: str, lengths: torch.Tensor | None
) -> torch.Tensor:
    N, C, T, V, M = x.shape
    energy = x.new_empty({"frame": (N, T), "joint": (N, V), "frame_joint": (N, T, V)}[reduce])
    if energy.numel():
        launch = LAUNCH["motion_energy"]
        tiles_t = 1 if reduce == "joint" else triton.cdiv(T, launch["BLOCK_T"])
        tiles_v = 1 if reduce == "frame" else triton.cdiv(V, launch["BLOCK_V"])
        motion_energy_kernel[(N * tiles_t * tiles_v,)](
            x, lengths, energy, C, T, V, M, min(stride, T), *x.stride(), *_strides(energy, reduce),
            **_options(reduce, p, boundary), **launch,
        )  # fmt: skip
    return energy


def motion_energy_backward(
    grad: torch.Tensor, x: torch.Tensor, reduce: str, p: float, stride: int, boundary: str, lengths: torch.Tensor | None
) -> torch.Tensor:
    N, C, T, V, M = x.shape
    grad_x = x.new_empty(x.shape)
    if grad_x.numel():
        launch = LAUNCH["motion_energy_backward"]
        tiles = triton.cdiv(T, launch["BLOCK_T"]) * triton.cdiv(V, launch["BLOCK_V"])
        motion_energy_backward_kernel[(N * tiles,)](
            grad, x, lengths, grad_x, C, T, V, M, min(stride, T), *x.stride(), *_strides(grad, reduce),
            **_options(reduce, p, boundary), **launch,
        )  # fmt: skip
    return grad_x
