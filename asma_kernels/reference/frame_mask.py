"""Frames chosen by energy and by chance, in plain PyTorch."""

from __future__ import annotations

import torch

from .philox import philox


def frame_mask(
    energy: torch.Tensor, drop: int, which: str, extra: int, rng: torch.Tensor | None, shared: bool
) -> torch.Tensor:
    N, T = energy.shape
    stay = T - drop
    # Stable either way, so that among equals the earlier frame stays; NaN is the greatest; + 0 makes -0 equal 0.
    order = torch.sort(energy.detach() + 0, dim=1, descending=which == "low", stable=True).indices
    kept = order[:, :stay].sort(dim=1).values
    if extra == 0:
        return kept
    if rng is None:
        raise ValueError("frame_mask: rng must be given with extra > 0, got None")
    words = philox(rng, 1 if shared else N, stay)
    positions = torch.sort(words, dim=1, stable=True).indices[:, extra:].sort(dim=1).values
    return kept.gather(1, positions.expand(N, -1))
