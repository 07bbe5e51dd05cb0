"""The folded classifier in operators of PyTorch itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from .folded import Folded, FoldedBlock, FoldedEncoder

__all__ = ["PlainBlock", "PlainClassifier"]


class PlainClassifier(nn.Module):
    """The folded classifier in operators of PyTorch itself, without gradients.

    >>> from asma.classifier import Classifier
    >>> from asma.config import DataConfig, EncoderConfig
    >>> from asma.folded import fold
    >>> from asma.models import Encoder
    >>> from asma_kernels import Skeleton
    >>> encoder = Encoder(EncoderConfig(channels=(4, 8), strides=(1, 2)), Skeleton.builtin("ntu25"))
    >>> model = Classifier([encoder], None, nn.Linear(8, 2), ("sit", "stand"), DataConfig()).eval()
    >>> x = torch.randn(3, 3, 16, 25, 1)
    >>> bool((PlainClassifier(fold(model))(x) - model(x)).abs().max() < 1e-5)
    True
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(_PlainEncoder(encoder) for encoder in folded.encoders)
        layers = [folded.head] if folded.hidden is None else [folded.hidden, folded.head]
        self.layers = nn.ModuleList(_linear(weight, bias) for weight, bias in layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> logits (N, classes)."""
        found = torch.cat([encoder(x) for encoder in self.encoders], dim=1)
        for layer in self.layers[:-1]:
            found = F.relu(layer(found))
        logits: torch.Tensor = self.layers[-1](found)
        return logits


class _PlainEncoder(nn.Module):
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, encoder: FoldedEncoder) -> None:
        super().__init__()
        self.segments = encoder.segments
        for name, value in (("scale", encoder.scale), ("shift", encoder.shift)):
            self.register_buffer(name, _tensor(value).T[None, None, :, None].contiguous())
        self.blocks = nn.ModuleList(map(PlainBlock, encoder.blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        N, M, T = x.shape[0], x.shape[4], x.shape[2]
        x = (x.permute(0, 4, 1, 2, 3) * self.scale + self.shift).reshape(N * M, x.shape[1], T, x.shape[3])
        for block in self.blocks:
            x = block(x)
        frames, T = x.mean(dim=3), x.shape[2]
        S = self.segments
        parts = [frames[:, :, s * T // S : ((s + 1) * T + S - 1) // S].mean(dim=2) for s in range(S)]
        return torch.cat(parts, dim=1).reshape(N, M, -1).mean(dim=1)


class PlainBlock(nn.Module):
    """`joints`, `conv` and `shortcut` multiply what a block's three weights multiply."""

    adjacency: torch.Tensor
    base: torch.Tensor

    def __init__(self, block: FoldedBlock) -> None:
        super().__init__()
        K, C, D = block.weight.shape
        taps = len(block.conv)
        self.residual = block.residual
        self.register_buffer("adjacency", _tensor(block.adjacency)[None, :, None])
        self.register_buffer("base", _tensor(block.base).T[:, None].contiguous())
        self.joints = nn.Conv2d(K * C, D, 1, bias=False)
        self.conv = nn.Conv2d(D, D, (taps, 1), (block.stride, 1), (taps // 2, 0))
        self.shortcut = None if block.shortcut is None else nn.Conv2d(C, D, 1, (block.stride, 1), bias=False)
        _set(self.joints.weight, _tensor(block.weight.reshape(K * C, D)).T[..., None, None])
        _set(self.conv.weight, _tensor(block.conv).permute(2, 1, 0)[..., None])
        _set(cast(torch.Tensor, self.conv.bias), _tensor(block.bias))
        if self.shortcut is not None and block.shortcut is not None:
            _set(self.shortcut.weight, _tensor(block.shortcut).T[..., None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.joints(torch.matmul(x[:, None], self.adjacency).flatten(1, 2)) + self.base
        out = self.conv(F.relu(out))
        if self.residual:
            out = out + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(out)


def _linear(weight: NDArray[Any], bias: NDArray[Any]) -> nn.Linear:
    layer = nn.Linear(*weight.shape)
    _set(layer.weight, _tensor(weight).T)
    _set(layer.bias, _tensor(bias))
    return layer


def _tensor(value: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(value.copy()).float()


def _set(parameter: torch.Tensor, value: torch.Tensor) -> None:
    with torch.no_grad():
        parameter.requires_grad_(False).copy_(value)
