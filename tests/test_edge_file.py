"""Files that are not whole, not of this version or not a model are refused with a code and a sentence."""

import ctypes
import os
import struct
import zlib

import numpy as np
import pytest
from edge_engine import CANNOT_READ, DAMAGED, NOT_A_MODEL, OTHER_FORMAT, TOO_LARGE, RefusedError, student
from stores import CHAIN

from asma.config import DataConfig
from asma.edge_file import FORMAT, edge_bytes
from asma_kernels import Skeleton

SMALL = DataConfig(frames=6, persons=2, face="none")
WORDS = [
    *("channels", "frames", "joints", "persons", "encoders", "blocks", "partitions", "segments", "hidden", "classes"),
    *(
        "prepares",
        "centre",
        "centre_joint",
        "face",
        "left",
        "right",
        "scale",
        "bones",
        "stream",
        "name_bytes",
        "precision",
    ),
]
FIRST_WORD = 24  # bytes before them


@pytest.fixture(scope="module")
def content():
    """A small file that has every kind of section: two encoders, a shortcut, a hidden layer."""
    return edge_bytes(student(CHAIN, (2, 3), (1, 2), SMALL, encoders=2, kernel=3))


def sealed(content):
    """The same with the size and the checksum that it should have."""
    body = struct.pack("<Q", len(content)) + content[24:]
    return content[:12] + struct.pack("<I", zlib.crc32(body)) + body


def with_word(content, place, value):
    return sealed(content[:place] + struct.pack("<I", value) + content[place + 4 :])


def sentence_of(engine, content, *codes):
    with pytest.raises(RefusedError) as caught:
        engine.open(content)
    assert caught.value.code in codes, caught.value
    assert caught.value.sentence.startswith("edge: ") and len(caught.value.sentence) > 20
    return caught.value.sentence


