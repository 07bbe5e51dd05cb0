"""What a set of clips says of itself in JSON: its title, classes, skeleton and usual split. The same in every format.

Keys: `name` (of the set), `classes`, `joints` (their names), `edges` and `centre`, perhaps `split` (the usual one),
`layout`, `flip`, `parents` and `channels`; others are left to the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asma.data.source import Header
from asma_kernels.layouts import LAYOUTS
from asma_kernels.skeleton import Skeleton

__all__ = ["header_to_json", "read_json", "skeleton_of_json"]

KEYS = ("name", "classes", "joints", "edges", "centre")
LARGEST = 1 << 28
"""Bytes of a JSON file of ours, at most: what is larger was not written by us."""


def header_to_json(header: Header) -> dict[str, Any]:
    """Plain values, from which `skeleton_of_json` and the keys make the same again."""
    skeleton = header.skeleton
    return {
        "name": header.title,
        "classes": list(header.classes),
        "channels": header.channels,
        "joints": skeleton.names,
        "edges": skeleton.edges,
        "centre": skeleton.centre,
        "split": header.usual_split,
        "layout": skeleton.name,
        "flip": skeleton.flip_joints,
        "parents": skeleton.parent_joints,
    }


def read_json(where: str, path: Path) -> dict[str, Any]:
    """The JSON object of a file, with the keys that a set must have.

    Raises:
        ValueError: it is none, or a key is missing; the message begins with `where`.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{where}: {str(path)!r} must have at most {LARGEST} bytes, it has {path.stat().st_size}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {str(path)!r} must be JSON, but {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{where}: {str(path)!r} must hold a JSON object, got {type(header).__name__}")
    need_keys(where, path, KEYS, header)
    return header


def need_keys(where: str, path: Path, keys: Sequence[str], found: dict[str, Any]) -> None:
    """Raise a ValueError that begins with `where` and names the keys that are missing."""
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"{where}: {str(path)!r} must hold {', '.join(keys)}, it lacks {', '.join(missing)}")


def skeleton_of_json(where: str, header: dict[str, Any]) -> Skeleton:
    """The skeleton of a header; one that is among `Skeleton.layouts()` becomes that layout.

    Without `flip`, joints whose names differ by "left" and "right" are each other's mirror images.

    Raises:
        ValueError: joints, edges and centre make no skeleton; the message begins with `where`.
    """
    try:
        flip = header["flip"] if "flip" in header else _flip_of_names(header["joints"])
        name, parents = str(header.get("layout", "custom")), header.get("parents")
        skeleton = Skeleton.from_edges(header["edges"], header["joints"], header["centre"], flip, name, parents)
    except ValueError as error:
        raise ValueError(f"{where}: joints, edges and centre must make a skeleton, but {error}") from None
    for name, layout in LAYOUTS.items():
        if skeleton.name in ("custom", name) and skeleton.names == layout.names:
            builtin = Skeleton.builtin(name)
            if _same_graph(skeleton, builtin):
                return builtin
    return skeleton


def _same_graph(skeleton: Skeleton, other: Skeleton) -> bool:
    """Whether centre, flip and edges in any order and direction are the same."""
    edges, others = ({frozenset(edge) for edge in each.edges} for each in (skeleton, other))
    return (skeleton.centre, skeleton.flip_joints, edges) == (other.centre, other.flip_joints, others)


def _flip_of_names(names: object) -> list[int] | None:
    """Joint -> its mirror image by the words left and right in the names; None if a joint has no partner."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    mirrored = ["".join(swap.get(word, word) for word in re.split("(left|right|Left|Right)", name)) for name in names]
    return [names.index(name) for name in mirrored] if set(mirrored) == set(names) else None
