"""Masks of masked autoencoders, with the call and the results of MAE's ``random_masking``.

All draws come from ``rng`` (int64 [seed, call] on the features' device, see :mod:`asma_kernels.rng`), one call number a
call; MAE's and MAMP's masks take the noise itself instead. No function here waits for a device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .. import _check
from ..ops.frame_mask import frame_mask
from ..ops.motion_energy import motion_energy
from ..ops.skeleton_view import skeleton_view
from ..ops.token_mask import token_mask


class MaskedTokens(NamedTuple):
    """What :func:`random_masking` and :func:`motion_aware_random_masking` return, in the originals' order."""

    x_masked: torch.Tensor
    """(N, keep, D): the kept tokens, smallest noise first."""
    mask: torch.Tensor
    """(N, L) float32: 0 kept, 1 masked."""
    ids_restore: torch.Tensor
    """(N, L) int64: puts ``cat([x_masked, mask tokens])`` back in order."""
    ids_keep: torch.Tensor
    """(N, keep) int64: which tokens are kept."""


def random_masking(
    x: torch.Tensor, mask_ratio: float, *, rng: torch.Tensor | None = None, noise: torch.Tensor | None = None
) -> MaskedTokens:
    """Keep ``int(L * (1 - mask_ratio))`` of the L tokens of each row by chance: MAE's ``random_masking``.

    Args:
        x: tokens (N, L, D), any dtype and strides.
        mask_ratio: share of tokens masked, in [0, 1].
        rng: ``[seed, call]``, int64, on x's device.
        noise: (N, L), floating, in place of ``rng``: the tokens of the smallest noise are kept, in that order.

    Returns:
        :class:`MaskedTokens`.

    Deterministic, the same for any number of threads; row n of any batch gets what row n of any other batch would get.
    x_masked is differentiable in x.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Source: MAE (arXiv 2111.06377), as MAMP and SkeletonMAE have it.

    Example:
        >>> import torch, asma_kernels
        >>> from asma_kernels.nn import random_masking
        >>> tokens = random_masking(torch.randn(2, 750, 256), 0.9, rng=asma_kernels.rng.seed_tensor(7))
        >>> tokens.x_masked.shape, int(tokens.mask.sum())
        (torch.Size([2, 74, 256]), 1352)
    """
    keep = _keep("random_masking", "mask_ratio", mask_ratio, x, "N, L, D", 1)
    score = torch.zeros(x.shape[:2], device=x.device)  # nothing but the noise decides
    return _masked(x, score, keep, rng, 1.0, noise)


