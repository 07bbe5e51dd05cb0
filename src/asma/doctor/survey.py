"""The streaming pass over a source: what is kept of each clip, and what is found on the way."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.source import Clip, Header, LeftOut, Source
from ..extras import Progress
from .clip_checks import Checker
from .diagnosis import Diagnosis, Example, Finding, Table
from .faults import FAULTS, Found, Limits
from .geometry import Measures
from .reasons import fault_of
from .set_checks import check_set
from .splits import pairs_of

__all__ = ["KnownBad", "Measured", "Survey", "digest", "examine"]

KnownBad = Callable[[str], bool]
"""Whether a clip of that name is known to be bad."""


class Measured(NamedTuple):
    """N clips in numbers, NaN where one cannot be told."""

    size: NDArray[np.float64]
    """(N) body size in the unit of the data."""
    bones: NDArray[np.float32]
    """(N, E) in body sizes."""
    up: NDArray[np.float32]
    """(N, 3) from the feet to the head, in body sizes."""
    facing: NDArray[np.float64]
    """(N) cosine between where the feet point and where the front must be if left is left."""
    origin: NDArray[np.int64]
    """(N) the one joint that is exactly 0 where data centred on it have it at 0; -1 for none."""


class Survey:
    """What is known of the clips seen so far: some hundred bytes of each."""

    def __init__(self, header: Header, limits: Limits, examples: int, known_bad: KnownBad | None) -> None:
        self.header = header
        self.limits = limits
        self.name: list[str] = []
        self.source: list[str] = []
        self.splits: list[tuple[str, ...]] = []
        self._same_splits: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.copies: dict[int, list[int]] = {}
        """Clip -> later clips that are equal to it."""
        self.lost_joints: dict[int, Found] = {}
        """Joints at 0 that may be no fault: only all clips together tell whether they are centred on that joint."""
        self._first: dict[bytes, int] = {}
        # Not lists of objects, which take ten times the memory.
        self._numbers, self._origins = array("q"), array("q")
        self._sizes, self._facings, self._bones, self._ups = array("d"), array("d"), array("f"), array("f")
        self._check = Checker(header, limits)
        self._examples = examples
        self._known_bad = known_bad
        self._findings: dict[str, Finding] = {}

    def read(self, source: Source, part: int) -> None:
        """Take a part of the source, or note why it cannot be read."""
        place = 0
        for entry in self._entries(source, source.parts[part]):
            if isinstance(entry, LeftOut):
                self.add(fault_of(entry.reason), Example(entry.reason, entry.source))
            else:
                self._take(entry, part, place)
                place += 1

    def _entries(self, source: Source, part: str) -> Iterator[Clip | LeftOut]:
        try:
            yield from source.read(part)
        except (ValueError, OSError) as error:
            fault = "missing-file" if isinstance(error, FileNotFoundError) else "unreadable"
            self.add(fault, Example(" ".join(str(error).split()), part))

    def _take(self, clip: Clip, part: int, place: int) -> None:
        facts = self._check(clip)
        index = len(self.name)
        self.name.append(clip.name)
        self.source.append(clip.source)
        self.splits.append(self._same_splits.setdefault(clip.splits, clip.splits))
        self._numbers.extend((part, place, clip.frames, facts.persons, clip.label, clip.subject, clip.view))
        self._origins.append(facts.origin)
        self._measure(facts.measures)
        if facts.persons:
            first = self._first.setdefault(digest(clip), index)
            if first != index:
                self.copies.setdefault(first, []).append(index)
        if self._known_bad is not None and self._known_bad(clip.name):
            facts.found.append(Found("known-bad", "it is in NTU's list of missing and incomplete skeletons"))
        for found in facts.found:
            if found.fault == "zero-joints" and facts.origin >= 0:
                self.lost_joints[index] = found
            else:
                self.add_found(index, found)

    def _measure(self, measures: Measures) -> None:
        nan = float("nan")
        self._sizes.append(nan if measures.size is None else measures.size)
        self._facings.append(nan if measures.facing is None else measures.facing)
        edges = len(self.header.skeleton.edges)
        self._bones.extend([nan] * edges if measures.bones is None else measures.bones.tolist())
        self._ups.extend([nan] * 3 if measures.up is None else measures.up.tolist())

    def measured(self) -> Measured:
        """The clips seen so far."""
        return Measured(
            np.array(self._sizes),
            np.array(self._bones).reshape(len(self.name), -1),
            np.array(self._ups).reshape(-1, 3),
            np.array(self._facings),
            np.array(self._origins),
        )

    def add_found(self, index: int, found: Found) -> None:
        """Count a fault of clip `index`."""
        _, text, places, frame, persons, joints = found
        name, source = self.name[index], self.source[index]
        self.add(found.fault, Example(text, source, name, index, frame, persons, joints), places)

    def add(self, fault: str, example: Example, places: int = 1, count: int = 1) -> None:
        """Count a fault, and keep the first examples."""
        finding = self._findings.setdefault(fault, Finding(FAULTS[fault]))
        finding.count += count
        finding.places += places
        if len(finding.examples) < self._examples:
            finding.examples.append(example)

    def table(self) -> Table:
        columns = np.array(self._numbers, np.int64).reshape(-1, 7).T
        return Table(self.name, self.source, self.splits, *columns)

    def findings(self) -> list[Finding]:
        order = [(severity, name) for severity in ("error", "warning", "note") for name in FAULTS]
        return [
            self._findings[name]
            for severity, name in order
            if name in self._findings and FAULTS[name].severity == severity
        ]


def examine(
    source: Source,
    limits: Limits | None = None,
    protocol: str = "",
    examples: int = 5,
    known_bad: KnownBad | None = None,
) -> Diagnosis:
    """Look at every clip of a source once, in its order.

    Args:
        source: of any format. Clips may hold NaN, which a reader should have left out.
        limits: from where on something is a fault.
        protocol: a split, as `ClipSet.split` takes it or TRAIN/TEST of the source's own; without it the usual one.
        examples: how many to keep of each fault.
        known_bad: says by its name whether a clip is known to be bad.

    Returns:
        What was found. A part that cannot be read is a finding, not an exception. Deterministic.

    Raises:
        ValueError: `protocol` cannot be read or does not fit the source.
    """
    survey = Survey(source.header, limits or Limits(), examples, known_bad)
    for part in Progress(range(len(source.parts)), "examining"):
        survey.read(source, part)
    table = survey.table()
    pairs = pairs_of(source.header, table.splits, table.subject, table.view, protocol) if len(table) else []
    check_set(survey, table, pairs)
    sides = [(pair.title, int(pair.train.sum()), int(pair.test.sum())) for pair in pairs]
    return Diagnosis(source.header, source.format, len(source.parts), table, survey.findings(), sides)


def digest(clip: Clip) -> bytes:
    """The same for clips of equal coordinates, whatever they are called."""
    found = hashlib.blake2b(digest_size=16)
    rank = {person: row for row, person in enumerate(sorted({track.person for track in clip.tracks}))}
    for track in sorted(clip.tracks, key=lambda track: (track.person, track.start)):
        found.update(np.array([rank[track.person], track.start, len(track.data)], np.int64).tobytes())
        found.update(np.ascontiguousarray(track.data, np.float32).tobytes())
    return found.digest()
