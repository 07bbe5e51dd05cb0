"""The C++ parser of .skeleton text: the numbers it gives, what it puts up with, and how it refuses the rest."""

import math
import os
import re
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ntu_text import SENSOR_ID, body_lines, joint_line, pose, text

host = pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")

SENTENCE = re.compile(r"line [1-9]\d*: [ -~]+, got [ -~]+")
PLAIN = text([[(SENSOR_ID, pose(0)), (SENSOR_ID + 1, pose(1))], [], [(SENSOR_ID + 1, pose(2))]])


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Parses one text: (frames, frame, id, xyz) or the sentence."""
    file = tmp_path_factory.mktemp("ntu") / "S001C001P001R001A001.skeleton"

    def read(content):
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        (result,) = host.read_ntu_skeletons([os.fsencode(file)])
        return result

    return read


def bits(array):
    return np.asarray(array, np.float32).view(np.uint32).tolist()


def float32_of(word):
    """What the parser is to make of it: float(), rounded to float32; None where it is to refuse."""
    with np.errstate(over="ignore"):
        number = np.float32(float(word))
    return None if np.isinf(number) else number


def one_body(numbers):
    return "\n".join(["1", "1", *body_lines(numbers)]) + "\n"


def test_what_a_file_holds(read):
    frames, frame, id, xyz = read(PLAIN)
    assert frames == 3
    assert frame.tolist() == [0, 0, 2] and frame.dtype == np.int32
    assert id.tolist() == [SENSOR_ID, SENSOR_ID + 1, SENSOR_ID + 1] and id.dtype == np.uint64
    expected = [[[float(f"{number:.7g}") for number in joint] for joint in pose(seed)] for seed in range(3)]
    assert xyz.dtype == np.float32 and xyz.shape == (3, 25, 3)
    assert np.array_equal(xyz, np.array(expected, np.float32))


def test_ids_of_64_bits(read):
    ids = [0, 1, 2**63, 2**64 - 1]
    assert read(text([[(id, pose()) for id in ids]]))[2].tolist() == ids


@pytest.mark.parametrize("content", ["0", "0\n", "0\r\n\r\n", "2\n0\n0\n", " 2 \n\t0\n0"])
def test_files_without_a_body(read, content):
    frames, frame, id, xyz = read(content)
    assert frames == int(content.split()[0])
    assert frame.shape == id.shape == (0,) and xyz.shape == (0, 25, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.rstrip(),
        lambda text: text + "\r\n\r\n  \n\n",
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace(" ", "   "),
        lambda text: text.replace("\r\n", "  \r\n \t"),
        lambda text: text.replace(" 1036.233", " " + "1036." + "2" * 300),
        lambda text: text.replace(" 277.419 191.8218", " -inf nan"),
    ],
    ids=["LF", "no last newline", "blank lines", "BOM", "tabs", "wide", "trailing", "long lines", "hidden numbers"],
)
def test_the_same_in_other_words(read, change):
    plain, changed = read(PLAIN), read(change(PLAIN))
    assert not isinstance(changed, str), changed
    assert all(np.array_equal(one, other) for one, other in zip(plain, changed, strict=True))


numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-10, 10).map(lambda x: f"{x:.7g}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-100, 100, places=12).map(str),
    st.from_regex(r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(["0", "-0.0", "1e309", "-1e400", "1e-400", "3.4028235e38", "3.4028236e38", "3.4028235677973366e38",
                     "1.401298464324817e-45", "7e-46", "16777217", "0." + "0" * 500 + "1", "1" + "0" * 500, "1e39",
                     "0e99999999999999999999", "1e-99999999999999999999", "9007199254740993", "+5.", "000001.5"]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(words=st.lists(numbers, min_size=75, max_size=75))
def test_numbers_are_those_of_float_in_float32(read, words):
    expected = [float32_of(word) for word in words]
    result = read(one_body([words[place : place + 3] for place in range(0, 75, 3)]))
    if None in expected:
        first = expected.index(None)
        rule = f"line {5 + first // 3}: {'xyz'[first % 3]} must be nan or a number that float32 can hold, got "
        assert result.startswith(rule) and words[first][:40] in result
    else:
        assert bits(result[3].ravel()) == bits(expected)


def test_numbers_between_two_float32(read):
    """Midpoints, and the doubles beside them: rounded twice, as Python does, not once from the decimals."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0.01, 9, 25).astype(np.float32)
    middle = (low.astype(np.float64) + np.nextafter(low, np.float32(99)).astype(np.float64)) / 2
    words = [[repr(m), repr(np.nextafter(m, 0).item()), f"{m:.30f}1"] for m in middle.tolist()]
    assert bits(read(one_body(words))[3].ravel()) == bits([float32_of(word) for line in words for word in line])


