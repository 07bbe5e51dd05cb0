"""Graph convolution: aggregation and 1x1 convolution in one kernel, so that features are read and written once.

Numbers moved and flops, with R = N T and joints padded to P: forward and grad_x read x for each BLOCK_D channels out
and write out, 2 R K (P P C D / BLOCK_D + P C D) flops; the gradients of weight and adjacency read x and grad for each
k, with 2 R K (P P C D / BLOCK_D + P C D) and 2 R K (P C D + P P D) flops. What each program found goes through memory
once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from ._config import LAUNCH
from ._graph_conv import (
    graph_conv_dense_kernel,
    graph_conv_kernel,
    graph_conv_values_kernel,
    graph_conv_weight_kernel,
)

MOST_JOINTS = 128
"""A program holds all joints of its frames; of float64, which takes twice the shared memory, half as many."""


def _launch(kernel: str, dtype: torch.dtype) -> dict[str, int]:
    kind = {torch.float32: "_float32", torch.float64: "_float64"}.get(dtype, "")
    return LAUNCH[f"{kernel}{kind}"]


def _block(size: int, most: int = MOST_JOINTS) -> int:
    return min(max(16, triton.next_power_of_2(size)), most)


def _frames(kernel: str, dtype: torch.dtype, J_in: int, J_out: int) -> int:
    """Frames of a program: ROWS rows, a row being a joint of a frame."""
    return max(1, _launch(kernel, dtype)["ROWS"] // _block(max(J_in, J_out)))


def _blocks(kernel: str, x: torch.Tensor, C: int, D: int, J_in: int, J_out: int) -> dict[str, Any]:
    launch = _launch(kernel, x.dtype)
    return {name: size for name, size in launch.items() if name not in ("ROWS", "PROGRAMS")} | {
        "BLOCK_IN": _block(J_in),
        "BLOCK_OUT": _block(J_out),
        "BLOCK_T": _frames(kernel, x.dtype, J_in, J_out),
        "BLOCK_C": _block(C, launch["BLOCK_C"]),
        "BLOCK_D": _block(D, launch["BLOCK_D"]),
        "PRECISION": "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee",
    }


def _channels_last(x: torch.Tensor) -> bool:
    return x.shape[1] > 1 and x.stride(1) == 1


def _like(x: torch.Tensor, D: int, J: int) -> torch.Tensor:
    """Room for (N, D, T, J), channels-last where x is."""
    order = torch.channels_last if _channels_last(x) else torch.contiguous_format
    return torch.empty((x.shape[0], D, x.shape[2], J), dtype=x.dtype, device=x.device, memory_format=order)


def _steps(x: torch.Tensor) -> tuple[list[int], bool, int]:
    """Strides, whether channels are neighbours, and the unit of the first stride.

    The first stride follows from the number of frames, so the kernel is not compiled for it; the unit tells it that
    clips are aligned all the same.
    """
    n, c, t, v = x.stride()
    unit = 16 if c == 1 and n % 16 == 0 and t % 16 == 0 and v % 16 == 0 else 1
    return [n // unit, c, t, v], c == 1, unit


def _of_weight(weight: torch.Tensor, K: int, post: bool) -> tuple[int, int, int, int]:
    """D, and the strides of weight over k, channel in and channel out."""
    row, column = weight.stride()
    if post:
        D, C = weight.shape[0], weight.shape[1] // max(K, 1)
        return D, C * column, column, row
    D = weight.shape[0] // max(K, 1)
    return D, D * row, column, row


def _dense(values: torch.Tensor, edges: torch.Tensor | None, K: int, V: int, W: int) -> torch.Tensor:
    if edges is None:
        return values
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    A = torch.empty((K, V, W), dtype=wide, device=values.device)
    if A.numel():
        launch = LAUNCH["graph_conv_dense"]
        graph_conv_dense_kernel[(triton.cdiv(A.numel(), launch["BLOCK"]),)](
            values, edges, A, values.shape[0], K, V, W, *values.stride(), *edges.stride(), **launch
        )
    return A


def _checked(x: torch.Tensor, V: int, W: int) -> None:
    most = MOST_JOINTS // 2 if x.dtype == torch.float64 else MOST_JOINTS
    if max(V, W, x.shape[3]) > most:
        raise ValueError(
            f"graph_conv: backend 'triton' takes at most {most} joints in {x.dtype}, got V = {V}, W = {W}, "
            f"x with {x.shape[3]}"
        )


def _own(joints: torch.Tensor | None) -> int:
    """Stride over clips of their kept joints; 0 where they are shared."""
    return 0 if joints is None or joints.dim() == 1 else joints.stride(0)


def _convolve(
    x: torch.Tensor,
    out: torch.Tensor,
    A: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    joints: torch.Tensor | None,
    steps: list[int],
    pre: bool,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    relu: bool = False,
    partials: torch.Tensor | None = None,
    counts: torch.Tensor | None = None,
) -> None:
    """From x to out through A (K, V_in, V_out) and the weight of strides ``steps`` over k, channel in, channel out."""
    (N, C, T, J_in), (_, D, _, J_out) = x.shape, out.shape
    blocks = _blocks("graph_conv", x, C, D, J_in, J_out)
    (x_steps, x_last, x_unit), (o_steps, o_last, o_unit) = _steps(x), _steps(out)
    b_d = 0 if bias is None else bias.stride(0)
    tiles = N * triton.cdiv(T, blocks["BLOCK_T"]) * triton.cdiv(D, blocks["BLOCK_D"])
    graph_conv_kernel[(tiles,)](
        x, A, weight, bias, joints, scale, shift, out, partials, counts, A.shape[0], C, D, T, *A.shape[1:], J_in, J_out,
        *x_steps, *A.stride(), *steps, D * b_d, b_d, _own(joints), *o_steps, PRE=pre, RELU=relu,
        X_LAST=x_last, O_LAST=o_last, X_UNIT=x_unit, O_UNIT=o_unit, **blocks,
    )  # fmt: skip


def programs(x: torch.Tensor, J_out: int) -> int:
    """P of :func:`aggregate`, whose output has ``J_out`` joints: how many blocks of frames there are."""
    return x.shape[0] * triton.cdiv(x.shape[2], _frames("graph_conv", x.dtype, x.shape[3], J_out))


def aggregate(
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    relu: bool = False,
    partials: torch.Tensor | None = None,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """graph_conv, and what a block does with its output while that is in registers.

    * ``scale``, ``shift`` (D,): ``out * scale[d] + shift[d]``; ``relu``: then the positive part (NaN stays).
    * ``partials`` (2, P, D) and ``counts`` (P,), contiguous float32 (float64 for float64 x), P =
      ``programs(x, J_out)``: for block p of frames and channel d, partials[0] gets the mean of graph_conv's own output,
      before ``scale`` and before it is rounded to x's dtype, over the block's frames and joints, partials[1] the sum of
      the squares of its distances from that mean, and counts how many numbers each is over. All of both is written,
      unless the output has no elements: then nothing is.
    """
    _checked(x, V, W)
    D, *steps = _of_weight(weight, K, post)
    out = _like(x, D, W if joints is None else x.shape[3])
    if out.numel():
        A = _dense(values, edges, K, V, W)
        _convolve(x, out, A, weight, bias, joints, steps, not post, scale, shift, relu, partials, counts)
    return out


def graph_conv(
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
) -> torch.Tensor:
    return aggregate(x, values, edges, K, V, W, weight, bias, post, joints)


def graph_conv_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
    for_x: bool,
    for_values: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    _checked(x, V, W)
    D, w_k, w_c, w_d = _of_weight(weight, K, post)
    A = _dense(values, edges, K, V, W)
    grad_x, grad_values, grad_weight = (tensor.new_empty(0) for tensor in (x, values, weight))
    grad_bias = (weight if bias is None else bias).new_empty(0)
    if for_x:
        grad_x = _like(x, x.shape[1], x.shape[3])
        if grad_x.numel():
            _convolve(grad, grad_x, A.transpose(1, 2), weight, None, joints, [w_k, w_d, w_c], True)
    if for_weight or (for_bias and bias is not None):
        of_weight, of_bias = _weight_gradients(grad, x, A, joints, weight, bias, D, post)
        if for_weight:
            grad_weight = of_weight.to(weight.dtype)
        if for_bias and bias is not None:
            grad_bias = of_bias.to(bias.dtype)
    if for_values:
        dense = _values_gradient(grad, x, (K, V, W), weight, None if post else bias, joints, D, [w_k, w_c, w_d])
        grad_values = (dense if edges is None else dense[edges[0], edges[1], edges[2]]).to(values.dtype)
    return grad_x, grad_values, grad_weight, grad_bias


def _splits(kernel: str, x: torch.Tensor, frames: int, parts: int) -> tuple[int, int, int]:
    """Tiles of frames, tiles of a program, programs that share a part; the same on every GPU, as the sums' order is."""
    tiles = x.shape[0] * triton.cdiv(x.shape[2], frames)
    wanted = max(1, _launch(kernel, x.dtype)["PROGRAMS"] // max(1, parts))
    each = max(1, triton.cdiv(tiles, wanted))
    return tiles, each, triton.cdiv(tiles, each)


def _weight_gradients(
    grad: torch.Tensor,
    x: torch.Tensor,
    A: torch.Tensor,
    joints: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    D: int,
    post: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """In the type of the sums; the bias's without elements where there is none."""
    (_, C, T, J_in), J_out, K = x.shape, grad.shape[3], A.shape[0]
    blocks = _blocks("graph_conv_weight", x, C, D, J_in, J_out)
    parts = K * triton.cdiv(D, blocks["BLOCK_D"]) * max(1, triton.cdiv(C, blocks["BLOCK_C"]))
    tiles, each, splits = _splits("graph_conv_weight", x, blocks["BLOCK_T"], parts)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    partials = x.new_empty((splits, *weight.shape), dtype=wide)
    of_bias = None if bias is None else x.new_empty((splits, bias.shape[0]), dtype=wide)
    (x_steps, x_last, x_unit), (g_steps, g_last, g_unit) = _steps(x), _steps(grad)
    if splits * parts:
        graph_conv_weight_kernel[(splits * parts,)](
            grad, x, A, joints, partials, of_bias, K, C, D, T, *A.shape[1:], J_in, J_out, tiles, each,
            *x_steps, *g_steps, *A.stride(), _own(joints), *((C, K * C) if post else (D * C, C)),
            PRE=not post, OWN=_own(joints) > 0, X_LAST=x_last, G_LAST=g_last, X_UNIT=x_unit, G_UNIT=g_unit, **blocks,
        )  # fmt: skip
    return partials.sum(0), partials.new_empty(0) if of_bias is None else of_bias.sum(0)


def _values_gradient(
    grad: torch.Tensor,
    x: torch.Tensor,
    sizes: tuple[int, int, int],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    joints: torch.Tensor | None,
    D: int,
    steps: list[int],
) -> torch.Tensor:
    """Dense, in the type of the sums."""
    (_, C, T, J_in), J_out, (K, V, W) = x.shape, grad.shape[3], sizes
    blocks = _blocks("graph_conv_values", x, C, D, V, W)
    tiles, each, splits = _splits("graph_conv_values", x, blocks["BLOCK_T"], K)
    partials = x.new_empty((splits, K, V, W), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    (x_steps, x_last, x_unit), (g_steps, g_last, g_unit) = _steps(x), _steps(grad)
    b_d = 0 if bias is None else bias.stride(0)
    if splits * K:
        graph_conv_values_kernel[(splits * K,)](
            grad, x, weight, bias, joints, partials, K, C, D, T, V, W, J_in, J_out, tiles, each,
            *x_steps, *g_steps, *steps, D * b_d, b_d, _own(joints), OWN=_own(joints) > 0,
            X_LAST=x_last, G_LAST=g_last, X_UNIT=x_unit, G_UNIT=g_unit, BLOCK_J=_block(J_in), **blocks,
        )  # fmt: skip
    return partials.sum(0)
