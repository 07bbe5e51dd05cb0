"""The streaming pass over a source: what is kept of each clip, and what is found on the way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import numpy as np

from ..data.source import Clip, Header, LeftOut, Source
from ..extras import Progress
from .clip_checks import Checker, Facts
from .diagnosis import Diagnosis, Example, Finding, Table
from .faults import FAULTS, Found, Limits
from .set_checks import check_set
from .splits import pairs_of

__all__ = ["KnownBad", "Survey", "digest", "examine"]

KnownBad = Callable[[str], bool]
"""Whether a clip of that name is known to be bad."""
SAID = {
    "missing-file": re.compile(r"no such file|not a file|is not there|does not exist", re.IGNORECASE),
    "non-finite": re.compile(r"\bnan\b|\binf\b|must be finite", re.IGNORECASE),
    "label-range": re.compile(r"\blabel must be in\b", re.IGNORECASE),
    "no-body": re.compile(r"\bno body\b|\bwithout a body\b", re.IGNORECASE),
}
"""What readers say of clips that they leave out, in the words of this project's error messages."""


class Survey:
    """What is known of the clips seen so far; memory grows by some hundred bytes a clip."""

    def __init__(self, header: Header, limits: Limits, examples: int, known_bad: KnownBad | None) -> None:
        self.header = header
        self.limits = limits
        self.name: list[str] = []
        self.source: list[str] = []
        self.splits: list[tuple[str, ...]] = []
        self.numbers: list[tuple[int, int, int, int, int, int, int]] = []
        self.facts: list[Facts] = []
        self.digests: dict[bytes, list[int]] = {}
        self._check = Checker(header, limits)
        self._examples = examples
        self._known_bad = known_bad
        self._findings: dict[str, Finding] = {}

    def read(self, source: Source, part: int) -> None:
        """Take a part of the source, or note why it cannot be read."""
        place = 0
        left_out = []
        try:
            for entry in source.read(source.parts[part]):
                if isinstance(entry, LeftOut):
                    left_out.append(entry)
                else:
                    self._take(entry, part, place)
                    place += 1
        except (ValueError, OSError) as error:
            fault = "missing-file" if isinstance(error, FileNotFoundError) else "unreadable"
            self.add(fault, Example(" ".join(str(error).split()), source.parts[part]))
        for entry in left_out:
            # A part of which nothing is left could not be read; of any other only that entry.
            usual = "left-out" if place else "unreadable"
            fault = next((name for name, words in SAID.items() if words.search(entry.reason)), usual)
            self.add(fault, Example(entry.reason, entry.source))

    def _take(self, clip: Clip, part: int, place: int) -> None:
        facts = self._check(clip)
        index = len(self.name)
        self.name.append(clip.name)
        self.source.append(clip.source)
        self.splits.append(clip.splits)
        self.numbers.append((part, place, clip.frames, facts.persons, clip.label, clip.subject, clip.view))
        self.facts.append(facts)
        if facts.persons:
            self.digests.setdefault(digest(clip), []).append(index)
        if self._known_bad is not None and self._known_bad(clip.name):
            facts.found.append(Found("known-bad", "it is in NTU's list of missing and incomplete skeletons"))
        later = []
        for found in facts.found:
            if found.fault == "zero-joints" and facts.origin >= 0:
                later.append(found)  # only all clips together tell whether they are centred on that joint
            else:
                self.add_found(index, found)
        facts.found = later

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
        columns = np.array(self.numbers, np.int64).reshape(-1, 7).T
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
