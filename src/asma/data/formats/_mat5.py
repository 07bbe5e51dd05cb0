"""One array of real numbers in a MAT-file of MATLAB 5 to 7.2, read and written.

scipy.io.loadmat reads these files too, but it is not for files that may be damaged: changed bytes make it read outside
of its memory, which ends the program (scipy 1.17: a segmentation fault or a bus error).

Source: MathWorks, MAT-File Format, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_matrix", "write_matrix"]

HEADER = 128
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Of the numbers of an element; doubles that are whole are written as integers."""
REAL_CLASSES = (6, 7)
"""double and single."""
COMPLEX = 0x08
LARGEST = 1 << 26
"""Bytes of an element when it is unpacked."""


class _Element(NamedTuple):
    kind: int
    data: bytes
    at: int


def read_matrix(raw: bytes, name: str) -> NDArray[np.float64]:
    """The array of a name in a MAT-file.

    Raises:
        ValueError: the file is damaged, is HDF5 as MATLAB 7.3 writes it, is larger than 64 MB when unpacked, or has no
            array of real numbers of this name; the message has the byte.
    """
    if raw[:8] == b"\x89HDF\r\n\x1a\n" or raw[:20] == b"MATLAB 7.3 MAT-file ":
        raise ValueError("must be a MAT-file of MATLAB 5 to 7.2, got one of 7.3 (save it with -v7)")
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None:
        raise ValueError("must be a MAT-file of MATLAB 5 to 7.2, got another file")
    for element in _elements(raw, order, HEADER, 0):
        if element.kind == COMPRESSED:
            unpacked = _unpacked(element)
            element = next(_elements(unpacked, order, 0, 0), element)
        if element.kind != MATRIX:
            continue
        parts = _elements(element.data, order, 0, element.at)
        flags, sizes, label = next(parts, None), next(parts, None), next(parts, None)
        if flags is None or sizes is None or label is None or len(flags.data) < 2:
            raise ValueError(f"byte {element.at}: an array must have flags, sizes and a name")
        if label.data.rstrip(b"\0") != name.encode():
            continue
        bits = struct.unpack_from(f"{order}I", flags.data.ljust(4, b"\0"))[0]
        if bits & 0xFF not in REAL_CLASSES or (bits >> 8) & COMPLEX:
            raise ValueError(f"byte {element.at}: {name} must be real numbers, double or single")
        return _numbers(next(parts, None), _sizes(sizes, order), order, name)
    raise ValueError(f"must hold {name}, it does not")


def write_matrix(data: NDArray[np.float64], name: str) -> bytes:
    """A MAT-file with one array of doubles, little-endian and not compressed."""
    flags = struct.pack("<II", REAL_CLASSES[0], 0)
    sizes = struct.pack(f"<{data.ndim}i", *data.shape)
    numbers = np.asarray(data, "<f8").tobytes(order="F")
    body = b"".join(_packed(*part) for part in ((6, flags), (5, sizes), (1, name.encode()), (9, numbers)))
    text = b"MATLAB 5.0 MAT-file, written by asma".ljust(116)
    return text + bytes(8) + struct.pack("<H", 0x0100) + b"IM" + _packed(MATRIX, body)


def _elements(raw: bytes, order: str, at: int, base: int) -> Iterator[_Element]:
    """The elements of a file or an array, from byte `at` on; `base` is where it begins in the file."""
    while at + 8 <= len(raw):
        kind, size = struct.unpack_from(f"{order}II", raw, at)
        begin, step = at + 8, size
        if kind >> 16:  # four bytes or fewer stand in the tag itself
            kind, size, begin, step = kind & 0xFFFF, kind >> 16, at + 4, 0
            if size > 4:
                raise ValueError(f"byte {base + at}: an element in its tag must have at most 4 bytes, got {size}")
        elif size > len(raw) - begin:
            raise ValueError(f"byte {base + at}: {size} bytes must follow, got {len(raw) - begin}")
        yield _Element(kind, raw[begin : begin + size], base + begin)
        at += 8 + step + (-step % 8 if kind != COMPRESSED else 0)


def _unpacked(element: _Element) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(element.data, LARGEST + 1)
    except zlib.error as error:
        raise ValueError(f"byte {element.at}: must be deflated data, but {error}") from None
    if len(data) > LARGEST:
        raise ValueError(f"byte {element.at}: must have at most {LARGEST} bytes when it is unpacked, got more")
    return data


def _sizes(element: _Element, order: str) -> tuple[int, ...]:
    sizes = np.frombuffer(element.data[: len(element.data) // 4 * 4], f"{order}i4").tolist()
    if not 2 <= len(sizes) <= 32 or min(sizes) < 0:
        raise ValueError(f"byte {element.at}: an array must have 2 to 32 sizes from 0, got {sizes[:8]}")
    return tuple(sizes)


def _numbers(element: _Element | None, sizes: tuple[int, ...], order: str, name: str) -> NDArray[np.float64]:
    if element is None or element.kind not in TYPES:
        raise ValueError(f"{name} must have numbers of a known type, it has not")
    dtype = np.dtype(order + TYPES[element.kind])
    if len(element.data) != math.prod(sizes) * dtype.itemsize:
        needed = math.prod(sizes) * dtype.itemsize
        raise ValueError(f"byte {element.at}: {name} of shape {sizes} needs {needed} bytes, got {len(element.data)}")
    return np.frombuffer(element.data, dtype).reshape(sizes, order="F").astype(np.float64)


def _packed(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
