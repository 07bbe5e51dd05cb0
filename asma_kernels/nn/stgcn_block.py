"""ST-GCN's block as a module, with the parameter names of ST-GCN and PSTL."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from .. import _dispatch
from ..graph import SparseGraph
from ..ops.stgcn_block import stgcn_block, stgcn_block_folded
from .graph_conv import GraphConv


class STGCNBlock(nn.Module):
    """Graph convolution over joints, convolution over frames, and a residual around both (ST-GCN, arXiv 1801.07455).

    Parameters are named and initialised as in ST-GCN's ``st_gcn`` and PSTL: ``gcn.conv``, ``tcn.0`` (norm), ``tcn.2``
    (convolution), ``tcn.3`` (norm), ``residual.0`` and ``residual.1``; their checkpoints load.

    Where the op ``stgcn_block`` has a kernel, the whole block is one op: in training by the batch's own statistics
    (dropout then draws from the device's generator through :func:`asma_kernels.philox`), on backend triton also in
    evaluation without gradients, with the norms folded into the convolutions. Everywhere else, for float64, and with
    norms set apart from the block's own mode, it is its modules one after the other. Both give the same numbers but
    for rounding and for which ones are dropped.

    Args:
        in_channels: C.
        out_channels: D.
        partitions: K.
        kernel: taps of the convolution over frames, odd.
        stride: every how many frames the block gives one.
        dropout: share of numbers dropped before the residual is added.
        residual: with a residual: x itself where shapes allow it, else a 1x1 convolution of x and its norm.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import STGCNBlock
        >>> adjacency = Skeleton.builtin("ntu25").partition("spatial")
        >>> STGCNBlock(3, 16, partitions=3, stride=2)(torch.randn(2, 3, 8, 25), adjacency).shape
        torch.Size([2, 16, 4, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        partitions: int,
        kernel: int = 9,
        stride: int = 1,
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"STGCNBlock: kernel must be odd, got {kernel}")
        self.gcn = GraphConv(in_channels, out_channels, kernel_size=partitions)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout, inplace=True),
        )
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, (stride, 1))
            self.residual = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(
        self, x: torch.Tensor, graph: torch.Tensor | SparseGraph, joints: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, C, T, V) -> (N, D, (T - 1) // stride + 1, V); ``graph`` and ``joints`` as in GraphConv."""
        fused = "" if x.dtype == torch.float64 else _dispatch.fuses("stgcn_block", x.device)
        if fused:
            if self.training and self._norms_go_along():
                return self._fused_training(x, graph, joints, fused)
            if fused == "triton" and not self.training and not torch.is_grad_enabled():
                return stgcn_block_folded(x, graph, joints=joints, **self.folded(), backend="triton")
        out = self.tcn(self.gcn(x, graph, joints))
        if self.residual is not None:
            out = out + self.residual(x)
        result: torch.Tensor = self.relu(out)
        return result

    def folded(self) -> dict[str, Any]:
        """The arguments of :func:`asma_kernels.stgcn_block_folded` beside x, graph and joints: what the block computes
        in evaluation, from its parameters and running statistics as they are now."""
        norms, conv = self._norms(), cast(nn.Conv2d, self.tcn[2])
        norm1, norm2 = _affine(norms[0]), _affine(norms[1])
        weight, bias = self.gcn.conv.weight.flatten(1), self.gcn.conv.bias
        every = norm1[0].repeat(self.gcn.kernel_size)
        arguments: dict[str, Any] = {
            "gcn": (weight * every[:, None], None if bias is None else bias * every),
            "shift": norm1[1],
            "conv": _folded(conv, norm2),
            "stride": conv.stride[0],
            "identity": isinstance(self.residual, nn.Identity),
        }
        if isinstance(self.residual, nn.Sequential):
            arguments["shortcut"] = _folded(cast(nn.Conv2d, self.residual[0]), _affine(norms[2]))
        return arguments

    def _norms(self) -> list[nn.BatchNorm2d]:
        norms = [self.tcn[0], self.tcn[3], *([self.residual[1]] if isinstance(self.residual, nn.Sequential) else [])]
        return cast(list[nn.BatchNorm2d], norms)

    def _norms_go_along(self) -> bool:
        """All norms are plain ones that train, and remember in the common way."""
        norms = self._norms()
        return all(
            type(norm) is nn.BatchNorm2d and norm.training and norm.track_running_stats and norm.affine
            and norm.momentum is not None and norm.momentum == norms[0].momentum and norm.eps == norms[0].eps
            for norm in norms
        )  # fmt: skip

    def _fused_training(
        self, x: torch.Tensor, graph: torch.Tensor | SparseGraph, joints: torch.Tensor | None, backend: str
    ) -> torch.Tensor:
        norms, conv, dropout = self._norms(), cast(nn.Conv2d, self.tcn[2]), cast(nn.Dropout, self.tcn[4]).p
        affine = [(norm.weight, norm.bias) for norm in norms]
        shortcut = cast(nn.Conv2d, self.residual[0]) if isinstance(self.residual, nn.Sequential) else None
        result = stgcn_block(
            x, graph, (self.gcn.conv.weight, self.gcn.conv.bias), affine[0], (conv.weight, conv.bias), affine[1],
            shortcut=None if shortcut is None else (shortcut.weight, shortcut.bias),
            norm3=None if shortcut is None else affine[2],
            identity=isinstance(self.residual, nn.Identity), joints=joints, stride=conv.stride[0], dropout=dropout,
            rng=torch.randint(2**62, (2,), device=x.device) if dropout else None, eps=norms[0].eps, backend=backend,
        )  # fmt: skip
        N, _, T, V = x.shape
        before, after = N * T * V, result.out.numel() // result.out.shape[1]
        with torch.no_grad():
            # Few launches for all norms. The running variance is the unbiased one.
            unbiased = [count / max(count - 1, 1) for count in (before, after, after)]
            means, variances = result.mean.unbind()[: len(norms)], result.variance.unbind()[: len(norms)]
            variances = torch._foreach_mul(variances, unbiased[: len(norms)])
            running = [cast(torch.Tensor, norm.running_mean) for norm in norms]
            running += [cast(torch.Tensor, norm.running_var) for norm in norms]
            torch._foreach_lerp_(running, [*means, *variances], cast(float, norms[0].momentum))
            torch._foreach_add_([cast(torch.Tensor, norm.num_batches_tracked) for norm in norms], 1)
        return result.out


def _affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a norm by its running statistics."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("STGCNBlock.folded: a norm has no running statistics, and by them it would be folded")
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def _folded(conv: nn.Conv2d, norm: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    scale, shift = norm
    weight = conv.weight * scale[:, None, None, None]
    return weight, shift if conv.bias is None else conv.bias * scale + shift
