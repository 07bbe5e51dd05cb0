"""Writes a cleaned copy of a source. The source is only read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.bodies import step_of
from ..data.dense import dense
from ..data.runs import runs
from ..data.source import UNKNOWN, Clip, Header, LeftOut, Source, Track
from ..extras import Progress
from .faults import Limits
from .repeats import repeats
from .splits import Pair, pairs_of
from .survey import KnownBad, digest

__all__ = ["Fixed", "Fixes", "Writer", "fix", "mend"]

Writer = Callable[[Iterable[Clip], Header, Path], Sequence[LeftOut] | None]
"""Writes clips under a path that does not exist yet, all or nothing; what it returns it did not take."""


@dataclass(frozen=True)
class Fixes:
    """What is done to the clips of a cleaned copy, in this order."""

    cut_non_finite: bool = True
    """Leave out frames of a person with NaN or infinite coordinates."""
    cut_zeros: bool = True
    """Leave out frames of a person whose joints are all 0."""
    cut_empty: bool = True
    """Leave out frames in which nobody is there."""
    cut_frozen: bool = True
    """Of many equal frames in a row keep one; at the beginning or the end they are padding, in the middle a stall."""
    cut_loops: bool = True
    """Leave out what repeats the clip from its beginning."""
    drop_no_body: bool = True
    """Leave out clips without a body."""
    drop_short: bool = True
    """Leave out clips of hardly a frame."""
    drop_known_bad: bool = True
    """Leave out recordings that NTU's authors list as missing or incomplete."""
    drop_labels: bool = True
    """Leave out clips whose label is not a class."""
    drop_duplicates: bool = True
    """Of equal clips keep the first; if one is a test clip, keep that; if their labels differ, none."""
    mend_splits: bool = True
    """Take clips that are on both sides of a split out of training."""
    rename: bool = True
    """Number clips of the same name."""


@dataclass
class Fixed:
    """What was done."""

    kept: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """By the names of `Fixes`, clips that it changed or left out; by the steps of `asma.data.bodies`, what the reader
    cleaned up; "unreadable", entries and files that it did not give; and "refused", clips that the writer refused."""


