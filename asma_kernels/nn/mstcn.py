"""pyskl's convolutions over frames: branches side by side and a 1x1 convolution over all of them.

As in :mod:`asma_kernels.nn.temporal` all is PyTorch's own inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .temporal import UnitTCN, check_odd, share

Branch = tuple[int, int] | tuple[str, int] | str
BRANCHES: tuple[Branch, ...] = ((3, 1), (3, 2), (3, 3), (3, 4), ("max", 3), "1x1")


class MSTCN(nn.Module):
    """Branches over frames side by side, then one 1x1 convolution over all of them: pyskl's ``mstcn`` (ST-GCN++).

    Parameters: ``branches.i.0`` and ``.1`` (1x1 convolution, norm), ``branches.i.3.conv``; ``branches.i`` for a 1x1
    branch; ``transform.0`` (norm), ``transform.2`` (convolution), ``bn``. Initialised as PyTorch does.

    Args:
        in_channels: C.
        out_channels: D.
        mid_channels: channels of a branch as a share of D, above 0. None: D divided among the branches, the first one
            takes the rest.
        dropout: share of numbers dropped in training.
        ms_cfg: the branches: (taps, dilation), ``("max", 3)`` for the maximum over three frames, ``"1x1"``.
        stride: every how many frames there is one.

    Raises:
        ValueError: an argument breaks a rule above, or there are fewer channels than branches.

    Source: ST-GCN++ (pyskl, arXiv 2205.09443).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import MSTCN
        >>> MSTCN(64, 64, stride=2)(torch.randn(2, 64, 8, 25)).shape
        torch.Size([2, 64, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: float | None = None,
        dropout: float = 0.0,
        ms_cfg: Sequence[Branch] = BRANCHES,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.branches, width = _branches(type(self).__name__, in_channels, out_channels, mid_channels, ms_cfg, stride)
        self.transform = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out_channels, 1))
        self.bn = nn.BatchNorm2d(out_channels)
        self.drop = nn.Dropout(dropout, inplace=True)

    def init_weights(self) -> None:
        """Nothing, as in pyskl: PyTorch's initialisation stays."""

    def inner_forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches and the convolution over them, before the last norm: (N, D, T', V)."""
        features: torch.Tensor = self.transform(torch.cat([branch(x) for branch in self.branches], dim=1))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V)."""
        out: torch.Tensor = self.drop(self.bn(self.inner_forward(x)))
        return out


class DGMSTCN(MSTCN):
    """:class:`MSTCN` in which the mean joint goes along: its features, times a learned number a joint, are added to
    every joint's before the last convolution: pyskl's ``dgmstcn`` (DG-STGCN), ProtoGCN's ``mstcn``.

    Parameters: those of :class:`MSTCN` and ``add_coeff`` (num_joints,), 0 at the start.

    Args:
        in_channels, out_channels, mid_channels, dropout, ms_cfg, stride: as there.
        num_joints: the most joints an input has; with fewer the first numbers count.

    Raises:
        ValueError: as there; at the call, more than ``num_joints`` joints.

    Source: DG-STGCN (arXiv 2210.05895, dynamic joint-skeleton fusion).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import DGMSTCN
        >>> DGMSTCN(64, 64, num_joints=17)(torch.randn(2, 64, 8, 17)).shape
        torch.Size([2, 64, 8, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: float | None = None,
        num_joints: int = 25,
        dropout: float = 0.0,
        ms_cfg: Sequence[Branch] = BRANCHES,
        stride: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, mid_channels, dropout, ms_cfg, stride)
        self.add_coeff = nn.Parameter(torch.zeros(num_joints))

    def inner_forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches and the convolution over them, before the last norm: (N, D, T', V)."""
        V = x.shape[3]
        if len(self.add_coeff) < V:
            raise ValueError(f"DGMSTCN: x must have at most num_joints = {len(self.add_coeff)} joints, got {V}")
        # The mean joint counts in the norms' statistics, so it has to go through the branches with the others.
        x = torch.cat([x, x.mean(-1, keepdim=True)], dim=-1)
        out = torch.cat([branch(x) for branch in self.branches], dim=1)
        features: torch.Tensor = self.transform(out[..., :V] + out[..., V:] * self.add_coeff[:V])
        return features


def _branches(
    name: str, in_channels: int, out_channels: int, mid_channels: float | None, ms_cfg: Sequence[Branch], stride: int
) -> tuple[nn.ModuleList, int]:
    """pyskl's branches, and the sum of their channels."""
    if mid_channels is None:
        width, first = share(name, out_channels, len(ms_cfg))
    else:
        width = first = int(out_channels * mid_channels)
        if width < 1:
            raise ValueError(
                f"{name}: mid_channels must leave a branch a channel, got {mid_channels} of {out_channels}"
            )
    branches = nn.ModuleList()
    for place, branch in enumerate(ms_cfg):
        channels = width if place else first
        if branch == "1x1":
            branches.append(nn.Conv2d(in_channels, channels, 1, (stride, 1)))
            continue
        if branch == ("max", 3):
            over_frames: nn.Module = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        elif isinstance(branch, tuple) and len(branch) == 2 and all(isinstance(number, int) for number in branch):
            taps, dilation = (int(number) for number in branch)
            check_odd(name, taps)
            over_frames = UnitTCN(channels, channels, taps, stride, dilation, norm=None)
        else:
            raise ValueError(f"{name}: a branch must be (taps, dilation), ('max', 3) or '1x1', got {branch!r}")
        narrowed = (nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
        branches.append(nn.Sequential(*narrowed, over_frames))
    return branches, width * (len(ms_cfg) - 1) + first
