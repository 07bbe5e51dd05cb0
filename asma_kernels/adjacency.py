"""Adjacencies beyond ST-GCN's partitions: hops, MS-G3D's multi-scale and windowed ones, STC-Net's dilated ones.

Each takes a :class:`Skeleton`, or any square array (V, V) whose nonzeros off the diagonal are its edges, and computes
on the CPU: do it once. The float tensors are (K, V, V) float32 for :func:`asma_kernels.graph_conv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from .skeleton import Skeleton

__all__ = ["dilated", "hops", "multi_scale", "windowed"]

NORMALISE = ("symmetric", "columns")


def hops(graph: Skeleton | ArrayLike) -> NDArray[np.int64]:
    """The number of edges on a shortest path from each joint to each other.

    Args:
        graph: a skeleton, or (V, V); directions of an array's edges are kept.

    Returns:
        (V, V) int64, -1 where there is no path.

    Raises:
        ValueError: the array is not square.

    Example:
        >>> from asma_kernels.adjacency import hops
        >>> hops([[0, 1, 0], [1, 0, 0], [0, 0, 0]]).tolist()
        [[0, 1, -1], [1, 0, -1], [-1, -1, 0]]
    """
    adjacency = _edges("hops", graph)
    found = np.full(adjacency.shape, -1, dtype=np.int64)
    frontier = np.eye(len(adjacency), dtype=np.bool_)
    hop = 0
    while frontier.any():
        found[frontier] = hop
        frontier = (frontier @ adjacency > 0) & (found < 0)
        hop += 1
    return found


def multi_scale(
    graph: Skeleton | ArrayLike, num_scales: int, disentangled: bool = True, normalise: str = "symmetric"
) -> torch.Tensor:
    """MS-G3D's adjacencies of the scales k = 0 .. num_scales - 1, one partition each.

    Disentangled: joints exactly k hops apart, and each joint with itself, normalised. Otherwise: the k-th power of the
    normalised one-hop adjacency with self loops, in which near joints weigh more at every scale.

    Args:
        graph: a skeleton, or (V, V) without directions, for instance of :func:`windowed`.
        num_scales: K, at least 1.
        disentangled: see above.
        normalise: ``"symmetric"``, D^-1/2 A D^-1/2 (MS-G3D), or ``"columns"``, A D^-1 (pyskl's MS-G3D).

    Returns:
        (K, V, V) float32. A symmetric one serves graph_conv's both sides; MS-G3D multiplies from the left. MS-G3D's
        own ``A_powers`` is ``.flatten(0, 1)`` of it, (K V, V).

    Raises:
        ValueError: an argument breaks a rule above.

    Source: MS-G3D (arXiv 2003.14111, disentangled multi-scale aggregation: k-adjacency).

    Example:
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.adjacency import multi_scale
        >>> A = multi_scale(Skeleton.builtin("ntu25"), 13)
        >>> A.shape, (A != 0).sum((1, 2))[:3].tolist()
        (torch.Size([13, 25, 25]), [25, 73, 79])
    """
    adjacency = _edges("multi_scale", graph)
    if num_scales < 1:
        raise ValueError(f"multi_scale: num_scales must be at least 1, got {num_scales}")
    if normalise not in NORMALISE:
        raise ValueError(f"multi_scale: normalise must be one of {', '.join(NORMALISE)}, got {normalise!r}")
    if not (adjacency == adjacency.T).all():
        raise ValueError("multi_scale: graph must have no directions, got an array that is not symmetric")
    distance, itself = hops(graph), np.eye(len(adjacency), dtype=np.bool_)
    if disentangled:
        scales = [_normalised((distance == k) | itself, normalise) for k in range(num_scales)]
    else:
        step = _normalised(adjacency | itself, normalise)
        scales = [np.linalg.matrix_power(step, k) for k in range(num_scales)]
    return torch.tensor(np.stack(scales), dtype=torch.float32)


def windowed(graph: Skeleton | ArrayLike, window_size: int) -> NDArray[np.int64]:
    """The graph over a window of frames of G3D: a joint is joined to itself and to its neighbours in every frame.

    Args:
        graph: a skeleton, or (V, V).
        window_size: tau, frames of the window, at least 1.

    Returns:
        (tau V, tau V) int64, 1 where joined, also on the diagonal; frame after frame, joints within a frame. Hand it to
        :func:`multi_scale`.

    Raises:
        ValueError: an argument breaks a rule above.

    Source: MS-G3D (arXiv 2003.14111, G3D: cross-spacetime edges).

    Example:
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.adjacency import multi_scale, windowed
        >>> multi_scale(windowed(Skeleton.builtin("ntu25"), 3), 6).shape
        torch.Size([6, 75, 75])
    """
    adjacency = _edges("windowed", graph)
    if window_size < 1:
        raise ValueError(f"windowed: window_size must be at least 1, got {window_size}")
    return np.tile(adjacency | np.eye(len(adjacency), dtype=np.bool_), (window_size, window_size)).astype(np.int64)


def dilated(skeleton: Skeleton, windows: Sequence[int]) -> torch.Tensor:
    """STC-Net's dilated kernels: for each window w the partitions itself, inward and outward of joints w hops apart.

    Inward pairs lead to a joint nearer to the centre, or equally near, outward pairs to a farther one; each matrix
    weighs a target's sources equally. With ``windows=[1]`` on a tree these are the edges of ``spatial-full``, each
    partition normalised by itself. STC-Net gives each window a share of the channels; its code was never published, so
    what the paper leaves open is decided here: joints on side branches count, equally near is inward.

    Args:
        skeleton: with its centre.
        windows: hops, each at least 1.

    Returns:
        (3 len(windows), V, V) float32, ``A[k, v, w]`` from source v to target w.

    Raises:
        ValueError: an argument breaks a rule above.

    Source: STC-Net (arXiv 2212.04761, dilated kernels for graph convolution).

    Example:
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.adjacency import dilated
        >>> dilated(Skeleton.builtin("ntu25"), [1, 2, 3]).shape
        torch.Size([9, 25, 25])
    """
    if len(windows) == 0 or min(windows) < 1:
        raise ValueError(f"dilated: windows must be hops of at least 1, got {list(windows)}")
    distance = skeleton.hops
    to_centre = distance[skeleton.centre]
    outward = to_centre[:, None] < to_centre[None, :]
    kernels = []
    for window in windows:
        ring = distance == window
        kernels += [distance == 0, ring & ~outward, ring & outward]
    return torch.tensor(np.stack([_normalised(kernel, "columns") for kernel in kernels]), dtype=torch.float32)


def partitions(skeleton: Skeleton, strategy: str, max_hop: int) -> torch.Tensor:
    """What :meth:`Skeleton.partition` returns and says; its arguments are checked there."""
    distance = skeleton.hops
    connected = distance <= max_hop
    if strategy == "uniform":
        groups = [connected]
    elif strategy == "distance":
        groups = [distance == hop for hop in range(max_hop + 1)]
    else:
        to_centre = distance[skeleton.centre]
        if strategy == "spatial":
            to_centre = np.minimum(to_centre, max_hop + 1)
        outward = to_centre[:, None] < to_centre[None, :]
        rings = [distance == hop for hop in range(1, max_hop + 1)]
        groups = [distance == 0, *(ring & side for ring in rings for side in (~outward, outward))]
    normalised = connected / connected.sum(axis=0)
    return torch.tensor(np.stack(groups) * normalised, dtype=torch.float32)


def _edges(op: str, graph: Skeleton | ArrayLike) -> NDArray[np.bool_]:
    """(V, V), True where two joints share an edge; the diagonal is False."""
    array = np.asarray(getattr(graph, "adjacency", graph))
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"{op}: graph must be a skeleton or (V, V), got shape {array.shape}")
    return (array != 0) & ~np.eye(len(array), dtype=np.bool_)


def _normalised(edges: NDArray[np.bool_], normalise: str) -> NDArray[np.float64]:
    degrees = edges.sum(axis=0).clip(min=1)  # a joint without an edge has a column of zeros
    if normalise == "columns":
        return edges / degrees
    return edges / np.sqrt(degrees[:, None] * degrees[None, :])
