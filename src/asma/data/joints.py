"""Joints that preprocessing needs, found by their names in any layout."""

from __future__ import annotations

from asma_kernels.skeleton import Skeleton

__all__ = ["joint_pair", "shoulders", "spine"]

SPINES = (("base_of_spine", "middle_of_spine"), ("hip_center", "spine"))


def joint_pair(where: str, skeleton: Skeleton, name: str) -> tuple[int, int]:
    """The left and the right joint of ``hips`` or ``shoulders``.

    Raises:
        ValueError: the skeleton has no such names; the message begins with `where`.

    >>> joint_pair("here", Skeleton.builtin("ntu25"), "hips")
    (12, 16)
    """
    found = []
    for side in ("left", "right"):
        wanted = {side, name.removesuffix("s")}
        matches = [joint for joint, words in enumerate(skeleton.names) if wanted == set(words.lower().split("_"))]
        if len(matches) != 1:
            raise ValueError(
                f"{where}: the skeleton {skeleton.name} has no joint named {side}_{name.removesuffix('s')}"
            )
        found += matches
    return found[0], found[1]


def shoulders(where: str, skeleton: Skeleton) -> tuple[int, int]:
    """The left and the right shoulder; see `joint_pair`."""
    return joint_pair(where, skeleton, "shoulders")


def spine(where: str, skeleton: Skeleton) -> tuple[int, int]:
    """The lowest joint of the spine and the one above it.

    Raises:
        ValueError: the skeleton has no such names; the message begins with `where`.

    >>> spine("here", Skeleton.builtin("ntu25")), spine("here", Skeleton.builtin("utd20"))
    ((0, 1), (3, 2))
    """
    for bottom, top in SPINES:
        if bottom in skeleton.names and top in skeleton.names:
            return skeleton.names.index(bottom), skeleton.names.index(top)
    wanted = " nor ".join(" and ".join(pair) for pair in SPINES)
    raise ValueError(f"{where}: the skeleton {skeleton.name} has no joints named {wanted}")
