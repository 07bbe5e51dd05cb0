"""The convolution over frames of an ST-GCN block, and its gradient in the input, as implicit matrix products.

A program has a block of one clip's rows (t, v) and a block of channels, and goes through the taps: each shifts the rows
by V places. The batch norm and ReLU before are recomputed from their scale and shift wherever their result is read.

Bytes, with R = N T V rows in, R' out and e bytes a number: e (R C + R' D + taps C D), and for the gradient e R C more
with a norm; the taps read the same rows from the caches. Flops of each: 2 R' C D taps.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ._config import LAUNCH

# Sizes that follow from the number of frames or joints: a clip of another length must not compile anew.
_SIZES = ["T", "T_out", "V"]


@triton.jit
def normed_relu(value, scale, shift, c, C, inside):
    """relu(value * scale + shift) in the value's type; 0 outside, where the frames are padding. NaN stays."""
    factor = tl.load(scale + c, mask=c < C, other=0)[None, :]
    offset = tl.load(shift + c, mask=c < C, other=0)[None, :]
    wide = value.to(tl.float32) * factor + offset
    return tl.where(inside & ~(wide < 0), wide, 0).to(value.dtype)


@triton.jit(do_not_specialize=_SIZES)
def temporal_conv_kernel(
    x, weight, bias, scale, shift, residual, out, partials, counts, C, D, T, T_out, V,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    rows = T_out * V
    tiles_d, tiles_r, blocks_c = tl.cdiv(D, BLOCK_D), tl.cdiv(rows, BLOCK_R), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0) // tiles_d
    n = (program // tiles_r).to(tl.int64)
    first = program % tiles_r * BLOCK_R
    row = first + tl.arange(0, BLOCK_R)
    d = tl.program_id(0) % tiles_d * BLOCK_D + tl.arange(0, BLOCK_D)
    start = row // V * STRIDE - TAPS // 2  # the frame that the first tap reads
    place = (n * T + start) * V + row % V

    total = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for i in range(TAPS * blocks_c):
        tap = i // blocks_c
        c = i % blocks_c * BLOCK_C + tl.arange(0, BLOCK_C)
        inside = ((row < rows) & (start + tap >= 0) & (start + tap < T))[:, None] & (c < C)[None, :]
        z = tl.load(x + ((place + tap * V) * C)[:, None] + c[None, :], mask=inside, other=0)
        if scale is not None:
            z = normed_relu(z, scale, shift, c, C, inside)
        w_at = weight + ((tap * D + d) * C)[None, :] + c[:, None]
        w = tl.load(w_at, mask=(c < C)[:, None] & (d < D)[None, :], other=0)
        total = tl.dot(z, w, total, input_precision=PRECISION)

    if bias is not None:
        total += tl.load(bias + d, mask=d < D, other=0).to(tl.float32)[None, :]
    exists = (row < rows)[:, None]
    if partials is not None:
        number = tl.minimum(rows - first, BLOCK_R).to(tl.float32)
        mean = tl.sum(tl.where(exists, total, 0), 0) / number
        mean += tl.sum(tl.where(exists, total - mean[None, :], 0), 0) / number  # what rounding lost of a large one
        centred = tl.where(exists, total - mean[None, :], 0)
        programs = (tl.num_programs(0) // tiles_d).to(tl.int64)
        tl.store(partials + program.to(tl.int64) * D + d, mean, mask=d < D)
        tl.store(partials + (programs + program) * D + d, tl.sum(centred * centred, 0), mask=d < D)
        tl.store(counts + program, number, mask=tl.program_id(0) % tiles_d == 0)
    at = ((n * rows + row) * D)[:, None] + d[None, :]
    exists = exists & (d < D)[None, :]
    if residual is not None:
        total += tl.load(residual + at, mask=exists, other=0).to(tl.float32)
    if RELU:
        total = tl.where(total < 0, 0, total)
    tl.store(out + at, total, mask=exists)


@triton.jit(do_not_specialize=_SIZES)
def temporal_conv_input_gradient_kernel(
    grad, weight, x, scale, shift, mean, rstd, grad_z, partials, C, D, T, T_out, V,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # Frames t = u * STRIDE + phase of one phase meet the same taps, so no product is with a zero between frames.
    tiles_c, tiles_r, blocks_d = tl.cdiv(C, BLOCK_C), tl.cdiv(tl.cdiv(T, STRIDE) * V, BLOCK_R), tl.cdiv(D, BLOCK_D)
    program = tl.program_id(0) // tiles_c
    n = (program // (tiles_r * STRIDE)).to(tl.int64)
    phase = program // tiles_r % STRIDE
    row = program % tiles_r * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(0) % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    t = row // V * STRIDE + phase
    first_tap = (phase + TAPS // 2) % STRIDE
    last = row // V + (phase + TAPS // 2) // STRIDE  # the frame of the output that the first tap wrote
    place = (n * T_out + last) * V + row % V

    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for i in range(tl.cdiv(TAPS - first_tap, STRIDE) * blocks_d):
        step = i // blocks_d
        d = i % blocks_d * BLOCK_D + tl.arange(0, BLOCK_D)
        inside = ((t < T) & (last - step >= 0) & (last - step < T_out))[:, None] & (d < D)[None, :]
        g = tl.load(grad + ((place - step * V) * D)[:, None] + d[None, :], mask=inside, other=0)
        w_at = weight + (((first_tap + step * STRIDE) * C + c) * D)[None, :] + d[:, None]
        w = tl.load(w_at, mask=(d < D)[:, None] & (c < C)[None, :], other=0)
        total = tl.dot(g, w, total, input_precision=PRECISION)

    at = (((n * T + t) * V + row % V) * C)[:, None] + c[None, :]
    exists = (t < T)[:, None] & (c < C)[None, :]
    if scale is not None:
        value = tl.load(x + at, mask=exists, other=0)
        total = tl.where(normed_relu(value, scale, shift, c, C, exists) > 0, total, 0)
        centre = tl.load(mean + c, mask=c < C, other=0)[None, :]
        factor = tl.load(rstd + c, mask=c < C, other=0)[None, :]
        programs = (tl.num_programs(0) // tiles_c).to(tl.int64)
        tl.store(partials + program.to(tl.int64) * C + c, tl.sum(total, 0), mask=c < C)
        total_x = tl.sum(total * (value.to(tl.float32) - centre) * factor, 0)
        tl.store(partials + (programs + program) * C + c, total_x, mask=c < C)
    tl.store(grad_z + at, total, mask=exists)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(N, T, V, C) contiguous; a copy only of a tensor that is stored in another order."""
    return x.permute(0, 2, 3, 1).contiguous()


def options(kernel: str, dtype: torch.dtype, C: int, D: int) -> dict[str, Any]:
    """The launch of a kernel; its blocks have at most the channels that there are, but 16, which a product needs."""
    launch: dict[str, Any] = LAUNCH[kernel] | (LAUNCH[f"{kernel}_float32"] if dtype == torch.float32 else {})
    for name, size in (("BLOCK_C", C), ("BLOCK_D", D)):
        launch[name] = min(launch[name], max(triton.next_power_of_2(size), 16))
    return launch | {"PRECISION": "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"}


def frames_out(T: int, taps: int, stride: int) -> int:
    return (T + 2 * (taps // 2) - taps) // stride + 1


def row_blocks(T_out: int, V: int) -> int:
    """Programs that one clip's rows take in :func:`temporal_conv`: P is N times as many."""
    return triton.cdiv(T_out * V, LAUNCH["temporal_conv"]["BLOCK_R"])


def temporal_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    relu: bool = False,
    partials: torch.Tensor | None = None,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """conv(x) + bias + residual, then ReLU; x is relu(x * scale + shift) where they are given.

    ``partials`` (2, P, D) and ``counts`` (P), float32, get each program's mean and centred sum of squares of
    conv(x) + bias, and its number of rows.
    """
    N, C, T, V = x.shape
    D, _, taps, _ = weight.shape
    T_out = frames_out(T, taps, stride)
    out = x.new_empty((N, T_out, V, D))
    if out.numel():
        launch = options("temporal_conv", x.dtype, C, D)
        # The tile of a tap lies together, and channels summed over beside each other.
        packed = weight.squeeze(3).permute(2, 0, 1).to(x.dtype).contiguous()
        temporal_conv_kernel[(N * row_blocks(T_out, V) * triton.cdiv(D, launch["BLOCK_D"]),)](
            channels_last(x), packed, bias, scale, shift, None if residual is None else channels_last(residual),
            out, partials, counts, C, D, T, T_out, V,
            TAPS=taps, STRIDE=stride, RELU=relu, **launch,
        )  # fmt: skip
    return out.permute(0, 3, 1, 2)


def temporal_conv_input_gradient(
    grad: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    x: torch.Tensor,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    mean: torch.Tensor | None = None,
    rstd: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient in what the convolution read; with a norm that in what its ReLU read, and the norm's sums.

    The sums, float32 (2, C), are of g and of g * (x - mean) * rstd over all rows; without a norm there are none.
    """
    N, C, T, V = x.shape
    D, _, taps, _ = weight.shape
    grad_z = grad.new_empty((N, T, V, C))
    launch = options("temporal_conv_input_gradient", grad.dtype, C, D)
    programs = N * stride * triton.cdiv(triton.cdiv(T, stride) * V, launch["BLOCK_R"])
    partials = grad.new_empty((2, programs if scale is not None else 0, C), dtype=torch.float32)
    if grad_z.numel():
        packed = weight.squeeze(3).permute(2, 1, 0).to(grad.dtype).contiguous()
        temporal_conv_input_gradient_kernel[(programs * triton.cdiv(C, launch["BLOCK_C"]),)](
            channels_last(grad), packed, None if scale is None else channels_last(x), scale, shift, mean, rstd,
            grad_z, partials, C, D, T, grad.shape[2], V, TAPS=taps, STRIDE=stride, **launch,
        )  # fmt: skip
    return grad_z.permute(0, 3, 1, 2), partials.sum(1)
