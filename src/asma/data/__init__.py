"""Clips of skeletons: sets of them, their files, their preprocessing, and a set made by code."""

from __future__ import annotations

import inspect
import os

from asma.data.builtin import builtin_clips
from asma.data.clip_base import Clips
from asma.data.clip_file import load_clips, save_clips
from asma.data.clips import ClipSet
from asma.data.preprocess import centre_clips, centre_frames, face_forward, scale_body
from asma.data.source import UNKNOWN, Clip, Header, LeftOut, Source, Track
from asma.data.store import Store, open_store
from asma.data.store_check import verify_store
from asma.data.store_writer import StoreWriter

__all__ = [
    "Clip",
    "ClipSet",
    "Clips",
    "Header",
    "LeftOut",
    "Source",
    "Store",
    "StoreWriter",
    "Track",
    "UNKNOWN",
    "builtin_clips",
    "centre_clips",
    "centre_frames",
    "face_forward",
    "load_clips",
    "open_clips",
    "open_store",
    "save_clips",
    "scale_body",
    "verify_store",
]


def open_clips(source: str | os.PathLike[str]) -> ClipSet | Store:
    """The clips that a user names on a command line.

    Args:
        source: "builtin"; "builtin:" and arguments of `builtin_clips` with commas ("builtin:seed=3,classes=18"); or
            the path of an .npz that `load_clips` reads, or of a folder that `open_store` opens.

    Raises:
        ValueError: "builtin:" is followed by something else than known names with integers, or the file is damaged.
        FileNotFoundError: no such file, or a folder without a store.

    >>> len(open_clips("builtin:seed=3,classes=2,subjects=2,views=1,repeats=2"))
    8
    """
    text = os.fspath(source)
    kind, colon, rest = text.partition(":")
    if kind != "builtin":
        return open_store(text) if os.path.isdir(text) else load_clips(text)
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
