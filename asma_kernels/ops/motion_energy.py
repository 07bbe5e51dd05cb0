"""Motion energy: how much joints or frames move."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import motion_energy as reference

REDUCE = ("frame", "joint", "frame_joint")
BOUNDARY = ("zero_last", "copy_first")


def motion_energy(
    x: torch.Tensor,
    reduce: str = "frame",
    p: float = 2,
    stride: int = 1,
    boundary: str = "zero_last",
    lengths: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Mean of ``|x[t + stride] - x[t]|^p`` over the axes that ``reduce`` removes, in one read of x.

    Args:
        x: coordinates (N, C, T, V, M), float64, float32, bfloat16 or float16, any strides, any device.
        reduce: ``"frame"`` -> (N, T), ``"joint"`` -> (N, V), ``"frame_joint"`` -> (N, T, V).
        p: power, >= 1; 2 (PSTL) and 1 run without ``pow``.
        stride: frames between the two of a difference, >= 1.
        boundary: ``"zero_last"``: frame t carries the difference to its successor, frames without one get 0 (PSTL,
            arXiv 2302.09018, section 3.2). ``"copy_first"``: frame t carries the difference to its predecessor, the
            first ``stride`` frames copy the first defined one (MAMP, arXiv 2308.07092, motion-aware masking).
        lengths: frames of each clip (N,), int64, on x's device. Frames past it count as absent: they get 0, and the
            mean over frames is over the clip's own. A clip that is not longer than ``stride`` has energy 0.
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        Energy in x's dtype, in units of x to the power p; sums are kept in float32 or wider.

    Deterministic, the same for any number of threads. Differentiable in x, once.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Example:
        >>> import torch, asma_kernels
        >>> x = torch.arange(4.0).view(1, 1, 4, 1, 1)
        >>> asma_kernels.motion_energy(x, "frame").tolist()
        [[1.0, 1.0, 1.0, 0.0]]
    """
    _check.dim("motion_energy", "x", x, "N, C, T, V, M")
    _check.floating("motion_energy", "x", x)
    _check.one_of("motion_energy", "reduce", reduce, REDUCE)
    _check.one_of("motion_energy", "boundary", boundary, BOUNDARY)
    if not p >= 1:
        raise ValueError(f"motion_energy: p must be >= 1, got {p}")
    if stride < 1:
        raise ValueError(f"motion_energy: stride must be >= 1, got {stride}")
    if lengths is not None:
        _check.dtype("motion_energy", "lengths", lengths, torch.int64)
        _check.same_device("motion_energy", "lengths", lengths, x)
        if lengths.shape != x.shape[:1]:
            raise ValueError(f"motion_energy: lengths must be (N,) = ({x.shape[0]},), got {tuple(lengths.shape)}")
        lengths = lengths.contiguous()
    arguments = (x, reduce, float(p), stride, boundary, lengths)
    chosen = choose("motion_energy", backend, x.device)
    if chosen == "reference":
        return reference.motion_energy(*arguments)
    energy: torch.Tensor = ops_of(chosen).motion_energy(*arguments)
    return energy


def _fake(
    x: torch.Tensor, reduce: str, p: float, stride: int, boundary: str, lengths: torch.Tensor | None
) -> torch.Tensor:
    N, _, T, V, _ = x.shape
    return x.new_empty({"frame": (N, T), "joint": (N, V), "frame_joint": (N, T, V)}[reduce])


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, *ctx.options, lengths = inputs
    ctx.save_for_backward(x, lengths)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, lengths = ctx.saved_tensors
        grad_x = ops.motion_energy_backward(grad, x, *ctx.options, lengths)
        return grad_x, None, None, None, None, None

    return backward


def _reference_backward(
    grad: torch.Tensor, x: torch.Tensor, reduce: str, p: float, stride: int, boundary: str, lengths: torch.Tensor | None
) -> torch.Tensor:
    return _register.gradient(lambda leaf: reference.motion_energy(leaf, reduce, p, stride, boundary, lengths), grad, x)


def _fake_backward(grad: torch.Tensor, x: torch.Tensor, *options: Any) -> torch.Tensor:
    return x.new_empty(x.shape)


_register.fake("motion_energy", _fake)
_register.fake("motion_energy_backward", _fake_backward)
_register.autograd("motion_energy", _backward_of(torch.ops.asma), _save)
_register.no_double_backward("motion_energy")
_register.fallback("motion_energy", reference.motion_energy)
_register.fallback("motion_energy_backward", _reference_backward)
_register.triton("motion_energy", _fake)
_register.triton("motion_energy_backward", _fake_backward)
_register.autograd("motion_energy", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
_register.no_double_backward("motion_energy", "asma_triton")
