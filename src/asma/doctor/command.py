"""`asma data doctor`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..data.bodies import CleanUp
from ..data.formats import ntu, registry
from ..data.source import Source
from ..data.store_writer import write_store
from ..files import write_text
from .diagnosis import Diagnosis
from .faults import Limits
from .fix import Fixed, Fixes, Writer, fix
from .page import doctor_page
from .survey import KnownBad, examine
from .table import table

try:
    from tyro.conf import Positional, arg

    Flat = arg(name="")
except ImportError:
    pass  # asma.cli says so in one sentence

__all__ = ["Doctor", "run_doctor"]

Opener = Callable[[Path, str], Source]


@dataclass(frozen=True)
class Doctor:
    """Say what is wrong with clips, and whether they are fit for training; exit status 0 fit, 1 unfit, 2 unreadable."""

    source: Positional[Path]
    """A file or a folder of any format that asma reads."""
    format: str = ""
    """Name of the format; empty to find it out."""
    protocol: str = ""
    """The split to check, for example view-12-3 or xsub_train/xsub_val; empty for the usual one. Splits of the source
    whose names differ by train and test only are always checked."""
    html: Path | None = None
    """Write a page with charts and examples here."""
    json: bool = False
    """Print JSON instead of text."""
    examples: int = 5
    """How many to show of each fault."""
    fix: Path | None = None
    """Write a cleaned copy here; the source stays as it is. The exit status is then that of the copy."""
    fixes: Annotated[Fixes, Flat] = field(default_factory=Fixes)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ValueError(f"doctor: examples must be at least 0, got {self.examples}")
        for path, what in ((self.html, "a page"), (self.fix, "a cleaned copy")):
            if path is not None and os.path.lexists(path):
                raise FileExistsError(f"doctor: {path} exists already, {what} needs a new name")
            if path is not None and not path.absolute().parent.is_dir():
                raise FileNotFoundError(f"doctor: {path.parent} is not a folder to write {what} to")


def run_doctor(
    options: Doctor, open_source: Opener | None = None, write: Writer | None = None, known_bad: KnownBad | None = None
) -> int:
    """Examine, print, write what was asked for; the exit status.

    Args:
        open_source, write, known_bad: those of `asma.data`, where not given.

    Raises:
        ValueError, OSError: the source cannot be opened, or what was asked for cannot be written.
    """
    open_source = open_source or _as_recorded
    known_bad = known_bad or ntu.known_bad
    source = open_source(options.source, options.format)
    diagnosis = examine(source, options.limits, options.protocol, options.examples, known_bad)
    if options.html is not None:
        write_text(options.html, doctor_page(diagnosis, source))
    report = diagnosis.as_dict()
    text = [table(diagnosis)]
    if options.fix is not None and diagnosis.status != 2:
        if (
            source.format == ntu.FORMAT
        ):  # its copy has persons, as a conversion's; known-bad clips are a matter of fixes
            source = registry.open_source(options.source, ntu.FORMAT, bad=True)
        done = fix(
            source, options.fix, write or write_store, options.fixes, options.limits, options.protocol, known_bad
        )
        copy = examine(open_source(options.fix, ""), options.limits, options.protocol, options.examples, known_bad)
        report["fixed"] = {"path": str(options.fix), "kept": done.kept, "fixes": dict(done.counts)}
        report["fixed"]["left"] = copy.as_dict()
        text.append(_said(done, options.fix, copy))
        diagnosis = copy
    print(json.dumps(report, indent=1) if options.json else "\n\n".join(text))
    return diagnosis.status


def _as_recorded(path: Path, format: str) -> Source:
    """The source before anything is cleaned away: of NTU every body is a person, and known-bad clips are there."""
    found = registry.find(path, format).format
    raw = {"clean": CleanUp.off(), "bad": True} if found == ntu.FORMAT else {}
    return registry.open_source(path, found, **raw)


def _said(done: Fixed, path: Path, copy: Diagnosis) -> str:
    lines = [f"{path}: {done.kept:,} clips"]
    lines += [f"  {name:<18} {count:,}" for name, count in sorted(done.counts.items())]
    left = ", ".join(f"{finding.fault.name} ({finding.fault.severity})" for finding in copy.findings)
    return "\n".join([*lines, f"  {copy.verdict}{': ' if left else ''}{left}"])
