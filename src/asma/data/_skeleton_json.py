"""A skeleton as the fields of a JSON object, as the clip format and asma.json have it."""

from __future__ import annotations

import re
from typing import Any

from asma_kernels.skeleton import Skeleton

__all__ = ["fields_of", "skeleton_of"]


def fields_of(skeleton: Skeleton) -> dict[str, Any]:
    """What `skeleton_of` makes an equal skeleton of."""
    return {
        "joints": skeleton.names,
        "edges": skeleton.edges,
        "centre": skeleton.centre,
        "layout": skeleton.name,
        "flip": skeleton.flip_joints,
        "parents": skeleton.parent_joints,
    }


def skeleton_of(where: str, fields: dict[str, Any]) -> Skeleton:
    """The skeleton of joints, edges and centre, and perhaps layout, flip and parents; a built-in layout if it is one.

    Without a flip it is taken from the words left and right in the names.

    Raises:
        ValueError: they do not make a skeleton; the message begins with `where`.
    """
    try:
        flip = fields["flip"] if "flip" in fields else _flip_of_names(fields["joints"])
        name, parents = str(fields.get("layout", "custom")), fields.get("parents")
        skeleton = Skeleton.from_edges(fields["edges"], fields["joints"], fields["centre"], flip, name, parents)
    except ValueError as error:
        raise ValueError(f"{where}: joints, edges and centre must make a skeleton, but {error}") from None
    for layout in map(Skeleton.builtin, Skeleton.layouts()):
        if skeleton.name in ("custom", layout.name) and _same_graph(skeleton, layout):
            return layout
    return skeleton


def _same_graph(skeleton: Skeleton, other: Skeleton) -> bool:
    """Whether joints, centre, flip and edges in any order and direction are the same."""
    edges, others = ({frozenset(edge) for edge in each.edges} for each in (skeleton, other))
    return (skeleton.names, skeleton.centre, skeleton.flip_joints, edges) == (
        other.names, other.centre, other.flip_joints, others
    )  # fmt: skip


def _flip_of_names(names: object) -> list[int] | None:
    """Joint -> its mirror image by the words left and right in the names; None if a joint has no partner."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    mirrored = ["".join(swap.get(word, word) for word in re.split("(left|right|Left|Right)", name)) for name in names]
    return [names.index(name) for name in mirrored] if set(mirrored) == set(names) else None
