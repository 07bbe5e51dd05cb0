"""MS-G3D's graph convolutions: several hop distances at once, over a frame's joints or over windows of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .. import _check
from ..adjacency import multi_scale, windowed
from ..ops.graph_conv import graph_conv
from . import _unit

ACTIVATIONS = ("relu", "leakyrelu", "tanh", "linear")


def _activation(unit: str, name: str | None) -> nn.Module:
    name = "linear" if name is None else name
    _check.one_of(unit, "activation", name, ACTIVATIONS)
    if name == "leakyrelu":
        return nn.LeakyReLU(0.2, inplace=True)
    return {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh(), "linear": nn.Identity()}[name]


class _MLP(nn.Module):
    """``model.mlp.MLP``: dropout where there is any, 1x1 convolution, norm, activation, in ``layers``."""

    def __init__(self, unit: str, in_channels: int, out_channels: int, dropout: float, activation: str | None) -> None:
        super().__init__()
        self.drops = dropout > 0.001
        first = [nn.Dropout(dropout)] if self.drops else []
        norm = nn.BatchNorm2d(out_channels)
        self.layers = nn.ModuleList(
            [*first, nn.Conv2d(in_channels, out_channels, 1), norm, _activation(unit, activation)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _MultiScale(nn.Module):
    """x meets every scale's graph from the left; an MLP follows, whose convolution is part of the same op."""

    def __init__(self, graph: torch.Tensor, learned: bool, mlp: _MLP) -> None:
        super().__init__()
        self.A: torch.Tensor
        # From the left: transposed once here, so that sources come before targets.
        self.register_buffer("A", graph.transpose(1, 2).contiguous(), persistent=False)
        self.A_res: nn.Parameter | None = None
        if learned:
            self.A_res = nn.Parameter(torch.empty(graph.flatten(0, 1).shape).uniform_(-1e-6, 1e-6))
        else:
            _unit.keep_edges(self, "A")
        self.in_channels = cast(int, mlp.layers[1 if mlp.drops else 0].in_channels) // len(graph)
        self.mlp = mlp

    def _aggregate(self, x: torch.Tensor) -> torch.Tensor:
        like = cast(torch.Tensor, self.mlp.layers[-2].weight)
        _unit.features(type(self).__name__, x, self.in_channels, self.A.shape[-1], like)
        if self.A_res is None:
            graph: Any = _unit.fixed(self)
        else:
            graph = self.A + self.A_res.view(self.A.shape).transpose(1, 2)
        layers = list(self.mlp.layers)
        if self.mlp.drops and self.training:
            return cast(torch.Tensor, self.mlp(graph_conv(x, graph, order="post", reduce_k="keep")))
        conv, *after = layers[1:] if self.mlp.drops else layers
        x = graph_conv(x, graph, cast(torch.Tensor, conv.weight), cast(torch.Tensor, conv.bias), order="post")
        for layer in after:
            x = layer(x)
        return x


class MSGCN(_MultiScale):
    """``MultiScale_GraphConv`` of MS-G3D (arXiv 2003.14111): one graph a hop distance, ``A_res`` added to
    them, then a 1x1 convolution, norm and activation.

    State: ``A_res`` and ``mlp.layers.i`` as theirs.

    Args:
        num_scales: K, hop distances 0 to K - 1.
        in_channels: C.
        out_channels: D.
        A_binary: adjacency (V, V) of ones and zeros, without self loops, tensor or array.
        disentangled_agg: graphs by hop distance; else powers of the normalised adjacency.
        use_mask: with the learned A_res.
        dropout: of the aggregated features.
        activation: relu, leakyrelu, tanh or linear.

    Dtype and device of x are the parameters'. Deterministic but for dropout; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import MSGCN
        >>> A = Skeleton.builtin("ntu25").partition("uniform")[0].gt(0).float().fill_diagonal_(0)
        >>> MSGCN(13, 3, 96, A)(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 96, 8, 25])
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: int,
        out_channels: int,
        A_binary: torch.Tensor | np.ndarray,
        disentangled_agg: bool = True,
        use_mask: bool = True,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        A = _unit.adjacency("MSGCN", A_binary, "V, V")
        graph = multi_scale(A, num_scales, disentangled_agg)
        super().__init__(graph, use_mask, _MLP("MSGCN", in_channels * num_scales, out_channels, dropout, activation))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V)."""
        return self._aggregate(x)


