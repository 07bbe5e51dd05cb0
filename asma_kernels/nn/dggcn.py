"""DG-STGCN's and ProtoGCN's graph convolutions: a learned graph plus two that the clip's own features give."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .. import _check
from ..ops.graph_conv import graph_conv
from . import _unit

ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax")


class _DynamicGroups(nn.Module):
    """The parts of both: groups of channels of their own graphs, two embeddings, weights of the clip's graphs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        ratio: float | None,
        embeds: bool,
        norm: str | dict[str, Any],
        act: str | dict[str, Any],
    ) -> None:
        super().__init__()
        unit = type(self).__name__
        graph = _unit.adjacency(unit, A)
        K = len(graph)
        middle = int((1 / K if ratio is None else ratio) * out_channels)
        if middle == 0:
            raise ValueError(f"{unit}: ratio * out_channels must be >= 1, got {ratio} * {out_channels}")
        self.in_channels, self.num_subsets, self.mid_channels = in_channels, K, middle
        self.act = _unit.activation(unit, act)
        self.A = nn.Parameter(graph)
        self.pre = nn.Sequential(nn.Conv2d(in_channels, middle * K, 1), _unit.norm(unit, norm, middle * K), self.act)
        self.post = nn.Conv2d(middle * K, out_channels, 1)
        self.alpha = nn.Parameter(torch.zeros(K))
        self.beta = nn.Parameter(torch.zeros(K))
        if embeds:
            self.conv1 = nn.Conv2d(in_channels, middle * K, 1)
            self.conv2 = nn.Conv2d(in_channels, middle * K, 1)
        self.down = _unit.shortcut(in_channels, out_channels, _unit.norm(unit, norm, out_channels))
        self.bn = _unit.norm(unit, norm, out_channels)

    def _embedded(self, x: torch.Tensor, over_frames: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Both embeddings, (N, K, C', T, V), of x's mean over frames where T is 1."""
        x = x.mean(2, keepdim=True) if over_frames else x
        weight, bias = _unit.stacked([self.conv1, self.conv2])
        both = F.conv2d(x, weight[:, :, None, None], bias)
        N, _, T, V = both.shape
        first, second = both.view(N, 2, self.num_subsets, self.mid_channels, T, V).unbind(1)
        return first, second

    def _aggregate(self, x: torch.Tensor, graph: torch.Tensor, axes: str) -> torch.Tensor:
        out = self.bn(self.post(graph_conv(self.pre(x), graph, axes=axes, reduce_k="keep")))
        out += self.down(x)
        result: torch.Tensor = self.act(out)
        return result


def _activated(graph: torch.Tensor, activation: str) -> torch.Tensor:
    """softmax is over the sources."""
    return graph.softmax(-2) if activation == "softmax" else getattr(graph, activation)()


def _differences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first[..., :, None] - second[..., None, :]


def _similarities(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, K, C, T, V) twice -> (N, K, 1, T, V, V)."""
    first, second = first.transpose(2, 3), second.transpose(2, 3)
    return (first.transpose(-1, -2) @ second)[:, :, None]


class DGGCN(_DynamicGroups):
    """``dggcn`` of pyskl (DG-STGCN, arXiv 2210.05895): every group of channels has a learned graph, to
    which differences (``ctr``) and similarities (``ada``) of the clip's joints are added.

    State: ``A``, ``alpha``, ``beta``, ``pre.i``, ``post``, ``conv1``, ``conv2``, ``down.0``, ``down.1`` and ``bn`` as
    theirs.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        ratio: a group has ratio * D channels; None: D // K.
        ctr: None, "T" (of the mean over frames) or "NA" (frame by frame). If one of the two is "NA", both are.
        ada: as ctr.
        subset_wise: alpha and beta differ from group to group; else their first numbers are taken.
        ada_act, ctr_act: tanh, relu, sigmoid or softmax over the sources.
        norm: mmcv's name of a norm ("BN", "SyncBN", "IN"), or a dict of ``type`` and arguments.
        act: mmcv's name of an activation, or a dict of ``type`` and arguments.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import DGGCN
        >>> DGGCN(3, 16, Skeleton.builtin("coco17").partition("spatial"))(torch.randn(2, 3, 8, 17)).shape
        torch.Size([2, 16, 8, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        ratio: float | None = 0.25,
        ctr: str | None = "T",
        ada: str | None = "T",
        subset_wise: bool = False,
        ada_act: str = "softmax",
        ctr_act: str = "tanh",
        norm: str | dict[str, Any] = "BN",
        act: str | dict[str, Any] = "ReLU",
    ) -> None:
        for name, value in (("ctr", ctr), ("ada", ada)):
            if value is not None:
                _check.one_of("DGGCN", name, value, ("NA", "T"))
        for name, value in (("ada_act", ada_act), ("ctr_act", ctr_act)):
            _check.one_of("DGGCN", name, value, ACTIVATIONS)
        embeds = ctr is not None or ada is not None
        super().__init__(in_channels, out_channels, A, ratio, embeds, norm, act)
        self.ctr, self.ada, self.ctr_act, self.ada_act = ctr, ada, ctr_act, ada_act
        self.subset_wise = subset_wise

    def forward(self, x: torch.Tensor, A: object = None) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, T, V). ``A`` is not looked at, as in pyskl, whose blocks hand it over."""
        _unit.features("DGGCN", x, self.in_channels, self.A.shape[-1], self.A)
        if self.ctr is None and self.ada is None:
            return self._aggregate(x, self.A, "KVW")
        over_frames = "NA" not in (self.ctr, self.ada)
        first, second = self._embedded(x, over_frames)
        graph = self.A[None, :, None, None]
        if self.ada is not None:
            similar = _activated(_similarities(first, second), self.ada_act)
            graph = graph + similar * self._weight(self.beta)
        axes = "NKVW" if over_frames else "NKTVW"
        if self.ctr is not None:
            different = _activated(_differences(first, second), self.ctr_act)
            graph = graph + different * self._weight(self.alpha)
            axes = "NKC" + axes[2:]
        else:
            graph = graph[:, :, 0]
        return self._aggregate(x, graph.squeeze(-3) if over_frames else graph, axes)

    def _weight(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight if self.subset_wise else weight[:1])[:, None, None, None, None]


class ProtoGCN(_DynamicGroups):
    """``unit_gcn`` of ProtoGCN (arXiv 2411.18941, motion topology enhancement): as DG-STGCN's, frames
    averaged, and the clip's graphs are returned too.

    State: ``A``, ``alpha``, ``beta``, ``pre.i``, ``post``, ``conv1``, ``conv2``, ``down.0``, ``down.1`` and ``bn`` as
    theirs. The means over frames are taken before the convolutions, which is the same and less work.

    Args:
        in_channels: C.
        out_channels: D.
        A: adjacency (K, V, V), tensor or array; copied.
        ratio: a group has ratio * D channels.
        intra_act, inter_act: of the similarities and of the differences: tanh, relu, sigmoid or softmax.
        norm: mmcv's name of a norm ("BN", "SyncBN", "IN"), or a dict of ``type`` and arguments.
        act: mmcv's name of an activation, or a dict of ``type`` and arguments.

    Dtype and device of x are the parameters'. Deterministic; differentiable once. See
    :func:`asma_kernels.graph_conv`.

    Raises:
        ValueError, TypeError: an argument, or x at the call, breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import ProtoGCN
        >>> unit = ProtoGCN(3, 16, Skeleton.builtin("ntu25").partition("spatial"))
        >>> out, graph = unit(torch.randn(2, 3, 8, 25))
        >>> out.shape, graph.shape
        (torch.Size([2, 16, 8, 25]), torch.Size([2, 6, 25, 25]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: torch.Tensor | np.ndarray,
        ratio: float = 0.125,
        intra_act: str = "softmax",
        inter_act: str = "tanh",
        norm: str | dict[str, Any] = "BN",
        act: str | dict[str, Any] = "ReLU",
    ) -> None:
        for name, value in (("intra_act", intra_act), ("inter_act", inter_act)):
            _check.one_of("ProtoGCN", name, value, ACTIVATIONS)
        super().__init__(in_channels, out_channels, A, ratio, True, norm, act)
        self.intra_act, self.inter_act = intra_act, inter_act

    def forward(self, x: torch.Tensor, A: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, T, V) -> (N, D, T, V) and the clip's graphs (N, K * C', V, V). ``A`` is not looked at, as in ProtoGCN,
        whose blocks hand it over."""
        _unit.features("ProtoGCN", x, self.in_channels, self.A.shape[-1], self.A)
        first, second = self._embedded(x, over_frames=True)
        similar = _activated(_similarities(first, second), self.intra_act) * self.beta[:1]
        different = _activated(_differences(first, second), self.inter_act)
        own = (similar + different * self.alpha[:1]).squeeze(3)
        return self._aggregate(x, own + self.A[:, None], "NKCVW"), own.flatten(1, 2)
