"""Which bodies of a clip are persons, and which frames hold them: the clean-up that recordings of depth cameras need.

A sensor takes tables and seats for people, gives a person a new number in mid-clip, and loses everybody for some
frames. The rules are the field's: `get_raw_denoised_data.py` of CTR-GCN (https://github.com/Uason-Chen/CTR-GCN, from
SGN), which pyskl's `ntu_preproc.py` follows, and the advice of NTU RGB+D's authors
(https://github.com/shahroudy/NTURGB-D, README.md). Joining bodies by their distance is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asma.data._body import Body, bodies_of, runs, share_a_frame, tracks_of
from asma.data.source import Clip, Header, LeftOut, Source
from asma_kernels import motion_energy

__all__ = ["NO_BODY", "STEPS", "CleanSource", "CleanUp", "Cleaned", "clean_up", "count_steps", "step_of"]

NO_BODY = "no body"
STEPS = (
    "frames with NaN", "joined bodies", "short bodies", "wide bodies", "further bodies", "empty frames", NO_BODY,
)  # fmt: skip
"""What the reasons of `clean_up` begin with, in the order of its steps; after the last one no clip is left."""


@dataclass(frozen=True)
class CleanUp:
    """The steps of `clean_up` in their order; each can be switched off."""

    drop_nan: bool = True
    """Drop frames in which a joint of a person that is kept is NaN. Off: a clip with NaN is left out."""
    join_bodies: bool = True
    """Make one body of two, where one begins close by, at most join_gap frames after the other ended."""
    join_gap: int = 5
    """Frames from the last of one body to the first of the next."""
    join_distance: float = 0.25
    """How far its joints may be away on average, in heights (largest extents) of the body that ended."""
    short: int = 11
    """Leave out bodies of at most so many frames, where another has more; 0 is off."""
    wide: float = 0.8
    """Leave out bodies whose extent in x is more than so many times that in y, where there is another; 0 is off."""
    wide_share: float = 0.69754
    """The share of its frames in which a body must be so wide."""
    persons: int = 2
    """Keep so many persons, those with the most motion first; 0 keeps every body, in the order of the source."""
    motion: Literal["variance", "energy"] = "variance"
    """What motion is. variance: the sum of the variances of x, y and z over all joints and frames, the rule of NTU's
    authors, CTR-GCN and pyskl. energy: the mean squared way of a joint from frame to frame, summed over the frames, by
    asma_kernels.motion_energy; a chair that trembles has much of it."""
    fill_persons: bool = True
    """A further body that shares no frame with a person becomes a part of that person."""
    drop_empty: bool = True
    """Drop frames without a body, and leave out clips without any."""

    def __post_init__(self) -> None:
        for name in ("join_gap", "join_distance", "short", "wide", "wide_share", "persons"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"CleanUp: {name} must be >= 0, got {getattr(self, name)}")
        if self.motion not in ("variance", "energy"):
            raise ValueError(f"CleanUp: motion must be variance or energy, got {self.motion!r}")

    @classmethod
    def off(cls) -> CleanUp:
        """No step at all: every body of the source is a person, every frame is kept."""
        return cls(
            drop_nan=False, join_bodies=False, short=0, wide=0, persons=0, fill_persons=False, drop_empty=False
        )  # fmt: skip


class Cleaned(NamedTuple):
    """What `clean_up` makes of a clip."""

    clip: Clip | None
    left_out: tuple[LeftOut, ...]
    """What was done, each reason beginning with one of `STEPS`."""


def clean_up(clip: Clip, options: CleanUp | None = None, channels: str = "xyz") -> Cleaned:
    """A clip without what is no person, the persons by their motion.

    Args:
        clip: of any layout, y up. Unlike elsewhere, its tracks may hold NaN.
        options: which steps; by default all.
        channels: as `Header.channels` says; "s" is no coordinate.

    Returns:
        The clip with at most `options.persons` persons, or None where nothing of it is left, and what was done.
        Deterministic.

    >>> from asma.data.source import Track
    >>> chair = Track(0, 0, np.zeros((5, 2, 3), np.float32))
    >>> walker = Track(1, 2, np.arange(120, dtype=np.float32).reshape(20, 2, 3))
    >>> cleaned = clean_up(Clip("walk", 25, (chair, walker)))
    >>> [(track.person, track.start, len(track.data)) for track in cleaned.clip.tracks], cleaned.clip.frames
    ([(0, 0, 20)], 20)
    >>> [left_out.reason.partition(":")[0] for left_out in cleaned.left_out]
    ['short bodies', 'empty frames']
    """
    options = options or CleanUp()
    steps = _Steps(clip, options, [axis for axis, channel in enumerate(channels) if channel != "s"])
    if not options.drop_nan and (lost := steps.first_nan()):
        return Cleaned(None, (LeftOut(steps.source, lost),))
    return Cleaned(steps.run(), tuple(steps.done))


def step_of(left_out: LeftOut) -> str:
    """Which of `STEPS` it tells of; empty if none.

    >>> step_of(LeftOut("file", "short bodies: body 1 has 3 frames")), step_of(LeftOut("file", "line 1: must be 7"))
    ('short bodies', '')
    """
    step = left_out.reason.partition(":")[0]
    return step if step in STEPS else ""


def count_steps(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """How often each of `STEPS` was taken; other reasons are not counted."""
    found = Counter(map(step_of, left_out))
    return {step: found[step] for step in STEPS if found[step]}


class CleanSource:
    """Another source's clips after `clean_up`; its `read` tells what was done, clip by clip."""

    def __init__(self, source: Source, options: CleanUp | None = None) -> None:
        self.format: str = source.format
        self.header: Header = source.header
        self.parts: Sequence[str] = source.parts
        self._source, self._options = source, options

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`."""
        for entry in self._source.read(part):
            if isinstance(entry, LeftOut):
                yield entry
                continue
            cleaned = clean_up(entry, self._options, self.header.channels)
            yield from cleaned.left_out
            if cleaned.clip is not None:
                yield cleaned.clip


class _Steps:
    """The steps on one clip, and what they did."""

    def __init__(self, clip: Clip, options: CleanUp, coordinates: list[int]) -> None:
        self.clip, self.options, self.coordinates = clip, options, coordinates
        self.source = clip.source or clip.name
        self.done: list[LeftOut] = []
        self.bodies = bodies_of(clip)
        self.nan_frames: dict[int, NDArray[np.int64]] = {}

    def first_nan(self) -> str:
        """Where the first NaN is; the empty string where there is none."""
        for body in self.bodies:
            lost = np.flatnonzero(~np.isfinite(body.data).all((1, 2)))
            if lost.size:
                return f"coordinates must be finite, got NaN in frame {body.frames[lost[0]]} of body {body.number}"
        return ""

    def run(self) -> Clip | None:
        self._part_from_nan()
        if self.options.join_bodies and len(self.bodies) > 1:
            self._join()
        if self.options.short and len(self.bodies) > 1:
            self._leave_out_short()
        motion = {body.number: self._motion(body) for body in self.bodies if len(self.bodies) > 1}
        if self.options.wide and len(self.bodies) > 1:
            self._leave_out_wide(motion)
        return self._rebuilt(self._persons(motion))

    def _say(self, step: int, what: str) -> None:
        self.done.append(LeftOut(self.source, f"{STEPS[step]}: {what}"))

    def _part_from_nan(self) -> None:
        for place, body in enumerate(self.bodies):
            whole = np.asarray(np.isfinite(body.data).all((1, 2)))
            if not whole.all():
                self.nan_frames[body.number] = body.frames[~whole]
                self.bodies[place] = body.take(whole)
        self.bodies = [body for body in self.bodies if len(body.frames)]

    def _join(self) -> None:
        open_bodies: list[Body] = []
        for body in sorted(self.bodies, key=lambda body: (body.frames[0], body.number)):
            near = [
                (distance, place)
                for place, other in enumerate(open_bodies)
                if 0 < body.frames[0] - other.frames[-1] <= self.options.join_gap
                and (distance := self._distance(other.data[-1], body.data[0])) <= self.options.join_distance
            ]
            if not near:
                open_bodies.append(body)
                continue
            _, place = min(near)
            other = open_bodies[place]
            self._say(1, f"body {body.number} goes on where body {other.number} ended, at frame {body.frames[0]}")
            lost = [self.nan_frames.pop(number, None) for number in (body.number, other.number)]
            if found := [frames for frames in lost if frames is not None]:
                self.nan_frames[other.number] = np.concatenate(found)
            joined = np.concatenate([other.frames, body.frames]), np.concatenate([other.data, body.data])
            open_bodies[place] = Body(other.number, *joined)
        self.bodies = sorted(open_bodies, key=lambda body: body.number)

    def _distance(self, last: NDArray[np.float32], first: NDArray[np.float32]) -> float:
        """Of two poses (V, C): the mean way of a joint, in heights of the first."""
        last, first = last[:, self.coordinates], first[:, self.coordinates]
        height = float(np.ptp(last, axis=0).max())
        return float(np.linalg.norm(last - first, axis=1).mean()) / max(height, 1e-9)

    def _leave_out_short(self) -> None:
        short = [body for body in self.bodies if len(body.frames) <= self.options.short]
        if len(short) == len(self.bodies):
            return
        for body in short:
            found = f"body {body.number} has {len(body.frames)} frames"
            self._say(2, f"{found}, noise has at most {self.options.short} where another body has more")
        self.bodies = [body for body in self.bodies if len(body.frames) > self.options.short]

    def _leave_out_wide(self, motion: dict[int, float]) -> None:
        for body in list(self.bodies):
            if len(self.bodies) == 1:
                return
            width, height = np.ptp(body.data[..., 0], axis=1), np.ptp(body.data[..., 1], axis=1)
            wide = np.asarray(width > self.options.wide * height)
            if wide.mean() >= self.options.wide_share:
                rule = f"is wider than {self.options.wide} of its height in {wide.sum()} of {len(wide)} frames"
                self._say(3, f"body {body.number} {rule}")
                self.bodies.remove(body)
            elif wide.any():
                motion[body.number] = min(motion[body.number], self._motion(body.take(~wide)))

    def _motion(self, body: Body) -> float:
        points = body.data[..., self.coordinates]
        if self.options.motion == "variance":
            return float(points.reshape(-1, len(self.coordinates)).var(0, dtype=np.float64).sum())
        energy = 0.0
        for begin, end in runs(body.frames):
            x = torch.from_numpy(points[begin:end]).permute(2, 0, 1)[None, ..., None]
            energy += float(motion_energy(x, "frame").sum())
        return energy

    def _persons(self, motion: dict[int, float]) -> dict[int, list[Body]]:
        """The bodies of each person that is kept."""
        most = self.options.persons
        if not most:
            return {body.number: [body] for body in self.bodies}
        persons: list[list[Body]] = []
        for body in sorted(self.bodies, key=lambda body: (-motion.get(body.number, 0), body.number)):
            free = (person for person in persons if self.options.fill_persons and not share_a_frame(person, body))
            if person := next(free, None):
                person.append(body)
            elif len(persons) < most:
                persons.append([body])
            else:
                self._say(4, f"body {body.number} moves less than the {most} that are kept")
        return dict(enumerate(persons))

    def _rebuilt(self, persons: dict[int, list[Body]]) -> Clip | None:
        """The clip of these persons, without the frames that are dropped."""
        clip, options = self.clip, self.options
        bodies = [body for parts in persons.values() for body in parts]
        lost = [self.nan_frames[body.number] for body in bodies if body.number in self.nan_frames]
        kept = np.ones(clip.frames, np.bool_)
        for frames in lost if bodies else self.nan_frames.values():  # without bodies NaN is all there was
            kept[frames] = False
        if not kept.all():
            self._say(0, f"{clip.frames - kept.sum()} of {clip.frames} frames, the first is {np.argmin(kept)}")
        if options.drop_empty:
            used = np.zeros(clip.frames, np.bool_)
            for body in bodies:
                used[body.frames] = True
            empty = int((kept & ~used).sum())
            kept &= used
            if empty and kept.any():
                self._say(5, f"nobody is in {empty} of {clip.frames} frames")
        if not kept.any():
            self._say(6, f"none of {clip.frames} frames holds one")
            return None
        return replace(clip, frames=int(kept.sum()), tracks=tuple(tracks_of(persons, kept)))
