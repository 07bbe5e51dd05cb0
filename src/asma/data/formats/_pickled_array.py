"""What a pickle says of NumPy arrays, their types and single numbers, without making any of them."""

from __future__ import annotations

import math
import mmap
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayType", "Data", "PickledArray", "RefusedError", "Span"]

Data = bytes | mmap.mmap
"""A file, in memory or mapped."""
ARRAY_TYPE = re.compile(r"(b1|[iuf][1248]|[SU]\d{1,5})")
MOST_AXES = 32


class RefusedError(ValueError):
    """What a pickle asks for and does not get, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """A long text (`coded`) or bytes, left in the file."""

    begin: int
    end: int
    coded: bool


@dataclass(slots=True)
class ArrayType:
    """A type of arrays, whose byte order a later opcode sets."""

    dtype: np.dtype[Any]

    @classmethod
    def named(cls, code: Any) -> ArrayType:
        """The type of a code as "f4"."""
        if not isinstance(code, str) or not ARRAY_TYPE.fullmatch(code):
            objects = isinstance(code, str) and code[:1] == "O"
            what = "objects, which can be code" if objects else "what is neither numbers nor text"
            raise RefusedError(f"asks for an array of {what}")
        return cls(np.dtype(code))

    def build(self, state: tuple[Any, ...]) -> None:
        """Set the byte order from NumPy's state (version, order, subtype, names, fields, ...)."""
        if any(part is not None for part in state[2:5]) or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("asks for an array of structures")
        self.dtype = self.dtype.newbyteorder(state[1])

    def number(self, payload: Any) -> Any:
        """A single number, as Python has it."""
        raw = payload.encode("latin-1") if isinstance(payload, str) else payload
        if not isinstance(raw, bytes) or len(raw) != self.dtype.itemsize:
            raise TypeError
        return np.frombuffer(raw, self.dtype)[0].item()


@dataclass(slots=True)
class PickledArray:
    """An array of a pickle: where its numbers are, not the numbers.

    Attributes:
        dtype: None until the pickle has told it.
        begin, end: its bytes in the file, unless `inline` has them.
        coded: the bytes are UTF-8 of Latin-1, as Python 3 writes bytes in protocols below 3.
    """

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None
    fortran: bool = False
    begin: int = 0
    end: int = 0
    coded: bool = False
    inline: bytes | None = None

    def build(self, shape: Any, dtype: Any, fortran: bool, payload: Any) -> None:
        """Take what the pickle tells; its bytes must be those of the shape and type."""
        if isinstance(payload, list):
            raise RefusedError("asks for an array of objects, which can be code")
        if type(shape) is not tuple or not all(type(number) is int and number >= 0 for number in shape):
            raise TypeError
        if not isinstance(dtype, ArrayType) or len(shape) > MOST_AXES:
            raise TypeError
        self.shape, self.dtype, self.fortran = shape, dtype.dtype, fortran
        if isinstance(payload, Span):
            self.begin, self.end, self.coded = payload.begin, payload.end, payload.coded
            found = payload.end - payload.begin
        else:
            self.inline = payload.encode("latin-1") if isinstance(payload, str) else bytes.__add__(payload, b"")
            found = len(self.inline)
        needed = math.prod(shape) * self.dtype.itemsize
        if not needed <= found <= needed * (1 + self.coded):
            raise RefusedError(f"asks for an array of shape {str(shape)[:80]}, {needed} bytes, got {found}")

    def read(self, data: Data) -> NDArray[Any]:
        """The array, given the file as `unpickle` had it.

        Raises:
            ValueError: the bytes are not those of the shape and type.
        """
        raw = data[self.begin : self.end] if self.inline is None else self.inline
        try:
            raw = raw.decode("utf-8").encode("latin-1") if self.coded else raw
            return np.frombuffer(raw, self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        except ValueError:  # UnicodeError too
            raise ValueError(f"the array at byte {self.begin} must have shape {self.shape}, its bytes do not") from None
