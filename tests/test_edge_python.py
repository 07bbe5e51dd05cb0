"""The engine's Python module gives the C API's bits, refuses in sentences, and knows no torch."""

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from edge_engine import RefusedError, student

from asma.config import DataConfig
from asma.data import builtin_clips
from asma.edge_file import edge_bytes

edge = pytest.importorskip("asma.edge", reason="asma.edge was not built: Python.h is needed for it")
CLIPS = builtin_clips(classes=3, subjects=2, views=1, repeats=1)
MODEL = student(CLIPS.skeleton, (8, 8, 12), (1, 2, 1), DataConfig(frames=23, persons=2, scale=True))
CONTENT = edge_bytes(MODEL)
V = CLIPS.skeleton.num_joints


@pytest.fixture
def path(tmp_path):
    (tmp_path / "model.edge").write_bytes(CONTENT)
    return tmp_path / "model.edge"


def two_persons():
    """A clip, and who is in it: the second person in some frames."""
    frames = CLIPS.clip(0)
    clip = np.stack([frames, frames[::-1] + 1], axis=1)
    present = np.ones((len(clip), 2), bool)
    present[3:9, 1] = False
    return clip, present


def test_the_same_bits_as_by_the_c_api(engine, path):
    clip, present = two_persons()
    bits = present @ np.array([1, 2], np.uint32)
    x = np.random.default_rng(0).standard_normal((3, 23, V, 2), np.float32)
    for source in (CONTENT, path, str(path)):
        stream, expected = edge.Model(source).start(20), engine.open(CONTENT).start(20)
        for call, mine, its in (
            ("predict_clip", (clip, present), (clip, bits)),
            ("predict_clip", (clip[::2],), (clip[::2],)),
            ("predict_prepared", (x,), (x,)),
        ):
            wanted = getattr(expected, call)(*its)
            np.testing.assert_array_equal(getattr(stream, call)(*mine, logits=True), wanted)
            np.testing.assert_array_equal(getattr(stream, call)(*mine), expected.probabilities)
        for frame, there, bit in zip(clip, present, bits, strict=True):
            stream.push(frame, there)
            expected.push(frame, int(bit))
        stream.push(None)
        expected.push(None, 0)
        np.testing.assert_array_equal(stream.predict(logits=True), expected.predict())
        answer = stream.predict()
        assert answer.dtype == np.float32 and answer.shape == (3,)
        np.testing.assert_array_equal(answer, expected.probabilities)
        stream.reset()
        with pytest.raises(RuntimeError, match="at least one frame must be pushed"):
            stream.predict()


def test_live_streams_give_the_same_bits_too(engine):
    clip, present = two_persons()
    stream, expected = edge.Model(CONTENT).start_live(5), engine.open(CONTENT).start_live(5)
    answers = 0
    for frame, there in zip(clip, present, strict=True):
        stream.push(frame, there)
        expected.push(frame, int(there @ np.array([1, 2])))
        try:
            found = stream.predict(logits=True)
        except RuntimeError:
            with pytest.raises(RefusedError):
                expected.predict()
        else:
            answers += 1
            np.testing.assert_array_equal(found, expected.predict())
    assert answers > 10
    with pytest.raises(ValueError, match="edge: .*live"):
        stream.predict_clip(clip)


def test_a_model_says_what_it_is(engine):
    model, is_ = edge.Model(CONTENT), engine.open(CONTENT).description
    assert model.classes == MODEL.classes and model.joints == CLIPS.skeleton.names
    assert model.prepares is True and model.instructions == is_.instructions.decode()
    for name in ("format", "channels", "frames", "persons", "encoders", "blocks", "file_bytes", "stream_bytes"):
        assert getattr(model, name) == getattr(is_, name), name
    assert model.model_bytes == is_.model_bytes


