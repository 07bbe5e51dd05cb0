"""The edge engine in bfloat16 and int8 gives the numbers of the same arithmetic in NumPy, and refuses damaged files."""

import json
import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from edge_engine import DAMAGED, FLOAT32_ONLY, OTHER_FORMAT, TOO_LARGE, RefusedError, logits_of, student
from stores import CHAIN, clip, write
from test_edge import SHAPES, frames, prepared

from asma.classifier import save_classifier
from asma.cli import main
from asma.config import DataConfig
from asma.data import open_clips
from asma.edge_file import edge_bytes
from asma.export import clips_to_calibrate, export
from asma.folded import fold
from asma.precision import LARGEST_KEPT, LARGEST_ROW, calibrate, to_bfloat16, to_int8
from asma.prepare import prepare
from asma_kernels import Skeleton

NTU, UTD = Skeleton.builtin("ntu25"), Skeleton.builtin("utd20")


def bfloat16(x):
    bits = to_bfloat16(x).astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


def clips_for(model, count=6):
    first, data = model.first_encoder, model.data
    shape = (count, first.config.in_channels, data.frames, model.skeleton.num_joints, data.persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


class Emulated:
    """The network of docs/edge.md in float64, but for what it rounds before it multiplies."""

    def __init__(self, model, precision, clips=None):
        self.folded, self.precision = fold(model), precision
        self.steps = calibrate(self.folded, clips) if precision == "int8" else None

    def logits(self, x):
        """Of (C, T, V, M)."""
        features = [
            np.mean([self.encode(number, x[..., m].transpose(1, 2, 0)) for m in range(x.shape[3])], axis=0)
            for number in range(len(self.folded.encoders))
        ]
        found = np.concatenate(features)
        if self.folded.hidden is not None:
            weight, bias = self.folded.hidden
            found = np.maximum(found @ weight + bias, 0)
        weight, bias = self.folded.head
        return found @ weight + bias

    def encode(self, number, x):
        encoder = self.folded.encoders[number]
        x = x * encoder.scale + encoder.shift
        for b, block in enumerate(encoder.blocks):
            x = self.block(block, self.steps[number][b] if self.steps else None, x)
        frames, T, S = x.mean(axis=1), len(x), encoder.segments
        return np.concatenate([frames[s * T // S : -(-(s + 1) * T // S)].mean(axis=0) for s in range(S)])

    def rounded(self, x, step, least, most):
        if self.precision == "bfloat16":
            return bfloat16(x)
        return np.clip(np.rint(x / np.float32(step)), least, most) * np.float32(step)

    def weight(self, weight):
        if self.precision == "bfloat16":
            return bfloat16(weight)
        whole, step = to_int8(weight)
        return whole * step

    def block(self, block, steps, x):
        rows, kept, shortcut = steps or (None,) * 3
        gathered = self.rounded(np.einsum("tvc,kvw->ktwc", x, block.adjacency), rows, -LARGEST_ROW, LARGEST_ROW)
        y = np.einsum("ktwc,kcd->twd", gathered, self.weight(block.weight)) + block.base
        y = self.rounded(np.maximum(y, 0), kept, 0, LARGEST_KEPT)
        taps, stride = len(block.conv), block.stride
        padded = np.pad(y, ((taps // 2, taps // 2), (0, 0), (0, 0)))
        conv, T = self.weight(block.conv), (len(x) - 1) // stride + 1
        out = sum(padded[k : k + (T - 1) * stride + 1 : stride] @ conv[k] for k in range(taps)) + block.bias
        if block.shortcut is not None:
            out += self.rounded(x[::stride], shortcut, -LARGEST_ROW, LARGEST_ROW) @ self.weight(block.shortcut)
        elif block.residual:
            out += x
        return np.maximum(out, 0)


def emulated(model, precision, clips, stream):
    """Where the processor cannot multiply bfloat16, only the weights are rounded."""
    found = Emulated(model, precision, clips)
    if precision == "bfloat16" and stream.model.description.multiplies == b"float32":
        found.rounded = lambda x, *_: x
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_the_same_arithmetic(engine, shape):
    """Sums are exact: what is left is float32 between them, and by it seldom another step."""
    model = SHAPES[shape]()
    clips, x = clips_for(model), prepared(model).numpy()
    stream = engine.open(edge_bytes(model, "int8", clips)).start()
    same = emulated(model, "int8", clips, stream)
    for one, plain in zip(x, logits_of(model, torch.from_numpy(x)), strict=True):
        found = stream.predict_prepared(one)
        np.testing.assert_allclose(found, same.logits(one), rtol=0, atol=5e-5)
        assert np.abs(found - plain).max() < 3e-3
        assert np.array_equal(stream.predict_prepared(one), found)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_is_the_same_arithmetic(engine, shape):
    """Minimal filtering rounds its own numbers, which NumPy's direct sums have not."""
    model = SHAPES[shape]()
    x = prepared(model).numpy()
    stream = engine.open(edge_bytes(model, "bfloat16")).start()
    same = emulated(model, "bfloat16", None, stream)
    filtered = any(len(b.conv) == 9 and b.stride == 1 for encoder in same.folded.encoders for b in encoder.blocks)
    for one, plain in zip(x, logits_of(model, torch.from_numpy(x)), strict=True):
        found = stream.predict_prepared(one)
        np.testing.assert_allclose(found, same.logits(one), rtol=0, atol=1e-3 if filtered else 5e-5)
        assert np.abs(found - plain).max() < 2e-3
        assert np.array_equal(stream.predict_prepared(one), found)


def test_bfloat16_is_multiplied_where_the_processor_can(engine):
    """The answers differ from those of widened weights, or the processor was not asked."""
    model = SHAPES["PSTL's"]()
    stream = engine.open(edge_bytes(model, "bfloat16")).start()
    x = prepared(model).numpy()[0]
    widened = Emulated(model, "bfloat16")
    widened.rounded = lambda x, *_: x
    far = np.abs(stream.predict_prepared(x) - widened.logits(x)).max()
    is_ = stream.model.description
    assert is_.precision == b"bfloat16" and is_.multiplies in (b"bfloat16", b"float32")
    assert (far > 1e-5) == (is_.multiplies == b"bfloat16")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("level", ["generic", "avx2", "avx512"])
def test_older_instructions_agree(edge_build, precision, level, tmp_path):
    model = student(NTU, (8, 8, 24), (1, 1, 2), frames(23, persons=2, centre="none"))
    clips, x = clips_for(model), prepared(model).numpy()[0]
    (tmp_path / "model.edge").write_bytes(edge_bytes(model, precision, clips))
    (tmp_path / "clip.json").write_text(json.dumps(x.transpose(1, 3, 2, 0).tolist()))

    def run(argument):
        command = [edge_build / "asma-edge", "model.edge", argument]
        environment = os.environ | {"ASMA_ISA": level}
        return json.loads(
            subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True).stdout
        )

    is_ = run("--describe")
    if is_["instructions"] not in (level, "neon"):
        pytest.skip(f"this processor has no {level}, it ran {is_['instructions']}")
    assert (is_["precision"], is_["multiplies"]) == (precision, "int16" if precision == "int8" else "float32")
    same = Emulated(model, precision, clips)
    if precision == "bfloat16":
        same.rounded = lambda x, *_: x
    expected = torch.tensor(same.logits(x)).softmax(0).numpy()
    found = run("clip.json")["probabilities"]
    np.testing.assert_allclose([found[name] for name in model.classes], expected, rtol=0, atol=2e-5)


def test_what_is_larger_than_the_clips_becomes_their_largest(engine):
    model = student(UTD, (8, 8, 12), (1, 1, 2), frames(13))
    stream = engine.open(edge_bytes(model, "int8", clips_for(model))).start()
    x = prepared(model).numpy()[0]
    for size in (1e3, 1e30, 3e38):
        assert np.isfinite(stream.predict_prepared(x / np.abs(x).max() * np.float32(size))).all()
    still = stream.predict_prepared(x)
    assert np.array_equal(stream.predict_prepared(x), still)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_live_streams_are_of_float32(engine, precision):
    model = student(UTD)
    opened = engine.open(edge_bytes(model, precision, clips_for(model)))
    with pytest.raises(RefusedError) as caught:
        opened.start_live()
    assert caught.value.code == FLOAT32_ONLY
    assert "this model's weights are rounded: export it with --precision float32" in caught.value.sentence


SMALL = DataConfig(frames=6, persons=2, face="none")


@pytest.fixture(scope="module", params=["bfloat16", "int8"])
def content(request):
    """A small file that has every kind of section: two encoders, a shortcut, a hidden layer."""
    model = student(CHAIN, (2, 3), (1, 2), SMALL, encoders=2, kernel=3)
    return edge_bytes(model, request.param, clips_for(model))


def sealed(content):
    body = struct.pack("<Q", len(content)) + content[24:]
    return content[:12] + struct.pack("<I", zlib.crc32(body)) + body


def with_bytes(content, place, value):
    return sealed(content[:place] + value + content[place + len(value) :])


def sentence_of(engine, content, *codes):
    with pytest.raises(RefusedError) as caught:
        engine.open(content)
    assert caught.value.code in codes, caught.value
    return caught.value.sentence


def test_every_byte_and_length_counts(engine, content):
    assert sealed(content) == content
    for place in range(24, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x80
        sentence_of(engine, bytes(damaged), DAMAGED)
    for size in range(128, len(content)):
        sentence_of(engine, content[:size], DAMAGED)
        sentence_of(engine, sealed(content[:size]), DAMAGED)
    assert "goes on behind" in sentence_of(engine, sealed(content + bytes(64)), DAMAGED)
    assert "this engine reads 2" in sentence_of(engine, content[:8] + struct.pack("<I", 1) + content[12:], OTHER_FORMAT)


@pytest.mark.parametrize("value", [0, 2, 65, 4097, 2**20, 0x7FC00000, 0xFF800000, 2**32 - 1])
def test_no_word_of_a_sealed_file_can_lead_astray(engine, content, value):
    """It is refused with a sentence, or a number that only changes an answer."""
    for place in range(24, len(content), 4):
        try:
            stream = engine.open(with_bytes(content, place, struct.pack("<I", value))).start()
        except RefusedError as refused:
            assert refused.code in (DAMAGED, TOO_LARGE) and refused.sentence.startswith("edge: ")
            continue
        is_ = stream.model.description
        try:
            stream.predict_prepared(np.ones((is_.channels, is_.frames, is_.joints, is_.persons)))
        except RefusedError as refused:
            assert "the answer is not finite" in refused.sentence


def test_another_precision_does_not_fit_the_sections(engine, content):
    (found,) = struct.unpack_from("<I", content, 104)
    for other in {0, 1, 2} - {found}:
        sentence_of(engine, with_bytes(content, 104, struct.pack("<I", other)), DAMAGED)
    unknown = with_bytes(content, 104, struct.pack("<I", 3))
    assert "precision must be in [0, 2], the file says 3" in sentence_of(engine, unknown, TOO_LARGE)


def test_steps_must_be_numbers_to_divide_by(engine):
    model = student(CHAIN, (4,), (1,), DataConfig(frames=6, face="none"), kernel=1, segments=1)
    clips = clips_for(model)
    content = edge_bytes(model, "int8", clips)
    ((steps,),) = calibrate(fold(model), clips)
    place = content.index(struct.pack("<2f", steps.rows, steps.kept))
    for value in (0.0, -1.0, np.nan, np.inf, 1e-30):
        sentence = sentence_of(engine, with_bytes(content, place, struct.pack("<f", value)), DAMAGED)
        assert sentence == f"edge: steps must be in [1e-18, 1e+18], the file has {value:g}"


def test_sums_that_would_not_fit_are_refused(engine, monkeypatch):
    """Of many taps and channels, which the engine would sum in 32 bits."""
    wide = student(Skeleton.from_edges([(0, 1)]), (260,), (1,), frames(2), kernel=255, segments=1)
    clips = clips_for(wide, 1)
    with pytest.raises(ValueError, match="export: int8 must sum at most 8192 products over a graph and 65536 over"):
        edge_bytes(wide, "int8", clips)
    monkeypatch.setattr("asma.edge_file.MOST_SUMMED", 2**40)
    sentence = sentence_of(engine, edge_bytes(wide, "int8", clips), TOO_LARGE)
    assert "an int8 block may sum 8192 products over a graph and 65536 over frames, block 0 has 9 and 66300" in sentence


def test_files_shrink():
    model = SHAPES["PSTL's"]()
    sizes = [len(edge_bytes(model, precision, clips_for(model))) for precision in ("float32", "bfloat16", "int8")]
    blocks = sum(b.weight.size + b.conv.size + (0 if b.shortcut is None else b.shortcut.size)
                 for b in fold(model).encoders[0].blocks)  # fmt: skip
    assert abs(sizes[0] - sizes[1] - 2 * blocks) < 64 * 40
    assert 2.5 * blocks < sizes[0] - sizes[2] < 3 * blocks


def test_the_command_calibrates_by_the_training_clips_or_by_others(engine, tmp_path, capsys):
    for name, numbers in (("store", range(8)), ("other", range(8, 13))):
        write(tmp_path / name, [clip(number) for number in numbers])
    model = student(CHAIN, data=frames(16, clips=str(tmp_path / "store")), classes=2)
    save_classifier(tmp_path / "classifier.safetensors", model, {})
    out = tmp_path / "student.edge"

    def run(*options, status=0):
        assert main(["export", str(tmp_path), "--out", str(out), *options]) == status
        said = capsys.readouterr()
        return said.err if status else said.out

    for precision in ("bfloat16", "int8"):
        assert (
            f"{out}: {len(edge_bytes(model, precision, clips_to_calibrate(model))):,} bytes, edge, {precision}, "
            in run("--precision", precision)
        )
        assert engine.open(out).description.precision == precision.encode()
    train, _ = open_clips(tmp_path / "store").split("subject-odd-even")
    assert out.read_bytes() == edge_bytes(model, "int8", prepare(train, model.data))
    run("--precision", "int8", "--clips", str(tmp_path / "other"))
    by_others = edge_bytes(model, "int8", prepare(open_clips(tmp_path / "other"), model.data))
    assert out.read_bytes() == by_others
    for wrong, sentence in (
        (("--precision", "int8", "--clips", "nowhere.npz"), "export: int8 needs clips by which its steps are chosen"),
        (("--precision", "int8", "--to", "onnx"), "export: precision must be float32 for onnx, got 'int8'"),
        (("--precision", "bfloat16", "--to", "torch"), "export: precision must be float32 for torch, got 'bfloat16'"),
    ):
        assert sentence in run(*wrong, status=2)
        assert out.read_bytes() == by_others


def test_what_cannot_be_exported(tmp_path):
    model = student(UTD)
    with pytest.raises(ValueError, match="export: int8 needs clips by which its steps are chosen, got none"):
        export(model, "edge", tmp_path / "x", "int8")
    with pytest.raises(ValueError, match=r"export: clips must have channels, joints and persons \(3, 20, 1\), got"):
        export(model, "edge", tmp_path / "x", "int8", torch.zeros(2, 3, 13, 25, 1))
    with pytest.raises(ValueError, match="export: precision must be one of float32, bfloat16, int8, got 'int4'"):
        export(model, "edge", tmp_path / "x", "int4")
    assert not (tmp_path / "x").exists()
