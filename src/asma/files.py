"""Files that are there as a whole or not at all: written under another name, put on the disk, then renamed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["forget_unfinished", "sync", "write_atomically", "write_text"]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a name beside ``path`` and rename what it wrote to ``path``, once it is on the disk."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(part)
        sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)  # the rename itself


def forget_unfinished(folder: Path) -> None:
    """Delete what ``write_atomically`` was writing into a folder when its process was killed."""
    for part in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}\.tmp", part.name):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
