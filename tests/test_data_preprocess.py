"""Preprocessing: what it makes equal, what it leaves alone, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data import builtin_clips, centre_clips, centre_frames, face_forward, scale_body

EDGES = [(0, 1), (1, 2), (2, 3)]
FUNCTIONS = {
    "centre_clips": lambda x: centre_clips(x, 1),
    "centre_frames": lambda x: centre_frames(x, 1),
    "face_forward": lambda x: face_forward(x, 2, 3),
    "scale_body": lambda x: scale_body(x, EDGES),
}
each = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
seeds = st.integers(0, 2**32 - 1)


def random_clips(seed=0, shape=(3, 3, 5, 4, 2)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def turn(x, degrees):
    """Turned about y, the whole batch."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return np.einsum("ij,njtvm->nitvm", matrix, x)


def distances(x):
    return np.linalg.norm(x[:, :, :, :, None] - x[:, :, :, None], axis=1)


@each
def test_shape_and_type_are_kept_and_the_input_is_untouched(function):
    for dtype in (np.float32, np.float64, np.float16):
        x = random_clips().astype(dtype)
        before = x.copy()
        out = function(x)
        assert out.shape == x.shape and out.dtype == np.float32
        assert np.array_equal(x, before) and not np.shares_memory(out, x)


@each
def test_any_strides_give_the_same(function):
    x = random_clips()
    strided = np.ascontiguousarray(x.transpose(0, 4, 2, 3, 1)).transpose(0, 4, 2, 3, 1)
    assert np.array_equal(function(strided), function(x))


@each
def test_a_clip_does_not_depend_on_its_neighbours(function):
    x = random_clips()
    assert np.array_equal(function(x)[1:2], function(x[1:2]))


@each
def test_no_clip_gives_no_clip(function):
    assert function(np.zeros((0, 3, 5, 4, 1))).shape == (0, 3, 5, 4, 1)


@each
def test_padding_stays_zero(function):
    x = random_clips()
    x[0, :, :, :, 1] = 0
    x[1, :, 3:] = 0
    x[2] = 0
    out = function(x)
    assert not out[0, :, :, :, 1].any() and not out[1, :, 3:].any() and not out[2].any()


@each
def test_a_late_first_frame_counts_as_the_first(function):
    x = random_clips()
    padded = np.concatenate([np.zeros_like(x[:, :, :2]), x], axis=2)
    np.testing.assert_allclose(function(padded)[:, :, 2:], function(x), atol=1e-5)


@settings(deadline=None)
@given(seed=seeds)
def test_centre_clips_forgets_the_place_and_keeps_the_motion(seed):
    x = random_clips(seed)
    out = centre_clips(x, 1)
    assert not out[:, :, 0, 1, 0].any()
    np.testing.assert_allclose(np.diff(out, axis=2), np.diff(x, axis=2), atol=1e-5)
    np.testing.assert_allclose(distances(out), distances(x), atol=1e-5)
    np.testing.assert_allclose(centre_clips(x + np.float32(2), 1), out, atol=1e-5)


@settings(deadline=None)
@given(seed=seeds)
def test_centre_frames_forgets_where_the_body_goes(seed):
    x = random_clips(seed)
    out = centre_frames(x, 1)
    assert not out[:, :, :, 1, 0].any()
    np.testing.assert_allclose(distances(out), distances(x), atol=1e-5)
    path = np.random.default_rng(seed).normal(size=(3, 3, 5, 1, 1))
    np.testing.assert_allclose(centre_frames(x + path, 1), out, atol=1e-5)


def test_frames_without_the_first_person_keep_their_place():
    x = random_clips()
    x[0, :, 2, :, 0] = 0
    assert np.array_equal(centre_frames(x, 1)[0, :, 2], x[0, :, 2])


