"""Bones, jumps and directions of bodies: what can be told from where joints are.

Places are (M, T, V, D) float64, D = 3 or 2 for pictures, NaN where a joint is not known.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.anatomy import anatomy
from ..data.source import Header
from .faults import Found, Limits

__all__ = ["Geometry", "Measures"]

SAME_PLACE = 0.25
"""Share of the jump that is left if two swapped persons are swapped back."""


@dataclass
class Measures:
    """A clip in numbers; None where it cannot be told."""

    size: float | None = None
    """Body size in the unit of the data."""
    bones: NDArray[np.float32] | None = None
    """(E) each bone's median length in body sizes; of several persons the longest."""
    up: NDArray[np.float32] | None = None
    """(3) from the feet to the head, in body sizes."""
    facing: float | None = None
    """Cosine between where the feet point and where the front of the body must be if left is left."""


class Geometry:
    """Measures bodies of one skeleton."""

    def __init__(self, header: Header, limits: Limits) -> None:
        self._names = header.skeleton.names
        self._limits = limits
        self._flat = header.channels == "xys"
        self._anatomy = anatomy(header.skeleton)
        edges = np.array(header.skeleton.edges, np.int64).reshape(-1, 2)
        self._starts, self._ends = edges[:, 0], edges[:, 1]

    def measure(self, place: NDArray[np.float64], usable: NDArray[np.bool_]) -> Measures:
        # fmax and fmin pass over NaN.
        extent = np.linalg.norm(np.fmax.reduce(place, 2) - np.fmin.reduce(place, 2), axis=2)
        size = _median(extent[usable])
        if not 0 < size < np.inf:
            return Measures()
        measures = Measures(size)
        if not self._flat and len(self._starts):
            bones = [_medians(bones[there]) for bones, there in zip(self._bones(place), usable, strict=True)]
            measures.bones = (np.fmax.reduce(bones, 0) / size).astype(np.float32)
        if self._anatomy.stands:
            up = self._middle(place, self._anatomy.head) - self._middle(place, self._anatomy.feet)
            measures.up = np.zeros(3, np.float32)
            measures.up[: up.shape[2]] = _medians(up[usable]) / size
            if self._anatomy.faces and not self._flat:
                measures.facing = self._facing(place, up, usable)
        return measures

    def faults(
        self, place: NDArray[np.float64], usable: NDArray[np.bool_], measures: Measures, persons: list[int]
    ) -> Iterator[Found]:
        if measures.size is None:
            return
        step = np.linalg.norm(np.diff(place, axis=1), axis=3) / measures.size
        swapped = np.zeros(step.shape[:2], np.bool_)
        for one in range(len(place)):
            for other in range(one + 1, len(place)):
                both = usable[one] & usable[other]
                if both.any() and np.array_equal(place[one, both], place[other, both], equal_nan=True):
                    text = f"persons {persons[one]} and {persons[other]} are equal"
                    yield Found("twin-persons", text, int(both.sum()), int(both.argmax()), (one, other))
                    continue
                at = self._swaps(place, step, one, other, measures.size)
                if at.any():
                    swapped[[one, other]] |= at
                    text = f"persons {persons[one]} and {persons[other]} exchange their places"
                    yield Found("swapped-persons", text, int(at.sum()), int(at.argmax()) + 1, (one, other))
        jump = (step > self._limits.teleport) & ~swapped[..., None]
        if jump.any():
            person, frame, joint = (
                int(axis) for axis in np.unravel_index(np.where(jump, step, 0).argmax(), step.shape)
            )
            moved = jump[person, frame]
            whole = moved.sum() > len(moved) / 2
            who = f"person {persons[person]}" if whole else self._joint(joint)
            joints = () if whole else tuple(np.flatnonzero(moved).tolist())
            text = f"{who} moves {step[person, frame, joint]:.2g} body sizes in a frame"
            yield Found("teleport", text, int(jump.any((0, 2)).sum()), frame + 1, (person,), joints)
        if measures.bones is not None:
            yield from self._long_bones(place, usable, jump, measures.size)

    def _swaps(
        self, place: NDArray[np.float64], step: NDArray[np.float64], one: int, other: int, size: float
    ) -> NDArray[np.bool_]:
        """(T - 1): both jump, and to each other's place."""
        jumps = np.minimum(_means(step[one]), _means(step[other])) > self._limits.swap
        if not jumps.any():
            return np.asarray(jumps)
        across = np.linalg.norm(place[one, 1:] - place[other, :-1], axis=2)
        across += np.linalg.norm(place[other, 1:] - place[one, :-1], axis=2)
        return np.asarray(jumps & (_means(across) / size < SAME_PLACE * _means(step[one] + step[other])))

    def _long_bones(
        self, place: NDArray[np.float64], usable: NDArray[np.bool_], jump: NDArray[np.bool_], size: float
    ) -> Iterator[Found]:
        bones = self._bones(place) / size
        usual = np.stack([_medians(length[there]) for length, there in zip(bones, usable, strict=True)])
        beyond = bones - usual[:, None]
        # A joint that jumps away is a jump, not a long bone too.
        away = np.zeros(place.shape[:3], np.bool_)
        away[:, 1:] |= jump
        away[:, :-1] |= jump
        long = (beyond > self._limits.bone) & ~away[:, :, self._starts] & ~away[:, :, self._ends]
        if long.any():
            person, frame, bone = (int(i) for i in np.unravel_index(np.where(long, beyond, 0).argmax(), long.shape))
            joints = int(self._starts[bone]), int(self._ends[bone])
            times = bones[person, frame, bone] / max(usual[person, bone], 1e-9)
            text = f"{self._bone(joints)} is {times:.2g} times its median length in the clip"
            yield Found("bone-length", text, int(long.any((0, 2)).sum()), frame, (person,), joints)

    def _facing(self, place: NDArray[np.float64], up: NDArray[np.float64], usable: NDArray[np.bool_]) -> float | None:
        """The front is left x up in a right-handed system, whichever way the axes lie."""
        found = self._anatomy
        front = _unit(np.cross(self._middle(place, found.left) - self._middle(place, found.right), up))
        feet = _unit(self._middle(place, found.toes) - self._middle(place, found.heels))
        cosine = _median((front * feet).sum(2)[usable])
        return cosine if np.isfinite(cosine) else None

    def _bones(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(place[:, :, self._starts] - place[:, :, self._ends], axis=3))

    def _bone(self, joints: tuple[int, int]) -> str:
        return f"the bone {self._names[joints[0]]} - {self._names[joints[1]]}"

    def _joint(self, joint: int) -> str:
        return f"{self._names[joint]} (joint {joint})"

    @staticmethod
    def _middle(place: NDArray[np.float64], joints: list[int]) -> NDArray[np.float64]:
        return np.asarray(place[:, :, joints].mean(2))


def _median(values: NDArray[np.float64]) -> float:
    return float(_medians(values.reshape(-1, 1))[0])


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column, over the rows in which it is a number; NaN if in none."""
    if not rows.size:
        return np.full(rows.shape[1], np.nan)
    if not np.isnan(rows).any():
        return np.asarray(np.median(rows, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a number is NaN, as it should
        return np.asarray(np.nanmedian(rows, axis=0))


def _means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, over the columns in which it is a number; 0 where in none."""
    known = ~np.isnan(rows)
    return np.asarray(np.where(known, rows, 0).sum(1) / np.maximum(known.sum(1), 1))


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
