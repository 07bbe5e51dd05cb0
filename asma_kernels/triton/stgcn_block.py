"""A block of ST-GCN from three kinds of kernels: graph convolution, convolution over frames, and what norms need.

Features pass through memory channels-last, each written once by the convolution that makes it and read by the one that
takes it; the norms ride along. Launches: forward 5, with a shortcut 7; the bytes and flops are those of the parts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ._batch_norm import (
    Statistics,
    finish_statistics,
    norm_backward,
    norm_residual_relu,
    norm_residual_relu_backward,
    norm_residual_relu_sums,
)
from ._temporal_conv import row_blocks, temporal_conv, temporal_conv_input_gradient
from ._temporal_conv_backward import temporal_conv_weight_gradient
from .graph_conv import aggregate, graph_conv_backward, programs


class Arguments(NamedTuple):
    """What the op takes, in the schema's order."""

    x: torch.Tensor
    values: torch.Tensor
    edges: torch.Tensor | None
    K: int
    V: int
    W: int
    joints: torch.Tensor | None
    gcn_weight: torch.Tensor
    gcn_bias: torch.Tensor | None
    norm1_weight: torch.Tensor
    norm1_bias: torch.Tensor
    conv_weight: torch.Tensor
    conv_bias: torch.Tensor | None
    norm2_weight: torch.Tensor
    norm2_bias: torch.Tensor
    shortcut_weight: torch.Tensor | None
    shortcut_bias: torch.Tensor | None
    norm3_weight: torch.Tensor | None
    norm3_bias: torch.Tensor | None
    residual: str
    stride: int
    dropout: float
    rng: torch.Tensor | None
    eps: float


def stgcn_block(*arguments: Any) -> tuple[torch.Tensor, ...]:
    a = Arguments(*arguments)
    x = _features(a.x)
    J, D = a.W if a.joints is None else x.shape[3], a.norm1_weight.shape[0]
    statistics = x.new_zeros((3, 5, D), dtype=torch.float32)
    partials, counts = _partial(x, programs(x, J), D)
    graph = (a.values, a.edges, a.K, a.V, a.W)
    y1 = aggregate(x, *graph, a.gcn_weight, a.gcn_bias, False, a.joints, partials=partials, counts=counts)
    finish_statistics(partials, counts, a.norm1_weight, a.norm1_bias, a.eps, statistics[0])
    norm1 = Statistics(*statistics[0])

    frames = (x.shape[2] - 1) // a.stride + 1
    partials, counts = _partial(x, x.shape[0] * row_blocks(frames, J), D)
    y2 = temporal_conv(
        y1, a.conv_weight, a.conv_bias, a.stride, scale=norm1.scale, shift=norm1.shift, partials=partials, counts=counts
    )
    finish_statistics(partials, counts, a.norm2_weight, a.norm2_bias, a.eps, statistics[1])
    norm2 = Statistics(*statistics[1])

    y3, scale, shift = x.new_empty(0), None, None
    if a.shortcut_weight is not None and a.norm3_weight is not None and a.norm3_bias is not None:
        y3 = temporal_conv(x, a.shortcut_weight, a.shortcut_bias, a.stride, partials=partials, counts=counts)
        finish_statistics(partials, counts, a.norm3_weight, a.norm3_bias, a.eps, statistics[2])
        scale, shift = Statistics(*statistics[2]).scale, Statistics(*statistics[2]).shift
    kept = {"none": None, "identity": x, "conv": y3}[a.residual]
    out = norm_residual_relu(y2, norm2.scale, norm2.shift, kept, scale, shift, a.dropout, a.rng)
    return out, statistics, y1, y2, y3, x.new_empty(0, dtype=torch.uint8)  # the backward draws again what it drops