def motion_aware_random_masking(
    x: torch.Tensor,
    x_orig: torch.Tensor,
    mask_ratio: float,
    tau: float,
    *,
    rng: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> MaskedTokens:
    """Keep ``int(L * (1 - mask_ratio))`` tokens of each row, those of little motion more often: MAMP's masking.

    A token's motion is the mean absolute difference to the patch before it; tokens of the first patch in time take the
    second's. What is done with it says :func:`asma_kernels.token_mask`.

    Args:
        x: tokens (N, L, D) with L = TP VP, any dtype and strides.
        x_orig: the patches (N, TP, VP, numbers of a patch) of the coordinates, see :func:`patchify`; float64, float32,
            bfloat16 or float16, on x's device.
        mask_ratio: share of tokens masked, in [0, 1].
        tau: temperature, > 0; MAMP's is 0.75.
        rng: ``[seed, call]``, int64, on x's device.
        noise: Gumbel noise (N, L), floating, in place of ``rng``.

    Returns:
        :class:`MaskedTokens`.

    Deterministic, the same for any number of threads; row n of any batch gets what row n of any other batch would get.
    x_masked is differentiable in x; the choice has no gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Source: MAMP (arXiv 2308.07092, motion-aware masking).

    Example:
        >>> import torch, asma_kernels
        >>> from asma_kernels.nn import motion_aware_random_masking, patchify
        >>> clips = torch.randn(2, 120, 25, 3)
        >>> patches = patchify(clips, patch_size=1, t_patch_size=4).view(2, 30, 25, 12)
        >>> x, rng = torch.randn(2, 750, 256), asma_kernels.rng.seed_tensor(7)
        >>> motion_aware_random_masking(x, patches, 0.9, 0.75, rng=rng).ids_keep.shape
        torch.Size([2, 74])
    """
    op = "motion_aware_random_masking"
    keep = _keep(op, "mask_ratio", mask_ratio, x, "N, L, D", 1)
    _check.dim(op, "x_orig", x_orig, "N, TP, VP, numbers of a patch")
    _check.floating(op, "x_orig", x_orig)
    _check.same_device(op, "x_orig", x_orig, x)
    N, TP, VP, _ = x_orig.shape
    if tuple(x.shape[:2]) != (N, TP * VP):
        raise ValueError(
            f"{op}: x must be (N, TP * VP, D) = ({N}, {TP * VP}, D) by x_orig {tuple(x_orig.shape)}, "
            f"got {tuple(x.shape)}"
        )
    clips = x_orig.detach().permute(0, 3, 1, 2).unsqueeze(-1)
    score = motion_energy(clips, "frame_joint", p=1, boundary="copy_first").view(N, TP * VP)
    return _masked(x, score, keep, rng, tau, noise)


def frame_random_masking(
    x: torch.Tensor, masking_ratio: float, *, rng: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep ``int(T * (1 - masking_ratio))`` of the T frames of each row by chance: CHARON's ``random_masking``.

    The kept frames stay in order of time. In ``ids_restore`` the masked ones do too, where CHARON has them in the order
    of their noise: its mask tokens are all the same one, so the unshuffled features are equal.

    Args:
        x: features (N, C, T, V), float64, float32, bfloat16 or float16, any strides.
        masking_ratio: share of frames masked, in [0, 1); at least one frame must stay.
        rng: ``[seed, call]``, int64, on x's device.

    Returns:
        The kept frames (N, C, keep, V), and ``ids_restore`` (N, T) int64, which puts ``cat([kept, mask tokens])`` back
        in order.

    Deterministic and the same on every backend and for any number of threads; row n of any batch gets what row n of any
    other batch would get. Differentiable in x, once.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Source: CHARON (Mask and Compress, ICPR 2024), its autoencoder of masked frames.

    Example:
        >>> import torch, asma_kernels
        >>> from asma_kernels.nn import frame_random_masking
        >>> x, rng = torch.randn(2, 64, 20, 150), asma_kernels.rng.seed_tensor(7)
        >>> kept, ids_restore = frame_random_masking(x, 0.4, rng=rng)
        >>> kept.shape, ids_restore.shape
        (torch.Size([2, 64, 12, 150]), torch.Size([2, 20]))
    """
    op = "frame_random_masking"
    keep = _keep(op, "masking_ratio", masking_ratio, x, "N, C, T, V", 2)
    _check.floating(op, "x", x)
    N, _, T, _ = x.shape
    if keep == 0:
        raise ValueError(f"{op}: at least one frame must stay, got masking_ratio = {masking_ratio} with T = {T}")
    frames = frame_mask(torch.zeros(N, T, device=x.device), 0, extra=T - keep, rng=rng, shared=False)
    stays = torch.zeros(N, T, dtype=torch.int64, device=x.device).scatter(1, frames, 1)
    ids_restore = torch.where(stays > 0, stays.cumsum(1) - 1, keep + (1 - stays).cumsum(1) - 1)
    return skeleton_view(x.unsqueeze(-1), frames=frames).squeeze(-1), ids_restore


def _keep(op: str, name: str, ratio: float, x: torch.Tensor, axes: str, axis: int) -> int:
    _check.dim(op, "x", x, axes)
    if not 0 <= ratio <= 1:
        raise ValueError(f"{op}: {name} must be in [0, 1], got {ratio}")
    return int(x.shape[axis] * (1 - ratio))  # rounded as the originals do, 750 * (1 - 0.9) to 74


def _masked(
    x: torch.Tensor, score: torch.Tensor, keep: int, rng: torch.Tensor | None, tau: float, noise: torch.Tensor | None
) -> MaskedTokens:
    ids_keep, ids_restore, mask = token_mask(score, keep, rng, tau, noise)
    x_masked = x.gather(1, ids_keep.unsqueeze(-1).expand(-1, -1, x.shape[2]))
    return MaskedTokens(x_masked, mask.float(), ids_restore, ids_keep)
