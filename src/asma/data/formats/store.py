"""A store as a source, so that other formats can be written of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from asma.data.source import Clip, Header
from asma.data.store import Store, open_store
from asma.data.store_format import STORE_FILE
from asma.data.store_writer import write_store

__all__ = ["StoreSource", "open_source", "recognise", "write"]

FORMAT = "store"
PART = 1024
"""Clips of a part: about 30 MB of NTU RGB+D."""


def recognise(path: str | os.PathLike[str]) -> str | None:
    """What is here, as "store of 56,578 clips in 8 shards"; None if it is not."""
    try:
        if not (Path(path) / STORE_FILE).is_file():
            return None
        store = open_store(path)
    except (OSError, ValueError):
        return "damaged store" if Path(path).is_dir() else None
    return f"store of {len(store):,} clips in {len(store.shards)} shard{'s' * (len(store.shards) > 1)}"


def open_source(path: str | os.PathLike[str]) -> StoreSource:
    """A store.

    Raises:
        FileNotFoundError, ValueError: as `open_store`.
    """
    return StoreSource(open_store(path))


class StoreSource:
    """See `open_source`. Another process maps the files anew."""

    format = FORMAT

    def __init__(self, store: Store) -> None:
        self._store = store
        self.header = store.header
        begins = range(0, len(store), PART)
        self.parts = tuple(f"clips {begin} to {min(begin + PART, len(store)) - 1}" for begin in begins)

    def read(self, part: str) -> Iterator[Clip]:
        """See `asma.data.source.Source.read`."""
        begin = self.parts.index(part) * PART
        for i in range(begin, min(begin + PART, len(self._store))):
            yield self._store.as_clip(i)


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new store; see `write_store`."""
    write_store(clips, header, path)
