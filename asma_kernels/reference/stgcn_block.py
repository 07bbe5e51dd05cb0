"""An ST-GCN block in plain PyTorch: graph convolution, convolution over frames, and a residual around both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from .graph_conv import graph_conv
from .philox import philox


class Norm(NamedTuple):
    """What one batch norm did: its statistics, of float32 or wider, and its output."""

    mean: torch.Tensor
    variance: torch.Tensor
    inverse_deviation: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor
    out: torch.Tensor


def stgcn_block(
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    joints: torch.Tensor | None,
    gcn_weight: torch.Tensor,
    gcn_bias: torch.Tensor | None,
    norm1_weight: torch.Tensor,
    norm1_bias: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor | None,
    norm2_weight: torch.Tensor,
    norm2_bias: torch.Tensor,
    shortcut_weight: torch.Tensor | None,
    shortcut_bias: torch.Tensor | None,
    norm3_weight: torch.Tensor | None,
    norm3_bias: torch.Tensor | None,
    residual: str,
    stride: int,
    dropout: float,
    rng: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """out; statistics (3, 5, D): mean, variance, inverse deviation, scale, shift of each norm; what each norm got;
    no bits of dropout, which only the CPU's backward wants."""
    with torch.autocast(x.device.type, enabled=False):
        wide = _wide(x)
        y1 = graph_conv(wide, values, edges, K, V, W, gcn_weight, gcn_bias, False, joints)
        norm1 = _norm(y1, norm1_weight, norm1_bias, eps)
        y2 = _conv(functional.relu(norm1.out), conv_weight, conv_bias, stride)
        norm2 = _norm(y2, norm2_weight, norm2_bias, eps)
        out = norm2.out if rng is None else dropped(norm2.out, dropout, rng)
        y3, norm3 = y2.new_empty(0), None
        if residual == "identity":
            out = out + wide
        elif shortcut_weight is not None and norm3_weight is not None and norm3_bias is not None:
            y3 = _conv(wide, shortcut_weight, shortcut_bias, stride)
            norm3 = _norm(y3, norm3_weight, norm3_bias, eps)
            out = out + norm3.out
        parts = [torch.stack(norm[:5]) if norm else y2.new_zeros(5, y2.shape[1]) for norm in (norm1, norm2, norm3)]
        out, y1, y2, y3 = (_features(part, x) for part in (functional.relu(out), y1, y2, y3))
        return out, torch.stack(parts), y1, y2, y3, torch.empty(0, dtype=torch.uint8, device=x.device)


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
    with torch.autocast(x.device.type, enabled=False):
        wide = _wide(x)
        y1 = graph_conv(wide, values, edges, K, V, W, gcn_weight, gcn_bias, False, joints)
        out = _conv(functional.relu(y1 + shift[:, None, None]), conv_weight, conv_bias, stride)
        if residual == "identity":
            out = out + wide
        elif shortcut_weight is not None:
            out = out + _conv(wide, shortcut_weight, shortcut_bias, stride)
        return functional.relu(out).to(x.dtype).contiguous()


def dropped(x: torch.Tensor, dropout: float, rng: torch.Tensor) -> torch.Tensor:
    """Number i of clip n, in the order (t, v, c), goes where the word (i, n) is below ``dropout * 2^32``."""
    N, D, T, V = x.shape
    words = philox(rng, N, T * V * D).view(N, T, V, D).movedim(3, 1)
    return torch.where(words < round(dropout * 2**32), 0, x / (1 - dropout))


def _features(part: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """In x's dtype and channels-last, as every backend gives them."""
    part = part.to(x.dtype)
    return part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int) -> torch.Tensor:
    bias = None if bias is None else bias.to(x.dtype)
    return functional.conv2d(x, weight.to(x.dtype), bias, (stride, 1), (weight.shape[2] // 2, 0))


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> Norm:
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    inverse_deviation = (variance + eps).rsqrt()
    scale = weight * inverse_deviation
    shift = bias - mean * scale
    out = (x - mean[:, None, None]) * scale[:, None, None] + bias.to(x.dtype)[:, None, None]
    return Norm(mean, variance, inverse_deviation, scale, shift, out)