@settings(deadline=None)
@given(seed=seeds, degrees=st.floats(-360, 360))
def test_face_forward_undoes_any_turn(seed, degrees):
    x = random_clips(seed)
    out = face_forward(x, 2, 3)
    direction = out[:, :, 0, 3, 0] - out[:, :, 0, 2, 0]
    assert (direction[:, 0] > 0).all()
    np.testing.assert_allclose(direction[:, 2], 0, atol=1e-5)
    np.testing.assert_allclose(distances(out), distances(x), atol=1e-4)
    assert np.array_equal(out[:, 1], x[:, 1])
    across = np.hypot(*(x[:, [0, 2], 0, 3, 0] - x[:, [0, 2], 0, 2, 0]).T)
    clear = across > 0.05
    np.testing.assert_allclose(face_forward(turn(x, degrees), 2, 3)[clear], out[clear], atol=1e-3)


def test_face_forward_leaves_a_pair_without_direction_alone():
    x = random_clips()
    x[:, [0, 2], 0, 3] = x[:, [0, 2], 0, 2]
    assert np.array_equal(face_forward(x, 2, 3), x)


@settings(deadline=None)
@given(seed=seeds, size=st.floats(0.01, 100))
def test_scale_body_makes_bodies_equally_large(seed, size):
    x = random_clips(seed)
    out = scale_body(x, EDGES)
    bones = np.stack([np.linalg.norm(out[:, :, :, a, 0] - out[:, :, :, b, 0], axis=1) for a, b in EDGES])
    np.testing.assert_allclose(bones.mean((0, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(scale_body(x * size, EDGES), out, rtol=1e-4)


def test_scale_body_leaves_a_body_without_size_alone():
    x = np.ones((2, 3, 4, 4, 1), np.float32)
    assert np.array_equal(scale_body(x, EDGES), x)


def test_people_seen_from_all_sides_face_the_camera():
    clips = builtin_clips(classes=4, subjects=3, repeats=1)
    x = face_forward(centre_clips(clips.resample(16), 0), left_joint=12, right_joint=16)
    hips = x[:, :, 0, 16, 0] - x[:, :, 0, 12, 0]
    feet = x[:, 2, 0, [15, 19], 0].mean(1) - x[:, 2, 0, [14, 18], 0].mean(1)
    np.testing.assert_allclose(hips[:, 2], 0, atol=1e-5)
    assert np.median(feet) < 0, "toes point towards the camera, -z"


@each
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 5, 4, 1)), r"x must be \(N, 3, T, V, M\), got shape \(3, 5, 4, 1\)"),
        (np.zeros((2, 2, 5, 4, 1)), r"got shape \(2, 2, 5, 4, 1\)"),
        (np.zeros((2, 3, 0, 4, 1)), r"got shape \(2, 3, 0, 4, 1\)"),
        (np.zeros((2, 3, 5, 4, 1), complex), "x must be of real numbers, got complex128"),
        (np.full((2, 3, 5, 4, 1), np.nan), "x must be finite, got nan at clip 0, frame 0, joint 0"),
    ],
)
def test_bad_clips_are_refused(function, x, message):
    with pytest.raises(ValueError, match=message):
        function(x)


@pytest.mark.parametrize("joint", [-1, 4, 1.0, True, "hip"])
def test_unknown_joints_are_refused(joint):
    x = random_clips()
    for call in (
        lambda: centre_clips(x, joint),
        lambda: centre_frames(x, joint),
        lambda: face_forward(x, joint, 2),
        lambda: face_forward(x, 2, joint),
        lambda: scale_body(x, [(0, joint)]),
    ):
        with pytest.raises(ValueError, match=r"a joint must be in \[0, 4\)"):
            call()


def test_one_joint_is_no_direction():
    with pytest.raises(ValueError, match="face_forward: the left and the right joint must differ"):
        face_forward(random_clips(), 2, 2)


@pytest.mark.parametrize("edges", [[], [(0,)], [(0, 1, 2)], [0, 1]])
def test_bad_edges_are_refused(edges):
    with pytest.raises(ValueError, match="scale_body: edges must be a list of at least one pair"):
        scale_body(random_clips(), edges)
