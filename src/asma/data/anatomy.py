"""What joints are called tells which of them are head, feet, left and right."""

from __future__ import annotations

import re
from typing import NamedTuple

from asma_kernels.skeleton import Skeleton

__all__ = ["Anatomy", "anatomy"]


class Anatomy(NamedTuple):
    """Joints by what they are; empty where names do not tell."""

    head: list[int]
    feet: list[int]
    left: list[int]
    """Hip and shoulder."""
    right: list[int]
    heels: list[int]
    """Ankles, where there is nothing better."""
    toes: list[int]

    @property
    def stands(self) -> bool:
        """Whether it can be told what is up."""
        return bool(self.head and self.feet)

    @property
    def faces(self) -> bool:
        """Whether left can be told from right by where the feet point."""
        return bool(self.stands and self.left and self.right and self.heels and self.toes)


def anatomy(skeleton: Skeleton) -> Anatomy:
    """Joints by the words of their names, as left_hip, hip_left or LeftHip.

    >>> found = anatomy(Skeleton.builtin("ntu25"))
    >>> found.head, found.left, found.toes
    ([3], [4, 12], [15, 19])
    """
    words = [set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())) for name in skeleton.names]

    def having(*any_of: str) -> list[int]:
        return [joint for joint, found in enumerate(words) if found & set(any_of)]

    def on_side(side: str) -> list[int]:
        return [joint for joint in having("hip", "shoulder") if side in words[joint]]

    toes = having("toe", "toes") or having("foot")
    heels = having("heel") or having("ankle") or [joint for joint in having("foot") if joint not in toes]
    head = having("head") or having("nose")
    return Anatomy(head, having("foot", "ankle"), on_side("left"), on_side("right"), heels, toes)
