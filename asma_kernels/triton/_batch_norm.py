"""The batch norms of an ST-GCN block: statistics from partial ones, and the block's end,
relu(dropout(norm(y)) + residual), forward and backward.

Features are read as a matrix (R, D), R = N T V. Numbers read and written a element of y, with those of the residual in
brackets: forward 2 (+ 1), sums 3 (+ 1 with a norm), backward 4 (+ 1, + 2 with a norm); with dropout ten rounds of
Philox each time, some 60 operations on integers, against some 10 flops.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._common import philox_word
from ._config import LAUNCH
from ._temporal_conv import channels_last

# Sizes that follow from the batch or the number of frames, and what a run may change.
_SIZES = ["rows", "clip", "threshold", "kept"]


class Statistics(NamedTuple):
    """The rows of what :func:`finish_statistics` returns: ``Statistics(*statistics)``."""

    mean: torch.Tensor
    variance: torch.Tensor
    rstd: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


@triton.jit(do_not_specialize=["P"])
def finish_statistics_kernel(
    partials, counts, weight, bias, statistics, P, D, eps, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr
):
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    # All means are taken from the first one, so that a large one costs no digits.
    mean = tl.load(partials + d, mask=(d < D) & (P > 0), other=0)
    square = tl.zeros((BLOCK_D,), tl.float32)
    number = tl.full((), 0, tl.float32)
    for first in range(0, P, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & (d < D)[None, :]
        at = partials + p.to(tl.int64)[:, None] * D + d[None, :]
        count = tl.load(counts + p, mask=p < P, other=0)
        apart = tl.where(inside, tl.load(at, mask=inside, other=0) - mean[None, :], 0)
        more = tl.sum(count, 0)
        away = tl.sum(apart * count[:, None], 0) / more  # this block's mean, from the mean so far
        apart -= away[None, :]
        within = tl.load(at + P.to(tl.int64) * D, mask=inside, other=0) + apart * apart * count[:, None]
        square += tl.sum(within, 0) + away * away * (number * more / (number + more))
        mean += away * (more / (number + more))
        number += more
    variance = square / tl.maximum(number, 1)
    rstd = 1 / tl.sqrt(variance + eps)
    scale = tl.load(weight + d, mask=d < D, other=0).to(tl.float32) * rstd
    shift = tl.load(bias + d, mask=d < D, other=0).to(tl.float32) - mean * scale
    at = statistics + d
    tl.store(at, mean, mask=d < D)
    tl.store(at + D, variance, mask=d < D)
    tl.store(at + 2 * D, rstd, mask=d < D)
    tl.store(at + 3 * D, scale, mask=d < D)
    tl.store(at + 4 * D, shift, mask=d < D)


@triton.jit
def _dropout(value, rng, rng_step, row, d, clip, D, threshold, kept):
    word = philox_word(rng, rng_step, (row % clip * D)[:, None] + d[None, :], (row // clip)[:, None])
    return tl.where(word < threshold, 0, value / kept)


@triton.jit
def _tile(rows, D, i, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows, channels, offsets and mask of block ``i`` of rows."""
    row = i * BLOCK_R + tl.arange(0, BLOCK_R)
    d = tl.program_id(0) % tl.cdiv(D, BLOCK_D) * BLOCK_D + tl.arange(0, BLOCK_D)
    return row, d, (row * D)[:, None] + d[None, :], (row < rows)[:, None] & (d < D)[None, :]


@triton.jit
def _channels(parameter, d, D):
    return tl.load(parameter + d, mask=d < D, other=0)[None, :]


