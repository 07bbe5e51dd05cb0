"""Arrays in .npy files, and in .npy members of .npz archives: mapped where they lie, never unpickled."""

from __future__ import annotations

import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from asma.data.formats._files import need_file

__all__ = ["StoredArray", "array_in_archive", "array_in_file", "members_of", "write_npy_header"]

KINDS = {"f": "floating point numbers", "iu": "integers", "fiu": "numbers"}
DAMAGED = (ValueError, TypeError, SyntaxError, tokenize.TokenError, EOFError, RecursionError, MemoryError)
"""What NumPy's header parser makes of damaged headers."""
UNPACKABLE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, UnicodeError, struct.error, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
"""What zipfile makes of damaged, encrypted and strange archives."""
INFLATION = 1040
"""Bytes that a deflated byte can become, a little more than the 1032 of zlib's algorithm.txt."""
LONGEST = 1 << 40
"""Entries along an axis; more than any file has."""
RESERVED = 128
"""Bytes of the headers that we write, so that the number of rows can be filled in at the end."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file. Its header was read and fits the file; its numbers have not been looked at.

    Attributes:
        file, member: the .npy, or the .npz and the member's name.
        place: how messages call it.
        offset: of its first number in the file, or in the unpacked member if that is compressed.
    """

    file: Path
    member: str
    place: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int
    compressed: bool

    def mapped(self) -> NDArray[Any]:
        """The array where it lies, if it is not compressed: numbers are read from the disk when they are looked at.

        Raises:
            ValueError, OSError: the file has changed.
        """
        order: Any = "F" if self.fortran else "C"
        if not math.prod(self.shape):
            return np.zeros(self.shape, self.dtype, order)
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order)

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array from its beginning to its end, `rows` rows at a time, so that memory holds one block.

        Raises:
            ValueError, OSError: the file is damaged.
        """
        begins = range(0, self.shape[0], rows)
        if not self.compressed:
            array = self.mapped()
            yield from (np.array(array[begin : begin + rows]) for begin in begins)
            return
        width = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
                stream.read(self.offset)
                for begin in begins:
                    count = min(rows, self.shape[0] - begin)
                    data = stream.read(count * width)
                    if len(data) < count * width:
                        raise ValueError(f"{self.place}: the member must have {self.shape[0]} rows, it ends early")
                    yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
        except UNPACKABLE as error:
            raise ValueError(f"{self.place}: the archive is damaged, {_first_line(error)}") from None


def array_in_file(file: Path, place: str, shape: Sequence[int | None] | None, kinds: str) -> StoredArray:
    """The array of an .npy file.

    Args:
        shape: what it must be, None for any number of an axis, or of all axes.
        kinds: "f" floating point numbers, "iu" integers, or "fiu" both.

    Raises:
        ValueError: it is not an .npy, its header asks for objects or for more than the file has, or the array has
            another shape or type.
        OSError: it cannot be read.
    """
    with open(file, "rb") as stream:
        found, fortran, dtype, offset = _header(stream, os.fstat(stream.fileno()).st_size, place, shape, kinds)
    return StoredArray(file, "", place, found, dtype, fortran, offset, False)


def members_of(file: Path) -> set[str]:
    """Names of the members of an archive.

    Raises:
        ValueError: it is no zip archive, or damaged.
        OSError: it cannot be read.
    """
    need_file(file)
    try:
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except UNPACKABLE as error:
        raise ValueError(f"{file.name}: must be an .npz, which is a zip archive, but {_first_line(error)}") from None


def array_in_archive(
    file: Path, member: str, place: str, shape: Sequence[int | None] | None, kinds: str
) -> StoredArray:
    """The array of a member of an .npz: it can be mapped if it is stored as `np.savez` does.

    Raises:
        ValueError: as `array_in_file`, or the archive or the member is missing, damaged, encrypted, or claims to hold
            more than its bytes can.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if member not in archive.namelist():
                raise ValueError(f"{place}: the archive must have this member, it has none of this name")
            info = archive.getinfo(member)
            packed = info.compress_type == zipfile.ZIP_DEFLATED
            if not packed and info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{place}: the member must be stored or deflated, got method {info.compress_type}")
            if info.file_size > info.compress_size * (INFLATION if packed else 1) + 64 * packed:
                raise ValueError(f"{place}: {info.compress_size} packed bytes cannot hold {info.file_size}")
            with archive.open(info) as stream:
                found, fortran, dtype, offset = _header(stream, info.file_size, place, shape, kinds)
    except UNPACKABLE as error:
        raise ValueError(
            f"{place}: the archive is damaged or of a kind that is not read, {_first_line(error)}"
        ) from None
    if packed and fortran and len(found) > 1:
        raise ValueError(f"{place}: a compressed array must be in C order, got Fortran order")
    offset += 0 if packed else _begin(file, info, place)
    return StoredArray(file, member, place, found, dtype, fortran, offset, packed)


def write_npy_header(stream: IO[bytes], dtype: type, shape: tuple[int, ...]) -> None:
    """A header of 128 bytes, whatever the numbers: it can be written again when the number of rows is known."""
    described = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    text = repr(described).encode()
    stream.write(npy.magic(1, 0) + struct.pack("<H", RESERVED - 10) + text.ljust(RESERVED - 11) + b"\n")


def _header(
    stream: IO[bytes], size: int, place: str, shape: Sequence[int | None] | None, kinds: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} is not one of 1.0 and 2.0")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        found, fortran, dtype = read(stream)
    except DAMAGED as error:
        raise ValueError(f"{place}: must be an .npy array, but {_first_line(error)}") from None
    if dtype.kind not in kinds:
        raise ValueError(f"{place}: must hold {KINDS[kinds]}, got {'objects' if dtype.hasobject else dtype}")
    wants = found if shape is None else shape
    if len(found) != len(wants) or any(want not in (None, have) for want, have in zip(wants, found, strict=True)):
        wanted = ", ".join("any" if number is None else str(number) for number in wants)
        raise ValueError(f"{place}: must be an array of shape ({wanted}), got {found}")
    if not all(0 <= number < LONGEST for number in found):
        raise ValueError(f"{place}: an axis must have 0 to {LONGEST} entries, got shape {found}")
    offset, needed = stream.tell(), math.prod(found) * dtype.itemsize
    if size - offset < needed:
        raise ValueError(f"{place}: shape {found} of {dtype} needs {needed} bytes, got {size - offset}")
    return found, fortran, dtype, offset


def _begin(file: Path, info: zipfile.ZipInfo, place: str) -> int:
    """Where the bytes of a stored member begin in the archive (APPNOTE.TXT 4.3.7)."""
    with open(file, "rb") as archive:
        archive.seek(info.header_offset)
        head = archive.read(30)
        begin = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        if begin + info.file_size > os.fstat(archive.fileno()).st_size:
            raise ValueError(f"{place}: the archive is damaged, the member does not fit it")
    return begin


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
