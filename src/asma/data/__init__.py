"""Clips of skeletons: sets of them, their files, their preprocessing, and a set made by code."""

from __future__ import annotations

import inspect
import os

from asma.data.builtin import builtin_clips
from asma.data.clip_file import load_clips, save_clips
from asma.data.clips import ClipSet
from asma.data.preprocess import centre_clips, centre_frames, face_forward, scale_body

__all__ = [
    "ClipSet",
    "builtin_clips",
    "centre_clips",
    "centre_frames",
    "face_forward",
    "load_clips",
    "open_clips",
    "save_clips",
    "scale_body",
]


def open_clips(source: str | os.PathLike[str]) -> ClipSet:
    """The clips that a user names on a command line.

    Args:
        source: "builtin"; "builtin:" and arguments of `builtin_clips` with commas ("builtin:seed=3,classes=18"); or
            the path of an .npz that `load_clips` reads.

    Raises:
        ValueError: "builtin:" is followed by something else than known names with integers, or the file is damaged.
        FileNotFoundError: no such file.

    >>> len(open_clips("builtin:seed=3,classes=2,subjects=2,views=1,repeats=2"))
    8
    """
    text = os.fspath(source)
    kind, colon, rest = text.partition(":")
    if kind != "builtin":
        return load_clips(text)
    known = tuple(inspect.signature(builtin_clips).parameters)
    rule = f"open_clips: {text!r} must be builtin:name=number, names are {', '.join(known)}"
    numbers: dict[str, int] = {}
    for part in rest.split(",") if colon else ():
        name, _, value = part.partition("=")
        if name not in known or not (value.isascii() and value.isdigit()):
            raise ValueError(f"{rule}, got {part!r}")
        if name in numbers:
            raise ValueError(f"{rule}, each once, got {name} twice")
        numbers[name] = int(value)
    return builtin_clips(**numbers)