def test_arrays_of_another_kind_are_refused_and_change_nothing():
    stream = edge.Model(CONTENT).start()
    clip, present = two_persons()
    stream.push(clip[0])
    before = stream.predict()
    nan = clip[0].copy()
    nan[1, 2, 0] = np.nan
    for call, arguments, sentence in (
        (stream.push, (clip[0].tolist(),), "edge: xyz must be a NumPy array of float32, got <class 'list'>"),
        (stream.push, (clip[0].astype(np.float64),), "edge: xyz must be float32, got float64"),
        (stream.push, (clip[0, 0],), rf"edge: xyz must be of shape \(2, {V}, 3\), got \({V}, 3\)"),
        (stream.push, (clip[0], np.array([1, 1])), "edge: present must be bool, got int64"),
        (stream.push, (clip[0], present[:1]), r"edge: present must be of shape \(2,\), got \(1, 2\)"),
        (stream.push, (None, present[0]), "edge: present must be None where xyz is None"),
        (stream.push, (nan,), "edge: coordinates must be finite, got nan at frame 1, person 1, joint 2"),
        (stream.predict_clip, (clip[0],), rf"edge: xyz must be of shape \(T, 2, {V}, 3\), got"),
        (stream.predict_clip, (clip, present[1:]), rf"present must be of shape \({len(clip)}, 2\), got"),
        (stream.predict_clip, (clip[:0],), "edge: a clip must have at least one frame, got 0"),
        (stream.predict_prepared, (clip,), rf"edge: x must be of shape \(3, 23, {V}, 2\), got"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call(*arguments)
    np.testing.assert_array_equal(stream.predict(), before)
    stream.push(nan, np.array([True, False]))  # nobody looks at who is not there


def test_files_that_are_no_models(path, tmp_path):
    with pytest.raises(OSError, match="nothing.edge cannot be read: No such file"):
        edge.Model(tmp_path / "nothing.edge")
    for content, sentence in (
        (b"", "must begin with ASMAEDGE"),
        (CONTENT[:-64], "must have"),
        (b"\0" * 200, "ASMAEDGE"),
    ):
        with pytest.raises(ValueError, match=sentence):
            edge.Model(content)
    with pytest.raises(ValueError, match="zero byte"):
        edge.Model("a\0b")
    with pytest.raises(ValueError, match="a stream may take 1073741824 bytes"):
        edge.Model(path).start(2**32 - 1)
    other = edge.Model(edge_bytes(student(CLIPS.skeleton, data=DataConfig(frames=13, pipeline="pstl", face="none"))))
    assert not other.prepares
    with pytest.raises(RuntimeError, match="call asma_edge_predict_prepared"):
        other.start().push(None)


def test_a_stream_keeps_its_model_and_the_model_its_bytes():
    expected = edge.Model(CONTENT).start().predict_clip(two_persons()[0])
    content = bytes(bytearray(CONTENT))
    stream = edge.Model(content).start()
    del content
    other = [np.random.bytes(len(CONTENT)) for _ in range(50)]
    np.testing.assert_array_equal(stream.predict_clip(two_persons()[0]), expected)
    assert len(other) == 50


def test_threads_share_a_model_and_not_a_stream():
    model = edge.Model(edge_bytes(student(CLIPS.skeleton, (32, 64), (1, 1), DataConfig(frames=200))))
    clip = np.ascontiguousarray(two_persons()[0][:, :1])
    expected = model.start().predict_clip(clip)
    shared, seen, refused = model.start(), [], []

    def work(stream):
        for _ in range(20):
            try:
                seen.append(np.array_equal(stream.predict_clip(clip), expected))
            except RuntimeError as error:
                refused.append(str(error))

    for streams in ([model.start() for _ in range(3)], [shared] * 3):
        threads = [threading.Thread(target=work, args=(stream,)) for stream in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if streams[0] is not shared:
            assert len(seen) == 60 and not refused
    assert all(seen) and set(refused) <= {
        "edge: a stream is one thread's at a time, this one is in use: start one for each"
    }
    assert refused  # predictions run without the interpreter's lock, or none would have met another


ALONE = """
import sys
sys.path.insert(0, {place!r})
import {module} as edge
import numpy
model = edge.Model(sys.argv[1])
clip = numpy.load(sys.argv[2])
stream = model.start()
numpy.save(sys.argv[3], stream.predict_clip(clip))
assert not any(name.split(".")[0] in ("torch", "asma_kernels") for name in sys.modules), "torch"
"""


@pytest.mark.parametrize("module", ["asma.edge", "asma_edge"])
def test_no_torch_is_imported(module, edge_build, path, tmp_path):
    """In a process of its own; asma_edge as CMake builds it for a board, where there is no asma."""
    place = edge_build if module == "asma_edge" else Path(edge.__file__).parents[1]
    if module == "asma_edge" and not list(place.glob("asma_edge.*.so")):
        pytest.skip("asma_edge was not built: it needs Python.h and the package pybind11")
    clip = two_persons()[0]
    np.save(tmp_path / "clip.npy", clip)
    command = [sys.executable, "-c", ALONE.format(place=str(place), module=module)]
    subprocess.run([*command, path, tmp_path / "clip.npy", tmp_path / "out.npy"], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), edge.Model(CONTENT).start().predict_clip(clip))


def test_the_version_is_still_the_package_s():
    asma = importlib.import_module("asma")
    assert asma.__version__ == importlib.import_module("asma_kernels").__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        asma.nothing  # noqa: B018
