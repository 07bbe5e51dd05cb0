"""The gradient of the convolution over frames in its weight: a program for each tap, tile of the weight and part of the
rows, all of which it sums; the parts are added in their order.

Bytes, with R = N T V rows in, R' out and e bytes a number: e (R C + R' D) from memory and taps times that from the
caches for each tile of the weight, and 4 parts taps C D. Flops: 2 R' C D taps.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._temporal_conv import channels_last, normed_relu, options


@triton.jit(do_not_specialize=["T", "T_out", "V", "blocks", "share"])
def temporal_conv_weight_gradient_kernel(
    grad, x, scale, shift, partials, C, D, T, T_out, V, blocks, share,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    rows = T_out * V
    tiles_c, tiles_d, tiles_r = tl.cdiv(C, BLOCK_C), tl.cdiv(D, BLOCK_D), tl.cdiv(rows, BLOCK_R)
    tile = tl.program_id(0)
    tap = tile % TAPS
    c = tile // TAPS % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    d = tile // (TAPS * tiles_c) % tiles_d * BLOCK_D + tl.arange(0, BLOCK_D)
    part = tile // (TAPS * tiles_c * tiles_d)

    total = tl.zeros((BLOCK_D, BLOCK_C), tl.float32)
    for i in range(part * share, tl.minimum(part * share + share, blocks)):
        row = i % tiles_r * BLOCK_R + tl.arange(0, BLOCK_R)
        n = (i // tiles_r).to(tl.int64)
        frame = row // V * STRIDE + tap - TAPS // 2
        there = (row < rows)[None, :] & (d < D)[:, None]
        g = tl.load(grad + ((n * rows + row) * D)[None, :] + d[:, None], mask=there, other=0)
        inside = ((row < rows) & (frame >= 0) & (frame < T))[:, None] & (c < C)[None, :]
        z = tl.load(x + (((n * T + frame) * V + row % V) * C)[:, None] + c[None, :], mask=inside, other=0)
        if scale is not None:
            z = normed_relu(z, scale, shift, c, C, inside)
        total = tl.dot(g, z, total, input_precision=PRECISION)
    at = ((part.to(tl.int64) * D + d[:, None]) * C + c[None, :]) * TAPS + tap
    tl.store(partials + at, total, mask=(d < D)[:, None] & (c < C)[None, :])


def temporal_conv_weight_gradient(
    grad: torch.Tensor,
    x: torch.Tensor,
    stride: int,
    taps: int,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
) -> torch.Tensor:
    """float32 (D, C, taps, 1); the convolution read relu(x * scale + shift) where they are given."""
    N, C, T, V = x.shape
    D, T_out = grad.shape[1:3]
    launch = options("temporal_conv_weight_gradient", grad.dtype, C, D)
    most = launch.pop("PROGRAMS")
    tiles = taps * triton.cdiv(D, launch["BLOCK_D"]) * triton.cdiv(C, launch["BLOCK_C"])
    blocks = N * triton.cdiv(T_out * V, launch["BLOCK_R"])
    share = triton.cdiv(blocks, triton.cdiv(most, max(tiles, 1)))
    parts = triton.cdiv(blocks, max(share, 1))
    partials = grad.new_empty((parts, D, C, taps, 1), dtype=torch.float32)
    if partials.numel():
        temporal_conv_weight_gradient_kernel[(tiles * parts,)](
            channels_last(grad), channels_last(x), scale, shift, partials, C, D, T, T_out, V, blocks, share,
            TAPS=taps, STRIDE=stride, **launch,
        )  # fmt: skip
    return partials.sum(0)
