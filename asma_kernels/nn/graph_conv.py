"""Graph convolution as a module, with the parameters of ST-GCN's ConvTemporalGraphical."""

from __future__ import annotations

import torch
from torch import nn

from ..graph import SparseGraph
from ..ops.graph_conv import graph_conv


class GraphConv(nn.Module):
    """1x1 convolution and aggregation over neighbours (ST-GCN, arXiv 1801.07455; PSTL, AimCLR, HiCLR).

    The parameters are ``conv.weight`` (K * out, in, 1, 1) and ``conv.bias`` (K * out,), initialised as a Conv2d, so
    that their checkpoints load. See :func:`asma_kernels.graph_conv` for shapes, dtypes, gradients and errors.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: K, the number of partitions.
        bias: with the convolution's bias, which passes through the adjacency.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import GraphConv
        >>> adjacency = Skeleton.builtin("ntu25").partition("spatial")
        >>> GraphConv(3, 16, kernel_size=3)(torch.ones(2, 3, 8, 25), adjacency).shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        # Holds the parameters; the op reads them, the convolution itself is not called.
        self.conv = nn.Conv2d(in_channels, out_channels * kernel_size, kernel_size=1, bias=bias)

    def forward(
        self, x: torch.Tensor, graph: torch.Tensor | SparseGraph, joints: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, W); ``graph`` is a SparseGraph or a dense (K, V, W), ``joints`` the kept joints."""
        partitions = graph.shape[0]
        if partitions != self.kernel_size:
            raise ValueError(f"GraphConv: the graph must have {self.kernel_size} partitions, got {partitions}")
        return graph_conv(x, graph, self.conv.weight, self.conv.bias, joints=joints)