@pytest.mark.parametrize("word", ["nan", "NaN", "-nan", "+NAN"])
def test_nan_is_kept(read, word):
    xyz = read(one_body([[word, "1", "2"]] * 25))[3]
    assert np.isnan(xyz[..., 0]).all() and (xyz[..., 1:] == [1, 2]).all()


@pytest.mark.parametrize(
    "word", ["inf", "-inf", "Infinity", "1e309", "-1e39", "3.5e38", "0x10", "1_000", "1,5", "1e", "e5", ".", "-", "+-1",
             "--1", "1.2.3", "1-2", "nan0", "nano", "1.5f", "-1.#IND", "\u0661", "1.2345678x", "0.123456789-", "1e+"]
)  # fmt: skip
def test_what_is_no_coordinate(read, word):
    result = read(one_body([["1", "2", word]] * 25))
    shown = "".join(c if c.isascii() else "".join(rf"\x{byte:02x}" for byte in c.encode()) for c in word)
    assert result == f"line 5: z must be nan or a number that float32 can hold, got '{shown}'"


BODY = f"{SENSOR_ID} 0 0 0 0 0 0 0 0 2"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "line 1: the number of frames must be an integer in [0, 1000000], got the end of the file"),
        ("\n", "line 1: the number of frames must be an integer in [0, 1000000], got ''"),
        ("-1\n", "line 1: the number of frames must be an integer in [0, 1000000], got '-1'"),
        ("1000001\n", "line 1: the number of frames must be an integer in [0, 1000000], got '1000001'"),
        ("9" * 400, f"line 1: the number of frames must be an integer in [0, 1000000], got '{'9' * 40}...'"),
        ("3.0\n", "line 1: the number of frames must be an integer in [0, 1000000], got '3.0'"),
        ("3 4\r\n", "line 1: the number of frames must be an integer in [0, 1000000], got '3 4'"),
        ("\x1b[2J\n", "line 1: the number of frames must be an integer in [0, 1000000], got '\\x1b[2J'"),
        ("2\n0\n", "line 3: the number of bodies must be an integer in [0, 64], got the end of the file"),
        ("1\n-3\n", "line 2: the number of bodies must be an integer in [0, 64], got '-3'"),
        ("1\n65\n", "line 2: the number of bodies must be an integer in [0, 64], got '65'"),
        ("1\n18446744073709551617\n",
         "line 2: the number of bodies must be an integer in [0, 64], got '18446744073709551617'"),
        ("1\n1\n1 2 3\n", "line 3: a body must have 10 numbers, got 3"),
        ("1\n1\n", "line 3: a body must have 10 numbers, got the end of the file"),
        (f"1\n1\n-{BODY}\n", f"line 3: the id of a body must be an integer in [0, 2^64), got '-{SENSOR_ID}'"),
        (f"1\n1\n7.2e16 {BODY[18:]}\n", "line 3: the id of a body must be an integer in [0, 2^64), got '7.2e16'"),
        (f"1\n1\n{BODY}\n20\n", "line 4: the number of joints must be 25, got '20'"),
        (f"1\n1\n{BODY}\n25\n1 2 3\n", "line 5: a joint must have 12 numbers, got 3"),
        (f"1\n1\n{BODY}\n25\n{joint_line(1, 2, 3)} 4\n", "line 5: a joint must have 12 numbers, got 13"),
        (one_body([["1", "2", "3"]] * 25) + "\n7\n", "line 31: nothing may follow the last frame, got '7'"),
        ("0\n\n\n \nx\n", "line 5: nothing may follow the last frame, got 'x'"),
    ],
)  # fmt: skip
def test_refusals_name_the_line_the_rule_and_what_was_found(read, content, sentence):
    assert read(content) == sentence


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused(read, encoding):
    result = read(PLAIN.encode(encoding))
    assert SENTENCE.fullmatch(result)
    assert encoding != "utf-16" or result == "line 1: the text must be ASCII or UTF-8, got UTF-16"


def test_truncated_at_every_byte(read, tmp_path):
    """Either the last newline alone is gone, or it is refused where the text ends."""
    content = text([[(1, pose()), (2, pose(1))], [(2, pose(3))]]).encode()
    paths = []
    for length in range(len(content)):
        paths.append(tmp_path / f"{length}")
        paths[-1].write_bytes(content[:length])
    results = host.read_ntu_skeletons([os.fsencode(path) for path in paths], 2)
    whole = read(content)
    for length, result in enumerate(results):
        if content[length:] in (b"\r\n", b"\n"):
            assert all(np.array_equal(one, other) for one, other in zip(result, whole, strict=True))
        else:
            assert SENTENCE.fullmatch(result), (length, result)
            lines = content[:length].count(b"\n")
            assert int(result.split()[1][:-1]) in (lines + 1, lines + 2)


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=400), st.text("0123456789 .-+enNaA\r\n\t", max_size=400).map(str.encode)))
def test_random_bytes_end_in_a_sentence(read, content):
    result = read(content)
    assert not isinstance(result, str) or SENTENCE.fullmatch(result), result


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(PLAIN) - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_never_makes_another_clip_of_it(read, place, byte):
    """Refused with a sentence, or as many bodies as before."""
    content = bytearray(PLAIN.encode())
    content[place] = byte
    result = read(bytes(content))
    if isinstance(result, str):
        assert SENTENCE.fullmatch(result), result
    else:
        assert result[0] == 3 and result[3].shape == (3, 25, 3)


