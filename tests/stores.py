"""Clips of any number of persons, and stores of them, for tests."""

import os
import signal
import time

import numpy as np

from asma.data import Clip, Header, LeftOut, StoreWriter, Track
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


class MadeSource:
    """A source of `parts` parts of clips of random lengths, some of which are left out; other processes make the same.

    Each reading leaves a file named after part and process in `log`. Part `broken` cannot be read, part `deadly` ends
    the process that reads it, and every reading takes `seconds`.
    """

    format = "made"

    def __init__(self, parts, log=None, broken=-1, deadly=-1, seconds=0.0, per_part=5):
        self.header = HEADER
        self.parts = tuple(f"part{number}" for number in range(parts))
        self.log, self.broken, self.deadly, self.seconds, self.per_part = log, broken, deadly, seconds, per_part

    def read(self, part):
        number = self.parts.index(part)
        if self.log is not None:
            (self.log / f"{part}.{os.getpid()}.{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        if number == self.broken:
            raise ValueError(f"{part}: line 7: the number of bodies must be in [0, 64], got -3")
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        for place in range(number * self.per_part, (number + 1) * self.per_part):
            if place % 11 == 3:
                yield LeftOut(f"{part}: clip {place}", f"frames must be at least 1, got {-place}")
            else:
                yield clip(place, place % 7 + 1, splits=("train",) if place % 2 else ("val",))
