"""Ways out of PyTorch for a teacher or a student: the edge engine's file, ONNX, and a program of torch.export."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from .classifier import Classifier
from .config import need
from .edge_file import edge_bytes
from .files import write_atomically
from .folded import Folded, FoldedBlock, FoldedEncoder, fold
from .onnx_file import onnx_bytes

__all__ = ["FORMATS", "Format", "PlainClassifier", "export"]

Format = Literal["edge", "onnx", "torch"]


def export(model: Classifier, to: Format, out: Path) -> int:
    """Write a classifier in another form; a file of that name is replaced as a whole or stays as it is.

    Args:
        model: a teacher or a student of `load_classifier`; it stays as it is.
        to: edge, for the engine of docs/edge.md: raw skeletons in, classes out, at the model's T. onnx and torch:
            prepared clips (N, C, T, V, M) in, logits (N, classes) out, for any N and T; torch is a file of
            `torch.export.save` (.pt2), which needs nothing of this project when it is loaded, and more frames than
            all strides multiplied.
        out: the file.

    Returns:
        Bytes that were written.

    Raises:
        ValueError: the form is unknown, or the model's numbers are not finite.
        OSError: the file cannot be written.
        MissingExtraError: for onnx: it is not installed.
    """
    need(to in FORMATS, f"export: to must be one of {', '.join(FORMATS)}", repr(to))
    content = FORMATS[to](model)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(out), lambda part: part.write_bytes(content))
    return len(content)


class PlainClassifier(nn.Module):
    """The folded classifier in operators of PyTorch itself, without gradients.

    >>> from asma.config import DataConfig, EncoderConfig
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
        self.blocks = nn.ModuleList(map(_PlainBlock, encoder.blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        N, M, T = x.shape[0], x.shape[4], x.shape[2]
        x = (x.permute(0, 4, 1, 2, 3) * self.scale + self.shift).reshape(N * M, x.shape[1], T, x.shape[3])
        for block in self.blocks:
            x = block(x)
        frames, T = x.mean(dim=3), x.shape[2]
        S = self.segments
        parts = [frames[:, :, s * T // S : ((s + 1) * T + S - 1) // S].mean(dim=2) for s in range(S)]
        return torch.cat(parts, dim=1).reshape(N, M, -1).mean(dim=1)


class _PlainBlock(nn.Module):
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


def _torch_bytes(model: Classifier) -> bytes:
    folded = fold(model)
    C, V = model.first_encoder.config.in_channels, model.skeleton.num_joints
    # torch.export guards against sizes of 1, also within, and makes a constant of one that it sees.
    shortest = max(2 * encoder.segments * math.prod(b.stride for b in encoder.blocks) for encoder in folded.encoders)
    example = torch.zeros(2, C, max(model.data.frames, shortest), V, model.data.persons)
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    program = torch.export.export(PlainClassifier(folded).eval(), (example,), dynamic_shapes=(free,))
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


FORMATS: dict[str, Callable[[Classifier], bytes]] = {"edge": edge_bytes, "onnx": onnx_bytes, "torch": _torch_bytes}