def fix(
    source: Source, path: str | os.PathLike[str], write: Writer, fixes: Fixes | None = None,
    limits: Limits | None = None, protocol: str = "", known_bad: KnownBad | None = None,
) -> Fixed:  # fmt: skip
    """Write what is left of a source after the fixes.

    The source is read twice: to decide, and to write. Memory grows by some hundred bytes a clip.

    Raises:
        FileExistsError: `path` exists.
        ValueError: nothing is left, or the protocol does not fit.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(f"doctor: {path} exists already, a cleaned copy needs a new name")
    cleaner = _Cleaner(source, fixes or Fixes(), limits or Limits(), known_bad)
    cleaner.decide(protocol)
    if not cleaner.fixed.kept:
        raise ValueError(f"doctor: nothing is left of {source.header.title!r} to write to {path}")
    refused = write(cleaner.clips(), source.header, path) or ()
    fixed = cleaner.fixed
    fixed.kept -= len(refused)
    fixed.counts.update({"refused": len(refused)} if refused else {})
    return fixed


def mend(clip: Clip, header: Header, fixes: Fixes, limits: Limits) -> tuple[Clip, list[str]]:
    """A clip without the frames that the fixes leave out, and the fixes that found something; no track may be left."""
    done = []
    for name, broken in (("cut_non_finite", _not_finite), ("cut_zeros", _zero)):
        if getattr(fixes, name):
            tracks = tuple(part for track in clip.tracks for part in _without(track, broken(track.data, header)))
            if sum(len(track.data) for track in tracks) != sum(len(track.data) for track in clip.tracks):
                clip = replace(clip, tracks=tracks)
                done.append(name)
    there = np.zeros(clip.frames, np.bool_)
    for track in clip.tracks:
        there[track.start : track.start + len(track.data)] = True
    if fixes.cut_empty and there.any() and not there.all():
        clip = _keep_frames(clip, there)
        done.append("cut_empty")
    # What is left may repeat again: a loop around a stall, and less is enough in a shorter clip.
    while copies := _copies(clip, header, fixes, limits):
        name, frames = copies
        clip = _keep_frames(clip, ~frames)
        done += [name] if name not in done else []
    return clip, done


def _not_finite(data: NDArray[np.float32], header: Header) -> NDArray[np.bool_]:
    return np.asarray(~np.isfinite(data).all((1, 2)))


def _zero(data: NDArray[np.float32], header: Header) -> NDArray[np.bool_]:
    return np.asarray((data[..., : 2 if header.channels == "xys" else 3] == 0).all((1, 2)))


def _copies(clip: Clip, header: Header, fixes: Fixes, limits: Limits) -> tuple[str, NDArray[np.bool_]] | None:
    """The fix, and (T) the frames that repeat others; None if there are none."""
    body = dense(clip, header)
    for fault, begin, end, _ in repeats(body.data, body.there, limits.frozen):
        name = "cut_loops" if fault == "looped" else "cut_frozen"
        if getattr(fixes, name):
            frames = np.zeros(clip.frames, np.bool_)
            frames[begin:end] = True
            return name, frames
    return None


def _without(track: Track, broken: NDArray[np.bool_]) -> Iterator[Track]:
    for begin, end in runs(~broken):
        yield Track(track.person, track.start + begin, track.data[begin:end])


def _keep_frames(clip: Clip, keep: NDArray[np.bool_]) -> Clip:
    """Frames that are left move together."""
    before = np.concatenate([[0], np.cumsum(keep)])
    tracks = []
    for track in clip.tracks:
        data = track.data[keep[track.start : track.start + len(track.data)]]
        if len(data):
            tracks.append(Track(track.person, int(before[track.start]), data))
    return replace(clip, frames=int(keep.sum()), tracks=tuple(tracks))


class _Cleaner:
    """What is to become of each clip, in the order of the source."""

    def __init__(self, source: Source, fixes: Fixes, limits: Limits, known_bad: KnownBad | None) -> None:
        self.fixed = Fixed()
        self._source, self._fixes, self._limits, self._known_bad = source, fixes, limits, known_bad
        self._names: list[str] = []
        self._kept: list[bool] = []
        self._changed: dict[int, dict[str, Any]] = {}
        """New names and splits."""

    def decide(self, protocol: str) -> None:
        groups: dict[bytes, list[int]] = {}
        splits, numbers = [], []
        for part in Progress(range(len(self._source.parts)), "deciding"):
            for clip in self._read(part):
                index = len(self._names)
                clip, done = mend(clip, self._source.header, self._fixes, self._limits)
                reason = self._reason(clip)
                self._names.append(clip.name)
                self._kept.append(not reason)
                splits.append(clip.splits)
                numbers.append((clip.label, clip.subject, clip.view))
                self.fixed.counts.update([reason] if reason else done)
                if not reason and clip.tracks:
                    groups.setdefault(digest(clip), []).append(index)
        if not numbers:
            return
        label, subject, view = np.array(numbers, np.int64).T
        pairs = pairs_of(self._source.header, splits, subject, view, protocol)
        if self._fixes.drop_duplicates:
            self._drop_copies(groups.values(), label, pairs)
        if self._fixes.mend_splits:
            self._mend_splits(pairs, splits)
        if self._fixes.rename:
            self._rename()
        self.fixed.kept = sum(self._kept)

    def clips(self) -> Iterator[Clip]:
        """Those that are kept, as they become."""
        index = 0
        for part in Progress(range(len(self._source.parts)), "writing"):
            for clip in self._read(part, count=False):
                if index == len(self._names) or clip.name != self._names[index]:
                    raise ValueError(f"doctor: {self._source.parts[part]} changed while it was being read")
                if self._kept[index]:
                    mended, _ = mend(clip, self._source.header, self._fixes, self._limits)
                    yield replace(mended, **self._changed.get(index, {}))
                index += 1

    def _read(self, part: int, count: bool = True) -> Iterator[Clip]:
        """What can be read of a part, the same each time."""
        counts = Counter[str]()
        try:
            for entry in self._source.read(self._source.parts[part]):
                if isinstance(entry, LeftOut):
                    counts[step_of(entry) or "unreadable"] += 1
                else:
                    yield entry
        except (ValueError, OSError):
            counts["unreadable"] += 1
        if count:
            self.fixed.counts += counts

    def _reason(self, clip: Clip) -> str:
        """The fix that leaves a clip out; empty if it stays."""
        fixes, classes = self._fixes, self._source.header.classes
        if fixes.drop_known_bad and self._known_bad is not None and self._known_bad(clip.name):
            return "drop_known_bad"
        if fixes.drop_no_body and not clip.tracks:
            return "drop_no_body"
        if fixes.drop_short and clip.frames < self._limits.shortest:
            return "drop_short"
        if fixes.drop_labels and classes and clip.label != UNKNOWN and not 0 <= clip.label < len(classes):
            return "drop_labels"
        return ""

    def _drop_copies(self, groups: Iterable[list[int]], label: NDArray[np.int64], pairs: Sequence[Pair]) -> None:
        for group in groups:
            labels = set(label[group].tolist()) - {UNKNOWN}
            # A test set keeps its clips, so that results stay comparable.
            tests = [sum(bool(pair.test[index] and not pair.train[index]) for pair in pairs) for index in group]
            original = group[int(np.argmax(tests))] if len(labels) < 2 else -1
            for index in group if len(group) > 1 else ():
                if index != original:
                    self._kept[index] = False
                    self.fixed.counts["drop_duplicates"] += 1

    def _mend_splits(self, pairs: Sequence[Pair], splits: Sequence[tuple[str, ...]]) -> None:
        for index in np.flatnonzero(self._kept).tolist():
            leave = {pair.names[0] for pair in pairs if pair.names and pair.train[index] and pair.test[index]}
            if leave:
                self._changed[index] = {"splits": tuple(name for name in splits[index] if name not in leave)}
                self.fixed.counts["mend_splits"] += 1

    def _rename(self) -> None:
        kept = np.flatnonzero(self._kept).tolist()
        taken = {self._names[index] for index in kept}
        seen: set[str] = set()
        copies: Counter[str] = Counter()
        for index in kept:
            name = self._names[index]
            if name in seen:
                while True:
                    copies[name] += 1
                    new = f"{name} ({copies[name] + 1})"
                    if new not in taken:
                        break
                taken.add(new)
                self._changed.setdefault(index, {})["name"] = new
                self.fixed.counts["rename"] += 1
            seen.add(name)
