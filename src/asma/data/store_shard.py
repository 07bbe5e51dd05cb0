"""One shard of a store: its files, mapped or read when they are first asked for, and checked before they are used."""

from __future__ import annotations

import mmap
import stat
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asma.data.source import UNKNOWN
from asma.data.store_format import (
    CLIPS_FILE,
    FRAMES_FILE,
    MOST_FRAMES,
    MOST_PERSONS,
    MOST_TEXT,
    TEXT_ENDS_FILE,
    TEXT_FILE,
    TRACKS_FILE,
    Contents,
    ShardEntry,
    file_bytes,
    npy_header,
)

__all__ = ["Shard", "Tables"]

# A map that keeps no file descriptor: a store has more shards than a process may have open files.
UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Tables(NamedTuple):
    """The clips and tracks of a shard, every number in its range."""

    clips: NDArray[np.void]
    """(N) CLIP"""
    tracks: NDArray[np.void]
    """(K) TRACK"""
    ends: NDArray[np.int64]
    """(N), the track after the last one of each clip."""


class Shard:
    """Files of one folder. Making one looks at their sizes only.

    Raises:
        ValueError: a file has another size than the store's list says; later, the file whose content breaks a rule.
        FileNotFoundError: a file is missing.
    """

    def __init__(self, folder: Path, entry: ShardEntry, contents: Contents) -> None:
        self.folder, self.entry, self.contents = folder, entry, contents
        self._arrays = contents.arrays(entry)
        for name, array in self._arrays.items():
            path = folder / name
            try:
                found = path.stat()
            except FileNotFoundError:
                raise FileNotFoundError(f"Store: {str(path)!r} must be there, store.json lists it") from None
            if not stat.S_ISREG(found.st_mode) or found.st_size != file_bytes(*array):
                raise ValueError(
                    f"Store: {str(path)!r} must have {file_bytes(*array)} bytes as store.json says, "
                    f"it has {found.st_size}: it is damaged, or of another store"
                )

    @cached_property
    def frames(self) -> NDArray[Any]:
        """(R, V, C), mapped: only what is looked at is read."""
        dtype, shape = self._arrays[FRAMES_FILE]
        path = self.folder / FRAMES_FILE
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **UNTRACKED)
        header = npy_header(dtype, shape)
        if len(mapped) != file_bytes(dtype, shape) or mapped[: len(header)] != header:
            raise self._no_npy(FRAMES_FILE)
        return np.frombuffer(mapped, dtype, int(np.prod(shape)), len(header)).reshape(shape)

    @cached_property
    def tables(self) -> Tables:
        """Clips and tracks."""
        clips, tracks = self._read(CLIPS_FILE), self._read(TRACKS_FILE)
        ends = np.append(clips["first_track"][1:], len(tracks))
        classes, splits = len(self.contents.header.classes), len(self.entry.splits)
        self._need(CLIPS_FILE, "frames", clips["frames"], 1, MOST_FRAMES)
        self._need(CLIPS_FILE, "label", clips["label"], UNKNOWN, classes - 1)
        for field in ("subject", "view"):
            self._need(CLIPS_FILE, field, clips[field], UNKNOWN, np.iinfo(np.int64).max)
        self._need(CLIPS_FILE, "splits", clips["splits"], 0, 2**splits - 1)
        self._need(CLIPS_FILE, "first_track", clips["first_track"], 0, ends)
        if clips["first_track"][0] != 0:
            raise self._broken(CLIPS_FILE, "first_track", 0, 0, 0, int(clips["first_track"][0]))
        owner = np.repeat(np.arange(len(clips)), ends - clips["first_track"])
        there = clips["frames"][owner]
        self._need(TRACKS_FILE, "person", tracks["person"], 0, MOST_PERSONS - 1)
        self._need(TRACKS_FILE, "length", tracks["length"], 1, np.minimum(there, self.entry.rows))
        self._need(TRACKS_FILE, "start", tracks["start"], 0, there - tracks["length"])
        self._need(TRACKS_FILE, "row", tracks["row"], 0, self.entry.rows - tracks["length"])
        return Tables(clips, tracks, ends)

    @cached_property
    def _text(self) -> tuple[bytes, NDArray[np.int64]]:
        text, ends = self._read(TEXT_FILE).tobytes(), self._read(TEXT_ENDS_FILE)
        begins = np.append(0, ends[:-1])
        self._need(TEXT_ENDS_FILE, "end", ends, begins, np.minimum(begins.clip(0, len(text)) + MOST_TEXT, len(text)))
        return text, ends

    def name(self, clip: int) -> str:
        """The name of a clip of this shard."""
        return self._text_at(2 * clip)

    def source(self, clip: int) -> str:
        """File, and place in it, that a clip of this shard was read from."""
        return self._text_at(2 * clip + 1)

    def _text_at(self, number: int) -> str:
        text, ends = self._text
        begin = int(ends[number - 1]) if number else 0
        try:
            return text[begin : int(ends[number])].decode("utf-8")
        except UnicodeDecodeError as error:
            path = str(self.folder / TEXT_FILE)
            raise ValueError(f"Store: {path!r}: the texts of clip {number // 2} must be UTF-8, but {error}") from None

    def _read(self, name: str) -> NDArray[Any]:
        dtype, shape = self._arrays[name]
        header = npy_header(dtype, shape)
        path = self.folder / name
        try:
            content = path.read_bytes()
        except MemoryError:
            raise ValueError(
                f"Store: {str(path)!r} must fit into memory, it has {file_bytes(dtype, shape)} bytes"
            ) from None
        if len(content) != file_bytes(dtype, shape) or content[: len(header)] != header:
            raise self._no_npy(name)
        return np.frombuffer(content, dtype, shape[0], len(header))

    def _no_npy(self, name: str) -> ValueError:
        dtype, shape = self._arrays[name]
        return ValueError(
            f"Store: {str(self.folder / name)!r} must be an .npy of {dtype} with shape {shape}, it is none"
        )

    def _need(self, name: str, field: str, found: NDArray[np.int64], least: Any, most: Any) -> None:
        """Every number in [least, most], which are numbers or one for each."""
        wrong = np.flatnonzero((found < least) | (found > most))
        if len(wrong):
            place = int(wrong[0])
            low, high = (int(np.broadcast_to(limit, found.shape)[place]) for limit in (least, most))
            raise self._broken(name, field, place, low, high, int(found[place]))

    def _broken(self, name: str, field: str, place: int, least: int, most: int, found: int) -> ValueError:
        path = str(self.folder / name)
        return ValueError(
            f"Store: {path!r}: {field} must be in [{least}, {most}], got {found} at {place}: the file is damaged"
        )