def stgcn_block_backward(
    grad: torch.Tensor,
    out: torch.Tensor,
    statistics: torch.Tensor,
    y1: torch.Tensor,
    y2: torch.Tensor,
    y3: torch.Tensor,
    bits: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    a = Arguments(*arguments)
    x = _features(a.x)
    norm1, norm2, norm3 = (Statistics(*part) for part in statistics)
    normed = (y3, norm3.mean, norm3.rstd) if a.residual == "conv" else (None, None, None)
    sums = norm_residual_relu_sums(grad, out, y2, norm2.mean, norm2.rstd, a.dropout, a.rng, *normed)
    kept = {"none": None, "identity": x, "conv": y3}[a.residual]
    of_norm3 = statistics[2] if a.residual == "conv" else None
    grad_y2, grad_kept = norm_residual_relu_backward(
        grad, out, y2, statistics[1], sums, a.dropout, a.rng, kept, of_norm3
    )

    prologue = {"scale": norm1.scale, "shift": norm1.shift}
    grad_conv = temporal_conv_weight_gradient(grad_y2, y1, a.stride, a.conv_weight.shape[2], **prologue)
    grad_z, sums1 = temporal_conv_input_gradient(
        grad_y2, a.conv_weight, a.stride, y1, mean=norm1.mean, rstd=norm1.rstd, **prologue
    )
    grad_y1 = norm_backward(grad_z, y1, statistics[0], sums1)
    grad_x, grad_values, grad_gcn, grad_gcn_bias = graph_conv_backward(
        grad_y1, x, a.values, a.edges, a.K, a.V, a.W, a.gcn_weight, a.gcn_bias, False, a.joints,
        True, True, True, a.gcn_bias is not None,
    )  # fmt: skip

    grad_shortcut = None
    if grad_kept is not None and a.shortcut_weight is not None:
        grad_shortcut = temporal_conv_weight_gradient(grad_kept, x, a.stride, 1)
        grad_kept = temporal_conv_input_gradient(grad_kept, a.shortcut_weight, a.stride, x)[0]
    if grad_kept is not None:
        grad_x += grad_kept
    found = (
        (a.gcn_weight, grad_gcn), (a.gcn_bias, grad_gcn_bias),
        (a.norm1_weight, sums1[1]), (a.norm1_bias, sums1[0]),
        (a.conv_weight, grad_conv), (a.conv_bias, None),
        (a.norm2_weight, sums[1]), (a.norm2_bias, sums[0]),
        (a.shortcut_weight, grad_shortcut), (a.shortcut_bias, None),
        (a.norm3_weight, sums[3] if a.residual == "conv" else None),
        (a.norm3_bias, sums[2] if a.residual == "conv" else None),
    )  # fmt: skip
    return grad_x, grad_values, *(_of(parameter, gradient, x) for parameter, gradient in found)


def stgcn_block_folded(
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    joints: torch.Tensor | None,
    gcn_weight: torch.Tensor,
    gcn_bias: torch.Tensor | None,
    shift: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    shortcut_weight: torch.Tensor | None,
    shortcut_bias: torch.Tensor | None,
    residual: str,
    stride: int,
) -> torch.Tensor:
    x = _features(x)
    one = torch.ones_like(shift)
    graph = (values, edges, K, V, W)
    y1 = aggregate(x, *graph, gcn_weight, gcn_bias, False, joints, scale=one, shift=shift, relu=True)
    kept = x if residual == "identity" else None
    if shortcut_weight is not None:
        kept = temporal_conv(x, shortcut_weight, shortcut_bias, stride)
    return temporal_conv(y1, conv_weight, conv_bias, stride, residual=kept, relu=True)


def _features(x: torch.Tensor) -> torch.Tensor:
    if x.dtype == torch.float64:
        raise TypeError("stgcn_block: backend 'triton' takes float32, bfloat16 or float16, got torch.float64")
    return x.contiguous(memory_format=torch.channels_last)


def _partial(x: torch.Tensor, programs: int, D: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for means and centred sums of squares, and for how many numbers they are over."""
    return x.new_empty((2, programs, D), dtype=torch.float32), x.new_empty(programs, dtype=torch.float32)


def _of(parameter: torch.Tensor | None, gradient: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """In the parameter's dtype; zeros for the bias of a convolution whose mean a norm takes away."""
    if parameter is None:
        return x.new_empty(0)
    return torch.zeros_like(parameter) if gradient is None else gradient.view_as(parameter).to(parameter.dtype)
