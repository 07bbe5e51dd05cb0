"""Pickles without their code: what is read, and what is refused, by name and before anything happens."""

import builtins
import collections
import datetime
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data.formats import _unpickle
from asma.data.formats._pickled_array import PickledArray
from asma.data.formats._unpickle import mapped, unpickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
all_protocols = pytest.mark.parametrize("protocol", PROTOCOLS)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
    | st.sets(st.integers(-9, 9) | st.text(max_size=2), max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values_come_back(value, protocol):
    assert unpickle(pickle.dumps(value, protocol), "f.pkl") == value


@settings(deadline=None)
@given(
    dtype=st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "u2", "i8", "?", "S3", "U2"]),
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.sampled_from("CF"),
    protocol=st.sampled_from(PROTOCOLS),
    times=st.sampled_from([1, 5000]),
)
def test_arrays_come_back(dtype, shape, order, protocol, times):
    """Also where they are longer than what is kept in memory."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    if array.size and array.ndim:
        array = np.asarray(np.concatenate([array] * times), order=order)
    data = pickle.dumps({"a": array, "again": [array]}, protocol)
    found = unpickle(data, "f.pkl")
    read = found["a"].read(data)
    assert isinstance(found["a"], PickledArray) and read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(found["again"][0].read(data), array)


@all_protocols
def test_numpy_numbers_are_numbers(protocol):
    values = [np.float32(1.5), np.int64(-7), np.bool_(True), np.float16(0.25), np.uint8(255)]
    found = unpickle(pickle.dumps(values, protocol), "f.pkl")
    assert found == [1.5, -7, True, 0.25, 255] and all(type(one) in (float, int, bool) for one in found)


def test_modules_of_numpy_1_and_2():
    data = pickle.dumps(np.arange(3.0), 2)
    for one, other in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        renamed = data.replace(one, other)
        np.testing.assert_array_equal(unpickle(renamed, "f.pkl").read(renamed), np.arange(3.0))


def test_text_of_python_2():
    """`pickle.dumps((['S001'], [3]), 2)` and protocol 0 there, and bytes that are no ASCII."""
    assert unpickle(b"\x80\x02]q\x00U\x04S001q\x01a]q\x02K\x03a\x86q\x03.", "f.pkl") == (["S001"], [3])
    assert unpickle(b"((lp0\nS'S001'\np1\na(lp2\nI3\nat.", "f.pkl") == (["S001"], [3])
    assert unpickle(b"U\x02\xffa.", "f.pkl") == b"\xffa"


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


CODE = {
    "posix.system": (os.system, "touch evil"),
    "builtins.eval": (eval, "1"),
    "builtins.exec": (exec, "1"),
    "builtins.getattr": (getattr, "a", "upper"),
    "subprocess.Popen": (subprocess.Popen, ["touch", "evil"]),
    "builtins.__import__": (__import__, "os"),
    "io.open": (builtins.open, "evil", "w"),
    "collections.OrderedDict": (collections.OrderedDict,),
    "datetime.date": (datetime.date, 2000, 1, 1),
    "_pickle.loads": (pickle.loads, b"N."),
}


@all_protocols
@pytest.mark.parametrize("name", CODE)
def test_code_is_named_and_does_not_run(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = Evil(*CODE[name])
    for value in (evil, [1, {"a": evil}], (evil, np.arange(3))):
        with pytest.raises(ValueError) as caught:
            unpickle(pickle.dumps(value, protocol), "f.pkl")
        said = str(caught.value)
        assert said.startswith("f.pkl: byte ")
        # Protocols below 3 call modules as Python 2 did: cPickle, commands, __builtin__.
        assert re.search(rf"asks for [\w.]+\.{name.rpartition('.')[2]}, which is code", said), said
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    "a class by INST": (b"(ios\nsystem\n.", "asks for os.system"),
    "numpy, but not this": (b"cnumpy\nload\n.", "asks for numpy.load"),
    "deep in NumPy": (b"cnumpy.core.multiarray\nfromfile\n.", "asks for numpy.core.multiarray.fromfile"),
    "an attribute of what is admitted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "ndarray.tofile"),
    "module that is no text": (b"\x80\x04K\x01K\x02\x93.", "opcode STACK_GLOBAL"),
    "escape codes": (b"c\x1b[31m\nred\n.", "asks for \\x1b[31m.red,"),
    "extension registry": (b"\x80\x02\x82\x01.", "opcode EXT1"),
    "persistent id": (b"P42\n.", "opcode PERSID"),
    "out-of-band buffer": (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
    "new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
    "unknown opcode": (b"\xff.", "opcode 255"),
    "protocol of the future": (b"\x80\x09N.", "must be of protocol 0 to 5"),
    "ndarray called": (b"cnumpy\nndarray\n(K\x01tR.", "asks to call ndarray"),
    "reconstruct another class": (b"cnumpy.core.multiarray\n_reconstruct\n(NK\x00\x85U\x01btR.", "asks to call"),
    "array of objects": (b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR.", "asks for an array of objects, which can be code"),
    "array of void": (b"cnumpy\ndtype\n(U\x02V8K\x00K\x01tR.", "neither numbers nor text"),
    "array of fields": (b"cnumpy\ndtype\n(U\x05f4,f4K\x00K\x01tR.", "neither numbers nor text"),
    "wide type": (b"cnumpy\ndtype\n(U\x0bS1000000000K\x00K\x01tR.", "neither numbers nor text"),
    "change a dict": (b"}(tb.", "asks to change an object"),
    "state that is a dict": (b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR}b.", "asks to change an object"),
    "array never filled": (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR.", "STOP"),
    "number of the wrong size": (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f4tRU\x01xtR.", "REDUCE"),
    "list as a key": (b"}]Ns.", "asks for a key of type list"),
    "tuple as a key": (b"})Ns.", "asks for a key of type tuple"),
    "huge integer": (b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".", "more than 64 bits"),
    "huge integer of text": (b"L" + b"9" * 100_000 + b"L\n.", "more than 64 bits"),
    "length beyond the file": (b"\x80\x03B\xff\xff\xff\xffabc.", "ends early, 4294967295 bytes must follow"),
    "length of 2^63": (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "ends early"),
    "frame beyond the file": (b"\x80\x04\x95\xff\xff\x00\x00\x00\x00\x00\x00N.", "ends early"),
    "empty stack": (b".", "opcode STOP"),
    "mark of nothing": (b"t.", "opcode TUPLE does not fit"),
    "two values": (b"NN.", "opcode STOP"),
    "memo of nothing": (b"h\x07.", "opcode BINGET"),
    "append to a tuple": (b")Na.", "opcode APPEND"),
    "no end": (b"N", "ends early, a pickle ends with STOP"),
    "no UTF-8": (b"\x80\x04\x8c\x02\xff\xfe.", "SHORT_BINUNICODE"),
    "long bytes outside an array": (b"\x80\x03B\x88\x13\x00\x00" + bytes(5000) + b".", "outside an array"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles(case):
    data, message = HOSTILE[case]
    with pytest.raises(ValueError, match="^f.pkl: byte [0-9]+: ") as caught:
        unpickle(data, "f.pkl")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert all(character.isprintable() for character in str(caught.value))


SHELL = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"


@pytest.mark.parametrize("shape", [(10**12,), (3, 10**9), (-3,), (2**62, 2**62), (True,), ("a",), [3], 3, (1,) * 40])
def test_arrays_that_claim_more_than_they_have(shape):
    parts = (pickle.dumps(part, 2)[2:-1] for part in (1, shape, np.dtype("f4"), False))
    with pytest.raises(ValueError, match="f.pkl: byte"):
        unpickle(SHELL + b"(" + b"".join(parts) + b"U\x0cabcabcabcabctb.", "f.pkl")


def test_a_billion_laughs_is_as_small_as_its_file():
    """Lists of the list before, twice: 2 ** 100 items if somebody unfolded them."""
    opcodes = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (at, at, at + 1) for at in range(100))
    tracemalloc.start()
    found = unpickle(opcodes + b"0" * 100 + b".", "f.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [] and peak < 1_000_000


def test_values_without_end(monkeypatch):
    """One byte asks for a set of 200: the file's size alone is no bound."""
    monkeypatch.setattr(_unpickle, "MOST", 1_000_000)
    with pytest.raises(ValueError, match="asks for more than 1000000 values"):
        unpickle(b"(" + b"\x8f" * 300_000 + b"t.", "f.pkl")


