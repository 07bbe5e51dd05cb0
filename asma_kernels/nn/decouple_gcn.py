"""DecoupleGCN's graph convolution: a graph of its own for every group of channels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..ops.graph_conv import graph_conv
from . import _unit


class DecoupleGCN(nn.Module):
    """``unit_gcn`` of DecoupleGCN-DropGraph (Cheng et al., ECCV 2020, equation 5): 1x1 convolution, norm, then each
    channel's own learned graph, its columns normalised.

    State: ``DecoupleA``, ``Linear_weight``, ``Linear_bias``, ``eyes``, ``bn0``, ``bn``, ``down.0`` and ``down.1`` as
    theirs. ``eyes``, identities that the normalisation there needs, is a buffer that nothing reads.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        groups: graphs a partition; channel d has graph d % groups. Divides D.
        num_point: V.
        coff_embedding: taken for the call's sake; DecoupleGCN uses it nowhere.
        num_subset: K.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import DecoupleGCN
        >>> unit = DecoupleGCN(3, 16, Skeleton.builtin("ntu25").partition("spatial"), groups=8, num_point=25)
        >>> unit(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        groups: int,
        num_point: int,
        coff_embedding: int = 4,
        num_subset: int = 3,
    ) -> None:
        super().__init__()
        graph = _unit.adjacency("DecoupleGCN", A)
        if tuple(graph.shape) != (num_subset, num_point, num_point):
            wanted = (num_subset, num_point, num_point)
            raise ValueError(
                f"DecoupleGCN: A must be (num_subset, num_point, num_point) = {wanted}, got {tuple(graph.shape)}"
            )
        if groups <= 0 or out_channels % groups:
            raise ValueError(f"DecoupleGCN: groups must divide out_channels = {out_channels}, got {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.DecoupleA = nn.Parameter(graph[:, None].repeat(1, groups, 1, 1))
        self.down = _unit.shortcut(in_channels, out_channels)
        self.bn0 = nn.BatchNorm2d(out_channels * num_subset)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        _unit.initialise(self, small=self.bn)
        wide = out_channels * num_subset
        self.Linear_weight = nn.Parameter(torch.empty(in_channels, wide).normal_(0, math.sqrt(0.5 / wide)))
        self.Linear_bias = nn.Parameter(torch.full((1, wide, 1, 1), 1e-6))
        self.register_buffer("eyes", torch.eye(num_point).repeat(out_channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features("DecoupleGCN", x, self.in_channels, self.DecoupleA.shape[-1], self.Linear_weight)
        graph = self.DecoupleA / (self.DecoupleA.sum(2, keepdim=True) + 0.001)
        hidden = self.bn0(F.conv2d(x, self.Linear_weight.t()[:, :, None, None], self.Linear_bias.flatten()))
        out = self.bn(graph_conv(hidden, graph, axes="KCVW"))
        out += self.down(x)
        result: torch.Tensor = self.relu(out)
        return result
