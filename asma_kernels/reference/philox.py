"""Philox4x32-10 in plain PyTorch: 32-bit words in int64, which wraps as the definition wants once masked."""

from __future__ import annotations

import torch

_LOW = 0xFFFFFFFF


def _multiply(word: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of word * factor, in halves so that no product leaves int64."""
    low = word * (factor & 0xFFFF)
    high = word * (factor >> 16)
    middle = (low >> 16) + high  # below 2^49
    return middle >> 16, ((middle << 16) | (low & 0xFFFF)) & _LOW


def philox(rng: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    seed, call = rng[0], rng[1]
    key0, key1 = seed & _LOW, (seed >> 32) & _LOW
    shape = (rows, columns)
    c0 = torch.arange(columns, device=rng.device).expand(shape)
    c1 = torch.arange(rows, device=rng.device).unsqueeze(1).expand(shape)
    c2 = (call & _LOW).expand(shape)
    c3 = ((call >> 32) & _LOW).expand(shape)
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = (key0 + 0x9E3779B9) & _LOW, (key1 + 0xBB67AE85) & _LOW
    return c0.contiguous()
