"""Pickles without their code: plain values and NumPy arrays, and nothing else.

A pickle is a program for a small machine that can call anything. This is such a machine with a handful of calls, all
of them our own: it makes dict, list, tuple, set, str, bytes, int, float, bool and None, and notes of arrays, NumPy
numbers and their types. Whatever else a file asks for is refused by name before anything happens. Python's own
Unpickler with another `find_class` would not do: it calls what it admits, among it NumPy's `__setstate__`, which takes
objects; and it copies every array into memory, where this machine only notes where in the file the array lies, so that
the index of a file of gigabytes takes seconds and megabytes.

Sources: PEP 307, PEP 3154 and PEP 574, and the comments of CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import codecs
import mmap
import pickle
import pickletools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from asma.data.formats._files import need_file
from asma.data.formats._pickled_array import ArrayType, Data, PickledArray, RefusedError, Span

__all__ = ["mapped", "unpickle"]

NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
LONG = 4096
"""Bytes from which a text or bytes stay in the file, noted for an array; a value of this length is refused."""
MOST = 1 << 25
"""Values that a file may ask for; at about 64 bytes each they fit the memory of a laptop, a larger bomb does not."""
SET_WEIGHT = 4

ADMITTED = {
    (f"numpy.{core}.{module}", name): name
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
} | {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{
        (module, name): name
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "bytes", "bytearray")
    },
}
"""What a pickle of arrays and plain values asks for, under the module names of Python 2 and 3 and of NumPy 1 and 2."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One of the calls that are admitted."""

    name: str


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file as `unpickle` takes it; its bytes are read when they are looked at.

    Raises:
        ValueError: it is empty, or no regular file.
        OSError: it cannot be read.
    """
    need_file(path)
    with open(path, "rb") as file:
        if not path.stat().st_size:
            raise ValueError(f"{path.name}: must be a pickle, got an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def unpickle(data: Data, name: str) -> Any:
    """The value of a pickle of protocol 0 to 5, its arrays as `PickledArray`; bytes after its end are ignored.

    Text of Python 2 comes as str if it is ASCII, else as bytes. Keys and items of sets are plain values.

    Args:
        name: how messages call the file.

    Raises:
        ValueError: the file asks for code, for arrays of objects, for another class or for too much memory, or it is
            damaged or ends early; the message has the byte.

    >>> import pickle
    >>> unpickle(pickle.dumps({"a": [1, 2.5, None]}), "example.pkl")
    {'a': [1, 2.5, None]}
    >>> unpickle(b"cos\\nsystem\\n.", "a.pkl")
    Traceback (most recent call last):
    ValueError: a.pkl: byte 0: asks for os.system, which is code; only NumPy arrays and plain values are read
    """
    machine = _Machine(data)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error, AttributeError) as error:
        if isinstance(error, RefusedError):
            raise ValueError(f"{name}: byte {machine.at}: {error}") from None
        opcode = NAMES.get(data[machine.at], "unknown") if machine.at < len(data) else "end"
        raise ValueError(f"{name}: byte {machine.at}: must be a pickle, opcode {opcode} does not fit there") from None


class _Machine:
    def __init__(self, data: Data) -> None:
        self._data, self._size = data, len(data)
        self.at = self._next = 0
        self._left = MOST
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._unfinished = 0
        self._done = False
        self._long: set[int] = set()

    def run(self) -> Any:
        data, size, opcodes = self._data, self._size, _OPCODES
        while not self._done:
            self.at = at = self._next
            if at >= size:
                self._refuse("ends early, a pickle ends with STOP")
            self._next = at + 1
            self._left -= 1
            if self._left < 0:
                self._refuse(f"asks for more than {MOST} values")
            act = opcodes.get(data[at])
            if act is None:
                self._refuse(f"asks for what opcode {NAMES.get(data[at], data[at])} does, which is code or unknown")
            act(self)
        return self._pop()

    def _refuse(self, what: str) -> NoReturn:
        raise RefusedError(what)

    # Reading the file

    def _take(self, count: int) -> bytes:
        return self._data[self._skip(count) : self._next]

    def _skip(self, count: int) -> int:
        """Pass over bytes; where they begin."""
        begin = self._next
        if not 0 <= count <= self._size - begin:
            self._refuse(f"ends early, {count} bytes must follow, got {self._size - begin}")
        self._next = begin + count
        return begin

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._next)
        return self._take(end + 1 - self._next)[:-1] if end >= 0 else self._refuse("ends early, a line must follow")

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    # Values

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError
        return self._stack.pop()

    def _since_mark(self) -> list[Any]:
        begin = self._marks.pop()
        items = self._stack[begin:]
        del self._stack[begin:]
        return items

    def _integer(self, value: int) -> None:
        if not -(1 << 63) <= value < 1 << 64:
            self._refuse("asks for an integer of more than 64 bits")
        self._push(value)

    def _long_integer(self, width: int) -> None:
        if width > 9:
            self._refuse("asks for an integer of more than 64 bits")
        self._integer(int.from_bytes(self._take(width), "little", signed=True))

    def _integer_line(self) -> None:
        line = self._line()
        if line in (b"00", b"01"):
            return self._push(line == b"01")
        if len(line) > 21:
            self._refuse("asks for an integer of more than 64 bits")
        self._integer(int(line.rstrip(b"L")))

    def _blob(self, count: int, text: bool, old: bool = False) -> None:
        """Bytes (or, with `text`, UTF-8) of a given length; `old` is Python 2's str, which is either."""
        if count > LONG:
            begin = self._skip(count)
            span = Span(begin, begin + count, text)
            self._long.add(begin)
            return self._push(span)
        raw = self._take(count)
        if text:
            return self._push(raw.decode("utf-8", "surrogatepass"))
        self._push(raw.decode("ascii") if old and raw.isascii() else raw)

    def _string_line(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise ValueError
        raw = codecs.escape_decode(line[1:-1])[0]
        self._push(raw.decode("ascii") if raw.isascii() else raw)

    def _heavy(self, value: Any) -> None:
        self._left -= SET_WEIGHT
        self._push(value)

    # Containers

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise TypeError
        target.update(map(self._key, items))

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        for at in range(0, len(items), 2):
            target[self._key(items[at])] = items[at + 1]

    def _dict(self) -> None:
        items = self._since_mark()
        self._push({})
        self._set_items(items)

    def _key(self, value: Any) -> Any:
        # Plain values only: the hash of a deep tuple overflows the stack of the C program that Python is.
        if not isinstance(value, str | bytes | int | float | None):
            self._refuse(f"asks for a key of type {type(value).__name__.strip('_')}, keys are plain values")
        return value

    def _append(self) -> None:
        item = self._pop()
        self._extend([item])

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _pop_or_mark(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._pop()

    # Calls

    def _global(self, module: str, name: str) -> None:
        call = ADMITTED.get((module, name))
        if call is None:
            asked = ascii(f"{module}.{name}"[:120])[1:-1]
            self._refuse(f"asks for {asked}, which is code; only NumPy arrays and plain values are read")
        self._push(_Call(call))

    def _global_line(self) -> None:
        module, name = self._line(), self._line()
        self._global(module.decode("utf-8"), name.decode("utf-8"))

    def _instance_line(self) -> None:
        self._global_line()
        self._refuse(f"asks to make an object of {self._pop().name}")

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self._global(module, name)

    def _reduce(self) -> None:
        arguments, call = self._pop(), self._pop()
        if not isinstance(call, _Call) or type(arguments) is not tuple:
            raise TypeError
        if call.name in ("set", "frozenset"):
            (items,) = arguments or ([],)
            if type(items) is not list:
                raise TypeError
            return self._heavy(set(map(self._key, items)))
        if call.name in ("bytes", "bytearray", "encode"):
            return self._push(self._bytes(arguments))
        if call.name == "dtype":
            return self._push(ArrayType.named(arguments[0]))
        if call.name == "scalar":
            dtype, payload = arguments
            return self._push(ArrayType.number(dtype, payload))
        array = PickledArray()
        if call.name == "_reconstruct" and arguments[0] == _Call("ndarray"):
            self._unfinished += 1
            return self._push(array)
        if call.name != "_frombuffer":
            self._refuse(f"asks to call {call.name}, which is not how arrays are pickled")
        payload, dtype, shape, order = arguments
        self._fill(array, shape, dtype, order == "F", payload)
        self._push(array)

    def _bytes(self, arguments: tuple[Any, ...]) -> bytes | Span:
        """Bytes that Python 3 had to write as text (or nothing at all) in protocols below 3."""
        if len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
            text = arguments[0]
            if isinstance(text, Span) and text.coded:
                return text
            return str.encode(text, "latin-1")
        (raw,) = arguments or (b"",)
        if not isinstance(raw, bytes | Span):
            raise TypeError
        return raw

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if type(state) is tuple and isinstance(target, ArrayType):
            target.build(state)
        elif type(state) is tuple and isinstance(target, PickledArray) and target.dtype is None:
            self._fill(target, *state[-4:])
            self._unfinished -= 1
        else:
            self._refuse("asks to change an object, which only arrays and their types need")

    def _fill(self, array: PickledArray, shape: Any, dtype: Any, fortran: Any, payload: Any) -> None:
        array.build(shape, dtype, bool(fortran), payload)
        if isinstance(payload, Span):
            self._long.discard(payload.begin)

    def _stop(self) -> None:
        if len(self._stack) != 1 or self._marks or self._unfinished:
            raise ValueError
        if self._long:
            self._refuse(f"holds a text or bytes longer than {LONG} outside an array")
        self._done = True

    # The rest

    def _protocol(self) -> None:
        if self._take(1)[0] > pickle.HIGHEST_PROTOCOL:
            self._refuse(f"must be of protocol 0 to {pickle.HIGHEST_PROTOCOL}")

    def _frame(self) -> None:
        count = self._unsigned(8)
        self._skip(count)
        self._next -= count

    def _put(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _get(self, key: int) -> None:
        self._push(self._memo[key])


def _opcodes() -> dict[int, Callable[[_Machine], Any]]:
    """What each opcode does; those that are not here are refused."""
    m = _Machine
    table: dict[str, Callable[[_Machine], Any]] = {
        "PROTO": m._protocol, "FRAME": m._frame, "STOP": m._stop, "MARK": lambda s: s._marks.append(len(s._stack)),
        "POP": m._pop_or_mark, "POP_MARK": m._since_mark, "DUP": lambda s: s._push(s._stack[-1]),
        "NONE": lambda s: s._push(None), "NEWTRUE": lambda s: s._push(True), "NEWFALSE": lambda s: s._push(False),
        "INT": m._integer_line, "LONG": m._integer_line,
        "BININT": lambda s: s._push(struct.unpack("<i", s._take(4))[0]),
        "BININT1": lambda s: s._push(s._unsigned(1)), "BININT2": lambda s: s._push(s._unsigned(2)),
        "LONG1": lambda s: s._long_integer(s._unsigned(1)), "LONG4": lambda s: s._long_integer(s._unsigned(4)),
        "FLOAT": lambda s: s._push(float(s._line())),
        "BINFLOAT": lambda s: s._push(struct.unpack(">d", s._take(8))[0]),
        "STRING": m._string_line, "UNICODE": lambda s: s._push(s._line().decode("raw-unicode-escape")),
        "BINSTRING": lambda s: s._blob(s._unsigned(4), False, True),
        "SHORT_BINSTRING": lambda s: s._blob(s._unsigned(1), False, True),
        "BINBYTES": lambda s: s._blob(s._unsigned(4), False), "BINBYTES8": lambda s: s._blob(s._unsigned(8), False),
        "SHORT_BINBYTES": lambda s: s._blob(s._unsigned(1), False),
        "BYTEARRAY8": lambda s: s._blob(s._unsigned(8), False),
        "BINUNICODE": lambda s: s._blob(s._unsigned(4), True), "BINUNICODE8": lambda s: s._blob(s._unsigned(8), True),
        "SHORT_BINUNICODE": lambda s: s._blob(s._unsigned(1), True),
        "EMPTY_LIST": lambda s: s._push([]), "EMPTY_DICT": lambda s: s._push({}), "EMPTY_TUPLE": lambda s: s._push(()),
        "EMPTY_SET": lambda s: s._heavy(set()), "FROZENSET": lambda s: s._heavy(set(map(s._key, s._since_mark()))),
        "LIST": lambda s: s._push(s._since_mark()), "TUPLE": lambda s: s._push(tuple(s._since_mark())),
        "TUPLE1": lambda s: s._tuple(1), "TUPLE2": lambda s: s._tuple(2), "TUPLE3": lambda s: s._tuple(3),
        "DICT": m._dict, "APPEND": m._append, "APPENDS": lambda s: s._extend(s._since_mark()),
        "SETITEM": m._set_item, "SETITEMS": lambda s: s._set_items(s._since_mark()),
        "ADDITEMS": lambda s: s._add(s._since_mark()),
        "PUT": lambda s: s._put(int(s._line())), "BINPUT": lambda s: s._put(s._unsigned(1)),
        "LONG_BINPUT": lambda s: s._put(s._unsigned(4)), "MEMOIZE": lambda s: s._put(len(s._memo)),
        "GET": lambda s: s._get(int(s._line())), "BINGET": lambda s: s._get(s._unsigned(1)),
        "LONG_BINGET": lambda s: s._get(s._unsigned(4)),
        "GLOBAL": m._global_line, "STACK_GLOBAL": m._stack_global, "INST": m._instance_line,
        "REDUCE": m._reduce, "BUILD": m._build,
    }  # fmt: skip
    codes = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
    return {codes[name]: act for name, act in table.items()}


_OPCODES = _opcodes()
