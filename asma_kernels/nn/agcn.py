"""2s-AGCN's and AAGCN's graph convolutions, which add to the graph the similarity of the clip's own joints."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..graph import SparseGraph
from ..ops.graph_conv import graph_conv
from . import _unit


class _AdaptiveUnit(nn.Module):
    """The parts of both: K pairs of embeddings, K convolutions, a norm, a residual."""

    def __init__(self, in_channels: int, out_channels: int, K: int, coff_embedding: int, similar: bool) -> None:
        super().__init__()
        unit = type(self).__name__
        self.in_channels, self.num_subset, self.inter_c = in_channels, K, out_channels // coff_embedding
        if similar and self.inter_c == 0:
            raise ValueError(f"{unit}: out_channels must be >= coff_embedding = {coff_embedding}, got {out_channels}")
        self.conv_d = _unit.convolutions(K, in_channels, out_channels)
        if similar:
            self.conv_a = _unit.convolutions(K, in_channels, self.inter_c)
            self.conv_b = _unit.convolutions(K, in_channels, self.inter_c)
        self.down = _unit.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def init_weights(self) -> None:
        """The weights that training starts from (pyskl's models call it)."""
        _unit.initialise(self, small=self.bn)
        for conv in self.conv_d:
            _unit.initialise_branch(conv, self.num_subset)

    def _similarity(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, V, V): mean over channels and frames of the product of two embeddings."""
        N, _, T, V = x.shape
        both = []
        for convs in (self.conv_a, self.conv_b):
            weight, bias = _unit.stacked(convs)
            embedded = F.conv2d(x, weight[:, :, None, None], bias)
            both.append(embedded.reshape(N, self.num_subset, self.inter_c * T, V))
        return both[0].transpose(-1, -2) @ both[1] / (self.inter_c * T)

    def _convolve(self, x: torch.Tensor, graph: torch.Tensor | SparseGraph, axes: str) -> torch.Tensor:
        weight, bias = _unit.summed(self.conv_d)
        out = self.bn(graph_conv(x, graph, weight, bias, axes=axes, order="post"))
        out += self.down(x)
        result: torch.Tensor = self.relu(out)
        return result


class AGCN(_AdaptiveUnit):
    """``unit_gcn`` of 2s-AGCN (arXiv 1805.07694, equation 3): A + B + C with A fixed, B = ``PA`` learned, C the
    softmax of the joints' similarity.

    State: ``PA``, ``conv_a.i``, ``conv_b.i``, ``conv_d.i``, ``bn``, ``down.0`` and ``down.1`` as theirs; A is no part.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        coff_embedding: the embeddings have D // coff_embedding channels.
        num_subset: K.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import AGCN
        >>> AGCN(3, 16, Skeleton.builtin("ntu25").partition("spatial"))(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 16, 8, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        coff_embedding: int = 4,
        num_subset: int = 3,
    ) -> None:
        graph = _unit.adjacency("AGCN", A)
        if len(graph) != num_subset:
            raise ValueError(f"AGCN: A must have num_subset = {num_subset} partitions, got {len(graph)}")
        super().__init__(in_channels, out_channels, num_subset, coff_embedding, similar=True)
        self.A: torch.Tensor
        self.register_buffer("A", graph, persistent=False)
        self.PA = nn.Parameter(torch.full_like(graph, 1e-6))
        self.init_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features("AGCN", x, self.in_channels, self.A.shape[-1], self.PA)
        return self._convolve(x, self._similarity(x).softmax(-2) + (self.A + self.PA), "NKVW")


class AAGCN(_AdaptiveUnit):
    """``unit_gcn`` of AAGCN (arXiv 1912.06971) with its attention over joints, frames and channels: the
    graph is learned, ``PA``, and ``alpha`` weighs the tanh of the joints' similarity.

    State: ``PA``, ``alpha``, ``conv_a.i``, ``conv_b.i``, ``conv_d.i``, ``conv_ta``, ``conv_sa``, ``fc1c``, ``fc2c``,
    ``bn``, ``down.0`` and ``down.1`` as theirs.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        coff_embedding: the embeddings have D // coff_embedding channels.
        num_subset: K.
        adaptive: False: A as it is, fixed, and no similarity.
        attention: with the three attentions.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import AAGCN
        >>> AAGCN(3, 16, Skeleton.builtin("ntu25").partition("spatial"))(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 16, 8, 25])
    """

    learned = "PA"  # the learned graph's name in the state

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        coff_embedding: int = 4,
        num_subset: int = 3,
        adaptive: bool = True,
        attention: bool = True,
    ) -> None:
        unit = type(self).__name__
        graph = _unit.adjacency(unit, A)
        if len(graph) != num_subset:
            raise ValueError(f"{unit}: A must have num_subset = {num_subset} partitions, got {len(graph)}")
        super().__init__(in_channels, out_channels, num_subset, coff_embedding, similar=adaptive)
        self.adaptive, self.attention, self.joints = adaptive, attention, graph.shape[-1]
        if adaptive:
            self.register_parameter(self.learned, nn.Parameter(graph))
            self.alpha = nn.Parameter(torch.zeros(1))
        else:
            self.register_buffer("A", graph, persistent=self.learned == "A")
            _unit.keep_edges(self, "A")
        if attention:
            taps = self.joints - 1 + self.joints % 2  # odd, so that the attention has a joint for a joint
            self.conv_ta = nn.Conv1d(out_channels, 1, 9, padding=4)
            self.conv_sa = nn.Conv1d(out_channels, 1, taps, padding=taps // 2)
            self.fc1c = nn.Linear(out_channels, out_channels // 2)
            self.fc2c = nn.Linear(out_channels // 2, out_channels)
        self.init_weights()

    def init_weights(self) -> None:
        """The weights that training starts from (pyskl's models call it)."""
        super().init_weights()
        if self.attention:
            nn.init.zeros_(self.conv_ta.weight)
            nn.init.xavier_normal_(self.conv_sa.weight)
            nn.init.kaiming_normal_(self.fc1c.weight)
            nn.init.zeros_(self.fc2c.weight)
            for part in (self.conv_ta, self.conv_sa, self.fc1c, self.fc2c):
                nn.init.zeros_(cast(torch.Tensor, part.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        _unit.features(type(self).__name__, x, self.in_channels, self.joints, self.bn.weight)
        if self.adaptive:
            graph = getattr(self, self.learned) + self._similarity(x).tanh() * self.alpha
            y = self._convolve(x, graph, "NKVW")
        else:
            y = self._convolve(x, _unit.fixed(self), "KVW")
        if not self.attention:
            return y
        y = y * (1 + self.conv_sa(y.mean(2)).sigmoid()[:, :, None])
        y = y * (1 + self.conv_ta(y.mean(3)).sigmoid()[..., None])
        squeezed = self.fc1c(y.mean((2, 3))).relu()
        return y * (1 + self.fc2c(squeezed).sigmoid()[..., None, None])


class PysklAAGCN(AAGCN):
    """``unit_aagcn`` of pyskl: :class:`AAGCN` whose learned graph is named ``A`` and whose K is A's.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        coff_embedding: the embeddings have D // coff_embedding channels.
        adaptive: False: A is fixed, and no similarity.
        attention: with the three attentions.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import PysklAAGCN
        >>> PysklAAGCN(3, 16, Skeleton.builtin("coco17").partition("spatial"))(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 8, 17])
    """

    learned = "A"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        coff_embedding: int = 4,
        adaptive: bool = True,
        attention: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, A, coff_embedding, len(A), adaptive, attention)
