"""Weights of 16 and of 8 bits for the edge engine, and the steps that its features are rounded to."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .folded import Folded
from .plain import PlainBlock, PlainClassifier

__all__ = ["LARGEST_KEPT", "LARGEST_ROW", "PRECISIONS", "Precision", "Steps", "calibrate", "to_bfloat16", "to_int8"]

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LARGEST_ROW, LARGEST_KEPT, LARGEST_WEIGHT = 2047, 255, 127
BATCH = 16
LEAST = 1e-12
"""A step of what is always 0: nothing is divided by less."""


class Steps(NamedTuple):
    """What one step of a block's features is, where they are multiplied by int8 weights."""

    rows: float
    """Of what the graph convolution gathered: from -LARGEST_ROW to LARGEST_ROW steps."""
    kept: float
    """Of what the convolution over frames reads: from 0 to LARGEST_KEPT steps."""
    shortcut: float
    """Of what the shortcut reads, as rows."""


def calibrate(folded: Folded, x: torch.Tensor) -> tuple[tuple[Steps, ...], ...]:
    """The steps of each encoder's blocks, so that the largest feature of these clips is the largest number of steps.

    Args:
        folded: the classifier.
        x: prepared clips (N, C, T, V, M).
    """
    plain = PlainClassifier(folded).eval()
    largest: dict[torch.nn.Module, float] = {}

    def measure(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        largest[module] = max(largest.get(module, 0.0), float(given[0].abs().max()))

    blocks = [[cast(PlainBlock, block) for block in cast(Any, encoder).blocks] for encoder in plain.encoders]
    for block in (block for encoder in blocks for block in encoder):
        for module in (block.joints, block.conv, block.shortcut):
            if module is not None:
                module.register_forward_pre_hook(measure)
    with torch.no_grad():
        for batch in x.split(BATCH):
            plain(batch)

    def step(module: torch.nn.Module | None, most: int) -> float:
        return 1.0 if module is None else max(largest[module] / most, LEAST)

    return tuple(
        tuple(
            Steps(step(block.joints, LARGEST_ROW), step(block.conv, LARGEST_KEPT), step(block.shortcut, LARGEST_ROW))
            for block in encoder
        )
        for encoder in blocks
    )


def to_int8(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Whole numbers of steps, and the step of each channel out, which is the last axis.

    >>> to_int8(np.array([[1.0, 0.0], [-0.5, 0.0]]))[0].tolist()
    [[127, 0], [-64, 0]]
    """
    step = np.maximum(np.abs(weight).reshape(-1, weight.shape[-1]).max(0) / LARGEST_WEIGHT, LEAST)
    step = step.astype(np.float32).astype(np.float64)
    return np.clip(np.rint(weight / step), -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), step


def to_bfloat16(weight: NDArray[Any]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 numbers, ties to even.

    >>> to_bfloat16(np.array([1.0, -2.0])).tolist()
    [16256, 49152]
    """
    rounded = torch.from_numpy(np.array(weight, np.float32)).bfloat16()
    return rounded.view(torch.int16).numpy().view(np.uint16)
