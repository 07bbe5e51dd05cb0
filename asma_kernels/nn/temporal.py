"""Convolutions over frames of the field's models, with their constructor arguments and parameter names.

Inside are PyTorch's own convolutions, norms and pools, so dtypes, devices, gradients, determinism and autocast are
theirs; what these modules keep is that the originals' state dicts load and give the originals' numbers.
``padding_mode``, ``"zeros"`` or ``"replicate"``, says what lies before the first and after the last frame of a
convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

PADDING = ("zeros", "replicate")
ACTIVATION = ("relu", "leakyrelu", "tanh", "linear")


class UnitTCN(nn.Module):
    """One convolution over frames, a norm and dropout: ``unit_tcn`` of pyskl, CTR-GCN and 2s-AGCN, ``TemporalConv`` of
    MS-G3D, CTR-GCN, Hyper-GCN and HD-GCN, ``UnitTCN`` of InfoGCN.

    Parameters are ``conv.weight`` (D, C, kernel_size, 1), ``conv.bias`` (D,) and the norm ``bn``; HD-GCN's name
    ``bias`` (1, D, 1, 1) for the convolution's bias is understood when a state dict is loaded. They are initialised as
    PyTorch does; CTR-GCN and 2s-AGCN do in their constructors what :meth:`init_weights` does, as pyskl's method.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps, odd unless a shorter clip is meant.
        stride: every how many frames there is one.
        dilation: frames from tap to tap.
        norm: ``"BN"`` or None.
        dropout: share of numbers dropped in training.
        padding_mode: see above.

    Raises:
        ValueError: another norm or padding.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import UnitTCN
        >>> UnitTCN(16, 32, kernel_size=9, stride=2)(torch.randn(2, 16, 8, 25)).shape
        torch.Size([2, 32, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 9,
        stride: int = 1,
        dilation: int = 1,
        norm: str | None = "BN",
        dropout: float = 0.0,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        if norm not in ("BN", None):
            raise ValueError(f"UnitTCN: norm must be 'BN' or None, got {norm!r}")
        _check_padding("UnitTCN", padding_mode)
        padding = dilation * (kernel_size - 1) // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, (kernel_size, 1), (stride, 1), (padding, 0), (dilation, 1),
            padding_mode=padding_mode,  # type: ignore[arg-type]
        )  # fmt: skip
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout, inplace=True)

    def init_weights(self) -> None:
        """Normal weights by the number of outputs (He et al.), zero biases, a norm that scales by 1."""
        _init_conv(self.conv)
        if isinstance(self.bn, nn.BatchNorm2d):
            nn.init.ones_(self.bn.weight)
            nn.init.zeros_(self.bn.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V)."""
        out: torch.Tensor = self.drop(self.bn(self.conv(x)))
        return out

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        bias = state_dict.pop(f"{prefix}bias", None)  # HD-GCN's
        if bias is not None:
            state_dict[f"{prefix}conv.bias"] = bias.flatten()
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class _MultiScale(nn.Module):
    """The branches and the residual that both multi-scale modules have."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int,
        dilations: Sequence[int],
        residual: bool,
        residual_kernel_size: int,
        activation: str,
        padding_mode: str,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_padding(name, padding_mode)
        kernels = [kernel_size] * len(dilations) if isinstance(kernel_size, int) else list(kernel_size)
        if len(kernels) != len(dilations):
            raise ValueError(
                f"{name}: kernel_size must be one number or one a dilation, got {kernels} for {list(dilations)}"
            )
        for taps in (*kernels, residual_kernel_size):
            check_odd(name, taps)
        self.num_branches = len(dilations) + 2
        width, rest = share(name, out_channels, self.num_branches)

        def narrowed() -> list[nn.Module]:
            return [nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), _activation(name, activation)]

        def convolved(taps: int, dilation: int) -> UnitTCN:
            return UnitTCN(width, width, taps, stride, dilation, padding_mode=padding_mode)

        self.branches = nn.ModuleList(
            nn.Sequential(*narrowed(), convolved(taps, dilation))
            for taps, dilation in zip(kernels, dilations, strict=True)
        )
        self.branches.append(
            nn.Sequential(*narrowed(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width))
        )
        self.branches.append(nn.Sequential(nn.Conv2d(in_channels, rest, 1, (stride, 1)), nn.BatchNorm2d(rest)))
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            self.residual = UnitTCN(in_channels, out_channels, residual_kernel_size, stride, padding_mode=padding_mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V)."""
        out = torch.cat([branch(x) for branch in self.branches], dim=1)
        return out if self.residual is None else out + self.residual(x)


class MultiScaleTemporalConv(_MultiScale):
    """Branches of dilated convolutions, of a maximum over three frames and of a 1x1 convolution, side by side, plus a
    residual: ``MultiScale_TemporalConv`` of CTR-GCN, SCD-Net, HD-GCN and, with ``padding_mode="replicate"``, Hyper-GCN.

    Each branch has its share of the D channels; where they do not divide, the 1x1 branch takes the rest, as in pyskl.
    Parameters: ``branches.i.0`` and ``.1`` (1x1 convolution, norm), ``branches.i.3.conv`` and ``.bn``; of the maximum's
    branch ``.4`` (norm); ``residual.conv`` and ``.bn``. Initialised as CTR-GCN's.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps, odd; one number, or one a dilation.
        stride: every how many frames there is one.
        dilations: frames from tap to tap, one a branch.
        residual: with one: x itself where shapes allow it, else a convolution over frames and a norm.
        residual_kernel_size: taps of that convolution, odd.
        padding_mode: see above; the maximum's branch never sees the padding.

    Raises:
        ValueError: an argument breaks a rule above, or there are fewer channels than branches.

    Source: MS-G3D (arXiv 2003.14111, its MS-TCN); CTR-GCN (arXiv 2107.12213, multi-scale temporal modelling).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import MultiScaleTemporalConv
        >>> tcn = MultiScaleTemporalConv(64, 64, kernel_size=5, stride=2, dilations=[1, 2], residual=False)
        >>> tcn(torch.randn(2, 64, 8, 25)).shape
        torch.Size([2, 64, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int = 1,
        dilations: Sequence[int] = (1, 2, 3, 4),
        residual: bool = True,
        residual_kernel_size: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        shape = (in_channels, out_channels, kernel_size, stride, dilations, residual, residual_kernel_size)
        super().__init__(*shape, "relu", padding_mode)
        self.apply(_init_as_ctrgcn)


class MSG3DTemporalConv(_MultiScale):
    """:class:`MultiScaleTemporalConv` as MS-G3D's and InfoGCN's ``MultiScale_TemporalConv`` and pyskl's ``MSTCN`` have
    it: an activation of choice, applied to the sum with the residual too, then dropout; initialised as PyTorch does.

    Args:
        in_channels, out_channels, kernel_size, stride, dilations, residual, residual_kernel_size: as there.
        activation: relu, leakyrelu (slope 0.2), tanh or linear.
        tcn_dropout: share of numbers dropped in training (pyskl).

    Raises:
        ValueError: as there, or another activation.

    Source: MS-G3D (arXiv 2003.14111, its MS-TCN).

    Example:
        >>> import torch
        >>> from asma_kernels.nn import MSG3DTemporalConv
        >>> MSG3DTemporalConv(96, 192, stride=2)(torch.randn(2, 96, 8, 25)).shape
        torch.Size([2, 192, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int = 1,
        dilations: Sequence[int] = (1, 2, 3, 4),
        residual: bool = True,
        residual_kernel_size: int = 1,
        activation: str = "relu",
        tcn_dropout: float = 0.0,
    ) -> None:
        shape = (in_channels, out_channels, kernel_size, stride, dilations, residual, residual_kernel_size)
        super().__init__(*shape, activation, "zeros")
        self.act = _activation("MSG3DTemporalConv", activation)
        self.drop = nn.Dropout(tcn_dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V)."""
        out: torch.Tensor = self.drop(self.act(super().forward(x)))
        return out


def share(name: str, channels: int, branches: int) -> tuple[int, int]:
    """Channels of a branch, and of the one that takes the rest."""
    if branches < 1 or channels < branches:
        raise ValueError(f"{name}: out_channels must be at least one a branch, got {channels} for {branches} branches")
    return channels // branches, channels - channels // branches * (branches - 1)


def _activation(name: str, activation: str) -> nn.Module:
    if activation not in ACTIVATION:
        raise ValueError(f"{name}: activation must be one of {', '.join(ACTIVATION)}, got {activation!r}")
    made: dict[str, nn.Module] = {
        "relu": nn.ReLU(inplace=True),
        "leakyrelu": nn.LeakyReLU(0.2, inplace=True),
        "tanh": nn.Tanh(),
        "linear": nn.Identity(),
    }
    return made[activation]


def _check_padding(name: str, padding_mode: str) -> None:
    if padding_mode not in PADDING:
        raise ValueError(f"{name}: padding_mode must be one of {', '.join(PADDING)}, got {padding_mode!r}")


def check_odd(name: str, taps: int) -> None:
    if taps < 1 or taps % 2 == 0:
        raise ValueError(f"{name}: a branch must have an odd number of taps, so that branches fit, got {taps}")


def _init_conv(conv: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _init_as_ctrgcn(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        _init_conv(module)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
