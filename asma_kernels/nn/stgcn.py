"""ST-GCN's graph convolution and block by ST-GCN's own signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from .. import _check
from ..graph import SparseGraph
from ..ops.graph_conv import graph_conv
from .stgcn_block import STGCNBlock

Graph = TypeVar("Graph", torch.Tensor, SparseGraph)


class ConvTemporalGraphical(nn.Module):
    """``net.utils.tgcn.ConvTemporalGraphical`` (ST-GCN, arXiv 1801.07455, equation 10; PSTL, AimCLR, HiCLR).

    Parameters ``conv.weight`` and ``conv.bias``, as theirs. With ``t_kernel_size = 1``, which all of them take, the
    convolution and the aggregation are one :func:`asma_kernels.graph_conv`; otherwise the convolution runs first.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: K, the number of partitions.
        t_kernel_size, t_stride, t_padding, t_dilation: of the convolution over frames.
        bias: with the convolution's bias, which passes through the adjacency.

    Raises:
        ValueError, TypeError: at the call, as :func:`asma_kernels.graph_conv`, and for a graph of other partitions.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import ConvTemporalGraphical
        >>> A = Skeleton.builtin("ntu25").partition("spatial")
        >>> x, A = ConvTemporalGraphical(3, 16, kernel_size=3)(torch.ones(2, 3, 8, 25), A)
        >>> x.shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        t_kernel_size: int = 1,
        t_stride: int = 1,
        t_padding: int = 0,
        t_dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(
            in_channels,
            out_channels * kernel_size,
            kernel_size=(t_kernel_size, 1),
            padding=(t_padding, 0),
            stride=(t_stride, 1),
            dilation=(t_dilation, 1),
            bias=bias,
        )

    def forward(self, x: torch.Tensor, A: Graph, joints: torch.Tensor | None = None) -> tuple[torch.Tensor, Graph]:
        """x (N, C, T, V) and A (K, V, W) or a SparseGraph -> (N, D, T', W) and A as it was handed in; ``joints`` are
        the kept joints where x holds these only."""
        op = "ConvTemporalGraphical"
        if A.shape[0] != self.kernel_size:
            raise ValueError(f"{op}: A must have {self.kernel_size} partitions, got {A.shape[0]}")
        conv = self.conv
        _check.dim(op, "x", x, "N, C, T, V")
        if conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0):
            return graph_conv(x, A, conv.weight, conv.bias, joints=joints), A
        return graph_conv(conv(x), A, joints=joints), A


class STGCNUnit(STGCNBlock):
    """``st_gcn`` of ST-GCN, PSTL, AimCLR and HiCLR: :class:`STGCNBlock` by their arguments, which returns (x, A).

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: (taps over frames, K); the taps are odd.
        stride: every how many frames the block gives one.
        dropout: share of numbers dropped before the residual is added.
        residual: with a residual.

    Raises:
        ValueError: kernel_size is no such pair; ValueError, TypeError: at the call, as :class:`STGCNBlock`.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import STGCNUnit
        >>> A = Skeleton.builtin("ntu25").partition("spatial")
        >>> x, A = STGCNUnit(3, 16, kernel_size=(9, 3), stride=2)(torch.randn(2, 3, 8, 25), A)
        >>> x.shape
        torch.Size([2, 16, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: int = 1,
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        if len(kernel_size) != 2:
            raise ValueError(f"STGCNUnit: kernel_size must be (taps over frames, partitions), got {kernel_size}")
        taps, partitions = kernel_size
        super().__init__(in_channels, out_channels, partitions, taps, stride, dropout, residual)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, A: Graph, joints: torch.Tensor | Sequence[int] | None = None
    ) -> tuple[torch.Tensor, Graph]:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V) and A as it was handed in; ``joints`` is PSTL's
        ``remain_joint``, the joints that x holds."""
        if joints is not None:
            joints = torch.as_tensor(joints, dtype=torch.int64, device=x.device)
        return super().forward(x, A, joints), A