class TemporalWindows(nn.Module):
    """``UnfoldTemporalWindows`` of MS-G3D: (N, C, T, V) -> (N, C, T', window_size * V), zeros past the ends.

    With ``window_dilation = 1`` the windows are a view of the padded clip, whose frames are not copied again.

    Args:
        window_size: frames of a window.
        window_stride: frames from a window to the next.
        window_dilation: frames from one frame of a window to its next.

    Raises:
        ValueError: at the call, if x is not (N, C, T, V) or too short for one window.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import TemporalWindows
        >>> TemporalWindows(3, 2)(torch.randn(2, 3, 8, 25)).shape
        torch.Size([2, 3, 4, 75])
    """

    def __init__(self, window_size: int, window_stride: int, window_dilation: int = 1) -> None:
        super().__init__()
        self.window_size, self.window_stride, self.window_dilation = window_size, window_stride, window_dilation
        self.padding = (window_size - 1) * window_dilation // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check.dim("TemporalWindows", "x", x, "N, C, T, V")
        span = (self.window_size - 1) * self.window_dilation + 1
        if x.shape[2] + 2 * self.padding < span:
            raise ValueError(
                f"TemporalWindows: x must have at least {span - 2 * self.padding} frames, got shape {tuple(x.shape)}"
            )
        padded = F.pad(x, (0, 0, self.padding, self.padding)).contiguous()
        windows = padded.unfold(2, span, self.window_stride)[..., :: self.window_dilation]
        return windows.transpose(3, 4).flatten(3)


class STMSGCN(_MultiScale):
    """``SpatialTemporal_MS_GCN`` of MS-G3D: :class:`MSGCN` over windows, where a joint is joined with its
    neighbours in every frame of its window.

    State: ``A_res``, ``mlp.layers.i`` and ``residual.layers.i`` as theirs.

    Args:
        in_channels: C.
        out_channels: D.
        A_binary: adjacency (V, V) of ones and zeros, without self loops, tensor or array.
        num_scales: K, hop distances 0 to K - 1.
        window_size: frames of a window.
        disentangled_agg: graphs by hop distance; else powers of the normalised adjacency.
        use_Ares: with the learned A_res.
        residual: with a residual.
        dropout: of the aggregated features.
        activation: relu, leakyrelu, tanh or linear.

    Dtype and device of x are the parameters'. Deterministic but for dropout; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import STMSGCN, TemporalWindows
        >>> unit = STMSGCN(3, 16, torch.ones(17, 17) - torch.eye(17), num_scales=2, window_size=3)
        >>> unit(TemporalWindows(3, 1)(torch.randn(2, 3, 8, 17))).shape
        torch.Size([2, 16, 8, 51])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A_binary: torch.Tensor | np.ndarray,
        num_scales: int,
        window_size: int,
        disentangled_agg: bool = True,
        use_Ares: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        A = _unit.adjacency("STMSGCN", A_binary, "V, V")
        graph = multi_scale(windowed(A, window_size), num_scales, disentangled_agg)
        super().__init__(graph, use_Ares, _MLP("STMSGCN", in_channels * num_scales, out_channels, dropout, "linear"))
        self.residual: nn.Module | None = None
        if residual:
            equal = in_channels == out_channels
            self.residual = nn.Identity() if equal else _MLP("STMSGCN", in_channels, out_channels, 0, "linear")
        self.act = _activation("STMSGCN", activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T', window_size * V) -> (N, D, T', window_size * V)."""
        out = self._aggregate(x)
        if self.residual is not None:
            out += self.residual(x)
        result: torch.Tensor = self.act(out)
        return result


