"""Barlow Twins' loss as a module."""

from __future__ import annotations

import torch
from torch import nn

from ..ops.barlow_twins import barlow_twins


class BarlowTwinsLoss(nn.Module):
    """:func:`asma_kernels.barlow_twins` of two projections (N, D) -> (): agreement plus ``lambd`` times redundancy.

    No parameters. Across processes N is the global batch: gather both projections, with their gradients, before the
    call.

    Args:
        lambd: weight of the redundancy term, >= 0.
        eps: added to the variance, > 0.

    Raises:
        ValueError, TypeError: as :func:`asma_kernels.barlow_twins`, at the call.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import BarlowTwinsLoss
        >>> loss = BarlowTwinsLoss(lambd=5e-3)
        >>> z1, z2 = torch.randn(2, 16, 64, requires_grad=True)
        >>> loss(z1, z2).backward()
    """

    def __init__(self, lambd: float = 2e-4, eps: float = 1e-5) -> None:
        super().__init__()
        self.lambd = lambd
        self.eps = eps

    def forward(self, z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
        return barlow_twins(z1, z2, self.lambd, self.eps)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}, eps={self.eps}"
