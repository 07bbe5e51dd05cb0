"""What the doctor says as plain text."""

from __future__ import annotations

import numpy as np

from ..data.source import UNKNOWN
from .diagnosis import Diagnosis, Example, Finding

__all__ = ["counted", "place_of", "printable", "said", "table", "totals"]

WIDTH = 120


def table(diagnosis: Diagnosis) -> str:
    """Totals, the verdict, and a paragraph for each fault: how often, what to do, where."""
    lines = [printable(diagnosis.header.title), *(f"  {name:<9} {value}" for name, value in totals(diagnosis).items())]
    for finding in diagnosis.findings:
        fault = finding.fault
        lines += ["", f"{fault.severity:<8} {fault.name}: {counted(finding)}", f"  {fault.what} {fault.advice}"]
        lines += [_cut(f"  - {said(example)}") for example in finding.examples]
        if finding.count > len(finding.examples) > 0:
            lines.append(f"  - and {finding.count - len(finding.examples):,} more")
    return "\n".join([*lines, "", diagnosis.verdict])


def totals(diagnosis: Diagnosis) -> dict[str, str]:
    """What the set is, in words."""
    clips, header = diagnosis.clips, diagnosis.header
    found = {"clips": f"{len(clips):,}", "format": f"{diagnosis.format}, {_some(diagnosis.parts, 'part')}"}
    if len(clips):
        least, median, most = clips.frames.min(), np.median(clips.frames), clips.frames.max()
        found["frames"] = f"{clips.frames.sum():,}"
        found["length"] = f"{least} to {most} frames, median {median:g}"
        persons, count = np.unique(clips.persons, return_counts=True)
        each = [f"{person} in {_some(int(some), 'clip')}" for person, some in zip(persons, count, strict=True)]
        found["persons"] = ", ".join(each) if len(each) > 1 else str(persons[0])
    channels = "2D and score" if header.channels == "xys" else "3D"
    found["joints"] = f"{header.skeleton.num_joints} of {printable(header.skeleton.name)}, {channels}"
    found["classes"] = f"{len(header.classes)}"
    for name, values in (("subjects", clips.subject), ("views", clips.view)):
        found[name] = str(len(set(values.tolist()) - {UNKNOWN})) if (values != UNKNOWN).any() else "unknown"
    if diagnosis.sides:
        found["splits"] = "; ".join(
            f"{printable(title)}: {train:,} to train on, {test:,} to test" for title, train, test in diagnosis.sides
        )
    return found


def counted(finding: Finding) -> str:
    """How often, as "12 clips, 30 places"."""
    of = finding.fault.of
    if of == "set":
        return "the whole set"
    places = f", {finding.places:,} places" if finding.places > finding.count else ""
    return _some(finding.count, of) + places


def place_of(example: Example) -> str:
    """Where an example is, as "clip, frame 3"; empty for the whole set, and where the text begins with it."""
    where = example.clip or example.source
    if not where or example.text.startswith(where):
        return ""
    return where if example.frame is None else f"{where}, frame {example.frame}"


def said(example: Example) -> str:
    """Where it is, and what was found."""
    where = place_of(example)
    return f"{where}: {example.text}" if where else example.text


def printable(text: str) -> str:
    """Names come from files: what would move the cursor or colour a terminal is written as an escape."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _some(count: int, what: str) -> str:
    plural = {"entry": "entries", "class": "classes"}.get(what, f"{what}s")
    return f"{count:,} {what if count == 1 else plural}"


def _cut(line: str) -> str:
    line = printable(line)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
