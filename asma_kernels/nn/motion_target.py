"""What MAMP predicts: the normalised motion of patches."""

from __future__ import annotations

import torch
from torch.nn import functional

from .. import _check


def patchify(imgs: torch.Tensor, patch_size: int = 1, t_patch_size: int = 4) -> torch.Tensor:
    """Clips cut into patches of ``t_patch_size`` frames and ``patch_size`` joints: MAMP's ``patchify``.

    Args:
        imgs: (N, T, V, C), any dtype, device and strides; ``t_patch_size`` divides T, ``patch_size`` divides V.
        patch_size: joints of a patch, p.
        t_patch_size: frames of a patch, u.

    Returns:
        (N, T V / (u p), u p C): patches in order of time and then joint, in each its frames, joints and channels.
        Differentiable in imgs, deterministic.

    Raises:
        ValueError: an argument breaks a rule above.

    Source: MAMP (arXiv 2308.07092, joint embedding).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import patchify
        >>> patchify(torch.randn(2, 120, 25, 3)).shape
        torch.Size([2, 750, 12])
    """
    _check_patches("patchify", imgs, patch_size, t_patch_size)
    N, T, V, C = imgs.shape
    u, p = t_patch_size, patch_size
    patches = imgs.reshape(N, T // u, u, V // p, p, C).permute(0, 1, 3, 2, 4, 5)
    return patches.reshape(N, (T // u) * (V // p), u * p * C)


def extract_motion(x: torch.Tensor, motion_stride: int = 1) -> torch.Tensor:
    """``x[:, t + motion_stride] - x[:, t]``, zero in the last frames: MAMP's ``extract_motion``.

    Args:
        x: (N, T, V, C), any dtype, device and strides.
        motion_stride: frames between the two, at least 1.

    Returns:
        (N, T, V, C) in x's dtype. Differentiable in x, deterministic.

    Raises:
        ValueError: an argument breaks a rule above.

    Source: MAMP (arXiv 2308.07092, motion extraction).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import extract_motion
        >>> extract_motion(torch.tensor([1.0, 3.0, 7.0]).view(1, 3, 1, 1)).flatten().tolist()
        [2.0, 4.0, 0.0]
    """
    _check.dim("extract_motion", "x", x, "N, T, V, C")
    if motion_stride < 1:
        raise ValueError(f"extract_motion: motion_stride must be >= 1, got {motion_stride}")
    motion = x[:, motion_stride:] - x[:, :-motion_stride]
    return torch.cat([motion, torch.zeros_like(x[:, motion.shape[1] :])], dim=1)


def motion_target(
    x: torch.Tensor, motion_stride: int = 1, patch_size: int = 1, t_patch_size: int = 4, normalise: bool = True
) -> torch.Tensor:
    """The patches' motion, each patch less its mean and divided by its deviation: what MAMP's decoder is to predict.

    ``(m - mean m) / sqrt(var m + 1e-6)`` over the numbers of a patch, with the unbiased variance, m the patches of
    :func:`extract_motion`.

    Args:
        x: clips (N, T, V, C), float64, float32, bfloat16 or float16, any device and strides.
        motion_stride: frames between two that are subtracted, at least 1.
        patch_size: joints of a patch; divides V.
        t_patch_size: frames of a patch; divides T.
        normalise: False: the motion itself (MAMP's ``norm_skes_loss=False``). A patch of one number has no deviation.

    Returns:
        (N, T V / (u p), u p C) in x's dtype, with u = t_patch_size and p = patch_size. Differentiable in x,
        deterministic.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Source: MAMP (arXiv 2308.07092, masked motion prediction).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import motion_target
        >>> target = motion_target(torch.randn(2, 120, 25, 3))
        >>> target.shape, bool(target.mean(-1).abs().max() < 1e-5)
        (torch.Size([2, 750, 12]), True)
    """
    _check_patches("motion_target", x, patch_size, t_patch_size)
    _check.floating("motion_target", "x", x)
    if motion_stride < 1:
        raise ValueError(f"motion_target: motion_stride must be >= 1, got {motion_stride}")
    numbers = patch_size * t_patch_size * x.shape[3]
    if normalise and numbers < 2:
        raise ValueError(f"motion_target: a patch must have at least two numbers to be normalised, got {numbers}")
    motion = patchify(extract_motion(x, motion_stride), patch_size, t_patch_size)
    if not normalise:
        return motion
    # One pass by a layer norm, whose variance is the biased one, ratio times the unbiased:
    # sqrt(ratio) / sqrt(biased + ratio 1e-6) = 1 / sqrt(unbiased + 1e-6).
    ratio = 1 - 1 / numbers
    weight = motion.new_full((numbers,), ratio**0.5)
    return functional.layer_norm(motion, (numbers,), weight, eps=1e-6 * ratio)


def _check_patches(op: str, x: torch.Tensor, patch_size: int, t_patch_size: int) -> None:
    _check.dim(op, "imgs" if op == "patchify" else "x", x, "N, T, V, C")
    for name, size, axis in (("patch_size", patch_size, 2), ("t_patch_size", t_patch_size, 1)):
        if size < 1 or x.shape[axis] % size:
            raise ValueError(f"{op}: {name} must divide {'NTVC'[axis]} = {x.shape[axis]}, got {size}")
