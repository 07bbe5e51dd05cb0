"""A clip without its frames of most motion, in plain PyTorch."""

from __future__ import annotations

import torch

from .frame_mask import frame_mask
from .motion_energy import motion_energy
from .skeleton_view import skeleton_view


def frame_drop(
    x: torch.Tensor,
    drop: int,
    which: str,
    extra: int,
    rng: torch.Tensor | None,
    shared: bool,
    p: float,
    stride: int,
    boundary: str,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    energy = motion_energy(x.detach(), "frame", p, stride, boundary, lengths)
    frames = frame_mask(energy, drop, which, extra, rng, shared)
    return skeleton_view(x, frames, None, None, None), frames
