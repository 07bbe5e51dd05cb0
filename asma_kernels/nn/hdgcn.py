"""HD-GCN's graph convolution: the body's joints in layers from its centre outwards, a graph a layer and direction."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from ..ops.graph_conv import graph_conv
from . import _unit


class _EdgeConv(nn.Module):
    """EdgeConv (DGCNN, arXiv 1801.07829) over joints whose features are nearest: plain PyTorch, no op.

    State: ``conv.0`` and ``conv.1``.
    """

    def __init__(self, in_channels: int, out_channels: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.conv = nn.Sequential(
            nn.Conv2d(2 * in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, V) -> (N, D, V): of each joint, the largest over its k nearest joints, itself among them."""
        squares = x.square().sum(1)
        distances = squares[:, :, None] - 2 * x.transpose(1, 2) @ x + squares[:, None]
        near = distances.topk(self.k, largest=False)[1]
        # W [x_j - x_i; x_i] = W1 x_j + (W2 - W1) x_i: each joint is convolved once, not once for each that is near.
        of_difference, of_itself = cast(nn.Conv2d, self.conv[0]).weight.flatten(1).chunk(2, dim=1)
        sent, own = of_difference @ x, (of_itself - of_difference) @ x
        N, D, V = sent.shape
        received = sent.gather(2, near.flatten(1)[:, None].expand(-1, D, -1)).view(N, D, V, self.k)
        edges = self.conv[2](self.conv[1](received + own[..., None]))
        largest: torch.Tensor = edges.max(-1).values
        return largest


class _LayerAttention(nn.Module):
    """``AHA``, attention over layers. State: ``conv_down.i``, ``edge_conv.conv.i``, ``aggregate``."""

    def __init__(self, channels: int, members: torch.Tensor) -> None:
        super().__init__()
        inner = channels // 4
        self.members: torch.Tensor
        self.register_buffer("members", members, persistent=False)
        self.conv_down = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.edge_conv = _EdgeConv(inner, inner, k=3)
        self.aggregate = nn.Conv1d(inner, channels, 1)

    def forward(self, peaks: torch.Tensor) -> torch.Tensor:
        """The layers' largest numbers over frames (N, D, L, V) -> the layers' weights (N, D, L)."""
        sampled = (self.conv_down(peaks) * self.members).sum(-1) / self.members.sum(1)
        weights: torch.Tensor = self.aggregate(self.edge_conv(sampled)).sigmoid()
        return weights


class HDGCN(nn.Module):
    """``HD_Gconv`` of HD-GCN (arXiv 2208.10741): of every layer of the hierarchy S graph convolutions from
    the left and an EdgeConv side by side; the layers are summed, or weighed by attention.

    State: ``PA``, ``conv_down.l.i``, ``conv.l.s.i``, ``conv.l.S.conv.i``, ``conv_d.*``, ``aha.*``, ``bn``, ``down.0``
    and ``down.1`` as theirs. A layer's S graph convolutions run as one; its EdgeConv is plain PyTorch.

    Args:
        in_channels: C.
        out_channels: D; each of the S + 1 branches has D // (S + 1) of its channels.
        A: adjacency (L, S, V, V), layers and their subsets, tensor or array; copied.
        adaptive: True: A is learned. HD-GCN knows no other.
        residual: with a residual.
        att: weighs the layers by attention. The joints of a layer are those that its first subset joins with
            themselves.
        CoM: taken for the call's sake: the layers are read from A, not from the name of the centre joint.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import HDGCN
        >>> A = Skeleton.builtin("ntu25").partition("spatial").repeat(6, 1, 1, 1)
        >>> HDGCN(3, 16, A, att=True)(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        adaptive: bool = True,
        residual: bool = True,
        att: bool = False,
        CoM: int = 21,
    ) -> None:
        super().__init__()
        graph = _unit.adjacency("HDGCN", A, "L, S, V, V")
        if not adaptive:
            raise ValueError("HDGCN: adaptive must be True, got False")
        L, S, V, _ = graph.shape
        inner = out_channels // (S + 1)
        if inner * (S + 1) != out_channels or inner == 0:
            raise ValueError(f"HDGCN: out_channels must be a multiple of S + 1 = {S + 1}, got {out_channels}")
        if V < 5:
            raise ValueError(f"HDGCN: A must have at least 5 joints, as EdgeConv takes the 5 nearest, got {V}")
        self.in_channels, self.num_layers, self.num_subset = in_channels, L, S
        self.PA = nn.Parameter(graph)
        self.conv_down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
            for _ in range(L)
        )
        self.conv = nn.ModuleList(
            nn.ModuleList(
                [
                    *(nn.Sequential(nn.Conv2d(inner, inner, 1), nn.BatchNorm2d(inner)) for _ in range(S)),
                    _EdgeConv(inner, inner, k=5),
                ]
            )
            for _ in range(L)
        )
        self.conv_d = self.conv[-1]  # HD-GCN's state has its last layer under this name too
        self.aha: _LayerAttention | None = None
        if att:
            members = graph[:, 0].diagonal(dim1=1, dim2=2).ne(0).float()
            if L < 3 or not bool(members.any(1).all()):
                raise ValueError("HDGCN: att needs at least 3 layers, each with self loops in its first subset")
            self.aha = _LayerAttention(out_channels, members)
        self.down = _unit.shortcut(in_channels, out_channels) if residual else None
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        _unit.initialise(self, small=self.bn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features("HDGCN", x, self.in_channels, self.PA.shape[-1], self.PA)
        layers = [self._layer(x, place) for place in range(self.num_layers)]
        if self.aha is None:
            sums = [sum(branch[1:], branch[0]) for branch in zip(*layers, strict=True)]
        else:
            branches = [torch.stack(branch, dim=2) for branch in zip(*layers, strict=True)]
            weights = self.aha(torch.cat([branch.max(3).values for branch in branches], dim=1))
            parts = zip(branches, weights.chunk(len(branches), dim=1), strict=True)
            sums = [(w[:, :, None] @ branch.flatten(3)).unflatten(3, branch.shape[3:])[:, :, 0] for branch, w in parts]
        # An EdgeConv gives every frame the same.
        sums[-1] = sums[-1].expand_as(sums[0])
        out = self.bn(torch.cat(sums, dim=1))
        if self.down is not None:
            out += self.down(x)
        result: torch.Tensor = self.relu(out)
        return result

    def _layer(self, x: torch.Tensor, place: int) -> list[torch.Tensor]:
        """Its branches, (N, D', T, V); the last, the EdgeConv, (N, D', 1, V)."""
        down = self.conv_down[place](x)
        *branches, edge_conv = cast(nn.ModuleList, self.conv[place])
        # The convolutions follow their graphs, so their biases do not pass through these.
        weight, bias = _unit.stacked(branch[0] for branch in cast(list[nn.Sequential], branches))
        together = graph_conv(down, self.PA[place], weight, side="left", reduce_k="keep") + bias[:, None, None]
        parts = zip(cast(list[nn.Sequential], branches), together.chunk(self.num_subset, dim=1), strict=True)
        return [*(branch[1](part) for branch, part in parts), edge_conv(down.mean(2))[:, :, None]]
