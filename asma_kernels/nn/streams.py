"""The streams that the field trains on beside the joints themselves: bones and motion."""

from __future__ import annotations

import torch

from .. import _check
from ..skeleton import Skeleton


def bone_stream(x: torch.Tensor, parents: Skeleton | torch.Tensor) -> torch.Tensor:
    """Each joint minus its parent; the centre, its own parent, becomes 0.

    Args:
        x: coordinates (N, C, T, V, M), or (N, C, T, V) of one person; any dtype, device and strides.
        parents: a skeleton, or its ``parents`` as an int64 tensor (V,) on x's device: make that once for a loop on a
            GPU.

    Returns:
        As x. Differentiable in x, deterministic on the CPU.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or the skeleton has no parents.

    Source: 2s-AGCN (arXiv 1805.07694, two-stream networks). Its pairs of NTU-25 are the parents of ``ntu25``.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import bone_stream
        >>> bone_stream(torch.randn(2, 3, 50, 25, 2), Skeleton.builtin("ntu25"))[:, :, :, 20].abs().max().item()
        0.0
    """
    _check_clips("bone_stream", x)
    if isinstance(parents, Skeleton):
        parents = torch.tensor(parents.parents, device=x.device)
    _check.dtype("bone_stream", "parents", parents, torch.int64)
    _check.same_device("bone_stream", "parents", parents, x)
    if tuple(parents.shape) != (x.shape[3],):
        raise ValueError(f"bone_stream: parents must be (V,) = ({x.shape[3]},), got shape {tuple(parents.shape)}")
    return x - x.index_select(3, parents)


def motion_stream(x: torch.Tensor) -> torch.Tensor:
    """``x[t + 1] - x[t]``, 0 in the last frame.

    Args:
        x: coordinates or bones (N, C, T, V, M), or (N, C, T, V) of one person; any dtype, device and strides.

    Returns:
        As x. Differentiable in x, deterministic.

    Raises:
        ValueError: x has other axes.

    Source: MS-AAGCN (arXiv 1912.06971, multi-stream networks), as CTR-GCN, PSTL and pyskl have it.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import motion_stream
        >>> motion_stream(torch.tensor([1.0, 3.0, 7.0]).view(1, 1, 3, 1)).flatten().tolist()
        [2.0, 4.0, 0.0]
    """
    _check_clips("motion_stream", x)
    return x.diff(dim=2, append=x[:, :, -1:])


def _check_clips(op: str, x: torch.Tensor) -> None:
    if x.dim() not in (4, 5):
        raise ValueError(f"{op}: x must be (N, C, T, V, M) or (N, C, T, V), got shape {tuple(x.shape)}")
