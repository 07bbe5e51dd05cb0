"""Formats that tell no label: a folder of clips, or a folder of classes with the clips of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asma.data.formats._beside import Beside
from asma.data.formats._files import clip_of_stem, files_in, folders_in
from asma.data.source import UNKNOWN

__all__ = ["Found", "clip_files", "with_labels"]


class Found(NamedTuple):
    """A clip that is a file or a folder: where it is, its name, and its class, UNKNOWN if nothing tells it."""

    path: Path
    name: str
    label: int = UNKNOWN


def clip_files(base: Path, *suffixes: str) -> list[tuple[Path, str, str]]:
    """File, clip's name and class of a file, of the files of a folder, or else of those of the folders in it."""
    if base.is_file():
        return [(base, clip_of_stem(base.stem), "")] if base.name.lower().endswith(suffixes) else []
    if not base.is_dir():
        return []
    if found := [(file, clip_of_stem(file.stem), "") for file in files_in(base, *suffixes)]:
        return found
    return [
        (file, f"{folder.name}/{clip_of_stem(file.stem)}", folder.name)
        for folder in folders_in(base)
        for file in files_in(folder, *suffixes)
    ]


def with_labels(found: Sequence[tuple[Path, str, str]], beside: Beside) -> tuple[list[Found], tuple[str, ...]]:
    """The clips with their labels, and the classes: those of asma.json, or else the folders' names in order.

    Raises:
        ValueError: a folder is called after no class of asma.json.
    """
    names = beside.classes or tuple(sorted({name for _, _, name in found if name}))
    unknown = next((name for _, _, name in found if name and name not in names), None)
    if unknown is not None:
        raise ValueError(f"a folder must be called after one of the classes of asma.json, got {unknown[:80]!r}")
    labels = {name: label for label, name in enumerate(names)}
    return [Found(path, clip, labels.get(name, UNKNOWN)) for path, clip, name in found], names
