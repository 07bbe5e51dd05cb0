"""Tokens chosen by score and Gumbel noise, in plain PyTorch."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from .philox import philox


def token_mask(
    score: torch.Tensor, keep: int, rng: torch.Tensor | None, tau: float, noise: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, L = score.shape
    wide = score.detach()
    wide = wide if wide.dtype == torch.float64 else wide.float()
    if noise is None:
        if rng is None:
            raise ValueError("token_mask: one of rng and noise must be given, got neither")
        uniform = (philox(rng, N, L).double() + 0.5) / 2**32
        noise = (-(-uniform.log()).log()).to(wide.dtype)
    numbers = torch.where(wide.isnan(), float("-inf"), wide)
    most = tau * pad(numbers, (0, 1), value=float("-inf")).amax(1, keepdim=True)
    share = torch.where(most > 0, wide / most, wide * 0)
    ids_shuffle = torch.sort(share + noise.detach(), dim=1, stable=True).indices
    ids_restore = torch.empty_like(ids_shuffle).scatter_(
        1, ids_shuffle, torch.arange(L, device=score.device).expand(N, L)
    )
    return ids_shuffle[:, :keep].contiguous(), ids_restore, (ids_restore >= keep).to(score.dtype)
