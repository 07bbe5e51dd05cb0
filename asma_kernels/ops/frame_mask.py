"""Frame masking: which frames of a clip are kept, by motion energy and by chance."""

from __future__ import annotations

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import frame_mask as reference

WHICH = ("high", "low")


def frame_mask(
    energy: torch.Tensor,
    drop: int,
    which: str = "high",
    extra: int = 0,
    rng: torch.Tensor | None = None,
    shared: bool = True,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Remove the ``drop`` frames of most (or least) energy, then ``extra`` of the others by chance; the rest is kept.

    Frames are ordered by energy; among equals the earlier frame stays, whichever side is removed. NaN counts as most
    energy, -0 as 0.

    Args:
        energy: (N, T), in any unit, as :func:`motion_energy` gives it; float64, float32, bfloat16 or float16, any
            strides, any device.
        drop: frames removed by their energy, in [0, T).
        which: ``"high"`` removes the frames of most energy (PSTL), ``"low"`` those of least (ASMa's first encoder).
        extra: frames removed by chance from the T - drop that stay, in [0, T - drop). Position i of these (they are
            counted in order of time) draws word i; the positions with the smallest words are removed, among equals the
            earlier one.
        rng: ``[seed, call]``, int64, on energy's device (see :mod:`asma_kernels.rng`); needed if ``extra`` > 0.
        shared: ``True``: the positions are drawn once (n = 0) for all clips, ``False``: clip n draws row n.
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        Indices of the kept frames, ascending: int64 (N, T - drop - extra).

    Deterministic and the same on every backend and for any number of threads; without ``shared``, clip n of any batch
    gets what clip n of any other batch would get. No gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or there are more than 8192 frames for Triton.

    Source: PSTL (arXiv 2302.09018, section 3.2, motion-attention temporal mask: drop = extra = 10 of T = 50).

    Example:
        >>> import torch, asma_kernels
        >>> energy = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.0]])
        >>> asma_kernels.frame_mask(energy, 2, "high").tolist(), asma_kernels.frame_mask(energy, 2, "low").tolist()
        ([[0, 2, 4]], [[1, 2, 3]])
    """
    _check.dim("frame_mask", "energy", energy, "N, T")
    _check.floating("frame_mask", "energy", energy)
    _check.one_of("frame_mask", "which", which, WHICH)
    T = energy.shape[1]
    # Nothing has to be removed, so no frame has to be there.
    if drop < 0 or (drop > 0 and drop >= T):
        raise ValueError(f"frame_mask: drop must be in [0, T), got {drop} with T = {T}")
    if extra < 0 or (extra > 0 and extra >= T - drop):
        raise ValueError(f"frame_mask: extra must be in [0, T - drop), got {extra} with T = {T} and drop = {drop}")
    if rng is not None:
        _check.rng("frame_mask", rng)
        _check.same_device("frame_mask", "rng", rng, energy)
    elif extra > 0:
        raise ValueError(f"frame_mask: rng must be given with extra > 0, got None with extra = {extra}")
    arguments = (energy, drop, which, extra, rng, shared)
    chosen = choose("frame_mask", backend, energy.device)
    if chosen == "reference":
        return reference.frame_mask(*arguments)
    kept: torch.Tensor = ops_of(chosen).frame_mask(*arguments)
    return kept


def _fake(
    energy: torch.Tensor, drop: int, which: str, extra: int, rng: torch.Tensor | None, shared: bool
) -> torch.Tensor:
    N, T = energy.shape
    return energy.new_empty((N, T - drop - extra), dtype=torch.int64)


# Indices have no gradient, so PyTorch's own autograd, which knows that, is left in place.
_register.fake("frame_mask", _fake)
_register.fallback("frame_mask", reference.frame_mask)
_register.triton("frame_mask", _fake)
