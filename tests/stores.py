"""Clips of any number of persons, and stores of them, for tests."""

import numpy as np
from hypothesis import strategies as st

from asma.data import UNKNOWN, Clip, Header, StoreWriter, Track
from asma_kernels import Skeleton

CHAIN = Skeleton.from_edges([(0, 1), (1, 2)], names=["hip", "chest", "head"], centre=1, name="chain")
HEADER = Header("made", CHAIN, "xyz", ("sit", "stand"), "subject-odd-even")


def frames(count, seed=0, joints=3):
    return np.random.default_rng([seed, count]).normal(size=(count, joints, 3)).astype(np.float32)


def clip(number, length=6, tracks=None, joints=3, **changes):
    """One person in every frame, unless `tracks` says otherwise as (person, start, length)."""
    spans = [(0, 0, length)] if tracks is None else tracks
    made = tuple(Track(p, start, frames(n, number * 100 + k, joints)) for k, (p, start, n) in enumerate(spans))
    fields = {"label": number % 2, "subject": number % 4 + 1, "view": number % 3 + 1, "source": f"file{number}"}
    return Clip(f"c{number}", length, made, **(fields | changes))


def write(path, clips, header=HEADER, **options):
    """A store of clips, all of which must fit."""
    with StoreWriter(path, header, **options) as writer:
        assert [left_out for each in clips if (left_out := writer.add(each))] == []
    return path


@st.composite
def spans(draw, length, most_persons=3):
    """Tracks of a clip as (person, start, length): none of a person overlaps, some are absent for a while."""
    found = []
    for person in range(draw(st.integers(0, most_persons))):
        start = draw(st.integers(0, length - 1))
        while start < length:
            count = draw(st.integers(1, length - start))
            found.append((person, start, count))
            start += count + draw(st.integers(0, 3))
    return found


@st.composite
def clips(draw, most=6):
    made = []
    for number in range(draw(st.integers(1, most))):
        length = draw(st.integers(1, 9))
        label, subject = (draw(st.integers(UNKNOWN, 1)) for _ in range(2))
        name = draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5))
        splits = tuple(draw(st.sets(st.sampled_from(["train", "val", "Füße"]))))
        one = clip(number, length, draw(spans(length)), label=label, subject=subject, splits=splits)
        made.append(Clip(**(vars(one) | {"name": f"{number}{name}"})))
    return made


def same_clip(one, other):
    """Equal in everything, frames bit for bit; splits are a set."""
    fields = ("name", "frames", "label", "subject", "view", "source")
    order = sorted(one.tracks, key=lambda track: track[:2]), sorted(other.tracks, key=lambda track: track[:2])
    return (
        all(getattr(one, field) == getattr(other, field) for field in fields)
        and set(one.splits) == set(other.splits)
        and len(order[0]) == len(order[1])
        and all(a[:2] == b[:2] and np.array_equal(a.data, b.data) for a, b in zip(*order, strict=True))
    )
