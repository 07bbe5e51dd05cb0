"""Clips without their frames of most motion: energy, selection and compaction in one pass."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import frame_drop as reference
from .frame_mask import WHICH
from .motion_energy import BOUNDARY


def frame_drop(
    x: torch.Tensor,
    drop: int,
    which: str = "high",
    extra: int = 0,
    rng: torch.Tensor | None = None,
    shared: bool = True,
    p: float = 2,
    stride: int = 1,
    boundary: str = "zero_last",
    lengths: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Remove each clip's ``drop`` frames of most (or least) motion, then ``extra`` by chance, and close the gaps.

    One launch, or one pass on the CPU, for what takes three calls::

        frames = frame_mask(motion_energy(x, "frame", p, stride, boundary, lengths), drop, which, extra, rng, shared)
        kept = skeleton_view(x, frames=frames)

    Both ways keep the same frames, because a backend sums energies in one order. Two backends may order frames
    differently whose energies differ by a rounding; where energies are exact they agree.

    Args:
        x: coordinates (N, C, T, V, M), float64, float32, bfloat16 or float16, any strides, any device.
        drop: frames removed by their energy, in [0, T).
        which: ``"high"`` removes the frames of most energy (PSTL), ``"low"`` those of least (ASMa's first encoder).
        extra: frames removed by chance from the T - drop that stay, in [0, T - drop).
        rng: ``[seed, call]``, int64, on x's device (see :mod:`asma_kernels.rng`); needed if ``extra`` > 0.
        shared: ``True``: the positions are drawn once for all clips, ``False``: for each clip.
        p, stride, boundary, lengths: of the energy, see :func:`motion_energy`.
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        ``kept`` (N, C, T', V, M), contiguous, in x's dtype, its numbers copied bit for bit, and ``frames`` (N, T'),
        int64, ascending: where in x they were; T' = T - drop - extra.

    Deterministic, the same for any number of threads; the draw is that of :func:`frame_mask`. ``kept`` is
    differentiable in x, once; which frames are kept has no gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or there are more than 8192 frames for Triton.

    Source: PSTL (arXiv 2302.09018, section 3.2, motion-attention temporal mask: drop = extra = 10 of T = 50).

    Example:
        >>> import torch, asma_kernels
        >>> x = torch.tensor([0.0, 1.0, 5.0, 6.0, 6.0]).view(1, 1, 5, 1, 1)
        >>> kept, frames = asma_kernels.frame_drop(x, 2)
        >>> kept.flatten().tolist(), frames.tolist()
        ([0.0, 6.0, 6.0], [[0, 3, 4]])
    """
    _check.dim("frame_drop", "x", x, "N, C, T, V, M")
    _check.floating("frame_drop", "x", x)
    _check.one_of("frame_drop", "which", which, WHICH)
    _check.one_of("frame_drop", "boundary", boundary, BOUNDARY)
    N, _, T, _, _ = x.shape
    # Nothing has to be removed, so no frame has to be there.
    if drop < 0 or (drop > 0 and drop >= T):
        raise ValueError(f"frame_drop: drop must be in [0, T), got {drop} with T = {T}")
    if extra < 0 or (extra > 0 and extra >= T - drop):
        raise ValueError(f"frame_drop: extra must be in [0, T - drop), got {extra} with T = {T} and drop = {drop}")
    if not p >= 1:
        raise ValueError(f"frame_drop: p must be >= 1, got {p}")
    if stride < 1:
        raise ValueError(f"frame_drop: stride must be >= 1, got {stride}")
    if rng is not None:
        _check.rng("frame_drop", rng)
        _check.same_device("frame_drop", "rng", rng, x)
    elif extra > 0:
        raise ValueError(f"frame_drop: rng must be given with extra > 0, got None with extra = {extra}")
    if lengths is not None:
        _check.dtype("frame_drop", "lengths", lengths, torch.int64)
        _check.same_device("frame_drop", "lengths", lengths, x)
        if lengths.shape != x.shape[:1]:
            raise ValueError(f"frame_drop: lengths must be (N,) = ({N},), got {tuple(lengths.shape)}")
        lengths = lengths.contiguous()
    arguments = (x, drop, which, extra, rng, shared, float(p), stride, boundary, lengths)
    chosen = choose("frame_drop", backend, x.device)
    if chosen == "reference":
        return reference.frame_drop(*arguments)
    kept, frames = ops_of(chosen).frame_drop(*arguments)
    return kept, frames


def _fake(x: torch.Tensor, drop: int, which: str, extra: int, *options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    N, C, T, V, M = x.shape
    left = T - drop - extra
    return x.new_empty((N, C, left, V, M)), x.new_empty((N, left), dtype=torch.int64)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    _, frames = output
    ctx.T, ctx.V = inputs[0].shape[2:4]
    ctx.mark_non_differentiable(frames)
    ctx.save_for_backward(frames)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor, *rest: Any) -> Any:
        (frames,) = ctx.saved_tensors
        grad_x, _, _ = ops.skeleton_view_backward(grad, None, ctx.T, ctx.V, frames, None, None, True, True, True)
        return grad_x, *[None] * 9

    return backward


_register.fake("frame_drop", _fake)
_register.autograd("frame_drop", _backward_of(torch.ops.asma), _save)
_register.fallback("frame_drop", reference.frame_drop)
_register.triton("frame_drop", _fake)
_register.autograd("frame_drop", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
