"""The edge engine gives the numbers of PyTorch, the same bits each time, and refuses bad skeletons."""

import os
import subprocess
import sys
import threading

import edge_engine
import numpy as np
import pytest
import torch
from edge_engine import BAD_ARGUMENT, EVERYBODY, NO_FRAME, NOT_FINITE, PREPARED_ONLY, RefusedError, logits_of, student
from stores import CHAIN, HEADER, clip, write

from asma.config import DataConfig
from asma.data import builtin_clips, open_clips
from asma.edge_file import edge_bytes
from asma.predict import predict, predict_of_set
from asma.prepare import prepare
from asma.student import STUDENTS
from asma_kernels import Skeleton

NTU, UTD = Skeleton.builtin("ntu25"), Skeleton.builtin("utd20")
BUILTIN = builtin_clips(classes=3, subjects=2, views=1, repeats=1)
MODES = ("aligned", "mean", "concat")
NEAR = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepared(model, seed=1):
    data, first = model.data, model.first_encoder
    shape = (2, first.config.in_channels, data.frames, model.skeleton.num_joints, data.persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frames(count, **others):
    """Not turned: not every skeleton here has shoulders."""
    return DataConfig(frames=count, face="none", **others)


SHAPES = {
    "plain": lambda: student(NTU),
    # One frame to several pairs of tiles, with every number of frames left over.
    **{f"{T} frames": lambda T=T: student(CHAIN, (8, 8, 16), (1, 1, 1), frames(T)) for T in range(2, 20)},
    "one block": lambda: student(UTD, (16,), (1,)),
    "odd channels": lambda: student(UTD, (5, 7, 7, 33), (1, 2, 1, 3)),
    "channels over a panel": lambda: student(CHAIN, (16, 72, 72), (1, 1, 1), frames(20)),
    "one tap": lambda: student(NTU, (8, 8), (1, 2), kernel=1),
    "three taps": lambda: student(NTU, (8, 8, 12), (1, 1, 2), kernel=3),
    "more taps than frames": lambda: student(CHAIN, (8, 12), (2, 3), frames(5), kernel=15),
    "stride over the frames": lambda: student(CHAIN, (8, 12), (9, 2), frames(7)),
    "more frames than a tile": lambda: student(UTD, (8, 8, 16), (1, 1, 2), frames(131)),
    "one partition": lambda: student(NTU, partition="uniform"),
    "four partitions": lambda: student(NTU, partition="spatial-full"),
    "segments": lambda: student(NTU, (8, 12), (2, 2), frames(13), segments=4),
    "more segments than frames": lambda: student(NTU, (8, 12), (2, 2), frames(5), segments=3),
    "two persons": lambda: student(NTU, data=frames(13, persons=2)),
    "two channels in": lambda: student(UTD, in_channels=2),
    "one joint pair": lambda: student(Skeleton.from_edges([(0, 1)]), (6,), (2,), frames(13)),
    "one class": lambda: student(UTD, classes=1),
    "PSTL's": lambda: student(NTU, (8, 8, 8, 8, 16, 16, 16, 24, 24, 80), (1, 1, 1, 1, 2, 1, 1, 2, 1, 1), frames(50)),
    **{
        name: lambda own=own: student(NTU, own.channels, own.strides, frames(50, persons=2), kernel=own.kernel)
        for name, own in STUDENTS.items()
    },
    **{f"teacher, {mode}": lambda mode=mode: student(UTD, encoders=2, mode=mode, segments=2) for mode in MODES},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_pytorch(engine, shape):
    model = SHAPES[shape]()
    x = prepared(model)
    stream = engine.open(edge_bytes(model)).start()
    for one, expected in zip(x, logits_of(model, x), strict=True):
        np.testing.assert_allclose(stream.predict_prepared(one.numpy()), expected, **NEAR)
        np.testing.assert_allclose(stream.probabilities, torch.tensor(expected).softmax(0).numpy(), **NEAR)


PREPARATIONS = [
    DataConfig(frames=16),
    DataConfig(frames=16, centre="clip", face="hips", scale=True),
    DataConfig(frames=9, centre="none", face="none"),
    DataConfig(frames=40, centre="none", face="hips", stream="bone"),
    DataConfig(frames=16, centre="frame", face="shoulders", stream="motion", scale=True),
    DataConfig(frames=16, persons=2, face="hips"),
]


@pytest.mark.parametrize(
    "data", PREPARATIONS, ids=lambda data: f"{data.centre}-{data.face}-{data.stream}-{data.persons}"
)
def test_clips_are_prepared_as_in_training(engine, data):
    model = student(BUILTIN.skeleton, data=data)
    stream = engine.open(edge_bytes(model)).start(window=300)
    for number in range(3):
        frames = BUILTIN.clip(number)
        padded = np.full((len(frames), data.persons, *frames.shape[1:]), np.nan, np.float32)
        padded[:, 0] = frames
        expected = logits_of(model, prepare(BUILTIN, data, [number]))[0]
        found = stream.predict_clip(padded, np.ones(len(frames)))
        np.testing.assert_allclose(found, expected, **NEAR)
        said = predict(model, frames)
        by_class = dict(zip(said.classes, said.probabilities, strict=True))
        np.testing.assert_allclose(stream.probabilities, [by_class[name] for name in model.classes], **NEAR)
        stream.reset()
        for frame in padded:
            stream.push(frame, 1)
        assert np.array_equal(stream.predict(), found)


# person, first frame, number of frames
TRACKS = {
    "both": [(0, 0, 12), (1, 0, 12)],
    "second comes and goes": [(0, 0, 12), (1, 3, 2), (1, 8, 3)],
    "first comes late": [(0, 5, 7), (1, 0, 12)],
    "first misses frames": [(0, 0, 3), (0, 9, 3), (1, 2, 4)],
    "nobody in the middle": [(0, 0, 2), (0, 10, 2)],
    "only the second": [(1, 4, 4)],
}


@pytest.mark.parametrize("centre", ["frame", "clip"])
def test_two_persons_of_whom_frames_are_missing(engine, tmp_path, centre):
    clips = open_clips(write(tmp_path / "store", [clip(i, 12, tracks) for i, tracks in enumerate(TRACKS.values())]))
    data = DataConfig(clips=str(tmp_path / "store"), frames=17, persons=2, centre=centre, face="none", scale=True)
    model = student(CHAIN, data=data, classes=len(HEADER.classes))
    stream = engine.open(edge_bytes(model)).start(window=12)
    for number, tracks in enumerate(TRACKS.values()):
        raw, there = clips.gather(np.array([number]), np.arange(12)[None], 2)
        present = (there[0].T * [1, 2]).sum(1).astype(np.uint32)
        assert all(present[start] >> person & 1 for person, start, _ in tracks)
        absent = np.where(there[0].T[..., None, None], raw[0].transpose(1, 0, 2, 3), np.nan)  # nobody looks at it
        found = stream.predict_clip(absent, present)
        np.testing.assert_allclose(found, logits_of(model, prepare(clips, data, [number]))[0], **NEAR)
        best = predict_of_set(replace_classes(model, HEADER.classes), clips, number)
        assert max(stream.probabilities) == pytest.approx(best.probabilities[0], abs=1e-4)
        stream.reset()
        for frame, who in zip(absent, present, strict=True):
            stream.push(frame if who else None, int(who))
        assert np.array_equal(stream.predict(), found)


def replace_classes(model, classes):
    model.classes = classes
    return model


def test_a_window_sees_the_newest_frames_alone(engine):
    model = student(BUILTIN.skeleton)
    stream = engine.open(edge_bytes(model)).start(window=20)
    frames = BUILTIN.clip(0)[:, None]
    assert len(frames) > 27
    for t, frame in enumerate(frames[:27]):
        stream.push(frame)
        expected = whole_clip(engine, model, frames[max(0, t - 19) : t + 1])
        assert np.array_equal(stream.predict(), expected)


def whole_clip(engine, model, frames):
    return engine.open(edge_bytes(model)).start().predict_clip(frames)


def test_the_same_bits_in_every_run_stream_and_thread(engine):
    model = student(NTU, (8, 8, 16), (1, 1, 2), frames(23, persons=2))
    content = edge_bytes(model)
    shared = engine.open(content)
    x = prepared(model).numpy()
    expected = [shared.start().predict_prepared(one) for one in x]
    wrong = []

    def work():
        stream = shared.start()
        for _ in range(20):
            for one, answer in zip(x, expected, strict=True):
                if not np.array_equal(stream.predict_prepared(one), answer):
                    wrong.append(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # What was computed before leaves no trace.
    stream = engine.open(content).start()
    for one, answer in [*zip(x, expected, strict=True)] * 2:
        assert np.array_equal(stream.predict_prepared(one), answer)


def test_a_person_who_is_not_there_costs_nothing_and_changes_nothing(engine):
    """The remembered answer is the computed one, whether the first or the second person is away."""
    model = student(NTU, data=frames(13, persons=2))
    x = prepared(model).numpy()[0]
    opened = engine.open(edge_bytes(model))
    for away in ([0], [1], [0, 1]):
        alone = x.copy()
        alone[..., away] = 0
        expected = logits_of(model, torch.from_numpy(alone)[None])[0]
        stream = opened.start()
        once = stream.predict_prepared(alone)
        np.testing.assert_allclose(once, expected, **NEAR)
        assert np.array_equal(stream.predict_prepared(alone), once)


@pytest.mark.parametrize("level", ["generic", "avx2"])
def test_older_instructions_agree(engine, edge_build, level, tmp_path):
    model = student(NTU, (8, 8, 24), (1, 1, 2), frames(23))
    (tmp_path / "model.edge").write_bytes(edge_bytes(model))
    x = prepared(model).numpy()[0]
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, pathlib, numpy, edge_engine\n"
        "model = edge_engine.Engine(sys.argv[1]).open(pathlib.Path('model.edge'))\n"
        "numpy.save('out.npy', model.start().predict_prepared(numpy.load('x.npy')))\n"
        "print(model.description.instructions.decode())"
    )
    here = {"PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(edge_engine.__file__)]), "ASMA_ISA": level}
    command = [sys.executable, "-c", script, edge_build / "csrc/edge/libasma_edge.so"]
    told = subprocess.run(command, cwd=tmp_path, env=os.environ | here, capture_output=True, text=True, check=True)
    if told.stdout.strip() not in (level, "neon"):
        pytest.skip(f"this processor has no {level}, it ran {told.stdout.strip()}")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), logits_of(model, torch.from_numpy(x)[None])[0], **NEAR)


def test_a_model_says_what_it_is(engine):
    model = student(UTD, (8, 12, 16), (1, 2, 1), frames(13, persons=2), encoders=2)
    content = edge_bytes(model)
    opened = engine.open(content)
    is_ = opened.description
    assert (is_.channels, is_.frames, is_.joints, is_.persons) == (3, 13, 20, 2)
    assert (is_.format, is_.encoders, is_.blocks, is_.classes, is_.prepares) == (2, 2, 3, 3, 1)
    assert is_.file_bytes == len(content) and is_.model_bytes < 2**20 and is_.stream_bytes < 2**20
    assert is_.instructions in (b"generic", b"avx2", b"avx512", b"neon")
    assert (is_.precision, is_.multiplies) == (b"float32", b"float32")
    assert opened.names("class", 3) == list(model.classes)
    assert opened.names("joint", 20) == list(UTD.names)


def refused(code, call, *arguments):
    """The sentence of a call that the engine refuses."""
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.code == code, caught.value
    return caught.value.sentence


def test_coordinates_that_are_not_finite(engine):
    model = student(BUILTIN.skeleton)
    with torch.no_grad():
        model.head.weight *= 1e10  # so that finite coordinates can overflow
    stream = engine.open(edge_bytes(model)).start()
    frames = BUILTIN.clip(0)[:, None].copy()
    for frame in frames[:4]:
        stream.push(frame)
    before = stream.predict()
    for value in (np.nan, np.inf, -np.inf):
        broken = frames[4].copy()
        broken[0, 7, 2] = value
        sentence = refused(NOT_FINITE, stream.push, broken)
        assert sentence == (
            f"edge: coordinates must be finite, got {value:g} at frame 4, person 0, joint 7 ({model.skeleton.names[7]})"
        )
        clip = frames.copy()
        clip[3] = broken
        assert "at frame 3, person 0, joint 7" in refused(NOT_FINITE, stream.predict_clip, clip)
    assert np.array_equal(stream.predict(), before)  # the frame was not taken
    huge = frames / np.abs(frames).max() * np.float32(3e38)
    assert "the answer is not finite" in refused(NOT_FINITE, stream.predict_clip, huge)
    stream.predict_clip(frames * 1e-30)  # hardly anything, and no length to divide by
    x = prepared(model).numpy()[0]
    x[1, 2, 3, 0] = np.nan
    assert "x must be finite, got nan at place" in refused(NOT_FINITE, stream.predict_prepared, x)


def test_calls_that_make_no_sense(engine):
    opened = engine.open(edge_bytes(student(UTD)))
    stream = opened.start()
    assert "at least one frame" in refused(NO_FRAME, stream.predict)
    assert "from 1 to" in refused(NO_FRAME, stream.predict_clip, np.zeros((0, 1, 20, 3)))
    assert "xyz must not be NULL" in refused(BAD_ARGUMENT, stream.push, None, EVERYBODY)
    stream.push(None, 0)
    assert np.isfinite(stream.predict()).all()
    stream.reset()
    refused(NO_FRAME, stream.predict)
    sentence = refused(edge_engine.TOO_LARGE, opened.start, 2**32 - 1)
    assert sentence.startswith("edge: a stream may take 1073741824 bytes, this one needs ")
    for name, arguments in (
        ("open", (None, None)),
        ("start", (None, 0, None)),
        ("push", (None, None, 0)),
        ("predict", (None, None, None)),
        ("predict_clip", (stream.handle, None, None, 1, None, None)),
        ("predict_prepared", (stream.handle, None, None, None)),
    ):
        assert "must not be NULL" in refused(BAD_ARGUMENT, engine.call, name, *arguments)


def test_clips_of_another_pipeline_are_taken_ready_made_only(engine):
    model = student(NTU, data=frames(13, persons=2, pipeline="pstl"))
    stream = engine.open(edge_bytes(model)).start()
    frame = np.zeros((2, 25, 3))
    for call, argument in ((stream.push, frame), (stream.predict_clip, frame[None])):
        assert "prepare them by asma.prepare" in refused(PREPARED_ONLY, call, argument)
    x = prepared(model)
    np.testing.assert_allclose(stream.predict_prepared(x[0].numpy()), logits_of(model, x)[0], **NEAR)


def test_the_model_stays_as_it_is():
    model = student(NTU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    edge_bytes(model.train())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_broken_weights_and_names_are_not_exported():
    model = student(NTU)
    with torch.no_grad():
        model.encoders[0].st_gcn_networks[1].tcn[2].weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match="export: all numbers of a model must be finite"):
        edge_bytes(model)
    named = student(NTU)
    named.classes = ("a", "b\0c", "d")
    with pytest.raises(ValueError, match="export: names of classes and joints must have no zero byte, got 'b"):
        edge_bytes(named)
    other = student(NTU, encoders=2)
    other.encoders[1] = student(NTU, (8, 8, 12), (1, 1, 2)).encoders[0]
    with pytest.raises(ValueError, match="export: both encoders must have as many blocks"):
        edge_bytes(other)
