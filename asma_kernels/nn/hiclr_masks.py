"""HiCLR's masks of joints and of frames, with the constructor and call of its ``processor/utils.py``.

The constructor's sizes are those of the clips; one that is given is checked against the clips, the masks themselves
take the clips' sizes. Each module keeps its own ``[seed, call]`` as the buffer ``rng``: move it to the clips' device
once.
"""

from __future__ import annotations

import math

import torch

from .. import _check
from ..ops.frame_mask import frame_mask
from ..ops.joint_mask import joint_mask
from ._random_mask import RandomMask


class _HiCLRMask(RandomMask):
    def __init__(
        self,
        mask_ratio: float,
        person_num: int | None = None,
        joint_num: int | None = None,
        channel_num: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"{type(self).__name__}: mask_ratio must be in [0, 1), got {mask_ratio}")
        self.mask_ratio = mask_ratio
        self.sizes = {"person_num": (person_num, 4), "joint_num": (joint_num, 3), "channel_num": (channel_num, 1)}

    def _check(self, data: torch.Tensor, frame: int) -> None:
        name = type(self).__name__
        _check.dim(name, "data", data, "N, C, T, V, M")
        for given, (size, axis) in self.sizes.items():
            if size is not None and size != data.shape[axis]:
                raise ValueError(f"{name}: data must have {given} = {size}, got shape {tuple(data.shape)}")
        if not 1 <= frame <= data.shape[2]:
            raise ValueError(f"{name}: frame must be in [1, T], got {frame} with T = {data.shape[2]}")
        _check.same_device(name, "data", data, self.rng)

    def _joints(self, data: torch.Tensor, rows: int) -> torch.Tensor:
        """(rows, V) bool, True where a joint is masked; each row draws for itself."""
        V = data.shape[3]
        weights = torch.ones(V, dtype=torch.int64, device=data.device)
        return joint_mask(weights, int(V * self.mask_ratio), rows, self.next(), shared=False).mask

    def extra_repr(self) -> str:
        return f"mask_ratio={self.mask_ratio}"


class Jointmask(_HiCLRMask):
    """HiCLR's mask of joints: in each of the first ``frame`` frames ``int(V * mask_ratio)`` joints, drawn anew in every
    frame and the same for all clips, persons and channels.

    Args:
        mask_ratio: share of joints masked, in [0, 1).
        person_num, joint_num, channel_num: M, V and C of the clips, or None.
        seed: of the draw.

    Deterministic by seed and number of the call, the same on every backend. No gradient.

    Raises:
        ValueError: mask_ratio is outside [0, 1); clips of other sizes or another device, ``frame`` outside [1, T].

    Source: HiCLR (arXiv 2211.13466, random masking).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import Jointmask
        >>> mask = Jointmask(0.1, person_num=2, joint_num=25, channel_num=3)(torch.randn(4, 3, 50, 25, 2), 50)
        >>> mask.shape, int((mask[0, 7, 0, :, 0] == 0).sum())
        (torch.Size([4, 50, 2, 25, 3]), 2)
    """

    def forward(self, data: torch.Tensor, frame: int) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> mask (N, T, M, V, C) float32, 0 masked and 1 kept, expanded over N, M and C without
        a copy: clone it before writing into it."""
        self._check(data, frame)
        N, C, T, V, M = data.shape
        mask = torch.ones(T, V, device=data.device)
        mask[:frame] = (~self._joints(data, frame)).float()
        return mask.view(1, T, 1, V, 1).expand(N, T, M, V, C)


class Jointmask2(_HiCLRMask):
    """HiCLR's other mask of joints: ``int(V * mask_ratio)`` joints, the same ones in each of the first ``frame`` frames
    and for all clips, persons and channels.

    Args:
        mask_ratio, person_num, joint_num, channel_num, seed: as for :class:`Jointmask`.

    Deterministic by seed and number of the call, the same on every backend. No gradient.

    Raises:
        ValueError: as for :class:`Jointmask`.

    Source: HiCLR (arXiv 2211.13466, random masking).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import Jointmask2
        >>> mask = Jointmask2(0.4)(torch.randn(4, 3, 8, 15, 1), 8)
        >>> mask.shape, int((mask[0, :, 0, :, 0].sum(0) == 0).sum())
        (torch.Size([4, 8, 1, 15, 3]), 6)
    """

    def forward(self, data: torch.Tensor, frame: int) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> mask (N, T, M, V, C), as of :class:`Jointmask`."""
        self._check(data, frame)
        N, C, T, V, M = data.shape
        mask = torch.ones(T, V, device=data.device)
        mask[:frame] = (~self._joints(data, 1)).float()
        return mask.view(1, T, 1, V, 1).expand(N, T, M, V, C)


class TemporalMask(_HiCLRMask):
    """HiCLR's mask of frames: of the first ``frame`` frames ``ceil(frame * (1 - mask_ratio))`` are kept by chance, the
    same ones in all clips; later frames are masked.

    Args:
        mask_ratio: share of frames masked, in [0, 1).
        person_num, joint_num, channel_num: M, V and C of the clips, or None.
        seed: of the draw.

    Deterministic by seed and number of the call, the same on every backend. No gradient.

    Raises:
        ValueError: as for :class:`Jointmask`.

    Source: HiCLR (arXiv 2211.13466, random masking).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import TemporalMask
        >>> mask = TemporalMask(0.5)(torch.randn(4, 3, 50, 25, 2), 50)
        >>> mask.shape, int(mask[0, :, 0, 0, 0].sum())
        (torch.Size([4, 50, 2, 25, 3]), 25)
    """

    def forward(self, data: torch.Tensor, frame: int) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> mask (N, T, M, V, C), as of :class:`Jointmask`."""
        self._check(data, frame)
        N, C, T, V, M = data.shape
        # 100 * (1 - 0.45) is a little more than 55; HiCLR compares in float32, where it is 55.
        stay = math.ceil(round(frame * (1 - self.mask_ratio), 6))
        kept = frame_mask(torch.zeros(1, frame, device=data.device), 0, extra=frame - stay, rng=self.next())
        mask = torch.zeros(T, device=data.device).index_fill(0, kept[0], 1.0)
        return mask.view(1, T, 1, 1, 1).expand(N, T, M, V, C)
