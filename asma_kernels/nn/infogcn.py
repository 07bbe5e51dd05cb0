"""InfoGCN's self-attention graph convolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..ops.graph_conv import graph_conv
from . import _unit


class JointAttention(nn.Module):
    """``SelfAttention`` of InfoGCN: in every frame, how much joint w takes from joint v.

    State: ``to_qk`` and ``ln`` as theirs.

    Args:
        in_channels: C.
        hidden_dim: channels of a head.
        n_heads: K.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import JointAttention
        >>> JointAttention(16, 2, 3)(torch.randn(2, 16, 8, 25)).shape
        torch.Size([16, 3, 25, 25])
    """

    def __init__(self, in_channels: int, hidden_dim: int, n_heads: int) -> None:
        super().__init__()
        self.hidden_dim, self.n_heads = hidden_dim, n_heads
        self.to_qk = nn.Linear(in_channels, 2 * hidden_dim * n_heads)
        self.ln = nn.LayerNorm(in_channels)
        nn.init.normal_(self.to_qk.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N * T, K, V, V); the last axis sums to 1."""
        N, _, T, V = x.shape
        both = self.to_qk(self.ln(x.permute(0, 2, 3, 1)))
        query, key = both.view(N * T, V, 2, self.n_heads, self.hidden_dim).permute(2, 0, 3, 1, 4).unbind()
        scores = (query * self.hidden_dim**-0.5) @ key.transpose(-1, -2)
        attention = scores.softmax(-1)
        return attention if attention.dtype == torch.float64 else attention.float()


class SAGC(nn.Module):
    """``SA_GC`` of InfoGCN (Chi et al., CVPR 2022): attention between joints, frame by frame, times a
    shared learned graph, multiplied from the left.

    State: ``shared_topology``, ``conv_d.i``, ``attn.to_qk``, ``attn.ln``, ``bn``, ``down.0`` and ``down.1`` as theirs.

    Args:
        in_channels: C, at least 8.
        out_channels: D.
        A: adjacency (K, V, V), a head a partition, tensor or array; copied.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x or attn at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import SAGC
        >>> SAGC(64, 64, Skeleton.builtin("ntu25").partition("spatial"))(torch.randn(2, 64, 8, 25)).shape
        torch.Size([2, 64, 8, 25])
    """

    def __init__(self, in_channels: int, out_channels: int, A: torch.Tensor | np.ndarray) -> None:
        super().__init__()
        graph = _unit.adjacency("SAGC", A)
        if in_channels < 8:
            raise ValueError(f"SAGC: in_channels must be >= 8, as a head has in_channels // 8, got {in_channels}")
        self.in_channels = in_channels
        self.shared_topology = nn.Parameter(graph)
        self.conv_d = _unit.convolutions(len(graph), in_channels, out_channels)
        self.down = _unit.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        _unit.initialise(self, small=self.bn)
        for conv in self.conv_d:
            _unit.initialise_branch(conv, len(graph))
        self.attn = JointAttention(in_channels, in_channels // 8, len(graph))

    def forward(self, x: torch.Tensor, attn: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V); ``attn`` (N * T, K, V, V) stands in for the attention."""
        K, V, _ = self.shared_topology.shape
        _unit.features("SAGC", x, self.in_channels, V, self.shared_topology)
        N, _, T, _ = x.shape
        if attn is None:
            attn = self.attn(x)
        elif tuple(attn.shape) != (N * T, K, V, V):
            raise ValueError(f"SAGC: attn must be (N * T, K, V, V) = {(N * T, K, V, V)}, got {tuple(attn.shape)}")
        graph = (attn * self.shared_topology).view(N, T, K, V, V).transpose(1, 2)
        weight, bias = _unit.summed(self.conv_d)
        out = self.bn(graph_conv(x, graph, weight, bias, axes="NKTVW", order="post", side="left"))
        out += self.down(x)
        result: torch.Tensor = self.relu(out)
        return result