class MSG3D(nn.Module):
    """``MS_G3D`` of MS-G3D: windows of frames, :class:`STMSGCN` over them, a convolution that makes one
    frame of each window, a norm.

    State: ``in1x1.layers.i``, ``gcn3d.1.*``, ``out_conv`` and ``out_bn`` as theirs.

    Args:
        in_channels: C.
        out_channels: D.
        A_binary: adjacency (V, V) of ones and zeros, without self loops, tensor or array.
        num_scales: K, hop distances 0 to K - 1.
        window_size: frames of a window.
        window_stride: frames from a window to the next.
        window_dilation: frames from one frame of a window to its next; 1 needs no copy of the windows.
        embed_factor: 1: the windows hold x; else a 1x1 convolution of it to D // embed_factor channels.
        activation: taken for the call's sake; MS-G3D uses it nowhere.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import MSG3D
        >>> unit = MSG3D(3, 16, torch.ones(17, 17) - torch.eye(17), 2, 3, window_stride=2, window_dilation=1)
        >>> unit(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 4, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A_binary: torch.Tensor | np.ndarray,
        num_scales: int,
        window_size: int,
        window_stride: int,
        window_dilation: int,
        embed_factor: int = 1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.window_size = window_size
        into = out = out_channels // embed_factor
        self.in1x1: nn.Module = nn.Identity()
        if embed_factor == 1:
            # The first block, whose x holds coordinates, changes channels at once; others do at the last convolution.
            into, out = in_channels, out_channels if in_channels == 3 else in_channels
        else:
            self.in1x1 = _MLP("MSG3D", in_channels, into, 0, "relu")
        self.gcn3d = nn.Sequential(
            TemporalWindows(window_size, window_stride, window_dilation),
            STMSGCN(into, out, A_binary, num_scales, window_size),
        )
        self.out_conv = nn.Conv3d(out, out_channels, kernel_size=(1, window_size, 1))
        self.out_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T', V)."""
        _check.dim("MSG3D", "x", x, "N, C, T, V")
        y = self.gcn3d(self.in1x1(x))
        N, D, windows, _ = y.shape
        # A window after the other: the Conv3d is a convolution over frames whose stride is its window.
        y = y.reshape(N, D, windows * self.window_size, x.shape[3])
        y = F.conv2d(y, self.out_conv.weight[:, :, 0], self.out_conv.bias, stride=(self.window_size, 1))
        result: torch.Tensor = self.out_bn(y)
        return result


class MultiWindowMSG3D(nn.Module):
    """``MultiWindow_MS_G3D`` of MS-G3D: the sum of :class:`MSG3D` over several windows, in ``gcn3d``.

    Args:
        in_channels: C.
        out_channels: D.
        A_binary: adjacency (V, V) of ones and zeros, without self loops, tensor or array.
        num_scales: K, hop distances 0 to K - 1.
        window_sizes, window_dilations: of each window.
        window_stride: frames from a window to the next.

    Example:
        >>> import torch
        >>> from asma_kernels.nn import MultiWindowMSG3D
        >>> MultiWindowMSG3D(3, 16, torch.ones(17, 17) - torch.eye(17), 2)(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 8, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A_binary: torch.Tensor | np.ndarray,
        num_scales: int,
        window_sizes: Sequence[int] = (3, 5),
        window_stride: int = 1,
        window_dilations: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        if len(window_sizes) != len(window_dilations) or not window_sizes:
            raise ValueError(
                "MultiWindowMSG3D: window_sizes and window_dilations must have one entry a window, "
                f"got {tuple(window_sizes)} and {tuple(window_dilations)}"
            )
        self.gcn3d = nn.ModuleList(
            MSG3D(in_channels, out_channels, A_binary, num_scales, size, window_stride, dilation)
            for size, dilation in zip(window_sizes, window_dilations, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T', V)."""
        first, *others = self.gcn3d
        out: torch.Tensor = first(x)
        for other in others:
            out += other(x)
        return out
