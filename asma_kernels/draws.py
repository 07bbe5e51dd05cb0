"""Random pieces of a view for :func:`asma_kernels.skeleton_view`, each from one kernel on the device of ``rng``.

``rng`` is int64 ``[seed, call]`` (see :mod:`asma_kernels.rng`). With one ``rng`` the pieces are those that one
:func:`asma_kernels.view_draw` draws together, so they are independent of each other; two views want two calls. With
``per_clip=False`` all clips have the draw of clip 0, as in PSTL. No function here waits for a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from . import _check
from .ops.view_draw import view_draw
from .skeleton import Skeleton

__all__ = ["Views", "compose", "draw_crop", "draw_flip", "draw_rotation", "draw_shear"]


def draw_crop(rng: torch.Tensor, N: int, T: int, pad_ratio: int = 6, per_clip: bool = True) -> torch.Tensor:
    """Frames (N, T) int64 of a random window of T frames of the clip that is reflected by ``T // pad_ratio`` frames.

    The reflection repeats the end frames (``2 1 0 | 0 1 2 ...``, NumPy's "symmetric") as AimCLR's temporal crop does.

    Raises:
        ValueError, TypeError: pad_ratio < 1, or a rule of :func:`asma_kernels.view_draw` is broken.

    Example:
        >>> from asma_kernels import draws, rng
        >>> frames = draws.draw_crop(rng.seed_tensor(7), N=3, T=50)
        >>> frames.shape, frames.min().item() >= 0, frames.max().item() < 50
        (torch.Size([3, 50]), True, True)
    """
    return view_draw(rng, N, T, pad=_pad("draw_crop", T, pad_ratio), per_clip=per_clip)[0]


def draw_shear(rng: torch.Tensor, N: int, amplitude: float, per_clip: bool = True) -> torch.Tensor:
    """Matrices (N, 3, 3) float32 with ones on the diagonal and the rest drawn from [-amplitude, amplitude).

    Raises:
        ValueError, TypeError: a rule of :func:`asma_kernels.view_draw` is broken.

    Example:
        >>> from asma_kernels import draws, rng
        >>> shear = draws.draw_shear(rng.seed_tensor(7), N=2, amplitude=0.5)
        >>> shear.diagonal(dim1=1, dim2=2).tolist(), bool((shear.abs() <= 1).all())
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], True)
    """
    return view_draw(rng, N, 0, shear=amplitude, per_clip=per_clip)[2]


def draw_rotation(
    rng: torch.Tensor, N: int, main: float = 30.0, other: float = 1.0, per_clip: bool = True
) -> torch.Tensor:
    """Rotations (N, 3, 3) float32 by up to ``main`` degrees about a random axis, up to ``other`` about the other two.

    ``R = R_z R_y R_x`` turns column vectors, clockwise for an eye that the axis points to; see
    :func:`asma_kernels.view_draw`.

    Raises:
        ValueError, TypeError: a rule of :func:`asma_kernels.view_draw` is broken.

    Example:
        >>> import torch
        >>> from asma_kernels import draws, rng
        >>> R = draws.draw_rotation(rng.seed_tensor(7), N=1)[0]
        >>> torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)
        True
    """
    return view_draw(rng, N, 0, rotation=(main, other), per_clip=per_clip)[2]


def draw_flip(
    rng: torch.Tensor, N: int, flip: Skeleton | torch.Tensor, p: float = 0.5, per_clip: bool = True
) -> torch.Tensor:
    """Joints (N, V) int64: with probability ``p`` those of the mirror, else all in order.

    As in AimCLR and PSTL only the joints change places and no coordinate does; :func:`asma_kernels.view_draw` has
    ``mirror`` for that, whose matrix belongs to the same draw.

    Args:
        flip: a skeleton, or its ``flip`` as an int64 tensor (V,) on rng's device: make that once for a loop on a GPU.

    Raises:
        ValueError, TypeError: the skeleton has no flip, or a rule of :func:`asma_kernels.view_draw` is broken.

    Example:
        >>> from asma_kernels import Skeleton, draws, rng
        >>> draws.draw_flip(rng.seed_tensor(7), 1, Skeleton.builtin("ntu25"), p=1.0)[0, 4:12].tolist()
        [8, 9, 10, 11, 4, 5, 6, 7]
    """
    _, joints, _ = view_draw(rng, N, 0, flip=_flip_tensor(flip, rng.device), p=p, per_clip=per_clip)
    return cast(torch.Tensor, joints)  # there are some whenever a flip is given


def compose(indices: torch.Tensor | None, kept: torch.Tensor) -> torch.Tensor:
    """Indices that pick what a mask keeps of what ``indices`` picks: ``indices[n, kept[n, i]]``.

    Args:
        indices: frames or joints of a view, (S) for all clips or (N, S), int64. None: all, in order.
        kept: what a mask keeps of the view, (K) for all clips or (N, K), int64, in [-1, S); -1 stays -1.

    Returns:
        int64 (K) if both are for all clips, else (N, K).

    Raises:
        ValueError, TypeError: other axes or dtypes.

    Example:
        >>> import torch
        >>> from asma_kernels import draws
        >>> draws.compose(torch.tensor([[5, 6, 7], [7, 6, 5]]), torch.tensor([[0, 2], [1, -1]])).tolist()
        [[5, 7], [6, -1]]
    """
    for name, tensor in (("indices", indices), ("kept", kept)):
        if tensor is None:
            continue
        _check.dtype("compose", name, tensor, torch.int64)
        if tensor.dim() not in (1, 2):
            raise ValueError(f"compose: {name} must have one or two axes, got shape {tuple(tensor.shape)}")
    if indices is None:
        return kept
    if indices.dim() == kept.dim() == 2 and indices.shape[0] != kept.shape[0]:
        raise ValueError(f"compose: indices and kept must be of the same clips, got {len(indices)} and {len(kept)}")
    place = kept.clamp(min=0)
    if indices.dim() == 1:
        picked = indices[place]
    elif kept.dim() == 1:
        picked = indices[:, place]
    else:
        picked = indices.gather(1, place)
    return torch.where(kept < 0, kept, picked)


@dataclass(frozen=True)
class Views:
    """How views are drawn; :meth:`draw` draws them. The defaults are PSTL's, but for one draw a clip.

    Attributes:
        shear: amplitude; 0 for none. PSTL takes 1, AimCLR 0.5.
        rotation: largest angles in degrees, about a random axis and about the other two; (0, 0) for none.
        crop: pad ratio: a window of the clip that is reflected by ``T // crop`` frames at both ends; 0 for none.
        flip: a tensor as :func:`draw_flip` takes it, or None for none. See :meth:`of` for a skeleton's.
        p: probability of a flip.
        mirror: a flipped clip also has its x coordinate negated.
        per_clip: one draw a clip; False: one for all.

    Example:
        >>> import torch, asma_kernels
        >>> from asma_kernels import Skeleton, draws, rng
        >>> views = draws.Views.of(Skeleton.builtin("ntu25"), shear=0.5)
        >>> stream = rng.Draws(seed=7)
        >>> x = torch.randn(4, 3, 50, 25, 2)
        >>> frames, joints, matrix = views.draw(stream.next(), N=4, T=50)
        >>> asma_kernels.skeleton_view(x, frames, joints, matrix).shape
        torch.Size([4, 3, 50, 25, 2])
    """

    shear: float = 1.0
    rotation: tuple[float, float] = (30.0, 1.0)
    crop: int = 6
    flip: torch.Tensor | None = None
    p: float = 0.5
    mirror: bool = False
    per_clip: bool = True

    @classmethod
    def of(cls, skeleton: Skeleton, device: torch.device | str = "cpu", **changes: object) -> Views:
        """Views of a skeleton, its flip on ``device``; ``changes`` are the other attributes."""
        return cls(flip=_flip_tensor(skeleton, device), **changes)  # type: ignore[arg-type]

    def draw(self, rng: torch.Tensor, N: int, T: int) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """``frames`` (N, T), ``joints`` (N, V) or None without a flip, ``matrix`` (N, 3, 3) for N clips of T frames.

        Raises:
            ValueError, TypeError: a rule of :func:`asma_kernels.view_draw` is broken.
        """
        pad = _pad("Views", T, self.crop) if self.crop else 0
        return view_draw(rng, N, T, pad, self.shear, self.rotation, self.flip, self.p, self.mirror, self.per_clip)


def _pad(op: str, T: int, pad_ratio: int) -> int:
    if pad_ratio < 1:
        raise ValueError(f"{op}: the pad ratio must be >= 1, got {pad_ratio}")
    return T // pad_ratio


def _flip_tensor(flip: Skeleton | torch.Tensor, device: torch.device | str) -> torch.Tensor:
    return torch.tensor(flip.flip, device=device) if isinstance(flip, Skeleton) else flip
