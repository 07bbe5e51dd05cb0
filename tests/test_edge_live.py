"""A live stream of the edge engine gives, frame by frame, what PyTorch gives for the whole sequence."""

import threading

import numpy as np
import pytest
import torch
from edge_engine import (
    BAD_ARGUMENT,
    NO_FRAME,
    NOT_FINITE,
    PREPARED_ONLY,
    TOO_LARGE,
    RefusedError,
    live_logits_of,
    student,
)
from stores import CHAIN

from asma.config import DataConfig
from asma.data import builtin_clips
from asma.edge_file import edge_bytes
from asma.prepare import place, stream
from asma_kernels import Skeleton

NTU, UTD = Skeleton.builtin("ntu25"), Skeleton.builtin("utd20")
BUILTIN = builtin_clips(classes=3, subjects=2, views=1, repeats=1)
CLIP = BUILTIN.clip(0)
MODES = ("aligned", "mean", "concat")
NEAR = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def frames(count, **others):
    return DataConfig(frames=count, face="none", **others)


def random_frames(model, count, seed=1):
    """Prepared frames (C, count, V, M)."""
    shape = (model.first_encoder.config.in_channels, count, model.skeleton.num_joints, model.data.persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check_stream(push, live, expected):
    """Pushes frame after frame; the number of answers."""
    answers = 0
    for t, logits in enumerate(expected):
        push(t)
        if logits is None:
            with pytest.raises(RefusedError, match=f"answers after [0-9]+ frames, it has {t + 1}$") as caught:
                live.predict()
            assert caught.value.code == NO_FRAME
        else:
            np.testing.assert_allclose(live.predict(), logits, **NEAR, err_msg=f"after frame {t}")
            answers += 1
    return answers


SHAPES = {
    "plain": lambda: student(NTU),
    "no stride": lambda: student(CHAIN, (8, 8, 16), (1, 1, 1), frames(9)),
    "one block": lambda: student(UTD, (16,), (1,)),
    "odd channels": lambda: student(UTD, (5, 7, 7, 33), (1, 2, 1, 3), frames(13)),
    "one tap": lambda: student(NTU, (8, 8), (1, 2), kernel=1),
    "three taps": lambda: student(NTU, (8, 8, 12), (1, 1, 2), kernel=3),
    "fifteen taps": lambda: student(CHAIN, (8, 12), (2, 3), frames(5), kernel=15),
    "stride over the frames": lambda: student(CHAIN, (8, 12), (9, 2), frames(7)),
    "one partition": lambda: student(NTU, partition="uniform"),
    "four partitions": lambda: student(NTU, partition="spatial-full"),
    "segments": lambda: student(NTU, (8, 12), (2, 2), frames(13), segments=4),
    "more segments than frames": lambda: student(NTU, (8, 12), (2, 2), frames(5), segments=3),
    "two persons": lambda: student(NTU, data=frames(13, persons=2)),
    "two channels in": lambda: student(UTD, in_channels=2),
    "another pipeline": lambda: student(NTU, data=frames(13, persons=2, pipeline="pstl")),
    "PSTL's": lambda: student(NTU, (8, 8, 8, 8, 16, 16, 16, 24, 24, 80), (1, 1, 1, 1, 2, 1, 1, 2, 1, 1), frames(50)),
    **{f"teacher, {mode}": lambda mode=mode: student(UTD, encoders=2, mode=mode, segments=2) for mode in MODES},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_each_frame_is_answered_as_pytorch_answers_the_whole_sequence(engine, shape):
    model = SHAPES[shape]()
    opened = engine.open(edge_bytes(model))
    live, is_ = opened.start_live(), opened.describe_live()
    count = is_.full + 2 * is_.stride + 1
    x = random_frames(model, count)
    expected = live_logits_of(model, x)
    assert expected[is_.first - 1] is not None and not any(each is not None for each in expected[: is_.first - 1])
    frame = x.transpose(0, 1).numpy()
    assert check_stream(lambda t: live.push_prepared(frame[t]), live, expected) == count - is_.first + 1
    live.reset()
    check_stream(lambda t: live.push_prepared(frame[t]), live, expected[: is_.first + 3])


@pytest.mark.parametrize("window", [1, 6, 40])
def test_the_window_says_how_many_frames_count(engine, window):
    model = student(NTU, (8, 12), (1, 2), frames(13), kernel=3, segments=2)
    opened = engine.open(edge_bytes(model))
    live, full = opened.start_live(window), opened.describe_live(window).full
    x = random_frames(model, full + 4)
    check_stream(lambda t: live.push_prepared(x[:, t].numpy()), live, live_logits_of(model, x, window))
    # A full answer sees `full` frames, and nothing of what was there before them, be it zeros or other frames.
    for before in (x[:, :0], random_frames(model, 4, seed=2)):
        other = opened.start_live(window)
        for frame in torch.cat([before, x[:, -full:]], dim=1).transpose(0, 1).numpy():
            other.push_prepared(frame)
        assert np.array_equal(other.predict(), live.predict())
    other.reset()
    for frame in x[:, 1 - full :].transpose(0, 1).numpy():
        other.push_prepared(frame)
    assert not np.array_equal(other.predict(), live.predict())


def test_answers_come_once_a_stride(engine):
    model = student(NTU, (8, 8, 12), (2, 1, 3), frames(13))
    opened = engine.open(edge_bytes(model))
    live, is_ = opened.start_live(), opened.describe_live()
    assert is_.stride == 6 and is_.first == 1 + 4 + 4 * 2 + 4 * 2
    x = random_frames(model, 60)
    found = []
    for t in range(60):
        live.push_prepared(x[:, t].numpy())
        if t >= is_.first - 1:
            found.append(live.predict())
    new = [t for t in range(1, len(found)) if not np.array_equal(found[t], found[t - 1])]
    assert new == list(range(6, len(found), 6))


def prepared_live(raw, skeleton, data):
    """(C, T, V, M) of raw frames (T, M, V, 3), zeros for who is not there, by the package's own preparation.

    Its rule for a clip, with the first frame that has the first person as the clip that says where, how turned and how
    large; frames before that stay as they are.
    """
    x = np.ascontiguousarray(raw.transpose(3, 0, 2, 1)[None], np.float32)
    there = (x != 0).any((1, 3))[0, :, 0]
    if there.any():
        first = int(there.argmax())
        x = x.copy()
        rest = x[:, :, first:]
        size = place(rest[:, :, :1], skeleton, data)  # the clip of one frame
        without = DataConfig(centre=data.centre, face=data.face, scale=False)
        rest = place(rest, skeleton, without)
        largest = np.abs(size).argmax()
        rest = rest / (rest[:, :, :1].flat[largest] / size.flat[largest])
        x[:, :, first:] = rest
    x = stream(x, skeleton, data.stream)
    return torch.from_numpy(x[0, :, :-1] if data.stream == "motion" else x[0])


PREPARATIONS = {
    "frame": DataConfig(frames=16),
    "clip, hips, scale": DataConfig(frames=16, centre="clip", face="hips", scale=True),
    "frame, shoulders, scale": DataConfig(frames=16, centre="frame", face="shoulders", scale=True),
    "nothing": DataConfig(frames=9, centre="none", face="none"),
    "hips, bone": DataConfig(frames=16, centre="none", face="hips", stream="bone"),
    "clip, scale, motion": DataConfig(frames=16, centre="clip", face="shoulders", stream="motion", scale=True),
}
# Frames without the first and without the second person.
AWAY = {
    "both": ((), ()),
    "first comes late": (range(7), ()),
    "second comes and goes": ((), (*range(5), *range(20, 30))),
    "nobody in the middle": (range(9, 14), range(9, 14)),
    "second never": ((), range(1000)),
    "nobody for long": (range(15, 1000), range(11, 60)),
    "nobody ever": (range(1000), range(1000)),
}


@pytest.mark.parametrize("preparation", PREPARATIONS)
@pytest.mark.parametrize("away", AWAY)
def test_frames_are_prepared_as_they_come(engine, preparation, away):
    data = DataConfig(**{**vars(PREPARATIONS[preparation]), "persons": 2})
    model = student(BUILTIN.skeleton, (8, 8), (1, 2), data, kernel=3)
    live = engine.open(edge_bytes(model)).start_live(8)
    walk = np.linspace(0, 1, len(CLIP))[:, None, None] * [0.5, 0.1, -0.3]
    raw = np.stack([CLIP + walk, CLIP[::-1] * 1.1 + [1, 0, 0.5]], axis=1).astype(np.float32)
    raw = np.concatenate([raw, raw[::-1]])[:70]
    present = np.full(len(raw), 3)
    for person, missing in enumerate(AWAY[away]):
        for t in missing:
            if t < len(raw):
                raw[t, person] = 0
                present[t] &= ~(1 << person)
    x = prepared_live(raw, BUILTIN.skeleton, data)
    expected = live_logits_of(model, x, 8)
    expected = [None, *expected] if data.stream == "motion" else expected
    nobody_looks = np.where((present[:, None] >> np.arange(2) & 1)[:, :, None, None], raw, np.nan)

    def push(t):
        live.push(nobody_looks[t] if present[t] else None, int(present[t]))

    assert check_stream(push, live, expected) == len(raw) - engine.open(edge_bytes(model)).describe_live(8).first + 1
    live.reset()
    check_stream(push, live, expected[:20])


def test_who_was_away_for_long_comes_back(engine):
    """What stands still is not computed again, and nothing shows it."""
    model = student(NTU, (8, 8, 12), (1, 2, 1), frames(9, persons=2), kernel=3)
    live = engine.open(edge_bytes(model)).start_live()
    x = random_frames(model, 160)
    x[..., 30:90, :, 1] = 0
    x[:, 70:120, :, 0] = 0
    check_stream(lambda t: live.push_prepared(x[:, t].numpy()), live, live_logits_of(model, x))


def test_the_same_bits_in_every_stream_and_thread(engine):
    model = student(NTU, (8, 8, 16), (1, 1, 2), frames(23, persons=2), kernel=3)
    shared = engine.open(edge_bytes(model))
    x = random_frames(model, 40).transpose(0, 1).numpy()

    def answers():
        live = shared.start_live()
        for frame in x[: shared.describe_live().first]:
            live.push_prepared(frame)
        found = [live.predict()]
        for frame in x[shared.describe_live().first :]:
            live.push_prepared(frame)
            found.append(live.predict())
        return np.array(found)

    expected, found = answers(), []
    threads = [threading.Thread(target=lambda: found.append(answers())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(each, expected) for each in found)


def refused(code, call, *arguments):
    """The sentence of a call that the engine refuses."""
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.code == code, caught.value
    return caught.value.sentence


def test_calls_that_make_no_sense(engine):
    model = student(BUILTIN.skeleton, kernel=3)
    opened = engine.open(edge_bytes(model))
    live, window = opened.start_live(), opened.start()
    V = model.skeleton.num_joints
    assert "answers after 3 frames, it has 0" in refused(NO_FRAME, live.predict)
    clip, x = np.zeros((5, 1, V, 3)), np.zeros((3, 13, V, 1))
    assert "asma_edge_predict_clip is for a stream of asma_edge_start, not for a live one" in refused(
        BAD_ARGUMENT, live.predict_clip, clip
    )
    assert "not for a live one" in refused(BAD_ARGUMENT, live.predict_prepared, x)
    sentence = refused(BAD_ARGUMENT, window.push_prepared, x[:, 0])
    assert sentence.endswith("is for a stream of asma_edge_start_live, not for one that takes windows")
    for name, arguments in (("start_live", (None, 0, None)), ("push_prepared", (live.handle, None))):
        assert "must not be NULL" in refused(BAD_ARGUMENT, engine.call, name, *arguments)
    assert "a live stream may take 1073741824 bytes" in refused(TOO_LARGE, opened.start_live, 2**32 - 1)
    other = engine.open(edge_bytes(student(NTU, data=frames(13, pipeline="pstl")))).start_live()
    assert "or asma_edge_push_prepared" in refused(PREPARED_ONLY, other.push, np.zeros((1, 25, 3)))


def test_a_model_whose_answer_would_come_too_late(engine):
    model = student(CHAIN, (1,) * 5, (200,) * 5, frames(5), kernel=3)
    opened = engine.open(edge_bytes(model))
    assert opened.describe_live().full == 2**32 - 1
    assert "its strides are too long" in refused(TOO_LARGE, opened.start_live)
    assert np.isfinite(opened.start().predict_prepared(np.zeros((3, 5, 3, 1)))).all()


def test_broken_frames_are_not_taken_and_huge_ones_pass(engine):
    model = student(BUILTIN.skeleton, (8, 8), (1, 1), frames(5, centre="none"), kernel=3)
    with torch.no_grad():
        model.head.weight *= 1e10  # so that finite coordinates can overflow
    opened = engine.open(edge_bytes(model))
    live, other = opened.start_live(), opened.start_live()
    for t in range(8):
        live.push(CLIP[t][None])
        other.push(CLIP[t][None])
    broken = CLIP[8][None].copy()
    broken[0, 7, 2] = np.nan
    assert "got nan at frame 8, person 0, joint 7" in refused(NOT_FINITE, live.push, broken)
    bad = np.zeros((3, model.skeleton.num_joints, 1))
    bad[1, 2, 0] = np.inf
    assert "x must be finite, got inf" in refused(NOT_FINITE, live.push_prepared, bad)
    assert np.array_equal(live.predict(), other.predict())
    live.push(np.full_like(broken, 3e38))
    other.push(CLIP[8][None])
    live.push(CLIP[9][None])
    other.push(CLIP[9][None])
    live.push(CLIP[10][None])
    other.push(CLIP[10][None])
    assert "the answer is not finite" in refused(NOT_FINITE, live.predict)
    for t in range(11, 25):
        live.push(CLIP[t][None])
        other.push(CLIP[t][None])
    assert np.array_equal(live.predict(), other.predict())  # once it is past, it is past
