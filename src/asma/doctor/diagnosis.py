"""What the doctor says about a source, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.source import UNKNOWN, Header
from .faults import SEVERITIES, Fault, Severity

__all__ = ["Diagnosis", "Example", "Finding", "Table"]


@dataclass(frozen=True)
class Example:
    """Where a fault was found."""

    text: str
    source: str = ""
    """File, and place in it."""
    clip: str = ""
    """Name of the clip."""
    index: int = -1
    """Number of the clip in the order of the source, -1 for no clip."""
    frame: int | None = None
    persons: tuple[int, ...] = ()
    """Rows of the clip's persons in the order of their numbers."""
    joints: tuple[int, ...] = ()


@dataclass
class Finding:
    """A fault, how often it is there, and the first examples."""

    fault: Fault
    count: int = 0
    """Clips that have it, or files, classes ...: see `fault.of`."""
    places: int = 0
    """Frames, or joints of frames, altogether; equal to `count` where a thing has it or not."""
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """All clips in the order of the source, N of them, in columns."""

    name: list[str]
    source: list[str]
    splits: list[tuple[str, ...]]
    part: NDArray[np.int64]
    """Number of the part of the source that the clip is in."""
    place: NDArray[np.int64]
    """Number of the clip among those of its part."""
    frames: NDArray[np.int64]
    persons: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    view: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a source.

    Attributes:
        findings: errors first, then warnings and notes.
        sides: of each split, its title and the number of training and of test clips.
    """

    header: Header
    format: str
    parts: int
    clips: Table
    findings: list[Finding]
    sides: list[tuple[str, int, int]]

    @property
    def fit(self) -> bool:
        """Whether there are clips and no error."""
        return len(self.clips) > 0 and not self.of("error")

    @property
    def status(self) -> int:
        """Exit status: 0 fit for training, 1 unfit, 2 nothing could be read."""
        return 2 if not len(self.clips) else 0 if self.fit else 1

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.fault.severity == severity]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not len(self.clips):
            return "cannot be read: not one clip came out"
        counts = [(severity, len(self.of(severity))) for severity in SEVERITIES]
        kinds = ", ".join(f"{count} kind{'s' * (count != 1)} of {severity}" for severity, count in counts if count)
        return f"{'fit' if self.fit else 'unfit'} for training{': ' if kinds else ''}{kinds}"

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain containers, for JSON."""
        clips = self.clips
        known = {
            field: sorted(set(values.tolist()) - {UNKNOWN})
            for field, values in (("subjects", clips.subject), ("views", clips.view))
        }
        return {
            "title": self.header.title,
            "format": self.format,
            "verdict": self.verdict,
            "status": self.status,
            "parts": self.parts,
            "clips": len(clips),
            "frames": int(clips.frames.sum()),
            "joints": self.header.skeleton.num_joints,
            "layout": self.header.skeleton.name,
            "channels": self.header.channels,
            "classes": {name: int((clips.label == label).sum()) for label, name in enumerate(self.header.classes)},
            **known,
            "lengths": _spread(clips.frames),
            "persons": {str(count): int((clips.persons == count).sum()) for count in np.unique(clips.persons)},
            "splits": [{"split": title, "train": train, "test": test} for title, train, test in self.sides],
            "findings": [_plain(finding) for finding in self.findings],
        }


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    if not len(values):
        return {}
    return {"least": int(values.min()), "median": float(np.median(values)), "most": int(values.max())}


def _plain(finding: Finding) -> dict[str, Any]:
    fault = finding.fault
    examples = [
        {"source": example.source, "clip": example.clip, "frame": example.frame, "joints": list(example.joints),
         "found": example.text}
        for example in finding.examples
    ]  # fmt: skip
    return {
        "fault": fault.name, "severity": fault.severity, "count": finding.count, "of": fault.of,
        "places": finding.places, "what": fault.what, "advice": fault.advice, "examples": examples,
    }  # fmt: skip
