"""Joint masking: which joints are masked, more often those of larger weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import joint_mask as reference

MODE = ("fixed", "tokens", "deterministic")


class JointMask(NamedTuple):
    """What :func:`joint_mask` returns."""

    mask: torch.Tensor
    """(rows, V) bool: True is masked."""
    kept: torch.Tensor
    """(rows, V - k) int64: the kept joints, ascending; in mode ``tokens`` (rows, V), padded with -1."""
    count: torch.Tensor  # type: ignore[assignment]  # the field's name hides tuple.count, which nobody needs here
    """(rows,) int64: how many joints are kept."""


def high_degree_weights(degrees: torch.Tensor | Sequence[int]) -> torch.Tensor:
    """Weights that mask joints of high degree: the degree itself (PSTL; ASMa's first encoder).

    Args:
        degrees: (V,) edges of each joint, self loops not counted, as ``Skeleton.degrees``.

    Returns:
        int64 (V,) on the device of ``degrees``.

    Example:
        >>> import asma_kernels
        >>> asma_kernels.high_degree_weights([1, 3, 2]).tolist()
        [1, 3, 2]
    """
    return torch.as_tensor(degrees, dtype=torch.int64)


def low_degree_weights(degrees: torch.Tensor | Sequence[int]) -> torch.Tensor:
    """Weights that mask joints of low degree: the mirror max + 1 - degree (ASMa's second encoder).

    Args:
        degrees: (V,) edges of each joint, self loops not counted, as ``Skeleton.degrees``; V >= 1.

    Returns:
        int64 (V,) on the device of ``degrees``.

    Example:
        >>> import asma_kernels
        >>> asma_kernels.low_degree_weights([1, 3, 2]).tolist()
        [3, 1, 2]
    """
    weights = torch.as_tensor(degrees, dtype=torch.int64)
    return weights.max() + 1 - weights


def joint_mask(
    weights: torch.Tensor | Sequence[int],
    k: int,
    rows: int,
    rng: torch.Tensor | None = None,
    mode: str = "fixed",
    shared: bool = True,
    *,
    backend: str = "auto",
) -> JointMask:
    """Mask k of V joints, a joint of weight w as if it had w lots in the draw.

    Joint v owns w_v tokens; token j of joint v draws word i = w_0 + ... + w_{v-1} + j of its row.

    Args:
        weights: tokens of each joint (V,), int64, on the device that the mask is wanted on; below 0 counts as 0; their
            sum must be below 2^20. See :func:`high_degree_weights` and :func:`low_degree_weights`. A sequence of ints
            is put on rng's device (a copy from the host: keep a tensor for a training loop on a GPU).
        k: joints to mask (mode ``tokens``: tokens), in [0, V].
        rows: number of rows, usually clips, >= 0.
        rng: ``[seed, call]``, int64, on the device of ``weights`` (see :mod:`asma_kernels.rng`); not needed in mode
            ``deterministic``.
        mode: ``"fixed"``: a joint's key is the smallest word of its tokens (2^32 - 1 without one) and the k joints of
            the smallest keys are masked: weighted sampling without replacement, k joints exactly. ``"tokens"`` (PSTL):
            the joints of the k smallest tokens are masked, 1 to k of them. ``"deterministic"``: the k heaviest.
            Among equals the lower token or joint comes first.
        shared: ``True``: one draw (n = 0) for all rows, as in PSTL, ``False``: row n draws row n.
        backend: auto, cpu, cuda, triton or reference. The reference reads the sum of ``weights`` on the host.

    Returns:
        :class:`JointMask`: mask (rows, V), kept (rows, V - k) and count (rows,), which is V - k. In mode ``tokens`` the
        number of kept joints differs from row to row: kept is (rows, V), padded with -1, and count tells how many.

    Deterministic and the same on every backend and for any number of threads; without ``shared``, row n of any batch
    gets what row n of any other batch would get. No gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or there are more than 1024 joints for Triton.
        RuntimeError: the weights' sum is too large (on the CPU; the CUDA and Triton kernels do not look).

    Source: PSTL (arXiv 2302.09018, section 3.2, central spatial mask): in mode ``tokens``, P(masked | degree d) =
    1 - C(E - d, k) / C(E, k), with E the sum of all degrees.

    Example:
        >>> import torch, asma_kernels
        >>> drawn = asma_kernels.joint_mask([1, 4, 2, 1], 2, rows=3, rng=asma_kernels.rng.seed_tensor(0), shared=False)
        >>> drawn.mask.sum(1).tolist(), drawn.kept.shape, drawn.count.tolist()
        ([2, 2, 2], torch.Size([3, 2]), [2, 2, 2])
        >>> asma_kernels.joint_mask([1, 4, 2, 1], 2, rows=1, mode="deterministic").kept.tolist()
        [[0, 3]]
    """
    if not isinstance(weights, torch.Tensor):
        if any(weight < 0 for weight in weights):
            raise ValueError(f"joint_mask: weights must be >= 0, got {list(weights)}")
        weights = torch.tensor(list(weights), dtype=torch.int64, device=None if rng is None else rng.device)
    _check.dim("joint_mask", "weights", weights, "V")
    _check.dtype("joint_mask", "weights", weights, torch.int64)
    _check.one_of("joint_mask", "mode", mode, MODE)
    V = weights.shape[0]
    if not 0 <= k <= V:
        raise ValueError(f"joint_mask: k must be in [0, V], got {k} with V = {V}")
    if not 0 <= rows < 2**32:
        raise ValueError(f"joint_mask: rows must be in [0, 2^32), got {rows}")
    if rng is not None:
        _check.rng("joint_mask", rng)
        _check.same_device("joint_mask", "rng", rng, weights)
    elif mode != "deterministic":
        raise ValueError(f"joint_mask: rng must be given with mode {mode!r}, got None")
    arguments = (weights.contiguous(), k, rows, rng, mode, shared)
    chosen = choose("joint_mask", backend, weights.device)
    if chosen == "reference":
        return JointMask(*reference.joint_mask(*arguments))
    return JointMask(*ops_of(chosen).joint_mask(*arguments))


def _fake(
    weights: torch.Tensor, k: int, rows: int, rng: torch.Tensor | None, mode: str, shared: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    V = weights.shape[0]
    return (
        weights.new_empty((rows, V), dtype=torch.bool),
        weights.new_empty((rows, V if mode == "tokens" else V - k)),
        weights.new_empty((rows,)),
    )


_register.fake("joint_mask", _fake)
_register.fallback("joint_mask", reference.joint_mask)
_register.triton("joint_mask", _fake)
