"""Clips of one layout in the joints of another."""

import numpy as np
import pytest

from asma.config import DataConfig
from asma.data import builtin_clips
from asma.data.mapped import MappedClips
from asma.prepare import open_split, prepare
from asma_kernels import Skeleton

CLIPS = builtin_clips(classes=2, subjects=2, views=1, repeats=2)
UCLA = Skeleton.builtin("ucla20")


def test_joints_are_those_of_the_same_name() -> None:
    mapped = MappedClips(CLIPS, UCLA)
    x, y = CLIPS.resample(16), mapped.resample(16)
    assert y.shape == (len(CLIPS), 3, 16, 20, 1)
    names = CLIPS.skeleton.names
    for joint, name in enumerate(UCLA.names):
        if name in names and name != "spine":  # Kinect v2's spine lies between the shoulders
            np.testing.assert_allclose(y[:, :, :, joint], x[:, :, :, names.index(name)], rtol=1e-6)


def test_all_else_is_the_sets_own() -> None:
    mapped = MappedClips(CLIPS, UCLA)
    assert (len(mapped), mapped.classes, mapped.title) == (len(CLIPS), CLIPS.classes, CLIPS.title)
    train, test = mapped.split("subject-odd-even")
    own, _ = CLIPS.split("subject-odd-even")
    assert train.skeleton is UCLA and test.skeleton is UCLA
    np.testing.assert_array_equal(train.label, own.label)
    np.testing.assert_array_equal(train.resample(8), MappedClips(own, UCLA).resample(8))


def test_clips_are_prepared_by_their_new_skeleton() -> None:
    """Centred and turned by the joints that the encoder knows, after they are mapped."""
    data = DataConfig(clips="builtin:classes=2,subjects=4,views=1,repeats=2", frames=16, face="hips", scale=True)
    split = open_split(data, UCLA)
    assert split.train_x.shape[3] == 20
    np.testing.assert_allclose(split.train_x[:, :, :, UCLA.centre], 0, atol=1e-6)
    np.testing.assert_array_equal(split.train_x, prepare(split.train, data))


def test_a_skeleton_without_a_common_joint_is_refused() -> None:
    with pytest.raises(ValueError, match="no counterpart"):
        MappedClips(CLIPS, Skeleton.from_edges([(0, 1)]))