def test_a_count_is_not_trusted_with_memory(read):
    """A million frames are announced, none is there."""
    assert read("1000000\n") == "line 2: the number of bodies must be an integer in [0, 64], got the end of the file"


def test_what_is_no_file_of_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with open(tmp_path / "bomb", "wb") as file:
        file.truncate((1 << 30) + 1)
    (tmp_path / "secret").write_text(PLAIN)
    (tmp_path / "secret").chmod(0)
    names = ["pipe", "loop", "bomb", "missing", "", "/dev/zero", "secret"]
    results = host.read_ntu_skeletons([os.fsencode(tmp_path / name) for name in names], 2)
    assert results[:6] == [
        "it must be a regular file, got a folder, pipe or device",
        "it cannot be opened: Too many levels of symbolic links",
        "it must have at most 1073741824 bytes, got 1073741825",
        "it cannot be opened: No such file or directory",
        "it must be a regular file, got a folder, pipe or device",
        "it must be a regular file, got a folder, pipe or device",
    ]
    assert os.geteuid() == 0 or results[6] == "it cannot be opened: Permission denied"


@pytest.mark.parametrize("threads", [1, 2, 7, 100])
def test_many_files_on_many_threads_keep_their_order(tmp_path, threads):
    paths = []
    for i in range(40):
        paths.append(os.fsencode(tmp_path / f"{i}"))
        with open(paths[-1], "w") as file:
            file.write(f"{i} {i}" if i % 7 == 3 else text([[(i, pose(i))]] * (i % 5)))
    for i, result in enumerate(host.read_ntu_skeletons(paths, threads)):
        if i % 7 == 3:
            assert result.endswith(f"got '{i} {i}'")
        else:
            assert result[0] == i % 5 and result[2].tolist() == [i] * (i % 5)
    assert host.read_ntu_skeletons([], threads) == []


def test_two_python_threads_may_read_at_a_time(tmp_path):
    path = tmp_path / "clip"
    path.write_text(PLAIN)
    expected = host.read_ntu_skeletons([os.fsencode(path)])[0][3]
    wrong = []

    def work():
        for _ in range(50):
            results = host.read_ntu_skeletons([os.fsencode(path)] * 5, 2)
            wrong.extend(result for result in results if not np.array_equal(result[3], expected))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(threads):
    with pytest.raises(ValueError, match=f"read_ntu_skeletons: threads must be >= 1, got {threads}"):
        host.read_ntu_skeletons([], threads)


def test_arrays_outlive_what_they_came_with(read):
    xyz = read(PLAIN)[3]
    expected = xyz.copy()
    for _ in range(20):
        read(PLAIN.replace("0.", "9."))
    assert np.array_equal(xyz, expected) and xyz.flags.writeable and xyz.flags.c_contiguous


def test_every_instruction_set_reads_the_same(tmp_path):
    """Of this processor; the level is chosen once in a process."""
    rng = np.random.default_rng(1)
    path = tmp_path / "clip"
    lines = [[f"{x:.{rng.integers(1, 12)}g}" for x in rng.normal(0, 10.0 ** rng.integers(-5, 4), 3)] for _ in range(25)]
    path.write_text(one_body(lines))
    script = """
import sys
from asma import _host
((_, frame, id, xyz),) = _host.read_ntu_skeletons([sys.argv[1].encode()])
print(frame.tolist(), id.tolist(), xyz.tobytes().hex())
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", script, path], env=os.environ | {"ASMA_ISA": level}, capture_output=True, check=True
        ).stdout
        for level in ("generic", "avx2")
    }
    assert len(found) == 1


def test_denormal_numbers_and_signed_zero(read):
    words = ["-0.0", "-0", "-0.00000000", "1e-45", "-1.1754942e-38", "1e-46"]
    xyz = read(one_body([words[:3], words[3:], *[["0", "0", "0"]] * 23]))[3]
    found = xyz.ravel()[:6].tolist()
    assert [math.copysign(1, number) for number in found[:3]] == [-1, -1, -1]
    assert found[3:] == [struct.unpack("f", struct.pack("I", 1))[0], float(np.float32(-1.1754942e-38)), 0]
