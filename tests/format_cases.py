"""Clips for the tests of file formats, and how what was written and what was read are compared."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from asma.data.source import Clip, Header, LeftOut, Track
from asma_kernels import Skeleton

NTU = Skeleton.builtin("ntu25")


def header(layout="ntu25", channels="xyz", classes=("sit", "stand", "walk"), usual_split=""):
    return Header("made", Skeleton.builtin(layout), channels, classes, usual_split)


def random_clip(name="c0", frames=4, persons=1, layout="ntu25", seed=0, **fields):
    """Everybody there in every frame."""
    rng = np.random.default_rng(seed)
    joints = Skeleton.builtin(layout).num_joints
    tracks = tuple(
        Track(person, 0, rng.normal(size=(frames, joints, 3)).astype(np.float32)) for person in range(persons)
    )
    return Clip(name, frames, tracks, **{"label": 0} | fields)


def read_all(source):
    """Clips by name, and what was left out."""
    found = [item for part in source.parts for item in source.read(part)]
    clips = {item.name: item for item in found if isinstance(item, Clip)}
    left = [item for item in found if isinstance(item, LeftOut)]
    assert len(clips) + len(left) == len(found), "names are unique"
    return clips, left


def facts(clip):
    return clip.name, clip.frames, clip.label, clip.subject, clip.view, sorted(clip.splits)


def assert_same(one, other):
    """Equal facts and bit-equal tracks."""
    assert facts(one) == facts(other)
    key = lambda track: (track.person, track.start)  # noqa: E731
    for mine, others in zip(sorted(one.tracks, key=key), sorted(other.tracks, key=key), strict=True):
        assert key(mine) == key(others)
        assert others.data.dtype == np.float32
        np.testing.assert_array_equal(mine.data, others.data)


def assert_round_trip(module, clips, head, path, **options):
    """Written and read again, everything is equal and nothing is left out."""
    module.write(iter(clips), head, path)
    assert module.recognise(path) is not None
    source = module.open_source(path, **options)
    assert source.header == head
    found, left = read_all(source)
    assert left == []
    assert set(found) == {clip.name for clip in clips}
    for clip in clips:
        assert_same(clip, found[clip.name])


# A person in a frame is somewhere: all zeros would be nobody. Values beyond float16 and below one show lost digits.
coordinates = st.floats(-(2.0**60), 2.0**60, width=32)
names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
split_names = st.sampled_from(["xsub_train", "xsub_val", "xview_train", "xview_val", "mine"])


@st.composite
def tracks(draw, frames, persons, joints, whole=False):
    """Of each person one or two runs with a gap between them, the last frame with somebody in it."""
    found = []
    for person in range(persons):
        cuts = [0, frames]
        if not whole and frames > 2 and draw(st.booleans()):
            gap = draw(st.integers(1, frames - 2))
            cuts = [0, gap, gap + 1, frames]
        for start, end in zip(cuts[::2], cuts[1::2], strict=True):
            seed = draw(st.integers(0, 2**32 - 1))
            data = np.random.default_rng(seed).normal(size=(end - start, joints, 3)).astype(np.float32)
            data[0, 0] = draw(st.tuples(coordinates, coordinates, coordinates))
            found.append(Track(person, start, data))
    return tuple(found)


@st.composite
def clip_sets(draw, layout="ntu25", most_persons=2, most_frames=7, whole=False, nobody=False, name=names, sides=()):
    """Up to four clips with different names; `whole` for formats of one person in all frames, `nobody` lets a clip be
    without a body, `sides` puts each clip on one of two sides."""
    joints = Skeleton.builtin(layout).num_joints
    clips = []
    for own in draw(st.lists(name, min_size=1, max_size=4, unique=True)):
        frames = draw(st.integers(1, most_frames))
        persons = draw(st.integers(0 if nobody else 1, most_persons))
        splits = set(draw(st.lists(split_names, max_size=3))) - set(sides)
        splits |= {draw(st.sampled_from(sides))} if sides else set()
        unknown_or = lambda most: st.integers(-1, most)  # noqa: E731
        clips.append(
            Clip(
                own,
                frames,
                draw(tracks(frames, persons, joints, whole)),
                draw(st.integers(0, 2)),
                draw(unknown_or(9)),
                draw(unknown_or(4)),
                tuple(sorted(splits)),
            )  # fmt: skip
        )
    return clips
