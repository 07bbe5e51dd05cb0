"""Reads all of a store and says what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from asma.data.store import open_store
from asma.data.store_format import STORE_FILE, contents_of_json
from asma.data.store_shard import Shard

__all__ = ["verify_store"]

ROWS = 1 << 14
BLOCK = 1 << 20


def verify_store(path: str | os.PathLike[str]) -> None:
    """Compare every file with its checksum, and check every rule that opening a store leaves to the first use.

    Raises:
        FileNotFoundError: no such store, or a file of it is missing.
        ValueError: what is wrong, with the file and the place; only the first fault is named.
    """
    store = open_store(path)
    for shard in store.shards:
        for name, wanted in shard.entry.checksums.items():
            if (found := _sha256(shard.folder / name)) != wanted:
                raise ValueError(
                    f"verify_store: {str(shard.folder / name)!r} must have the SHA-256 {wanted}, it has {found}: "
                    "put a copy of it back, or convert the source again"
                )
        _check_own_list(shard)
        _check_frames(shard)
        _check_tracks(shard)
        for clip in range(shard.entry.clips):
            shard.name(clip)
            shard.source(clip)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check_own_list(shard: Shard) -> None:
    """The shard's own store.json says what the store's does."""
    own = contents_of_json("verify_store", shard.folder / STORE_FILE)
    listed = [entry.checksums for entry in own.shards]
    if shard.entry.folder != "." and (listed != [shard.entry.checksums] or own.header != shard.contents.header):
        raise ValueError(f"verify_store: {str(shard.folder / STORE_FILE)!r} must say the same as the store's")


def _check_frames(shard: Shard) -> None:
    for begin in range(0, shard.entry.rows, ROWS):
        finite = np.isfinite(shard.frames[begin : begin + ROWS]).all((1, 2))
        if not finite.all():
            row = begin + int(finite.argmin())
            raise ValueError(
                f"verify_store: {str(shard.folder)!r}: coordinates must be finite, in row {row} one is not"
            )


def _check_tracks(shard: Shard) -> None:
    """Tracks of a person do not overlap, and every row belongs to one track."""
    clips, tracks, ends = shard.tables
    owner = np.repeat(np.arange(len(clips)), ends - clips["first_track"])
    order = np.lexsort((tracks["start"], tracks["person"], owner))
    after = tracks["start"][order][1:] - (tracks["start"] + tracks["length"])[order][:-1]
    same = (owner[order][1:] == owner[order][:-1]) & (tracks["person"][order][1:] == tracks["person"][order][:-1])
    for place in np.flatnonzero(same & (after < 0))[:1]:
        name = shard.name(int(owner[order][place]))
        raise ValueError(f"verify_store: {str(shard.folder)!r}: tracks of a person must not overlap, clip {name!r}")
    tracks = tracks[np.argsort(tracks["row"])]
    begins = np.cumsum(tracks["length"]) - tracks["length"]
    if tracks["length"].sum() != shard.entry.rows or (tracks["row"] != begins).any():
        raise ValueError(f"verify_store: {str(shard.folder)!r}: every row of frames must belong to one track")