@triton.jit(do_not_specialize=_SIZES)
def norm_residual_relu_kernel(
    y, scale, shift, residual, residual_scale, residual_shift, rng, out, rows, D, clip, threshold, kept, rng_step,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i = (tl.program_id(0) // tl.cdiv(D, BLOCK_D)).to(tl.int64)
    row, d, at, inside = _tile(rows, D, i, BLOCK_R, BLOCK_D)
    value = tl.load(y + at, mask=inside, other=0).to(tl.float32)
    value = value * _channels(scale, d, D) + _channels(shift, d, D)
    if rng is not None:
        value = _dropout(value, rng, rng_step, row, d, clip, D, threshold, kept)
    if residual is not None:
        other = tl.load(residual + at, mask=inside, other=0).to(tl.float32)
        if residual_scale is not None:
            other = other * _channels(residual_scale, d, D) + _channels(residual_shift, d, D)
        value += other
    tl.store(out + at, tl.where(value < 0, 0, value), mask=inside)


@triton.jit(do_not_specialize=[*_SIZES, "blocks", "share"])
def norm_residual_relu_sums_kernel(
    grad, out, y, mean, rstd, residual, residual_mean, residual_rstd, rng, partials, rows, D, clip, threshold, kept,
    rng_step, blocks, share, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    part = (tl.program_id(0) // tl.cdiv(D, BLOCK_D)).to(tl.int64)
    sum_y = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    sum_y_x = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    if residual is not None:
        sum_r = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
        sum_r_x = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for i in range(part * share, tl.minimum(part * share + share, blocks)):
        row, d, at, inside = _tile(rows, D, i, BLOCK_R, BLOCK_D)
        g = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
        g = tl.where(tl.load(out + at, mask=inside, other=0) > 0, g, 0)
        if residual is not None:
            other = tl.load(residual + at, mask=inside, other=0).to(tl.float32)
            sum_r += g
            sum_r_x += g * (other - _channels(residual_mean, d, D)) * _channels(residual_rstd, d, D)
        if rng is not None:
            g = _dropout(g, rng, rng_step, row, d, clip, D, threshold, kept)
        value = tl.load(y + at, mask=inside, other=0).to(tl.float32)
        sum_y += g
        sum_y_x += g * (value - _channels(mean, d, D)) * _channels(rstd, d, D)
    d = tl.program_id(0) % tl.cdiv(D, BLOCK_D) * BLOCK_D + tl.arange(0, BLOCK_D)
    step = (tl.num_programs(0) // tl.cdiv(D, BLOCK_D)).to(tl.int64) * D
    at = partials + part * D + d
    tl.store(at, tl.sum(sum_y, 0), mask=d < D)
    tl.store(at + step, tl.sum(sum_y_x, 0), mask=d < D)
    if residual is not None:
        tl.store(at + 2 * step, tl.sum(sum_r, 0), mask=d < D)
        tl.store(at + 3 * step, tl.sum(sum_r_x, 0), mask=d < D)


@triton.jit
def _norm_gradient(g, value, statistics, sums, rows, d, D):
    """scale * (g - sum / n - xhat * sum_x / n)."""
    xhat = (value - _channels(statistics, d, D)) * _channels(statistics + 2 * D, d, D)
    common = (_channels(sums, d, D) + xhat * _channels(sums + D, d, D)) / rows.to(tl.float32)
    return _channels(statistics + 3 * D, d, D) * (g - common)


@triton.jit(do_not_specialize=_SIZES)
def norm_residual_relu_backward_kernel(
    grad, out, y, statistics, residual, residual_statistics, sums, rng, grad_y, grad_residual, rows, D, clip, threshold,
    kept, rng_step, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i = (tl.program_id(0) // tl.cdiv(D, BLOCK_D)).to(tl.int64)
    row, d, at, inside = _tile(rows, D, i, BLOCK_R, BLOCK_D)
    g = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
    if out is not None:
        g = tl.where(tl.load(out + at, mask=inside, other=0) > 0, g, 0)
    if grad_residual is not None:
        passed = g
        if residual is not None:
            other = tl.load(residual + at, mask=inside, other=0).to(tl.float32)
            passed = _norm_gradient(g, other, residual_statistics, sums + 2 * D, rows, d, D)
        tl.store(grad_residual + at, passed, mask=inside)
    if rng is not None:
        g = _dropout(g, rng, rng_step, row, d, clip, D, threshold, kept)
    value = tl.load(y + at, mask=inside, other=0).to(tl.float32)
    tl.store(grad_y + at, _norm_gradient(g, value, statistics, sums, rows, d, D), mask=inside)


def _blocks(name: str, D: int) -> tuple[dict[str, int], int]:
    """The launch of a kernel over (R, D), whose blocks have BLOCK elements, and its tiles of channels."""
    launch = dict(LAUNCH[name])
    elements = launch.pop("BLOCK")
    width = min(triton.next_power_of_2(max(D, 1)), 128)
    return launch | {"BLOCK_R": elements // width, "BLOCK_D": width}, triton.cdiv(D, width)


def _sizes(y: torch.Tensor, dropout: float, rng: torch.Tensor | None) -> tuple[float, ...]:
    """What the kernels want to know after their tensors: rows, D, clip, threshold, kept, rng_step."""
    N, D, T, V = y.shape
    return N * T * V, D, T * V, round(dropout * 2**32), 1 - dropout, 0 if rng is None else rng.stride(0)


def finish_statistics(
    partials: torch.Tensor,
    counts: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    statistics: torch.Tensor,
) -> None:
    """Write :class:`Statistics`, float32 (5, D), of the means and centred sums of squares (2, P, D) of P parts."""
    _, P, D = partials.shape
    if D:
        launch = LAUNCH["finish_statistics"]
        finish_statistics_kernel[(triton.cdiv(D, launch["BLOCK_D"]),)](
            partials, counts, weight, bias, statistics, P, D, eps, **launch
        )


def norm_residual_relu(
    y: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    residual: torch.Tensor | None = None,
    residual_scale: torch.Tensor | None = None,
    residual_shift: torch.Tensor | None = None,
    dropout: float = 0.0,
    rng: torch.Tensor | None = None,
) -> torch.Tensor:
    """relu(dropout(y * scale + shift) + residual), the residual times its own scale and shift where it has them.

    Element i = (t V + v) D + c of row n draws the word (i, n) and is dropped where it is below dropout * 2^32.
    """
    N, D, T, V = y.shape
    out = y.new_empty((N, T, V, D))
    if out.numel():
        rng = rng if dropout else None
        launch, tiles = _blocks("norm_residual_relu", D)
        norm_residual_relu_kernel[(triton.cdiv(N * T * V, launch["BLOCK_R"]) * tiles,)](
            channels_last(y), scale, shift, None if residual is None else channels_last(residual),
            residual_scale, residual_shift, rng, out, *_sizes(y, dropout, rng), **launch,
        )  # fmt: skip
    return out.permute(0, 3, 1, 2)


def norm_residual_relu_sums(
    grad: torch.Tensor,
    out: torch.Tensor,
    y: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    dropout: float = 0.0,
    rng: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    residual_mean: torch.Tensor | None = None,
    residual_rstd: torch.Tensor | None = None,
) -> torch.Tensor:
    """float32 (2, D): sums over all rows of g_y and of g_y * xhat, where g = grad * (out > 0) and g_y is g through
    dropout; (4, D) with those of g and the residual's xhat where the residual has a norm."""
    N, D, T, V = y.shape
    rng = rng if dropout else None
    normed = None if residual is None or residual_mean is None else channels_last(residual)
    launch, tiles = _blocks("norm_residual_relu_sums", D)
    most = launch.pop("PROGRAMS")
    blocks = triton.cdiv(N * T * V, launch["BLOCK_R"])
    share = triton.cdiv(blocks, triton.cdiv(most, max(tiles, 1)))
    parts = triton.cdiv(blocks, max(share, 1))
    partials = y.new_empty((2 if normed is None else 4, parts, D), dtype=torch.float32)
    if partials.numel():
        norm_residual_relu_sums_kernel[(parts * tiles,)](
            channels_last(grad), channels_last(out), channels_last(y), mean, rstd, normed, residual_mean,
            residual_rstd, rng, partials, *_sizes(y, dropout, rng), blocks, share, **launch,
        )  # fmt: skip
    return partials.sum(1)


def norm_residual_relu_backward(
    grad: torch.Tensor,
    out: torch.Tensor,
    y: torch.Tensor,
    statistics: torch.Tensor,
    sums: torch.Tensor,
    dropout: float = 0.0,
    rng: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    residual_statistics: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradients in y and in the residual, if there is one, from the sums of :func:`norm_residual_relu_sums`."""
    return _backward(grad, out, y, statistics, sums, dropout, rng, residual, residual_statistics)


def norm_backward(g: torch.Tensor, y: torch.Tensor, statistics: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """The gradient in y of a norm: scale * (g - sum / n - xhat * sum_x / n), the sums being of g and g * xhat."""
    return _backward(g, None, y, statistics, sums, 0.0, None, None, None)[0]


def _backward(
    grad: torch.Tensor,
    out: torch.Tensor | None,
    y: torch.Tensor,
    statistics: torch.Tensor,
    sums: torch.Tensor,
    dropout: float,
    rng: torch.Tensor | None,
    residual: torch.Tensor | None,
    residual_statistics: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    N, D, T, V = y.shape
    grad_y = y.new_empty((N, T, V, D))
    grad_residual = None if residual is None else residual.new_empty((N, T, V, D))
    if grad_y.numel():
        rng = rng if dropout else None
        launch, tiles = _blocks("norm_residual_relu_backward", D)
        norm_residual_relu_backward_kernel[(triton.cdiv(N * T * V, launch["BLOCK_R"]) * tiles,)](
            channels_last(grad), None if out is None else channels_last(out), channels_last(y), statistics,
            None if residual is None or residual_statistics is None else channels_last(residual), residual_statistics,
            sums, rng, grad_y, grad_residual, *_sizes(y, dropout, rng), **launch,
        )  # fmt: skip
    return grad_y.permute(0, 3, 1, 2), None if grad_residual is None else grad_residual.permute(0, 3, 1, 2)
