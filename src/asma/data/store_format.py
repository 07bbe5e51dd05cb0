"""The files of a store: their names, types and sizes, and the JSON that lists them.

    my_store/
        store.json          what the set is, and the list of shards with bytes and SHA-256 of each file
        left_out.jsonl      what a conversion left out, and why
        shard-00000/        at most a few hundred MB; a store of its own, that can be opened by itself
            store.json      the same with this shard alone
            frames.npy      (R, V, C) float32 or float16: the frames of all tracks, one after the other
            tracks.npy      (K) TRACK
            clips.npy       (N) CLIP
            text.npy        (B) uint8, UTF-8: name and source of clip 0, of clip 1 and so on
            text_ends.npy   (2 N) int64: where each of those texts ends
        shard-00001/ ...

Every file is an ordinary .npy. Since the JSON says how many clips, tracks, rows and bytes of text there are, type, size
and header of each file follow, and a file is what it must be or it is refused: no header of a stranger is interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asma.data.header_json import header_to_json, need_keys, read_json, skeleton_of_json
from asma.data.source import Header

__all__ = ["CLIP", "TRACK", "Contents", "ShardEntry", "contents_of_json", "contents_to_json", "npy_header"]

FORMAT, VERSION = "asma clips", 1
STORE_FILE = "store.json"
LEFT_OUT_FILE = "left_out.jsonl"
FRAMES_FILE, TRACKS_FILE, CLIPS_FILE = "frames.npy", "tracks.npy", "clips.npy"
TEXT_FILE, TEXT_ENDS_FILE = "text.npy", "text_ends.npy"

CLIP = np.dtype([(name, "<i8") for name in ("frames", "label", "subject", "view", "first_track", "splits")])
"""`first_track` counts within the shard; the last track of a clip is the one before the next clip's first. Bit s of
`splits` says whether the clip is in split s of the shard's list."""
TRACK = np.dtype([(name, "<i8") for name in ("person", "start", "length", "row")])
"""`length` frames from frame `start` of the clip on, from row `row` of frames.npy on."""

