"""What can be said about a clip by itself, and the numbers by which it is compared with all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.dense import Dense, dense
from ..data.runs import runs
from ..data.source import Clip, Header
from .faults import Found, Limits
from .geometry import Geometry, Measures
from .repeats import repeats

__all__ = ["Checker", "Facts"]


@dataclass
class Facts:
    """What is kept of a clip: a few numbers."""

    found: list[Found] = field(default_factory=list)
    persons: int = 0
    """Who is there in at least one frame."""
    measures: Measures = field(default_factory=Measures)
    origin: int = -1
    """The one joint that is exactly 0 where data centred on it have it at 0: in the first frame, or in all."""


class Checker:
    """Looks at clips of one source, one after the other."""

    def __init__(self, header: Header, limits: Limits) -> None:
        self._header = header
        self._limits = limits
        self._flat = header.channels == "xys"
        self._geometry = Geometry(header, limits)

    def __call__(self, clip: Clip) -> Facts:
        body = dense(clip, self._header)
        point = body.data[..., :2] if self._flat else body.data
        finite = np.asarray(np.isfinite(body.data).all((2, 3)))
        zero = (point == 0).all(3)
        blank = body.there & zero.all(2)
        usable = body.there & finite & ~blank
        facts = Facts(persons=int(usable.any(1).sum()))
        if clip.frames < self._limits.shortest:
            facts.found.append(Found("short", f"it has {frames(clip.frames)} of at least {self._limits.shortest}"))
        facts.found += self._broken(body, finite)
        if not usable.any():
            if not (body.there & ~finite).any():
                facts.found.append(Found("no-body", "all coordinates are 0" if blank.any() else "there is no body"))
            return facts
        facts.found += self._absent(body, blank, usable)
        lost = zero & usable[..., None]
        if self._flat:
            # Where the estimator itself says that it did not see a joint, 0 is what it should write.
            lost &= body.data[..., 2] > 0
        if lost.any():
            facts.found.append(self._lost(lost))
            facts.origin = _origin(lost, usable)
        if facts.persons > self._limits.persons:
            facts.found.append(Found("many-persons", f"{facts.persons} persons"))
        facts.found += self._still(body, usable)
        unknown = zero | ~usable[..., None]
        if self._flat:
            unknown |= body.data[..., 2] < self._limits.score
        place = np.where(unknown[..., None], np.nan, point).astype(np.float64)
        with np.errstate(all="ignore"):  # NaN is a place that nobody knows, and compares as false
            facts.measures = self._geometry.measure(place, usable)
            facts.found += self._geometry.faults(place, usable, facts.measures, body.persons)
        return facts

    def _broken(self, body: Dense, finite: NDArray[np.bool_]) -> Iterator[Found]:
        wrong = body.there & ~finite
        if wrong.any():
            person, frame = first(wrong)
            joint, axis = np.argwhere(~np.isfinite(body.data[person, frame]))[0].tolist()
            value = body.data[person, frame, joint, axis]
            text = f"{self._header.channels[axis]} of {self._joint(joint)} is {value}"
            yield Found("non-finite", text, int(wrong.any(0).sum()), frame, (person,), (joint,))

    def _absent(self, body: Dense, blank: NDArray[np.bool_], usable: NDArray[np.bool_]) -> Iterator[Found]:
        nobody = np.asarray(~body.there.any(0))
        if nobody.any():
            begin, end = runs(nobody)[0]
            text = f"nobody is there for {frames(end - begin)}"
            yield Found("empty-frames", text, int(nobody.sum()), begin)
        inside, outside = np.zeros_like(blank), np.zeros_like(blank)
        for person in np.flatnonzero(blank.any(1)):
            for begin, end in runs(body.there[person]):
                seen = np.flatnonzero(usable[person, begin:end]) + begin
                low, high = (seen[0], seen[-1]) if seen.size else (end, end)
                inside[person, low:high] = blank[person, low:high]
                outside[person, begin:low] = blank[person, begin:low]
                outside[person, high:end] = blank[person, high:end]
        for fault, where in (("zero-frames", inside), ("zero-padding", outside)):
            if where.any():
                person, frame = first(where)
                text = f"all joints of person {body.persons[person]} are 0"
                yield Found(fault, text, int(where.sum()), frame, (person,))

    def _lost(self, lost: NDArray[np.bool_]) -> Found:
        frame = int(lost.any((0, 2)).argmax())
        person, joint = first(lost[:, frame])
        text = f"{self._joint(joint)} is exactly 0"
        return Found("zero-joints", text, int(lost.sum()), frame, (person,), (joint,))

    def _still(self, body: Dense, usable: NDArray[np.bool_]) -> Iterator[Found]:
        """The longest of each kind."""
        longest: dict[str, Found] = {}
        for fault, begin, end, text in repeats(body.data, usable, self._limits.frozen):
            if fault not in longest or longest[fault].places < end - begin:
                longest[fault] = Found(fault, text, end - begin, begin)
        yield from longest.values()

    def _joint(self, joint: int) -> str:
        return f"{self._header.skeleton.names[joint]} (joint {joint})"


def _origin(lost: NDArray[np.bool_], usable: NDArray[np.bool_]) -> int:
    """The joint on which the clip may have been centred, -1 for none; lost (M, T, V), usable (M, T)."""
    joints = np.flatnonzero(lost.any((0, 1)))
    if len(joints) != 1:
        return -1
    at = lost[:, :, joints[0]]
    begin = int(usable.any(0).argmax())
    only_first = not at[:, begin + 1 :].any()
    throughout = all((at[person] == usable[person]).all() for person in np.flatnonzero(at.any(1)))
    return int(joints[0]) if only_first or throughout else -1


def frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def first(marked: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the first mark in order of columns: of what is first in time, if rows are persons."""
    column = int(marked.any(0).argmax())
    return int(marked[:, column].argmax()), column
