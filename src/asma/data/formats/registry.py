"""Which formats there are, which one a path is, and which one a name to write asks for."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from asma.data.formats.pku import Interval
from asma.data.source import Clip, Header, Source

__all__ = ["FORMATS", "Found", "Reading", "find", "open_source", "writer"]

FORMATS = (
    "store", "clipset", "ntu", "pku", "pstl", "ctrgcn", "pyskl", "ucla", "utd", "openpose", "mediapipe", "bvh", "c3d",
)  # fmt: skip
"""Modules of this package, each imported when it is asked."""

ENDINGS = {
    "": "store",
    ".npz": "clipset",
    ".pkl": "pyskl",
}
"""What is written where a name ends so; other formats are asked for by their names."""

Write = Callable[[Iterable[Clip], Header, Path], object]


class Found(NamedTuple):
    """What a path is."""

    format: str
    phrase: str
    """As "4,100 NTU .skeleton files"."""


@dataclass(frozen=True)
class Reading:
    """What a user can tell a reader. An option is of those formats whose `open_source` takes it."""

    interval: Interval | None = None
    """Of pku: which rows of a video are the clip of a label row start,end; without it start:end, as MAMP."""
    layout: str | None = None
    """Of pstl and pyskl: the layout of the joints, for example coco17, where their number does not tell it."""
    classes: tuple[str, ...] | None = None
    """Names of the classes in the order of the labels, where the files do not tell them; not of every format."""
    bad: bool = False
    """Of ntu: read the clips too that NTU's authors list as missing or incomplete."""

    def given(self) -> dict[str, Any]:
        """The options that were used, as `open_source` takes them."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, False)}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"asma.data.formats.{name}")


def _known(where: str, name: str) -> None:
    if name not in FORMATS:
        raise ValueError(f"{where}: format must be one of {', '.join(FORMATS)}, got {name!r}")


def find(path: str | os.PathLike[str], format: str = "") -> Found:
    """What is at a path.

    Args:
        path: a file or a folder.
        format: its name, where it is known.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no format recognises it, or several do and `format` does not say which; or there is no such format.
    """
    if format:
        _known("format", format)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{os.fspath(path)} is not there")
    if format:  # the others are not asked: a look through a large folder takes its time
        return Found(format, _module(format).recognise(path) or "as asked for")
    found = [Found(name, phrase) for name in FORMATS if (phrase := _module(name).recognise(path))]
    if not found:
        tried = ", ".join(FORMATS)
        raise ValueError(f"{os.fspath(path)} is of no format that is known: tried {tried}; --format names one")
    if len(found) > 1:
        read_as = " or ".join(f"{name} ({phrase})" for name, phrase in found)
        raise ValueError(f"{os.fspath(path)} could be {read_as}: say which by --format")
    return found[0]


def open_source(path: str | os.PathLike[str], format: str = "", **options: Any) -> Source:
    """A path as a source of clips.

    Args:
        path: a file or a folder.
        format: its name; empty to find it out.
        options: those of the format's own `open_source`; see `Reading`.

    Raises:
        FileNotFoundError, ValueError: as `find`, an option that the format has not, or the format's own reasons.
        MissingExtraError: the format is read by a package that is not installed.
    """
    found = find(path, format).format
    for option in options:
        if option not in _options(found):
            takers = [name for name in FORMATS if option in _options(name)]
            raise ValueError(f"{option} is an option of {', '.join(takers) or 'no format'}, not of {found}")
    source: Source = _module(found).open_source(path, **options)
    return source


def _options(format: str) -> list[str]:
    """What its `open_source` takes beside the path."""
    return list(inspect.signature(_module(format).open_source).parameters)[1:]


def writer(path: str | os.PathLike[str], format: str = "") -> tuple[str, Write]:
    """The format that a path is to be written in, and its function.

    Args:
        path: what is to be written; its ending decides where `format` does not.
        format: its name.

    Raises:
        ValueError: there is no such format, it is not written, or the ending says none.
    """
    if format:
        _known("to", format)
    ending = Path(path).suffix
    name = format or ENDINGS.get(ending, "")
    if not name:
        known = ", ".join(f"{each or 'none'} for {written}" for each, written in ENDINGS.items())
        raise ValueError(f"{os.fspath(path)}: the ending {ending} says no format ({known}): name one by --to")
    write: Write | None = getattr(_module(name), "write", None)
    if write is None:
        raise ValueError(f"format {name} is read only, it cannot be written")
    return name, write
