"""The data set made by code: the same every time, of bodies that could live, and neither trivial nor hopeless."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data import builtin_clips, centre_clips, face_forward, open_clips

HEAD, SPINE_BASE = 3, 0
LEFT_WRIST, RIGHT_WRIST, LEFT_HIP, RIGHT_HIP, LEFT_KNEE = 6, 10, 12, 16, 13
LEGS = ((12, 13, 14), (16, 17, 18))


@pytest.fixture(scope="module")
def clips():
    return builtin_clips(classes=18, subjects=6, repeats=2)


@pytest.fixture(scope="module")
def default_clips():
    return builtin_clips()


def fingerprint(made):
    digest = hashlib.sha256()
    for array in (made.data, made.offsets, made.label, made.subject, made.view, made.name):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def of_class(made, name):
    return made.subset(made.label == made.classes.index(name))


def facing(made, frames=24):
    """(N, 3, T, V), everybody at the origin and facing -z."""
    return face_forward(centre_clips(made.resample(frames), SPINE_BASE), LEFT_HIP, RIGHT_HIP)[..., 0]


def path_length(x, joint):
    """(N) how far a joint travels relative to the spine."""
    moves = np.diff(x[:, :, :, joint] - x[:, :, :, SPINE_BASE], axis=2)
    return np.linalg.norm(moves, axis=1).sum(1)


def test_the_default_set_is_what_its_documentation_says(default_clips):
    made = default_clips
    assert len(made) == 12 * 12 * 3 * 3 and len(made.classes) == 12
    assert set(made.subject) == set(range(1, 13)) and set(made.view) == {1, 2, 3}
    assert np.bincount(made.label).tolist() == [108] * 12
    assert made.lengths.min() >= 40 and made.lengths.max() <= 90 and len(set(made.lengths)) > 20
    assert len(set(made.name)) == len(made)
    assert made.skeleton.name == "ntu25" and made.data.dtype == np.float32
    assert [len(side) for side in made.split("subject-odd-even")] == [648, 648]
    assert [len(side) for side in made.split("view-12-3")] == [864, 432]


def test_the_same_bits_in_another_process():
    code = (
        "import hashlib; from asma.data import builtin_clips; made = builtin_clips(seed=5, classes=3, subjects=2);"
        "print(hashlib.sha256(made.data.tobytes()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    made = builtin_clips(seed=5, classes=3, subjects=2)
    assert other.stdout.strip() == hashlib.sha256(made.data.tobytes()).hexdigest()


def test_the_seed_decides_alone():
    np.random.seed(1)
    one = fingerprint(builtin_clips(seed=1, classes=2, subjects=2))
    np.random.seed(2)
    expected = np.random.random()
    np.random.seed(2)
    assert fingerprint(builtin_clips(seed=1, classes=2, subjects=2)) == one
    assert np.random.random() == expected, "NumPy's global generator must stay as it was"
    assert fingerprint(builtin_clips(seed=2, classes=2, subjects=2)) != one


def test_fewer_classes_are_the_first_of_more(clips):
    few = builtin_clips(classes=4, subjects=6, repeats=2)
    first = clips.subset(clips.label < 4)
    assert np.array_equal(few.data, first.data) and np.array_equal(few.name, first.name)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    classes=st.integers(2, 18),
    subjects=st.integers(1, 3),
    views=st.integers(1, 4),
    repeats=st.integers(1, 2),
)
def test_every_size_gives_every_combination_once(seed, classes, subjects, views, repeats):
    made = builtin_clips(seed, classes, subjects, views, repeats)
    assert len(made) == classes * subjects * views * repeats
    combinations = {*zip(made.label.tolist(), made.subject.tolist(), made.view.tolist(), strict=True)}
    assert len(combinations) == classes * subjects * views
    assert made.lengths.min() >= 40 and made.lengths.max() <= 90
    assert np.abs(made.data[..., :2]).max() < 4 and made.data[..., 2].min() > 0


@pytest.mark.parametrize(
    ("argument", "value"),
    [("seed", -1), ("seed", 1.0), ("classes", 1), ("classes", 19), ("subjects", 0), ("views", 0), ("repeats", -2),
     ("subjects", "12"), ("views", None), ("repeats", True)],
)  # fmt: skip
def test_bad_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"builtin_clips: {argument} must be an integer in "):
        builtin_clips(**{argument: value})


@pytest.mark.parametrize("source", ["builtin:", "builtin:seed", "builtin:seed=", "builtin:seed=x", "builtin:seed=-1",
                                    "builtin:colour=3", "builtin:seed=1,seed=2", "builtin:classes=1"])  # fmt: skip
def test_open_clips_refuses(source):
    with pytest.raises(ValueError, match="open_clips: |builtin_clips: "):
        open_clips(source)


def test_bones_keep_their_length_and_both_sides_match(clips):
    x = clips.resample(24)[..., 0]
    flip = clips.skeleton.flip
    for a, b in clips.skeleton.edges:
        length = np.linalg.norm(x[:, :, :, a] - x[:, :, :, b], axis=1)
        middle = np.median(length, axis=1)
        assert 0.02 < np.median(middle) < 0.55
        assert np.median(np.abs(length - middle[:, None])) < 0.03
        mirrored = np.linalg.norm(x[:, :, :, flip[a]] - x[:, :, :, flip[b]], axis=1)
        assert abs(np.median(mirrored) - np.median(length)) < 0.03


def test_bodies_differ_by_person_and_have_human_size(clips):
    stand = of_class(clips, "wave right hand")
    x = stand.resample(24)[:, 1, :, :, 0]
    tall = np.median(x[:, :, HEAD] - x[:, :, [15, 19]].min(2), axis=1)
    by_person = [np.median(tall[stand.subject == person]) for person in np.unique(stand.subject)]
    assert min(by_person) > 1.3 and max(by_person) < 1.95 and np.ptp(by_person) > 0.08


def test_heads_are_up_and_the_right_is_right(clips):
    middle = clips.subset(clips.view == 2)
    x = middle.resample(8)[..., 0]
    assert (np.median(x[:, 1, :, HEAD] - x[:, 1, :, SPINE_BASE], axis=1) > 0.25).mean() > 0.99
    assert (x[:, 0, 0, RIGHT_HIP] > x[:, 0, 0, LEFT_HIP]).mean() > 0.99


def test_knees_bend_forward(clips):
    x = facing(clips)
    for hip, knee, ankle in LEGS:
        thigh, shank = x[:, :, :, knee] - x[:, :, :, hip], x[:, :, :, ankle] - x[:, :, :, knee]
        # About the axis to the body's right, a shank that bends back has a positive cross product with its thigh.
        bend = thigh[:, 2] * shank[:, 1] - thigh[:, 1] * shank[:, 2]
        bent = np.abs(bend) > 0.03
        assert (bend[bent] > 0).mean() > 0.97


def test_feet_stand_on_one_floor(clips):
    standing = ("sit down", "squat", "bow", "wave right hand", "drink", "walk in place")
    for name in standing:
        made = of_class(clips, name)
        for i in range(len(made)):
            lowest = made.clip(i)[:, [14, 15, 18, 19], 1].min(1)
            assert np.abs(lowest - np.median(lowest)).mean() < 0.08, f"{name}: the floor moves in {made.name[i]}"


def test_cameras_stand_where_they_should(clips):
    x = clips.resample(2)[:, :, 0, :, 0]
    hips = x[:, :, RIGHT_HIP] - x[:, :, LEFT_HIP]
    yaw = np.degrees(np.arctan2(-hips[:, 2], hips[:, 0]))
    for view, expected in ((1, -45), (2, 0), (3, 45)):
        assert abs(np.median(yaw[clips.view == view]) - expected) < 10


def test_pairs_that_differ_by_time_side_or_tempo_do(clips):
    height = {}
    for name in ("sit down", "stand up"):
        x = of_class(clips, name).resample(10)[..., 0]
        height[name] = x[:, 1, :, HEAD] - x[:, 1, :, [14, 18]].min(0)
    assert (height["sit down"][:, 0] > height["sit down"][:, -1] + 0.15).all()
    assert (height["stand up"][:, 0] < height["stand up"][:, -1] - 0.15).all()

    right, left = facing(of_class(clips, "wave right hand")), facing(of_class(clips, "wave left hand"))
    assert (path_length(right, RIGHT_WRIST) > path_length(right, LEFT_WRIST)).mean() > 0.85
    assert (path_length(left, LEFT_WRIST) > path_length(left, RIGHT_WRIST)).mean() > 0.85

    walk, jog = facing(of_class(clips, "walk in place"), 64), facing(of_class(clips, "jog in place"), 64)
    assert np.median(path_length(jog, LEFT_KNEE)) > 1.2 * np.median(path_length(walk, LEFT_KNEE))


def nearest_neighbour(train, test, prepare):
    one, other = (prepare(side).reshape(len(side), -1).astype(np.float64) for side in (train, test))
    squared = (other**2).sum(1)[:, None] - 2 * other @ one.T + (one**2).sum(1)
    return (train.label[squared.argmin(1)] == test.label).mean()


def test_raw_coordinates_neither_fail_nor_suffice(default_clips):
    def centred(side):
        return centre_clips(side.resample(16), SPINE_BASE)

    def mean_pose(side):
        return centred(side).mean(2)

    by_subject = nearest_neighbour(*default_clips.split("subject-odd-even"), centred)
    by_view = nearest_neighbour(*default_clips.split("view-12-3"), centred)
    pose = nearest_neighbour(*default_clips.split("subject-odd-even"), mean_pose)
    assert 0.5 < by_subject < 0.85
    assert 0.4 < by_view < by_subject
    assert pose < by_subject - 0.05, "a mean pose must not do"
