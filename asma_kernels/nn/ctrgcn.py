"""CTR-GCN's graph convolutions, whose graph differs from channel to channel and from clip to clip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..ops.graph_conv import graph_conv
from . import _unit


class CTRGC(nn.Module):
    """``CTRGC`` of CTR-GCN (arXiv 2107.12213): a shared graph refined for every channel by how the
    clip's joints differ, multiplied from the left.

    State: ``conv1`` to ``conv4`` as theirs. The means over frames are taken before the convolutions, which
    is the same and T times less work.

    Args:
        in_channels: C.
        out_channels: D.
        rel_reduction: the relations have C // rel_reduction channels, 8 where C is 3 or 9.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import CTRGC
        >>> A = Skeleton.builtin("ntu25").partition("spatial")
        >>> CTRGC(3, 16)(torch.randn(2, 3, 8, 25), A[0], alpha=torch.ones(1)).shape
        torch.Size([2, 16, 8, 25])
    """

    side = "left"

    def __init__(self, in_channels: int, out_channels: int, rel_reduction: int = 8) -> None:
        super().__init__()
        relations = self._relations(in_channels, rel_reduction)
        if relations == 0:
            unit = type(self).__name__
            raise ValueError(f"{unit}: in_channels must be >= rel_reduction = {rel_reduction}, got {in_channels}")
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, relations, 1)
        self.conv2 = nn.Conv2d(in_channels, relations, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relations, out_channels, 1)
        self.init_weights()

    def _relations(self, in_channels: int, rel_reduction: int) -> int:
        return 8 if in_channels in (3, 9) else in_channels // rel_reduction

    def init_weights(self) -> None:
        """The weights that training starts from (pyskl's models call it)."""
        _unit.initialise(self)

    def forward(self, x: torch.Tensor, A: torch.Tensor | None = None, alpha: torch.Tensor | float = 1) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V); ``A`` (V, V) is the shared graph, ``alpha`` weighs its refinement."""
        unit = type(self).__name__
        _unit.features(unit, x, self.in_channels, None, self.conv3.weight)
        V = x.shape[3]
        if A is not None and tuple(A.shape) != (V, V):
            raise ValueError(f"{unit}: A must be ({V}, {V}), as x's joints, got shape {tuple(A.shape)}")
        return _refined(x, [self], None if A is None else A[None], alpha, self.side)


class PysklCTRGC(CTRGC):
    """``CTRGC`` of pyskl: :class:`CTRGC` multiplied from the right, with 8 relations where C is at most 16.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import PysklCTRGC
        >>> PysklCTRGC(16, 32)(torch.randn(2, 16, 8, 17), torch.eye(17)).shape
        torch.Size([2, 32, 8, 17])
    """

    side = "right"

    def _relations(self, in_channels: int, rel_reduction: int) -> int:
        return 8 if in_channels <= 16 else in_channels // rel_reduction


def _refined(
    x: torch.Tensor, units: Iterable[nn.Module], A: torch.Tensor | None, alpha: torch.Tensor | float, side: str
) -> torch.Tensor:
    """The sum over K units, each with its graph A[k], as one graph convolution."""
    listed = cast(list[CTRGC], list(units))
    K, (N, _, _, V) = len(listed), x.shape
    weight, bias = _unit.stacked([unit.conv1 for unit in listed] + [unit.conv2 for unit in listed])
    source, target = F.conv1d(x.mean(2), weight[:, :, None], bias).chunk(2, dim=1)
    relations = (source[..., :, None] - target[..., None, :]).tanh()
    # alpha goes into the weights: nothing of the graph's size is multiplied, or kept for it.
    weight, bias = _unit.stacked(unit.conv4 for unit in listed)
    graph = F.conv2d(relations, (weight * alpha)[:, :, None, None], bias * alpha, groups=K)
    graph = graph.view(N, K, len(weight) // K, V, V)
    if A is not None:
        graph = graph + A[:, None]
    weight, bias = _unit.stacked(unit.conv3 for unit in listed)
    return graph_conv(x, graph, weight, bias, axes="NKCVW", side=side)


class CTRGCN(nn.Module):
    """``unit_gcn`` of CTR-GCN: the sum of K :class:`CTRGC`, a norm, a residual and a ReLU.

    State: ``PA``, ``alpha``, ``convs.i``, ``bn``, ``down.0`` and ``down.1`` as theirs. The K units run as one graph
    convolution.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        coff_embedding: taken for the call's sake; CTR-GCN uses it nowhere.
        adaptive: A is learned (``PA``); else it stays as it is and is no part of the state.
        residual: with a residual.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import CTRGCN
        >>> CTRGCN(3, 16, Skeleton.builtin("ntu25").partition("spatial"))(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        coff_embedding: int = 4,
        adaptive: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        graph = _unit.adjacency("CTRGCN", A)
        self.in_channels = in_channels
        self.convs = nn.ModuleList(CTRGC(in_channels, out_channels) for _ in graph)
        self.down = _unit.shortcut(in_channels, out_channels) if residual else None
        self.PA: torch.Tensor
        if adaptive:
            self.PA = nn.Parameter(graph)
        else:
            self.register_buffer("PA", graph, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        _unit.initialise(self, small=self.bn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features("CTRGCN", x, self.in_channels, self.PA.shape[-1], self.alpha)
        return _summed_up(self, x, self.PA, "left")


class PysklCTRGCN(nn.Module):
    """``unit_ctrgcn`` of pyskl: :class:`CTRGCN` multiplied from the right, its graph named ``A``.

    State: ``A``, ``alpha``, ``convs.i``, ``bn``, ``down.0`` and ``down.1`` as theirs.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import PysklCTRGCN
        >>> PysklCTRGCN(3, 16, Skeleton.builtin("coco17").partition("spatial"))(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 8, 17])
    """

    def __init__(self, in_channels: int, out_channels: int, A: torch.Tensor | np.ndarray) -> None:
        super().__init__()
        graph = _unit.adjacency("PysklCTRGCN", A)
        self.in_channels = in_channels
        self.convs = nn.ModuleList(PysklCTRGC(in_channels, out_channels) for _ in graph)
        self.down = _unit.shortcut(in_channels, out_channels)
        self.A = nn.Parameter(graph)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def init_weights(self) -> None:
        """The weights that training starts from (pyskl's models call it)."""
        _unit.initialise(self, small=self.bn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features("PysklCTRGCN", x, self.in_channels, self.A.shape[-1], self.alpha)
        return _summed_up(self, x, self.A, "right")


def _summed_up(unit: CTRGCN | PysklCTRGCN, x: torch.Tensor, A: torch.Tensor, side: str) -> torch.Tensor:
    y = unit.bn(_refined(x, unit.convs, A, unit.alpha, side))
    if unit.down is not None:
        y += unit.down(x)
    result: torch.Tensor = unit.relu(y)
    return result
