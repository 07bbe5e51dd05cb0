"""Hyper-GCN's graph convolution: hyperedges between joints whose features are near, and joints that no body has."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..ops.graph_conv import graph_conv
from . import _unit

NEAREST = 9  # joints of a hyperedge


class HyperGCN(nn.Module):
    """``HYPERGC`` of Hyper-GCN (arXiv 2411.14796): groups of channels, each with a weighted learned graph
    and the clip's own hypergraph, among the body's and ``virtual_num`` learned joints.

    State: ``PA``, ``edge_importance``, ``hyper_joint``, ``alpha``, ``to_V``, ``to_W.i``, ``conv_d``, ``bn``, ``down.0``
    and ``down.1`` as theirs; PA is a buffer. What the virtual joints send is the same in every frame, so they are not
    put beside x: the graph convolution goes from body joint to body joint, and theirs is added.

    Args:
        in_channels: C, a multiple of num_subset, at least num_subset * rel_reduction.
        out_channels: D, a multiple of num_subset.
        vertex_nums: V, the body's joints.
        virtual_num: the virtual joints.
        A: adjacency (num_subset, V + virtual_num, V + virtual_num), tensor or array; copied.
        hyper: True; without the hypergraph Hyper-GCN's own unit does not run. It needs at least 9 joints.
        num_subset: K, groups of channels.
        rel_reduction: a group's distances are taken of C // K // rel_reduction channels.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import HyperGCN
        >>> out, joints = HyperGCN(32, 64, 25, 3, torch.ones(8, 28, 28))(torch.randn(2, 32, 8, 25))
        >>> out.shape, joints.shape
        (torch.Size([2, 64, 8, 25]), torch.Size([3, 32]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        vertex_nums: int,
        virtual_num: int,
        A: torch.Tensor | np.ndarray,
        hyper: bool = True,
        num_subset: int = 8,
        rel_reduction: int = 4,
    ) -> None:
        super().__init__()
        graph = _unit.adjacency("HyperGCN", A)
        joints = vertex_nums + virtual_num
        if tuple(graph.shape) != (num_subset, joints, joints):
            wanted = (num_subset, joints, joints)
            raise ValueError(f"HyperGCN: A must be (K, V, V) = {wanted}, virtual joints too, got {tuple(graph.shape)}")
        if in_channels % num_subset or out_channels % num_subset:
            raise ValueError(
                f"HyperGCN: channels must be multiples of num_subset = {num_subset}, got {in_channels}, {out_channels}"
            )
        if not hyper:
            raise ValueError("HyperGCN: hyper must be True, got False")
        hidden = in_channels // num_subset // rel_reduction
        if hidden == 0 or joints < NEAREST:
            raise ValueError(
                f"HyperGCN: in_channels must be >= num_subset * rel_reduction = {num_subset * rel_reduction} and "
                f"joints >= {NEAREST}, got {in_channels} and {joints}"
            )
        self.in_channels, self.vertex_nums, self.virtual_num = in_channels, vertex_nums, virtual_num
        self.num_subset, self.hidden_channels = num_subset, hidden
        self.to_V = nn.Conv1d(in_channels, num_subset * hidden, 1, groups=num_subset)
        self.to_W = nn.Sequential(
            nn.Conv1d(in_channels, num_subset * hidden, 1, groups=num_subset),
            nn.LeakyReLU(),
            nn.Conv1d(num_subset * hidden, num_subset, 1),
            nn.Tanh(),
        )
        self.hyper_joint = nn.Parameter(torch.randn(1, in_channels).repeat(virtual_num, 1))
        self.alpha = nn.Parameter(torch.ones(1))
        self.conv_d = nn.Conv2d(in_channels, out_channels, 1, groups=num_subset)
        self.PA: torch.Tensor
        self.register_buffer("PA", graph)
        self.edge_importance = nn.Parameter(torch.ones_like(graph))
        self.down = _unit.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        _unit.initialise(self, small=self.bn)
        for conv in (self.to_V, self.to_W[0], self.to_W[2]):
            _unit.initialise_conv(conv)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, T, V) -> (N, D, T, V) and the virtual joints (virtual_num, C)."""
        V = self.vertex_nums
        _unit.features("HyperGCN", x, self.in_channels, V, self.edge_importance)
        N, _, T, _ = x.shape
        graph = self._graph(x)
        out = graph_conv(self.conv_d(x), graph[..., :V], axes="NKVW", side="left", reduce_k="keep")
        if self.virtual_num:
            virtual = self.conv_d(self.hyper_joint.t()[None, :, None]).view(self.num_subset, -1, self.virtual_num)
            sent = graph[..., V:] @ virtual.transpose(1, 2)
            out += sent.transpose(2, 3).flatten(1, 2)[:, :, None]
        out = self.bn(out)
        out += self.down(x)
        return self.relu(out), self.hyper_joint

    def _graph(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, V, V + virtual_num), targets first: the weighted graph and relu(alpha) times the hypergraph."""
        N, V = len(x), self.vertex_nums
        means = torch.cat([x.mean(2), self.hyper_joint.t().expand(N, -1, -1)], dim=2)
        places = self.to_V(means).unflatten(1, (self.num_subset, self.hidden_channels)).transpose(2, 3)
        distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
        nearest, which = distances.topk(NEAREST, largest=False)
        # Joint v is in hyperedge e as far as e is among the nearest; hyperedge e weighs weights[e].
        belongs = torch.zeros_like(distances).scatter(3, which, (-nearest).softmax(-1))
        weights = self.to_W(means)
        spread = weights / (belongs.sum(2) + 1e-8)
        gathered = belongs[:, :, :V] * weights[:, :, None]
        gathered = gathered / (gathered.abs().sum(3, keepdim=True) + 1e-8)
        own = gathered * spread[:, :, None] @ belongs.transpose(2, 3)
        shared = self.edge_importance * self.PA
        shared = shared / (shared.abs().sum(2, keepdim=True) + 1e-8)
        return shared[:, :V] + self.alpha.relu() * own
