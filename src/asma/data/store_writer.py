"""Writes stores: clips are collected in memory until they fill a shard, which is on the disk before the next begins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from asma import __version__
from asma.data.source import UNKNOWN, Clip, Header, LeftOut
from asma.data.store_format import (
    CHANNELS,
    CLIP,
    CLIPS_FILE,
    DTYPES,
    FRAMES_FILE,
    LEFT_OUT_FILE,
    MOST_FRAMES,
    MOST_PERSONS,
    MOST_SPLITS,
    MOST_TEXT,
    STORE_FILE,
    TEXT_ENDS_FILE,
    TEXT_FILE,
    TRACK,
    TRACKS_FILE,
    Contents,
    Dtype,
    ShardEntry,
    contents_to_json,
    npy_header,
)
from asma.files import sync

__all__ = [
    "ShardBuffer",
    "StoreWriter",
    "put_in_place",
    "write_left_out",
    "write_shard",
    "write_store",
    "write_store_file",
]

SHARD_BYTES = 256 << 20
SHARD_CLIPS = 1 << 16
LARGEST = 2**63 - 1


class ShardBuffer:
    """Clips on their way into one shard."""

    def __init__(self, header: Header, dtype: Dtype) -> None:
        self.header, self.dtype = header, np.dtype(dtype)
        self.frames: list[NDArray[Any]] = []
        self.clips: list[tuple[int, ...]] = []
        self.tracks: list[tuple[int, ...]] = []
        self.texts: list[bytes] = []
        self.splits: dict[str, int] = {}
        self.rows = 0

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def full(self) -> bool:
        """Whether the next clip belongs into another shard."""
        shape = self.header.skeleton.num_joints * len(self.header.channels) * self.dtype.itemsize
        return self.rows * shape >= SHARD_BYTES or len(self.clips) >= SHARD_CLIPS

    def add(self, clip: Clip) -> LeftOut | None:
        """Take a clip, or say why not: then nothing of it is kept."""
        # Names of files need not be text: what is none is written out.
        texts = [text.encode("utf-8", "backslashreplace") for text in (clip.name, clip.source)]
        try:
            _need("the bytes of name and source", max(map(len, texts)), 0, MOST_TEXT)
            tracks = self._tracks(clip)
            row = self._row(clip)
        except ValueError as error:
            return LeftOut(clip.source or clip.name, f"{error}; clip {clip.name[:MOST_TEXT]!r}")
        for person, start, data in tracks:
            self.tracks.append((person, start, len(data), self.rows))
            self.frames.append(data)
            self.rows += len(data)
        self.clips.append(row)
        self.texts += texts
        return None

    def _row(self, clip: Clip) -> tuple[int, ...]:
        classes = len(self.header.classes)
        _need("label", clip.label, UNKNOWN, classes - 1)
        _need("subject", clip.subject, UNKNOWN, LARGEST)
        _need("view", clip.view, UNKNOWN, LARGEST)
        names = dict.fromkeys([*self.splits, *clip.splits])
        if len(names) > MOST_SPLITS:
            raise ValueError(f"a shard must have at most {MOST_SPLITS} splits, got {len(names)}")
        self.splits = {name: bit for bit, name in enumerate(names)}
        splits = sum(1 << self.splits[name] for name in set(clip.splits))
        return int(clip.frames), int(clip.label), int(clip.subject), int(clip.view), len(self.tracks), splits

    def _tracks(self, clip: Clip) -> list[tuple[int, int, NDArray[Any]]]:
        _need("frames", clip.frames, 1, MOST_FRAMES)
        shape = (self.header.skeleton.num_joints, len(self.header.channels))
        found, ends = [], dict[int, int]()
        for track in sorted(clip.tracks, key=lambda track: (int(track.person), int(track.start))):
            person, start = int(track.person), int(track.start)
            _need("person", person, 0, MOST_PERSONS - 1)
            data = np.asarray(track.data)
            if data.dtype.kind not in "fiu" or data.ndim != 3 or data.shape[1:] != shape or not len(data):
                raise ValueError(f"a track must be (F, {shape[0]}, {shape[1]}) numbers, got {data.dtype} {data.shape}")
            _need("start", start, ends.get(person, 0), clip.frames - len(data))
            ends[person] = start + len(data)
            with np.errstate(over="ignore"):
                kept = np.ascontiguousarray(data, self.dtype)
            if not np.isfinite(kept).all():
                frame, joint, axis = np.argwhere(~np.isfinite(kept))[0].tolist()
                raise ValueError(
                    f"coordinates must be finite in {self.dtype}, got {data[frame, joint, axis]} in frame "
                    f"{start + frame} of person {person}, joint {joint}"
                )
            found.append((person, start, kept))
        return found


def _need(name: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        raise ValueError(f"{name} must be in [{least}, {most}], got {found}")


def write_shard(
    folder: Path, number: int, buffer: ShardBuffer, provenance: Mapping[str, Any], left_out: Sequence[LeftOut] = ()
) -> ShardEntry:
    """Write a shard into a store's folder and wait until it is on the disk; it appears there as a whole.

    Raises:
        OSError: the disk is full, or the folder cannot be written; then nothing of the shard is left.
    """
    name = f"shard-{number:05d}"
    part = folder / f"{name}.tmp"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        alone = _write_files(part, buffer)
        if left_out:
            write_left_out(part, left_out)
        write_store_file(part, Contents(buffer.header, cast(Dtype, buffer.dtype.name), provenance, (alone,)))
        os.replace(part, folder / name)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync(folder)
    return replace(alone, folder=name)


def _write_files(folder: Path, buffer: ShardBuffer) -> ShardEntry:
    """The arrays of a shard, and the entry of a store of this shard alone."""
    texts = buffer.texts
    arrays: dict[str, list[NDArray[Any]]] = {
        FRAMES_FILE: buffer.frames,
        TRACKS_FILE: [np.array(buffer.tracks, TRACK)],
        CLIPS_FILE: [np.array(buffer.clips, CLIP)],
        TEXT_FILE: [np.frombuffer(b"".join(texts), np.uint8)],
        TEXT_ENDS_FILE: [np.cumsum([len(text) for text in texts], dtype=np.int64)],
    }
    counts = {"clips": len(buffer), "tracks": len(buffer.tracks), "rows": buffer.rows, "text": sum(map(len, texts))}
    sketch = ShardEntry(".", splits=tuple(buffer.splits), checksums={}, **counts)
    shapes = sketch.arrays(buffer.dtype.name, buffer.header.skeleton.num_joints, len(buffer.header.channels))
    checksums = {file: _write(folder / file, npy_header(*shapes[file]), arrays[file]) for file in arrays}
    return replace(sketch, checksums=checksums)


def _write(path: Path, header: bytes, arrays: Sequence[NDArray[Any]]) -> str:
    """Write and flush a file; its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for content in (np.frombuffer(header, np.uint8), *(array.reshape(-1).view(np.uint8) for array in arrays)):
            file.write(content.data)
            digest.update(content.data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def write_store_file(folder: Path, contents: Contents) -> None:
    """Write store.json, the last file of a store, and flush the folder."""
    values = contents_to_json(contents)
    shards = ",\n".join(f"  {json.dumps(shard)}" for shard in values.pop("shards"))
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    text = "{\n" + ",\n".join([*lines, f' "shards": [\n{shards}\n ]']) + "\n}\n"
    with open(folder / STORE_FILE, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    sync(folder)


def write_left_out(folder: Path, left_out: Iterable[LeftOut]) -> None:
    """Write left_out.jsonl, a line for each: source and reason."""
    with open(folder / LEFT_OUT_FILE, "w", encoding="utf-8", errors="backslashreplace") as file:
        for each in left_out:
            file.write(json.dumps(each.__dict__, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def put_in_place(folder: Path, path: Path, overwrite: bool) -> None:
    """Rename a finished folder to its name; the store that stood there goes only once the new one stands.

    A machine that dies between the two renames leaves the old store beside, as .NAME.HEX.old.

    Raises:
        FileExistsError: something is there and `overwrite` is off, or it is no store.
    """
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
    refuse_to_replace(path, overwrite)
    if os.path.lexists(path):
        os.rename(path, old)
    try:
        os.rename(folder, path)
    except OSError:
        if os.path.lexists(old):
            os.rename(old, path)
        raise
    sync(path.parent)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


class StoreWriter:
    """Writes one store; until the end of the `with` block there is none, and after an exception there is none.

    Args:
        path: the store's folder, beside which it is built.
        header: what holds for all clips.
        dtype: "float32", or "float16" for half the bytes: a coordinate is then off by up to 0.5 mm where it is between
            1 and 2 m, 1 mm between 2 and 4 m, 2 mm between 4 and 8 m.
        provenance: plain values to keep in store.json.
        overwrite: replace the store that is at `path`.

    Raises:
        FileExistsError: something is at `path`, and `overwrite` is off or it is no store.
        FileNotFoundError: the folder that `path` is in does not exist.
        ValueError: another dtype, other channels than "xyz" and "xys", or a class name that is no text; at the end,
            when no clip was added.
        OSError: the disk is full.

    >>> import tempfile
    >>> from asma.data import Clip, Header, Track, open_store
    >>> from asma_kernels import Skeleton
    >>> header = Header("two joints", Skeleton.from_edges([(0, 1)]), "xyz", ("sit",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with StoreWriter(f"{folder}/mine", header) as writer:
    ...         writer.add(Clip("a", 4, (Track(0, 1, np.ones((3, 2, 3), np.float32)),), label=0))
    ...     open_store(f"{folder}/mine").clip(0)[0, :, 0, 0].tolist()
    [0.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        dtype: Dtype = "float32",
        provenance: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        check_new_store("StoreWriter", self.path, header, dtype, overwrite)
        self.header, self.dtype, self.overwrite = header, dtype, overwrite
        self.provenance = {"asma": __version__, **(provenance or {})}
        self._buffer = ShardBuffer(header, dtype)
        self._shards: list[ShardEntry] = []
        self._left_out: list[LeftOut] = []
        self._folder = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")

    def add(self, clip: Clip) -> LeftOut | None:
        """Take a clip. One that breaks a rule is left out and listed in the store; the rule is returned."""
        if self._buffer.full:
            self._write_shard()
        left_out = self._buffer.add(clip)
        if left_out is not None:
            self._left_out.append(left_out)
        return left_out

    def __enter__(self) -> StoreWriter:
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        if len(self._buffer):
            self._write_shard()
        if not self._shards:
            reason = f": {self._left_out[0].reason}" if self._left_out else ""
            raise ValueError(f"StoreWriter: {str(self.path)!r} must have at least one clip, got none{reason}")
        if self._left_out:
            write_left_out(self._folder, self._left_out)
        write_store_file(self._folder, Contents(self.header, self.dtype, self.provenance, tuple(self._shards)))
        put_in_place(self._folder, self.path, self.overwrite)

    def _write_shard(self) -> None:
        self._shards.append(write_shard(self._folder, len(self._shards), self._buffer, self.provenance))
        self._buffer = ShardBuffer(self.header, self.dtype)


def write_store(
    clips: Iterable[Clip], header: Header, path: str | os.PathLike[str], dtype: Dtype = "float32"
) -> list[LeftOut]:
    """A new store of clips; those that break a rule are left out, listed in the store and returned.

    Raises:
        FileExistsError, FileNotFoundError, ValueError, OSError: as `StoreWriter`.
    """
    with StoreWriter(path, header, dtype) as writer:
        return [left_out for clip in clips if (left_out := writer.add(clip))]


def check_new_store(where: str, path: Path, header: Header, dtype: str, overwrite: bool) -> None:
    """The rules that are known before the first clip; see `StoreWriter`."""
    if dtype not in DTYPES:
        raise ValueError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if header.channels not in CHANNELS:
        raise ValueError(f"{where}: channels must be one of {', '.join(CHANNELS)}, got {header.channels!r}")
    if not all(isinstance(name, str) for name in header.classes):
        raise ValueError(f"{where}: classes must be strings, got {header.classes!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{where}: the folder must exist, {str(path.parent)!r} is none")
    refuse_to_replace(path, overwrite)


def refuse_to_replace(path: Path, overwrite: bool) -> None:
    """Raise a FileExistsError if something is at `path`, unless it is a store and may be overwritten."""
    if not os.path.lexists(path):
        return
    if not (path / STORE_FILE).is_file():
        raise FileExistsError(f"{path} is there already and is no store: take another name")
    if not overwrite:
        raise FileExistsError(f"{path} is there already: take another name, or allow to overwrite it (--overwrite)")
