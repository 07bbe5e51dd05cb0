"""pyskl's unit_gcn: the graph convolution of its STGCN and STGCN++."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .. import _check
from ..graph import SparseGraph
from ..ops.graph_conv import graph_conv
from . import _unit

ADAPTIVE = ("init", "offset", "importance")


class PysklGCN(nn.Module):
    """``unit_gcn`` of pyskl (STGCN++, arXiv 2205.09443): ``act(norm(graph_conv(x)) + residual)``.

    State: ``A``, ``PA``, ``conv``, ``bn``, ``down.0`` and ``down.1`` as theirs. Where A stays fixed (``adaptive`` None
    or "importance") only its nonzeros are worked on, and PA has gradient there alone, as the others' is zero. They are
    looked for when the module is made and after ``load_state_dict``: assign no other numbers to A in place.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        adaptive: None: A is fixed; "init": A is learned; "offset": A + PA; "importance": A * PA.
        conv_pos: "pre": convolution before the aggregation; "post": after it.
        with_res: with a residual: x, or a 1x1 convolution of it and a norm where the channels differ.
        norm: mmcv's name of a norm ("BN", "SyncBN", "IN"), or a dict of ``type`` and arguments.
        act: mmcv's name of an activation, or a dict of ``type`` and arguments.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import PysklGCN
        >>> unit = PysklGCN(3, 16, Skeleton.builtin("coco17").partition("spatial"), adaptive="init", with_res=True)
        >>> unit(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 8, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        adaptive: str | None = "importance",
        conv_pos: str = "pre",
        with_res: bool = False,
        norm: str | dict[str, Any] = "BN",
        act: str | dict[str, Any] = "ReLU",
    ) -> None:
        super().__init__()
        if adaptive is not None:
            _check.one_of("PysklGCN", "adaptive", adaptive, ADAPTIVE)
        _check.one_of("PysklGCN", "conv_pos", conv_pos, ("pre", "post"))
        graph = _unit.adjacency("PysklGCN", A)
        K = len(graph)
        self.in_channels, self.num_subsets = in_channels, K
        self.adaptive, self.conv_pos, self.with_res = adaptive, conv_pos, with_res
        self.bn = _unit.norm("PysklGCN", norm, out_channels)
        self.act = _unit.activation("PysklGCN", act)
        self.A: torch.Tensor
        if adaptive == "init":
            self.A = nn.Parameter(graph)
        else:
            self.register_buffer("A", graph)
        if adaptive == "offset":
            self.PA = nn.Parameter(torch.empty_like(graph).uniform_(-1e-6, 1e-6))
        elif adaptive == "importance":
            self.PA = nn.Parameter(torch.ones_like(graph))
        if adaptive in (None, "importance"):
            _unit.keep_edges(self, "A")
        into, out = (in_channels, K * out_channels) if conv_pos == "pre" else (K * in_channels, out_channels)
        self.conv = nn.Conv2d(into, out, 1)
        if with_res:
            after = _unit.norm("PysklGCN", norm, out_channels)
            self.down = _unit.shortcut(in_channels, out_channels, after)

    def graph(self) -> torch.Tensor | SparseGraph:
        """The adjacency that x meets."""
        if self.adaptive == "init":
            return self.A
        if self.adaptive == "offset":
            return self.A + self.PA
        graph = _unit.fixed(self)
        return graph if self.adaptive is None else graph.weighted(self.PA)

    def forward(self, x: torch.Tensor, A: object = None) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V). ``A`` is not looked at, as in pyskl, whose blocks hand it over."""
        _unit.features("PysklGCN", x, self.in_channels, self.A.shape[-1], self.conv.weight)
        out = self.bn(graph_conv(x, self.graph(), self.conv.weight, self.conv.bias, order=self.conv_pos))
        if self.with_res:
            out += self.down(x)
        result: torch.Tensor = self.act(out)
        return result

    def init_weights(self) -> None:
        """Nothing, as in pyskl, whose models call it."""
