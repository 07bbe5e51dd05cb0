"""A fixed sparse adjacency: which joints feed which, and how strongly."""

from __future__ import annotations

from typing import NamedTuple

import torch


class SparseGraph(NamedTuple):
    """The nonzeros of an adjacency (K, V, W): ``A[k, v, w] = values[e]`` for ``(k, v, w) = edges[:, e]``.

    Source v feeds target w. A spatial partition of NTU-25 holds 73 of 1,875 numbers; :func:`asma_kernels.graph_conv`
    works on these alone, and its gradient in ``values`` is theirs alone.

    Attributes:
        values: (E,), floating; differentiable.
        edges: (3, E) int64, rows k, v, w, on the device of ``values``.
        shape: (K, V, W).

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton, SparseGraph
        >>> graph = SparseGraph.from_dense(Skeleton.builtin("ntu25").partition("spatial"))
        >>> graph.values.shape, graph.shape
        (torch.Size([73]), (3, 25, 25))
    """

    values: torch.Tensor
    edges: torch.Tensor
    shape: tuple[int, int, int]

    @staticmethod
    def from_dense(adjacency: torch.Tensor) -> SparseGraph:
        """The nonzeros of (K, V, W). Looks at the numbers: do it once, not in the training step.

        Raises:
            ValueError: the adjacency does not have three axes.
        """
        if adjacency.dim() != 3:
            raise ValueError(f"SparseGraph: adjacency must be (K, V, W), got shape {tuple(adjacency.shape)}")
        edges = adjacency.detach().nonzero().T.contiguous()
        K, V, W = adjacency.shape
        return SparseGraph(adjacency[edges[0], edges[1], edges[2]], edges, (K, V, W))

    def weighted(self, importance: torch.Tensor) -> SparseGraph:
        """``A * importance`` for a learned importance (K, V, W), as ST-GCN's edge importance; differentiable in it.

        Raises:
            ValueError: the importance has another shape.
        """
        if tuple(importance.shape) != self.shape:
            raise ValueError(
                f"SparseGraph.weighted: importance must be {self.shape}, got shape {tuple(importance.shape)}"
            )
        k, v, w = self.edges
        return self._replace(values=self.values * importance[k, v, w])

    def to_dense(self) -> torch.Tensor:
        """(K, V, W), differentiable in ``values``."""
        k, v, w = self.edges
        return self.values.new_zeros(self.shape).index_put((k, v, w), self.values)
