"""Clips of any length and any number of persons in a folder of mapped files; store_format.py says which."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.clip_base import Clips
from asma.data.source import Clip, Header, Track
from asma.data.store_format import STORE_FILE, Contents, contents_of_json
from asma.data.store_shard import Shard

__all__ = ["Store", "open_store"]


class Store(Clips):
    """N clips in files, none of which is read before it is asked for. Made by `open_store`.

    A set of it (`subset`, `split`) is another view of the same files. Can be pickled: the other process maps the files
    anew.

    Attributes:
        path: the folder.
        dtype: of the frames in the files, "float32" or "float16"; what comes out is float32.
        shards: the files, folder by folder.
        provenance: what they were made from, by which version, with which options, and what was counted.
    """

    def __init__(
        self, path: Path, contents: Contents, shards: tuple[Shard, ...], index: NDArray[np.int64] | None = None
    ) -> None:
        self.path, self._contents, self.shards = path, contents, shards
        header = contents.header
        self.classes, self.skeleton, self.title = header.classes, header.skeleton, header.title
        self.usual_split = header.usual_split
        self.dtype, self.provenance = contents.dtype, contents.provenance
        self._ends = np.cumsum([shard.entry.clips for shard in shards])
        self._index = index

    def __len__(self) -> int:
        """N, the number of clips."""
        return int(self._ends[-1]) if self._index is None else len(self._index)

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return _reopen, (self.path, [shard.entry.folder for shard in self.shards], self._index)

    @property
    def header(self) -> Header:
        """What holds for all clips, as readers of other formats say it."""
        return self._contents.header

    @property
    def channels(self) -> str:
        """See `Clips`."""
        return self._contents.header.channels

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """(N) int64 in [0, number of classes), -1 where unknown."""
        return self._column("label")

    @cached_property
    def subject(self) -> NDArray[np.int64]:
        """(N) int64, who acts; -1 where unknown."""
        return self._column("subject")

    @cached_property
    def view(self) -> NDArray[np.int64]:
        """(N) int64, which camera; -1 where unknown."""
        return self._column("view")

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N) int64, the number of frames of each clip, at least 1."""
        return self._column("frames")

    @cached_property
    def shard_of(self) -> NDArray[np.int64]:
        """(N) int64, the shard that each clip lies in."""
        return self._places(self._all())[0]

    @cached_property
    def name(self) -> NDArray[np.str_]:
        """(N) strings."""
        return np.array([self.shards[shard].name(clip) for shard, clip in self._each(self._all())])

    @property
    def split_names(self) -> tuple[str, ...]:
        """Of the splits that the set's files brought along."""
        return tuple(dict.fromkeys(name for shard in self.shards for name in shard.entry.splits))

    def members(self, split: str) -> NDArray[np.bool_]:
        """(N) bool, the clips of one of `split_names`."""
        there = []
        for shard in self.shards:
            bits = shard.tables.clips["splits"]
            names = shard.entry.splits
            there.append(bits >> names.index(split) & 1 if split in names else np.zeros(len(bits), np.int64))
        found: NDArray[np.bool_] = np.concatenate(there)[self._all()] != 0
        return found

    def clip(self, i: int) -> NDArray[np.float32]:
        """Clip i: (M, T_i, V, C) float32, zeros where a person is absent; M is at least 1.

        Raises:
            ValueError: i is not in [0, N), or a file is damaged.
        """
        tracks, frames = self.tracks(i), int(self._row("Store.clip", i)["frames"])
        persons = max((track.person + 1 for track in tracks), default=1)
        out = self._zeros((persons, frames, self.skeleton.num_joints, len(self.channels)))
        for person, start, data in tracks:
            out[person, start : start + len(data)] = data
        return out

    def tracks(self, i: int) -> tuple[Track, ...]:
        """The persons of clip i; the data of a float32 store are views of the file.

        Raises:
            ValueError: i is not in [0, N), or a file is damaged.
        """
        shard, clip = self._place("Store.tracks", i)
        tables, frames = shard.tables, shard.frames
        rows = tables.tracks[int(tables.clips["first_track"][clip]) : int(tables.ends[clip])].tolist()
        return tuple(
            Track(person, start, frames[row : row + length].astype(np.float32, copy=False))
            for person, start, length, row in rows
        )

    def as_clip(self, i: int) -> Clip:
        """Clip i with all that is known of it, as readers of other formats give it.

        Raises:
            ValueError: i is not in [0, N), or a file is damaged.
        """
        shard, clip = self._place("Store.as_clip", i)
        frames, label, subject, view, _, splits = shard.tables.clips[clip].tolist()
        return Clip(
            name=shard.name(clip),
            frames=frames,
            tracks=self.tracks(i),
            label=label,
            subject=subject,
            view=view,
            splits=tuple(name for bit, name in enumerate(shard.entry.splits) if splits >> bit & 1),
            source=shard.source(clip),
        )

    def gather(
        self, index: NDArray[np.int64], times: NDArray[np.int64], persons: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Clips.gather`."""
        shape = (len(index), persons, times.shape[1])
        out = self._zeros((*shape, self.skeleton.num_joints, len(self.channels)))
        there = np.zeros(shape, bool)
        in_shard, local = self._places(index if self._index is None else self._index[index])
        for number in np.unique(in_shard).tolist():
            shard = self.shards[number]
            tables, where = shard.tables, np.flatnonzero(in_shard == number)
            first = tables.clips["first_track"][local[where]]
            count = tables.ends[local[where]] - first
            owner = np.repeat(where, count)
            tracks = tables.tracks[np.arange(len(owner)) + np.repeat(first - (np.cumsum(count) - count), count)]
            shown = tracks["person"] < persons
            owner, tracks = owner[shown], tracks[shown]
            since = times[owner] - tracks["start"][:, None]
            track, time = np.nonzero((since >= 0) & (since < tracks["length"][:, None]))
            place = owner[track], tracks["person"][track], time
            out[place] = shard.frames[tracks["row"][track] + since[track, time]]
            there[place] = True
        return out, there

    def checksum(self) -> int:
        """See `Clips.checksum`; from the checksums of the files, without reading them."""
        listed = [f"{name} {sha256}" for shard in self.shards for name, sha256 in shard.entry.checksums.items()]
        found = zlib.crc32("\n".join(listed).encode())
        return found if self._index is None else zlib.crc32(self._index.tobytes(), found)

    def _take(self, index: NDArray[np.int64]) -> Store:
        return Store(self.path, self._contents, self.shards, self._all()[index])

    def _all(self) -> NDArray[np.int64]:
        """(N), the clips of this set among those of the files."""
        return np.arange(int(self._ends[-1])) if self._index is None else self._index

    def _places(self, clips: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shard of each clip, and its number there."""
        shard = np.searchsorted(self._ends, clips, "right")
        return shard, clips - np.append(0, self._ends)[shard]

    def _each(self, clips: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
        return zip(*(part.tolist() for part in self._places(clips)), strict=True)

    def _place(self, where: str, i: int) -> tuple[Shard, int]:
        (index,) = self._clip_index(where, [i])
        if self._index is not None:
            index = self._index[index]
        ((shard, clip),) = self._each(np.array([index]))
        return self.shards[shard], clip

    def _row(self, where: str, i: int) -> np.void:
        shard, clip = self._place(where, i)
        row: np.void = shard.tables.clips[clip]
        return row

    def _column(self, field: str) -> NDArray[np.int64]:
        whole = np.concatenate([shard.tables.clips[field] for shard in self.shards])
        return whole if self._index is None else whole[self._index]

    def _zeros(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        try:
            return np.zeros(shape, np.float32)
        except (MemoryError, ValueError):
            raise ValueError(f"Store: {str(self.path)!r}: clips of shape {shape} must fit into memory") from None


def open_store(path: str | os.PathLike[str], shards: Iterable[int] | None = None) -> Store:
    """Open a folder that `StoreWriter` or `asma data convert` wrote, or one shard of it.

    Looks at store.json and the sizes of the files, at nothing else. What is in a file is checked when the file is first
    used; `verify_store` checks all of it at once.

    Args:
        path: the folder.
        shards: numbers of the shards to open, so that a machine needs no others; None for all.

    Raises:
        FileNotFoundError: no such folder, no store.json in it, or a file of it is missing.
        ValueError: store.json breaks a rule, a file has another size, or there is no such shard.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"open_store: {str(folder)!r} is not a folder")
    if not (folder / STORE_FILE).is_file():
        raise FileNotFoundError(f"open_store: {str(folder)!r} has no {STORE_FILE}: make a store by asma data convert")
    contents = contents_of_json("open_store", folder / STORE_FILE)
    chosen = list(range(len(contents.shards))) if shards is None else list(shards)
    wrong = [number for number in chosen if type(number) is not int or not 0 <= number < len(contents.shards)]
    if wrong or not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"open_store: shards must be different numbers in [0, {len(contents.shards)}), got {chosen}")
    entries = [contents.shards[number] for number in chosen]
    return Store(folder, contents, tuple(Shard(folder / entry.folder, entry, contents) for entry in entries))


def _reopen(path: Path, folders: list[str], index: NDArray[np.int64] | None) -> Store:
    contents = contents_of_json("open_store", path / STORE_FILE)
    entries: Mapping[str, Any] = {entry.folder: entry for entry in contents.shards}
    if not set(folders) <= set(entries):
        raise ValueError(f"open_store: {str(path)!r} was replaced by another store")
    return Store(path, contents, tuple(Shard(path / name, entries[name], contents) for name in folders), index)
