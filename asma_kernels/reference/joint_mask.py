"""Joints chosen by weighted sampling, in plain PyTorch."""

from __future__ import annotations

import torch

from .philox import philox

MOST_TOKENS = 2**20
_LARGEST_WORD = 2**32 - 1


# The number of tokens is the value of a tensor, which torch.compile cannot trace; the mask's shape does not depend on
# it, so the draw is an op of its own.
@torch.library.custom_op("asma_reference::draw_joints", mutates_args=())
def draw_joints(weights: torch.Tensor, k: int, rows: int, rng: torch.Tensor, mode: str) -> torch.Tensor:
    V = weights.shape[0]
    w = weights.clamp(0, MOST_TOKENS)
    if int(w.sum()) >= MOST_TOKENS:
        raise ValueError(f"joint_mask: weights must sum to less than 2^20, got {weights.tolist()}")
    owner = torch.repeat_interleave(torch.arange(V, device=w.device), w).expand(rows, -1)
    words = philox(rng, rows, owner.shape[1])
    if mode == "tokens":
        masked = owner.gather(1, torch.sort(words, dim=1, stable=True).indices[:, :k])
    else:
        keys = torch.full((rows, V), _LARGEST_WORD, device=w.device).scatter_reduce(1, owner, words, "amin")
        masked = torch.sort(keys, dim=1, stable=True).indices[:, :k]
    return torch.zeros(rows, V, dtype=torch.bool, device=w.device).scatter_(1, masked, True)


@draw_joints.register_fake
def _(weights: torch.Tensor, k: int, rows: int, rng: torch.Tensor, mode: str) -> torch.Tensor:
    return weights.new_empty((rows, weights.shape[0]), dtype=torch.bool)


def joint_mask(
    weights: torch.Tensor, k: int, rows: int, rng: torch.Tensor | None, mode: str, shared: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    V = weights.shape[0]
    if mode == "deterministic":
        heaviest = torch.sort(weights.clamp(min=0), descending=True, stable=True).indices[:k]
        mask = torch.zeros(V, dtype=torch.bool, device=weights.device).scatter(0, heaviest, True).repeat(rows, 1)
    else:
        if rng is None:
            raise ValueError(f"joint_mask: rng must be given with mode {mode!r}, got None")
        mask = draw_joints(weights, k, 1 if shared else rows, rng, mode).repeat(rows if shared else 1, 1)
    count = (~mask).sum(1)
    width = V if mode == "tokens" else V - k
    kept = torch.sort(mask.to(torch.uint8), dim=1, stable=True).indices[:, :width]
    return mask, torch.where(torch.arange(width, device=mask.device) < count[:, None], kept, -1), count