def test_every_byte_counts(engine, content):
    assert sealed(content) == content
    for place in range(len(content)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= flip
            codes = (NOT_A_MODEL,) if place < 8 else (OTHER_FORMAT,) if place < 12 else (DAMAGED,)
            sentence_of(engine, bytes(damaged), *codes)


def test_every_length_but_the_right_one(engine, content):
    for size in range(len(content)):
        sentence_of(engine, content[:size], NOT_A_MODEL if size < 8 else DAMAGED)
        if size >= 128:  # also when it says so itself
            sentence_of(engine, sealed(content[:size]), DAMAGED)
    for more in (1, 64, 4096):
        sentence_of(engine, content + bytes(more), DAMAGED)
        assert "goes on behind" in sentence_of(engine, sealed(content + bytes(more)), DAMAGED)


def test_other_versions_are_named(engine, content):
    for version in (0, FORMAT + 1, 2**32 - 1):
        sentence = sentence_of(engine, content[:8] + struct.pack("<I", version) + content[12:], OTHER_FORMAT)
        assert f"format {version}, this engine reads {FORMAT}: export the model again" in sentence


def try_out(engine, content):
    """Refused with a sentence, or a model that answers: then what was changed was a number, not a size."""
    try:
        stream = engine.open(content).start()
    except RefusedError as refused:
        assert refused.code in (DAMAGED, TOO_LARGE) and refused.sentence.startswith("edge: ")
        return refused.sentence
    is_ = stream.model.description
    try:
        stream.predict_prepared(np.ones((is_.channels, is_.frames, is_.joints, is_.persons)))
    except RefusedError as refused:
        assert "the answer is not finite" in refused.sentence
    return ""


@pytest.mark.parametrize("value", [0, 1, 2, 3, 7, 65, 255, 4097, 2**16, 2**20, 2**24, 2**31, 2**32 - 1])
def test_no_word_of_a_sealed_file_can_lead_astray(engine, content, value):
    """A checksum is no proof of good intentions."""
    accepted = []
    for place in range(FIRST_WORD, len(content), 4):
        if not try_out(engine, with_word(content, place, value)):
            accepted.append(place)
    if value >= 2**20:  # too large for any index or size; floats have their own words
        floats = np.frombuffer(content, np.float32)
        assert all(place >= 128 + 4 * 32 and np.isfinite(floats[place // 4]) for place in accepted)


@pytest.mark.parametrize("word", WORDS)
def test_huge_sizes_are_refused_by_name(engine, content, word):
    sentence = try_out(engine, with_word(content, FIRST_WORD + 4 * WORDS.index(word), 2**32 - 1))
    assert f"edge: {word} must be" in sentence and "4294967295" in sentence


def test_sizes_that_fit_their_limits_but_no_memory(engine):
    """The file is small: there are few joints and one channel, but many frames of many persons."""
    content = edge_bytes(student(CHAIN, (1,), (1,), DataConfig(frames=6, face="none"), kernel=1, segments=1))
    large = with_word(content, FIRST_WORD + 4, 2**14)
    assert try_out(engine, large) == ""  # so many frames of three joints are no burden
    wide = edge_bytes(
        student(Skeleton.from_edges([(i, i + 1) for i in range(199)]), (24,), (1,), DataConfig(frames=6, face="none"))
    )
    sentence = sentence_of(engine, with_word(wide, FIRST_WORD + 4, 2**16), TOO_LARGE)
    assert "a stream may take 1073741824 bytes, one of this model needs" in sentence


def test_sentences_name_what_contradicts_what(engine, content):
    words = np.frombuffer(content, np.uint32)
    block = 128
    assert words[block // 4 : block // 4 + 6].tolist() == [3, 2, 3, 1, 0, 7]  # C, D, taps, stride, residual, nonzeros
    for place, value, expected in (
        (block + 0, 4, "block 0 takes 4 channels, the one before gives 3"),
        (block + 8, 2, "taps must be odd, block 0 has 2"),
        (block + 16, 1, "block 0 cannot add its input: 3 channels to 2 by stride 1"),
        (block + 12, 0, "a block's stride must be in [1, 256], the file says 0"),
        (block + 24, 1, "a block's reserved must be in [0, 0], the file says 1"),
        (108, 9, "reserved words must be 0, the file has 9"),
        (FIRST_WORD + 4 * WORDS.index("left"), 3, "left must be a joint in [0, 3), the file says 3"),
        (FIRST_WORD + 4 * WORDS.index("classes"), 4, "names must be 7, one a class and joint, the file has 6"),
    ):
        assert expected in sentence_of(engine, with_word(content, place, value), DAMAGED, TOO_LARGE)


def test_files_that_cannot_be_read(engine, content, tmp_path):
    for name, path in (("nothing", tmp_path / "nothing"), ("folder", tmp_path)):
        sentence = sentence_of(engine, path, CANNOT_READ)
        assert str(path)[:160] in sentence, name
    (tmp_path / "empty").touch()
    assert "it is empty" in sentence_of(engine, tmp_path / "empty", CANNOT_READ)
    with open(tmp_path / "huge", "wb") as file:
        os.truncate(file.fileno(), 2**30 + 1)
    assert "it is larger than any model" in sentence_of(engine, tmp_path / "huge", CANNOT_READ)
    (tmp_path / "text").write_text("I am a model, trust me\n")
    assert "must begin with ASMAEDGE" in sentence_of(engine, tmp_path / "text", NOT_A_MODEL)
    (tmp_path / "model.edge").write_bytes(content)
    opened = engine.open(tmp_path / "model.edge")
    os.unlink(tmp_path / "model.edge")  # or replaced by rename: what is mapped stays
    assert np.isfinite(opened.start().predict_prepared(np.zeros((3, 6, 3, 2)))).all()


def test_memory_must_be_aligned(engine, content):
    memory = np.zeros(len(content) + 128, np.uint8)
    place = memory.ctypes.data + -memory.ctypes.data % 64 + 4
    with pytest.raises(RefusedError, match="an address that 64 divides, the rest is 4"):
        engine.call("open_memory", place, len(content), ctypes.byref(ctypes.c_void_p()))