def test_depth():
    """Nothing here calls itself: a pickle's depth is that of its file, and Python's stack is not touched."""
    assert type(unpickle(b"]" * 50_000 + b"a" * 49_999 + b".", "f.pkl")) is list
    tuples = b")" + b"\x85" * 50_000
    assert type(unpickle(b"\x80\x02" + tuples + b".", "f.pkl")) is tuple
    with pytest.raises(ValueError, match="asks for a key of type tuple"):
        unpickle(b"\x80\x02}" + tuples + b"Ns.", "f.pkl")


@all_protocols
def test_truncated_at_every_byte_and_changed_bytes(protocol):
    value = {
        "split": {"train": ["a", "b"]},
        "annotations": [{"keypoint": np.ones((1, 2, 3, 2), np.float16), "label": 3}],
    }
    data = pickle.dumps(value, protocol)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="^f.pkl: byte"):
            unpickle(data[:length], "f.pkl")
    rng = np.random.default_rng(protocol)
    for _ in range(1500):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 2):
            changed[at] = rng.integers(0, 256)
        try:
            unpickle(bytes(changed), "f.pkl")
        except ValueError as error:
            assert str(error).startswith("f.pkl: byte ") and "\n" not in str(error)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes(data):
    try:
        unpickle(data, "f.pkl")
    except ValueError as error:
        assert str(error).startswith("f.pkl: byte ")


def test_a_mapped_file_keeps_its_arrays_on_the_disk(tmp_path):
    array = np.arange(3_000_000, dtype=np.float32)
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps([array, array[:5]], protocol))
        tracemalloc.start()
        with mapped(path) as data:
            large, small = unpickle(data, path.name)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 1_000_000
            np.testing.assert_array_equal(large.read(data), array)
            np.testing.assert_array_equal(small.read(data), array[:5])
        # As other processes get them.
        with mapped(path) as data:
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(large)).read(data), array)


def test_an_empty_file(tmp_path):
    (tmp_path / "f.pkl").touch()
    with pytest.raises(ValueError, match="f.pkl: must be a pickle, got an empty file"), mapped(tmp_path / "f.pkl"):
        pass


def test_latin_1_payload_of_the_wrong_length():
    """Bytes of protocol 2 are UTF-8: 5000 characters that are 6000 bytes are not 6000 numbers."""
    array = np.full(6000, 200, np.uint8)
    array[:4000] = 7
    data = pickle.dumps(array, 2)
    assert struct.pack("<I", 8000) in data and sys.byteorder == "little"
    changed = data.replace(b"M\x70\x17\x85", b"M\x40\x1f\x85")
    assert changed != data
    found = unpickle(changed, "f.pkl")
    with pytest.raises(ValueError, match="must have shape"):
        found.read(changed)
