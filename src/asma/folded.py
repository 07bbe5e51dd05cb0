"""A classifier as it is in evaluation: every norm in the numbers of what comes before it, nothing left to train.

What is exported is made from this. Everything is folded in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asma_kernels.nn import STGCNBlock

from .classifier import Classifier
from .config import need
from .models import Encoder
from .models.alignment import Alignment

__all__ = ["Folded", "FoldedBlock", "FoldedEncoder", "fold"]

Array = NDArray[np.float64]


class FoldedBlock(NamedTuple):
    """relu(convolution over frames(relu(graph convolution(x))) + residual(x)), C channels to D."""

    adjacency: Array
    """(K, V, V): partition, from joint, to joint."""
    weight: Array
    """(K, C, D)."""
    base: Array
    """(V, D), what the graph convolution's bias and norm add to each joint."""
    conv: Array
    """(taps, D, D): tap, channel in, channel out."""
    bias: Array
    """(D), the shortcut's in it."""
    stride: int
    residual: bool
    """x, or what the shortcut makes of it, is added."""
    shortcut: Array | None
    """(C, D), a 1x1 convolution with the block's stride."""


class FoldedEncoder(NamedTuple):
    """The first norm, the blocks, and the means over segments of the frames."""

    scale: Array
    """(V, C)."""
    shift: Array
    """(V, C)."""
    blocks: tuple[FoldedBlock, ...]
    segments: int


class Folded(NamedTuple):
    """Features of all encoders one after the other, a hidden layer with relu where there is one, and the head."""

    encoders: tuple[FoldedEncoder, ...]
    hidden: tuple[Array, Array] | None
    """(features, H) and (H)."""
    head: tuple[Array, Array]
    """(features or H, classes) and (classes)."""


def fold(model: Classifier) -> Folded:
    """The classifier as it is now; its parameters, running statistics and mode stay as they are.

    Raises:
        ValueError: a number is not finite in float32, so that no answer would be.
    """
    alignment = model.alignment
    weight, bias = _numbers(model.head.weight).T, _numbers(model.head.bias)
    if alignment is not None and alignment.mode == "mean":
        weight = np.concatenate([weight / 2, weight / 2])
    hidden = _aligned(alignment) if alignment is not None and alignment.mode == "aligned" else None
    found = Folded(tuple(_encoder(cast(Encoder, each)) for each in model.encoders), hidden, (weight, bias))
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(array.astype(np.float32)).all() for array in _arrays(found))
    need(finite, "export: all numbers of a model must be finite in float32", "some that are not")
    return found


def _encoder(encoder: Encoder) -> FoldedEncoder:
    V, C = encoder.A.shape[1], encoder.config.in_channels
    scale, shift = _affine(encoder.data_bn)
    pairs = zip(encoder.st_gcn_networks, encoder.edge_importance, strict=True)
    blocks = tuple(_block(cast(STGCNBlock, block), _numbers(encoder.A * importance)) for block, importance in pairs)
    return FoldedEncoder(scale.reshape(V, C), shift.reshape(V, C), blocks, encoder.config.segments)


def _block(block: STGCNBlock, adjacency: Array) -> FoldedBlock:
    gcn, conv, K = block.gcn.conv, cast(nn.Conv2d, block.tcn[2]), len(adjacency)
    norm1, norm2 = _affine(block.tcn[0]), _affine(block.tcn[3])
    weight = _numbers(gcn.weight).reshape(K, conv.out_channels, -1) * norm1[0][:, None]
    base = np.broadcast_to(norm1[1], (adjacency.shape[2], conv.out_channels))
    if gcn.bias is not None:  # before the aggregation it passes through the adjacency's column sums
        base = base + adjacency.sum(1).T @ _numbers(gcn.bias).reshape(K, -1) * norm1[0]
    taps = _numbers(conv.weight)[:, :, :, 0] * norm2[0][:, None, None]
    bias = norm2[1] + _bias(conv) * norm2[0]
    shortcut = None
    if isinstance(block.residual, nn.Sequential):
        one, norm3 = cast(nn.Conv2d, block.residual[0]), _affine(block.residual[1])
        shortcut = (_numbers(one.weight)[:, :, 0, 0] * norm3[0][:, None]).T
        bias = bias + norm3[1] + _bias(one) * norm3[0]
    return FoldedBlock(
        adjacency,
        weight.transpose(0, 2, 1),
        base,
        taps.transpose(2, 1, 0),
        bias,
        conv.stride[0],
        block.residual is not None,
        shortcut,
    )


def _aligned(alignment: Alignment) -> tuple[Array, Array]:
    scale, shift = _affine(alignment.norm)
    weights, bias = [], np.zeros(len(scale))
    for norm, one in zip(alignment.norms, alignment.maps, strict=True):
        before, offset = _affine(norm)
        weight = _numbers(cast(nn.Linear, one).weight)
        weights.append((weight * before).T)
        bias += weight @ offset
    return np.concatenate(weights) * scale, bias * scale + shift


def _affine(module: nn.Module) -> tuple[Array, Array]:
    """Scale and shift of a batch norm by its running statistics."""
    norm = cast(nn.modules.batchnorm._BatchNorm, module)
    mean, variance = (_numbers(cast(torch.Tensor, each)) for each in (norm.running_mean, norm.running_var))
    scale = 1 / np.sqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * _numbers(norm.weight)
    shift = -mean * scale
    return scale, shift + _numbers(norm.bias) if norm.affine else shift


def _bias(conv: nn.Conv2d) -> Array:
    return np.zeros(conv.out_channels) if conv.bias is None else _numbers(conv.bias)


def _numbers(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _arrays(value: Any) -> list[Array]:
    """All arrays in nested tuples."""
    if isinstance(value, np.ndarray):
        return [value]
    return [array for each in value for array in _arrays(each)] if isinstance(value, tuple) else []
