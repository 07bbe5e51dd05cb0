"""Barlow Twins' redundancy reduction in plain PyTorch, without the D x D matrix where N < D."""

from __future__ import annotations

import torch


def barlow_twins(z1: torch.Tensor, z2: torch.Tensor, lambd: float, eps: float) -> torch.Tensor:
    return parts(z1, z2, lambd, eps)[0]


def parts(
    z1: torch.Tensor, z2: torch.Tensor, lambd: float, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """loss; statistics (5, D): mean and inverse deviation of z1 and of z2, diagonal of c; N times the products:
    Z1 Z1^T and Z2 Z2^T (2, N, N) with N < D, else Z1^T Z2 (1, D, D)."""
    N, D = z1.shape
    with torch.autocast(z1.device.type, enabled=False):  # it would run the products in bfloat16
        mean1, deviation1, standard1 = _standardise(z1, eps)
        mean2, deviation2, standard2 = _standardise(z2, eps)
        diagonal = (standard1 * standard2).mean(0)
        on = (diagonal - 1).square().sum()
        if N < D:
            products = torch.stack([standard1 @ standard1.T, standard2 @ standard2.T])
            off = (products[0] * products[1]).sum() / N**2 - diagonal.square().sum()
        else:
            products = (standard1.T @ standard2)[None]
            off = (products[0] / N).fill_diagonal_(0).square().sum()
        statistics = torch.stack([mean1, deviation1, mean2, deviation2, diagonal]).double()
        return on + lambd * off, statistics, products


def _standardise(z: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    wide = z if z.dtype == torch.float64 else z.float()
    mean = wide.mean(0)
    deviation = (wide - mean).square().mean(0).add(eps).rsqrt()
    return mean, deviation, (wide - mean) * deviation
