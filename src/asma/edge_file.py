"""The edge engine's model file: csrc/edge/file.h reads it, docs/edge.md describes it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classifier import Classifier
from .config import need
from .data.joints import joint_pair
from .folded import FoldedBlock, FoldedEncoder, fold

__all__ = ["FORMAT", "edge_bytes"]

MAGIC = b"ASMAEDGE"
FORMAT = 1
ALIGNMENT = 64
HEADER = 128
CENTRES, STREAMS = ("none", "frame", "clip"), ("joint", "bone", "motion")


def edge_bytes(model: Classifier) -> bytes:
    """The file of a classifier.

    Raises:
        ValueError: a name has a zero byte, a number is not finite, or two encoders differ in more than their channels.
    """
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
    sections: list[NDArray[Any]] = [
        np.array([_sizes(block) for encoder in folded.encoders for block in encoder.blocks], np.uint32),
        np.frombuffer(text, np.uint8),
        bones,
        np.array(skeleton.parents, np.uint32),
        *(array for encoder in folded.encoders for array in _encoder(encoder)),
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
    ]
    checked = struct.pack("<Q20I24x", HEADER + len(body), *fields) + body
    return MAGIC + struct.pack("<II", FORMAT, zlib.crc32(checked)) + checked


def _sizes(block: FoldedBlock) -> list[int]:
    taps, D, _ = block.conv.shape
    residual = 0 if not block.residual else 1 if block.shortcut is None else 2
    return [block.weight.shape[1], D, taps, block.stride, residual, np.count_nonzero(block.adjacency), 0, 0]


def _encoder(encoder: FoldedEncoder) -> Iterator[NDArray[Any]]:
    yield from (encoder.scale, encoder.shift)
    for block in encoder.blocks:
        K, V, _ = block.adjacency.shape
        # The nonzeros by the joint that they lead to, and then by partition.
        target, partition, source = np.nonzero(block.adjacency.transpose(2, 0, 1))
        cells = np.bincount(target * K + partition, minlength=V * K)
        yield np.concatenate([[0], np.cumsum(cells)]).astype(np.uint32)
        yield source.astype(np.uint32)
        yield block.adjacency[partition, source, target]
        yield from (block.weight, block.base, block.conv, block.bias)
        if block.shortcut is not None:
            yield block.shortcut


def _section(array: NDArray[Any]) -> bytes:
    stored = {np.dtype(np.float64): "<f4", np.dtype(np.uint32): "<u4", np.dtype(np.uint8): "u1"}[array.dtype]
    found = np.ascontiguousarray(array, stored).tobytes()
    return found + bytes(-len(found) % ALIGNMENT)
