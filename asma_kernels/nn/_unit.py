"""What the drop-in units share: checks, norms and activations by name, residuals, initial weights, stacked weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from .. import _check
from ..graph import SparseGraph

NORMS = {"BN": nn.BatchNorm2d, "BN2d": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm, "IN": nn.InstanceNorm2d}
ACTIVATIONS = {
    "ReLU": nn.ReLU, "LeakyReLU": nn.LeakyReLU, "PReLU": nn.PReLU, "RReLU": nn.RReLU, "ReLU6": nn.ReLU6,
    "ELU": nn.ELU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "GELU": nn.GELU, "SiLU": nn.SiLU,
}  # fmt: skip


def adjacency(unit: str, A: torch.Tensor | np.ndarray, axes: str = "K, V, V") -> torch.Tensor:
    """A float32 copy of a square adjacency with these axes."""
    given = torch.as_tensor(A)
    _check.dim(unit, "A", given, axes)
    if given.shape[-1] != given.shape[-2] or 0 in given.shape:
        raise ValueError(f"{unit}: A must be ({axes}), square and not empty, got shape {tuple(given.shape)}")
    return given.detach().to(torch.float32).clone()


def features(unit: str, x: torch.Tensor, C: int, V: int | None, like: torch.Tensor) -> None:
    """x must be (N, C, T, V) on the parameters' device and, but for autocast, in their dtype."""
    _check.dim(unit, "x", x, "N, C, T, V")
    if x.shape[1] != C or (V is not None and x.shape[3] != V):
        joints = "V" if V is None else str(V)
        raise ValueError(f"{unit}: x must be (N, {C}, T, {joints}), got shape {tuple(x.shape)}")
    _check.same_device(unit, "x", x, like)
    if x.dtype != like.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{unit}: x must be {like.dtype}, as the parameters, got {x.dtype}")


def norm(unit: str, given: str | dict[str, Any], channels: int) -> nn.Module:
    """A norm as mmcv names it: "BN", or a dict of a type and its arguments."""
    kind, arguments = _named(unit, "norm", given, NORMS)
    trains = arguments.pop("requires_grad", True)
    built: nn.Module = NORMS[kind](channels, **arguments)
    return built.requires_grad_(trains)


def activation(unit: str, given: str | dict[str, Any]) -> nn.Module:
    """An activation as mmcv names it: "ReLU", or a dict of a type and its arguments."""
    kind, arguments = _named(unit, "act", given, ACTIVATIONS)
    built: nn.Module = ACTIVATIONS[kind](**arguments)
    return built


def _named(unit: str, name: str, given: str | dict[str, Any], known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments = dict(given) if isinstance(given, dict) else {"type": given}
    kind = arguments.pop("type", None)
    if kind not in known:
        raise ValueError(f"{unit}: {name} must be one of {', '.join(known)}, or a dict with such a type, got {given!r}")
    return kind, arguments


def shortcut(in_channels: int, out_channels: int, after: nn.Module | None = None) -> nn.Module:
    """x itself where the channels agree, else a 1x1 convolution of it and its norm."""
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), after or nn.BatchNorm2d(out_channels))


def convolutions(count: int, in_channels: int, out_channels: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(count))


def stacked(convs: Iterable[nn.Module]) -> tuple[torch.Tensor, torch.Tensor]:
    """1x1 convolutions of the same features as one: weight (K * D, C), bias (K * D,)."""
    listed = cast(Sequence[nn.Conv2d], list(convs))
    weight = torch.cat([conv.weight.flatten(1) for conv in listed])
    return weight, torch.cat([cast(torch.Tensor, conv.bias) for conv in listed])


def summed(convs: Iterable[nn.Module]) -> tuple[torch.Tensor, torch.Tensor]:
    """1x1 convolutions, each of features of its own, whose sum is wanted, as one: weight (D, K * C), bias (D,)."""
    listed = cast(Sequence[nn.Conv2d], list(convs))
    weight = torch.cat([conv.weight.flatten(1) for conv in listed], dim=1)
    return weight, torch.stack([cast(torch.Tensor, conv.bias) for conv in listed]).sum(0)


def initialise(module: nn.Module, small: nn.Module | None = None) -> None:
    """Convolutions of He's normal by fan-out, norms 1 and 0; ``small``, the norm before the sum, starts at 1e-6."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            initialise_conv(part)
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    if small is not None:
        nn.init.constant_(cast(nn.Parameter, small.weight), 1e-6)


def initialise_conv(conv: nn.Module) -> None:
    nn.init.kaiming_normal_(cast(torch.Tensor, conv.weight), mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(cast(torch.Tensor, conv.bias))


def initialise_branch(conv: nn.Module, branches: int) -> None:
    """One of several convolutions whose sum is taken."""
    weight = cast(torch.Tensor, conv.weight)
    out, fan_in, taps = weight.shape[:3]
    nn.init.normal_(weight, 0, math.sqrt(2 / (out * fan_in * taps * branches)))
    nn.init.zeros_(cast(torch.Tensor, conv.bias))


def keep_edges(module: nn.Module, name: str) -> None:
    """Remembers where the fixed adjacency ``module.<name>`` (K, V, V) has nonzeros, and looks again after a load."""
    module._fixed = name  # type: ignore[assignment]
    module.register_buffer("_edges", None, persistent=False)
    look_again(module)
    module.register_load_state_dict_post_hook(look_again)


def look_again(module: nn.Module, _: Any = None) -> None:
    """After another adjacency was put there."""
    module._edges = _adjacency(module).detach().nonzero().T.contiguous()


def _adjacency(module: nn.Module) -> torch.Tensor:
    return cast(torch.Tensor, getattr(module, cast(str, module._fixed)))


def fixed(module: nn.Module) -> SparseGraph:
    """The adjacency of :func:`keep_edges` as it is now."""
    A, edges = _adjacency(module), cast(torch.Tensor, module._edges)
    K, V, W = A.shape
    return SparseGraph(A[edges[0], edges[1], edges[2]], edges, (K, V, W))
