"""Mean power of the difference between frames, in plain PyTorch."""

from __future__ import annotations

import torch


def motion_energy(
    x: torch.Tensor, reduce: str, p: float, stride: int, boundary: str, lengths: torch.Tensor | None
) -> torch.Tensor:
    N, C, T, V, M = x.shape
    wide = x if x.dtype == torch.float64 else x.float()
    length = lengths.clamp(0, T) if lengths is not None else torch.full((N,), T, device=x.device)
    # power[u] lies between the frames u and u + stride.
    power = (wide[:, :, stride:] - wide[:, :, :-stride] if stride < T else wide[:, :, :0]).abs() ** p
    exists = torch.arange(power.shape[2], device=x.device) + stride < length[:, None]
    power = torch.where(exists[:, None, :, None, None], power, 0)
    frame = torch.arange(T, device=x.device)
    if power.shape[2] == 0:
        power = power.sum() + power.new_zeros(N, C, T, V, M)  # zeros that know x, so that backward runs
    elif boundary == "zero_last":
        power = torch.cat([power, power.new_zeros(N, C, T - power.shape[2], V, M)], 2)
    else:
        power = power[:, :, (frame - stride).clamp(min=0)]
    present = (frame < length[:, None]) & (length[:, None] > stride)
    power = torch.where(present[:, None, :, None, None], power, 0)
    if reduce == "frame":
        return power.sum((1, 3, 4)).div(max(C * V * M, 1)).to(x.dtype)
    if reduce == "joint":
        numbers = (length * C * M).clamp(min=1)
        return (power.sum((1, 2, 4)) / numbers[:, None]).to(x.dtype)
    return power.sum((1, 4)).div(max(C * M, 1)).to(x.dtype)
