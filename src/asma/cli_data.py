"""``asma data``: what is done to sets of clips."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from .command import USER_ERROR, Command, run_command, usage
from .config import need
from .data.bodies import CleanSource, CleanUp
from .data.convert import convert_to_file, convert_to_store, fingerprint
from .data.formats.registry import Reading, find, open_source, writer
from .data.source import Source
from .doctor.command import Doctor, run_doctor
from .show.command import Show, run_show

with contextlib.suppress(ImportError):  # asma.cli says so in one sentence
    from tyro.conf import Positional, arg

    Flat = arg(name="")

__all__ = ["COMMANDS", "Convert", "run_convert", "run_data"]


@dataclass(frozen=True)
class Convert:
    """Read clips of any format and write them as a store, or in another format."""

    source: Positional[Path]
    """A file or a folder; its format is found out."""
    out: Positional[Path]
    """What is written: without an ending a store, .npz our npz and json. A command that was stopped goes on where it
    was."""
    format: str = ""
    """Name of the source's format, where it cannot be found out."""
    reading: Annotated[Reading, Flat] = field(default_factory=Reading)
    to: str = ""
    """Name of the format to write, where the ending of OUT does not tell."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of a store's frames; float16 is half as large, and off by up to 1 mm at 2 to 4 m."""
    jobs: int = 0
    """Processes that read; 0 for one a core."""
    overwrite: bool = False
    """Replace the store that is at OUT."""
    clean: Literal["auto", "yes", "no"] = "auto"
    """Whether bodies that are no persons, and frames without anybody, are left out; auto: of NTU's .skeleton files."""
    clean_up: CleanUp = field(default_factory=CleanUp)
    """The steps of that."""

    def __post_init__(self) -> None:
        need(self.jobs >= 0, "jobs must be at least 0", self.jobs)


def run_convert(options: Convert) -> None:
    """Say what is found, convert it, and say what became of it."""
    source_path, out = options.source, options.out
    if source_path.exists() and out.exists() and source_path.samefile(out):
        raise ValueError(f"source and out must differ, both are {source_path}")
    name, write = writer(out, options.to)
    if name != "store":
        need(options.dtype == "float32", "dtype must be float32 where no store is written", options.dtype)
        need(not options.overwrite, "only a store can be overwritten", f"overwrite for {name}")
    found = find(source_path, options.format)
    source = _cleaned(source_path, found.format, options)
    print(f"{source_path}: {found.phrase}, format {found.format}", flush=True)
    settings: dict[str, Any] = {
        "dtype": options.dtype,
        "reading": options.reading.given(),
        "clean": options.clean,
        "clean_up": asdict(options.clean_up),
    }
    if name == "store":
        plan = fingerprint(source_path, source, out, settings)
        report = convert_to_store(source, out, plan, options.dtype, options.jobs, options.overwrite)
        print("made by the same command before, nothing to do:" if report.there_already else "done:", report)
    else:
        print("done:", convert_to_file(source, out, write, options.jobs))


def _cleaned(path: Path, format: str, options: Convert) -> Source:
    """The source, its bodies cleaned up where that is asked for or usual."""
    steps, reading = CleanUp.off() if options.clean == "no" else options.clean_up, options.reading.given()
    if format == "ntu":  # its reader has a rule of its own for what is usual
        usual = options.clean == "auto" and steps == CleanUp()
        return open_source(path, format, clean=None if usual else steps, **reading)
    source = open_source(path, format, **reading)
    return CleanSource(source, steps) if options.clean == "yes" else source


COMMANDS: dict[str, Command | str] = {
    "convert": Command(Convert, run_convert),
    "doctor": Command(Doctor, run_doctor),
    "show": Command(Show, run_show),
}


def run_data(arguments: Sequence[str]) -> int:
    """Run ``asma data`` with these arguments; its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage("asma data", COMMANDS))
        return 0 if arguments else USER_ERROR
    return run_command("asma data", COMMANDS, arguments)