CHANNELS = ("xyz", "xys")
DTYPES = ("float32", "float16")
Dtype = Literal["float32", "float16"]
MOST_SPLITS = 63
MOST_PERSONS = 64
MOST_FRAMES = 1 << 24
"""Of a clip: 155 hours at 30 frames a second. What claims to be longer is damaged."""
MOST_JOINTS = 1 << 12
MOST_TEXT = 1 << 12
"""Bytes of a name or a source."""
MOST = 1 << 40
"""Clips, tracks, rows or bytes of a shard, so that no product of sizes leaves int64."""


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file of format 1.0, as NumPy reads it: always the same bytes for the same type and shape.

    >>> npy_header(np.dtype("<f4"), (2, 3))[:10], len(npy_header(np.dtype("<f4"), (2, 3))) % 64
    (b'\\x93NUMPY\\x01\\x00v\\x00', 0)
    """
    descr = dtype.descr if dtype.names else dtype.str
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode("latin1")
    padding = -(10 + len(text) + 1) % 64
    return b"\x93NUMPY\x01\x00" + (len(text) + padding + 1).to_bytes(2, "little") + text + b" " * padding + b"\n"


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the list: N clips, K tracks, R rows of frames, B bytes of text, and the SHA-256 of its files."""

    folder: str
    clips: int
    tracks: int
    rows: int
    text: int
    splits: tuple[str, ...]
    checksums: Mapping[str, str]

    def arrays(self, dtype: str, joints: int, channels: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each file."""
        frames = np.dtype(dtype).newbyteorder("<")
        return {
            FRAMES_FILE: (frames, (self.rows, joints, channels)),
            TRACKS_FILE: (TRACK, (self.tracks,)),
            CLIPS_FILE: (CLIP, (self.clips,)),
            TEXT_FILE: (np.dtype("u1"), (self.text,)),
            TEXT_ENDS_FILE: (np.dtype("<i8"), (2 * self.clips,)),
        }


@dataclass(frozen=True)
class Contents:
    """What a store.json says."""

    header: Header
    dtype: Dtype
    provenance: Mapping[str, Any]
    shards: tuple[ShardEntry, ...]

    @property
    def clips(self) -> int:
        """N over all shards."""
        return sum(shard.clips for shard in self.shards)

    def arrays(self, shard: ShardEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each file of a shard."""
        return shard.arrays(self.dtype, self.header.skeleton.num_joints, len(self.header.channels))


def file_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """The size of an .npy file with our header."""
    return len(npy_header(dtype, shape)) + dtype.itemsize * int(np.prod(shape, dtype=object))


def contents_to_json(contents: Contents) -> dict[str, Any]:
    """Plain values for store.json."""
    shards = [
        {
            "folder": shard.folder,
            "clips": shard.clips,
            "tracks": shard.tracks,
            "rows": shard.rows,
            "text": shard.text,
            "splits": list(shard.splits),
            "files": {
                name: {"bytes": file_bytes(*array), "sha256": shard.checksums[name]}
                for name, array in contents.arrays(shard).items()
            },
        }
        for shard in contents.shards
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        **header_to_json(contents.header),
        "dtype": contents.dtype,
        "provenance": dict(contents.provenance),
        "shards": shards,
    }


def contents_of_json(where: str, path: Path) -> Contents:
    """What a store.json says, every value checked.

    Raises:
        ValueError: it is no store of ours, of another version, or breaks a rule; the message begins with `where`.
        OSError: it cannot be read.
    """
    values = read_json(where, path)
    need_keys(where, path, ("format", "version", "channels", "dtype", "provenance", "shards"), values)
    where = f"{where}: {str(path)!r}"
    if values["format"] != FORMAT:
        raise ValueError(f"{where}: format must be {FORMAT!r}, got {values['format']!r}")
    if values["version"] != VERSION:
        raise ValueError(
            f"{where}: version must be {VERSION}, got {values['version']!r}: take the asma-kernels that wrote it"
        )
    classes = values["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{where}: classes must be a list of strings, got {str(classes)[:80]}")
    joints = values["joints"]
    if isinstance(joints, list) and len(joints) > MOST_JOINTS:
        raise ValueError(f"{where}: joints must be at most {MOST_JOINTS}, got {len(joints)}")
    for key, known in (("channels", CHANNELS), ("dtype", DTYPES)):
        if values[key] not in known:
            raise ValueError(f"{where}: {key} must be one of {', '.join(known)}, got {values[key]!r}")
    if not isinstance(values["provenance"], dict):
        raise ValueError(f"{where}: provenance must be an object, got {type(values['provenance']).__name__}")
    if not isinstance(values["shards"], list) or not values["shards"]:
        raise ValueError(f"{where}: shards must be a list of at least one, got {str(values['shards'])[:80]}")
    header = Header(
        title=str(values["name"]),
        skeleton=skeleton_of_json(where, values),
        channels=values["channels"],
        classes=tuple(classes),
        usual_split=str(values.get("split", "")),
    )
    shards = tuple(_shard(f"{where}: shards[{number}]", each) for number, each in enumerate(values["shards"]))
    if len({shard.folder for shard in shards}) != len(shards):
        raise ValueError(f"{where}: the folders of shards must differ")
    return Contents(header, values["dtype"], values["provenance"], shards)


def _shard(where: str, values: Any) -> ShardEntry:
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be an object, got {type(values).__name__}")
    folder, splits, files = values.get("folder"), values.get("splits"), values.get("files")
    # Nothing that could lead out of the store.
    if not isinstance(folder, str) or not (folder == "." or re.fullmatch(r"shard-[0-9]{5,9}", folder)):
        raise ValueError(f"{where}.folder must be '.' or like shard-00000, got {str(folder)[:80]!r}")
    counts: dict[str, int] = {}
    for key, least in (("clips", 1), ("tracks", 0), ("rows", 0), ("text", 0)):
        count = values.get(key)
        if type(count) is not int or not least <= count < MOST:
            raise ValueError(f"{where}.{key} must be an integer in [{least}, 2^40), got {str(count)[:80]}")
        counts[key] = count
    if not isinstance(splits, list) or len(splits) > MOST_SPLITS or not all(isinstance(each, str) for each in splits):
        raise ValueError(f"{where}.splits must be a list of at most {MOST_SPLITS} strings, got {str(splits)[:80]}")
    if len(set(splits)) != len(splits):
        raise ValueError(f"{where}.splits must differ, got {str(splits)[:80]}")
    names = (FRAMES_FILE, TRACKS_FILE, CLIPS_FILE, TEXT_FILE, TEXT_ENDS_FILE)
    checksums: dict[str, str] = {}
    for name in names:
        entry = files.get(name) if isinstance(files, dict) else None
        found = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(found, str) or not re.fullmatch("[0-9a-f]{64}", found):
            raise ValueError(f"{where}.files must have the SHA-256 of {name}, got {str(entry)[:80]}")
        checksums[name] = found
    return ShardEntry(folder, splits=tuple(splits), checksums=checksums, **counts)
