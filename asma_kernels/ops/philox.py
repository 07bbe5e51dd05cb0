"""Counter-based random words: the source of every mask and view."""

from __future__ import annotations

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import philox as reference


def philox(rng: torch.Tensor, rows: int, columns: int, *, backend: str = "auto") -> torch.Tensor:
    """Random 32-bit words of Philox4x32-10 (Salmon et al., SC 2011).

    Word (n, i) is word 0 of the block with key = seed and counter = (i, n, call_lo, call_hi), so a word depends on
    nothing but its place: the same on every backend, thread count and batch split.

    Args:
        rng: ``[seed, call]``, int64, on the device that the words are wanted on (see :mod:`asma_kernels.rng`).
        rows: number of rows n, in [0, 2^32).
        columns: number of elements i of a row, in [0, 2^32).
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        int64 (rows, columns), values in [0, 2^32).

    Deterministic; no gradient.

    Raises:
        ValueError, TypeError: a wrong rng, or negative sizes.

    Example:
        >>> import torch, asma_kernels
        >>> [hex(word) for word in asma_kernels.philox(torch.tensor([0, 0]), 1, 1).flatten().tolist()]
        ['0x6627e8d5']
    """
    _check.rng("philox", rng)
    if min(rows, columns) < 0 or max(rows, columns) >= 2**32:
        raise ValueError(f"philox: rows and columns must be in [0, 2^32), got {rows} and {columns}")
    chosen = choose("philox", backend, rng.device)
    if chosen == "reference":
        return reference.philox(rng, rows, columns)
    words: torch.Tensor = ops_of(chosen).philox(rng, rows, columns)
    return words


def _fake(rng: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return rng.new_empty((rows, columns))


_register.fake("philox", _fake)
_register.fallback("philox", reference.philox)
_register.triton("philox", _fake)
