"""Barlow Twins: the views of a clip agree, the features of a clip do not repeat each other."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import barlow_twins as reference


def barlow_twins(
    z1: torch.Tensor, z2: torch.Tensor, lambd: float = 2e-4, eps: float = 1e-5, *, backend: str = "auto"
) -> torch.Tensor:
    """``sum_i (c_ii - 1)^2 + lambd * sum over i != j of c_ij^2``, c (D, D) the correlation of two views' projections.

    Columns are standardised with the biased variance, ``Z = (z - mean) / sqrt(var + eps)``, and ``c = Z1^T Z2 / N``.
    With N < D the (D, D) matrix is never there: ``sum_ij c_ij^2 = <Z1 Z1^T, Z2 Z2^T> / N^2``, two (N, N) Gram matrices,
    and the gradient likewise. That takes N / D of the multiplications; beside inputs and gradients it needs memory for
    the order of N (N + 2048) numbers.

    Args:
        z1: projections of one view of N clips (N, D), float64, float32, bfloat16 or float16, any strides, any device.
        z2: projections of the other view of the same clips, of z1's shape, dtype and device.
        lambd: weight of the redundancy term, >= 0; 2e-4 in PSTL (arXiv 2302.09018), 5e-3 in the paper's ImageNet runs.
        eps: added to the variance, > 0: a constant column is standardised to zeros.
        backend: auto, cpu, triton or reference.

    Returns:
        The loss (), float64 for float64 projections, else float32. One clip alone (N = 1) has variance 0 and loss D.

    Computed and summed in float32 or wider, also under autocast. Deterministic, the same for any number of threads.
    Differentiable in z1 and z2, once.

    Across processes N is the global batch: mean, variance and c are those of the clips of all ranks together, as in the
    paper's code, and a mean of the ranks' own losses is another loss. Gather z1 and z2, with their gradients, before
    the call.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or N is 0.

    Source:
        Zbontar et al., Barlow Twins: Self-Supervised Learning via Redundancy Reduction, ICML 2021 (arXiv 2103.03230),
        equations 1 and 2.

    Example:
        >>> import torch, asma_kernels
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> round(asma_kernels.barlow_twins(z, z).item(), 6), round(asma_kernels.barlow_twins(z, -z).item(), 3)
        (0.0, 8.0)
    """
    _check.dim("barlow_twins", "z1", z1, "N, D")
    _check.dim("barlow_twins", "z2", z2, "N, D")
    _check.floating("barlow_twins", "z1", z1)
    _check.dtype("barlow_twins", "z2", z2, z1.dtype)
    _check.same_device("barlow_twins", "z2", z2, z1)
    if z1.shape != z2.shape:
        raise ValueError(f"barlow_twins: z2 must have z1's shape {tuple(z1.shape)}, got {tuple(z2.shape)}")
    if z1.shape[0] == 0:
        raise ValueError(f"barlow_twins: N must be > 0, got shape {tuple(z1.shape)}")
    if not lambd >= 0:
        raise ValueError(f"barlow_twins: lambd must be >= 0, got {lambd}")
    if not eps > 0:
        raise ValueError(f"barlow_twins: eps must be > 0, got {eps}")
    chosen = choose("barlow_twins", backend, z1.device)
    if chosen == "reference":
        return reference.barlow_twins(z1, z2, float(lambd), float(eps))
    loss: torch.Tensor = ops_of(chosen).barlow_twins(z1, z2, float(lambd), float(eps))[0]
    return loss


def _fake(
    z1: torch.Tensor, z2: torch.Tensor, lambd: float, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, D = z1.shape
    dtype = torch.float64 if z1.dtype == torch.float64 else torch.float32
    products = (2, N, N) if N < D else (1, D, D)
    return (
        z1.new_empty((), dtype=dtype),
        z1.new_empty((5, D), dtype=torch.float64),
        z1.new_empty(products, dtype=dtype),
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    z1, z2, ctx.lambd, ctx.eps = inputs
    _, statistics, products = output
    ctx.mark_non_differentiable(statistics, products)
    ctx.save_for_backward(z1, z2, statistics, products)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor, *rest: Any) -> Any:
        z1, z2, statistics, products = ctx.saved_tensors
        return *ops.barlow_twins_backward(grad, z1, z2, statistics, products, ctx.lambd, ctx.eps), None, None

    return backward


def _fake_backward(
    grad: torch.Tensor, z1: torch.Tensor, z2: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    return z1.new_empty(z1.shape), z2.new_empty(z2.shape)


def _reference_backward(
    grad: torch.Tensor,
    z1: torch.Tensor,
    z2: torch.Tensor,
    statistics: torch.Tensor,
    products: torch.Tensor,
    lambd: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _register.gradient(lambda p, q: reference.barlow_twins(p, q, lambd, eps), grad, z1, z2)


_register.fake("barlow_twins", _fake)
_register.fake("barlow_twins_backward", _fake_backward)
_register.autograd("barlow_twins", _backward_of(torch.ops.asma), _save)
_register.no_double_backward("barlow_twins")
_register.fallback("barlow_twins", reference.parts)
_register.fallback("barlow_twins_backward", _reference_backward)
_register.autocast("barlow_twins", "float32")
_register.triton("barlow_twins", _fake)
_register.triton("barlow_twins_backward", _fake_backward)
_register.autograd("barlow_twins", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
_register.no_double_backward("barlow_twins", "asma_triton")
