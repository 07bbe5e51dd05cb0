"""The edge engine's model file: csrc/edge/file.h reads it, docs/edge.md describes it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .classifier import Classifier
from .config import need
from .data.joints import joint_pair
from .folded import Folded, FoldedBlock, FoldedEncoder, fold
from .precision import LARGEST_KEPT, LARGEST_ROW, PRECISIONS, Precision, Steps, calibrate, to_bfloat16, to_int8

__all__ = ["FORMAT", "edge_bytes"]

MAGIC = b"ASMAEDGE"
FORMAT = 2
ALIGNMENT = 64
HEADER = 128
STORED = {"float64": "<f4", "uint32": "<u4", "uint16": "<u2", "uint8": "u1", "int8": "i1"}
MOST_SUMMED = (2**31 - 1) // 128
"""Products with an int8 weight are summed in 32 bits."""
CENTRES, STREAMS = ("none", "frame", "clip"), ("joint", "bone", "motion")


def edge_bytes(model: Classifier, precision: Precision = "float32", clips: torch.Tensor | None = None) -> bytes:
    """The file of a classifier.

    Args:
        model: a teacher or a student.
        precision: of the blocks' weights and of what they multiply.
        clips: prepared clips (N, C, T, V, M), which int8 needs for its steps, and which nothing else looks at.

    Raises:
        ValueError: a name has a zero byte, a number is not finite, two encoders differ in more than their channels, the
            precision is unknown, or there are no clips for int8, or they have other joints, persons or channels.
    """
    need(precision in PRECISIONS, f"export: precision must be one of {', '.join(PRECISIONS)}", repr(precision))
    skeleton, data, first = model.skeleton, model.data, model.first_encoder
    folded = fold(model)
    names = [*model.classes, *skeleton.names]
    for name in names:
        need("\0" not in name, "export: names of classes and joints must have no zero byte", repr(name))
    text = b"".join(name.encode() + b"\0" for name in names)
    shapes = {(len(encoder.blocks), len(encoder.blocks[0].adjacency), encoder.segments) for encoder in folded.encoders}
    need(len(shapes) == 1, "export: both encoders must have as many blocks, partitions and segments", shapes)
    prepares = data.pipeline == "asma" and first.config.in_channels == 3
    face = prepares and data.face != "none"
    left, right = joint_pair("export", skeleton, data.face) if face else (0, 0)
    bones = np.array(skeleton.edges, np.uint32)
    steps = _steps(model, folded, clips) if precision == "int8" else None
    sections: list[NDArray[Any]] = [
        np.array([_sizes(block) for encoder in folded.encoders for block in encoder.blocks], np.uint32),
        np.frombuffer(text, np.uint8),
        bones,
        np.array(skeleton.parents, np.uint32),
        *(
            array
            for number, encoder in enumerate(folded.encoders)
            for array in _encoder(encoder, precision, steps[number] if steps else None)
        ),
        *(folded.hidden or ()),
        *folded.head,
    ]
    body = b"".join(_section(section) for section in sections)
    fields = [
        *(first.config.in_channels, data.frames, skeleton.num_joints, data.persons),
        *(len(folded.encoders), len(first.config.channels), len(first.A), first.config.segments),
        *(len(folded.hidden[1]) if folded.hidden else 0, len(model.classes)),
        *(int(prepares), CENTRES.index(data.centre), skeleton.centre, int(face), left, right),
        *(int(data.scale), len(bones), STREAMS.index(data.stream), len(text)),
        PRECISIONS.index(precision),
    ]
    checked = struct.pack("<Q21I20x", HEADER + len(body), *fields) + body
    return MAGIC + struct.pack("<II", FORMAT, zlib.crc32(checked)) + checked


def _sizes(block: FoldedBlock) -> list[int]:
    taps, D, _ = block.conv.shape
    residual = 0 if not block.residual else 1 if block.shortcut is None else 2
    return [block.weight.shape[1], D, taps, block.stride, residual, np.count_nonzero(block.adjacency), 0, 0]


def _steps(model: Classifier, folded: Folded, clips: torch.Tensor | None) -> tuple[tuple[Steps, ...], ...]:
    config, persons = model.first_encoder.config, model.data.persons
    if clips is None or len(clips) == 0:
        raise ValueError("export: int8 needs clips by which its steps are chosen, got none")
    wanted, (_, C, _, V, M) = (config.in_channels, model.skeleton.num_joints, persons), clips.shape
    need(wanted == (C, V, M), f"export: clips must have channels, joints and persons {wanted}", (C, V, M))
    for block in (block for encoder in folded.encoders for block in encoder.blocks):
        K, C, D = block.weight.shape
        summed = K * C * LARGEST_ROW <= MOST_SUMMED and len(block.conv) * D * LARGEST_KEPT <= MOST_SUMMED
        need(summed, "export: int8 must sum at most 8192 products over a graph and 65536 over frames", (K, C, D))
    return calibrate(folded, clips)


def _encoder(encoder: FoldedEncoder, precision: Precision, steps: tuple[Steps, ...] | None) -> Iterator[NDArray[Any]]:
    yield from (encoder.scale, encoder.shift)
    for number, block in enumerate(encoder.blocks):
        K, V, _ = block.adjacency.shape
        # The nonzeros by the joint that they lead to, and then by partition.
        target, partition, source = np.nonzero(block.adjacency.transpose(2, 0, 1))
        cells = np.bincount(target * K + partition, minlength=V * K)
        yield np.concatenate([[0], np.cumsum(cells)]).astype(np.uint32)
        yield source.astype(np.uint32)
        yield block.adjacency[partition, source, target]
        weights = [block.weight, block.conv] + ([] if block.shortcut is None else [block.shortcut])
        stored, of_weights = _stored(weights, precision)
        yield from (stored[0], block.base, stored[1], block.bias, *stored[2:])
        if steps is not None:
            yield from (np.array(steps[number]), *of_weights)


def _stored(weights: list[NDArray[Any]], precision: Precision) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Weights as the file has them, and for int8 the steps of their channels out."""
    if precision == "int8":
        whole, steps = zip(*map(to_int8, weights), strict=True)
        return list(whole), list(steps)
    return [to_bfloat16(weight) for weight in weights] if precision == "bfloat16" else weights, []


def _section(array: NDArray[Any]) -> bytes:
    found = np.ascontiguousarray(array, STORED[array.dtype.name]).tobytes()
    return found + bytes(-len(found) % ALIGNMENT)
