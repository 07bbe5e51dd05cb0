"""Frames that are copies of others: a sensor that stalls, and padding that was stored as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.runs import runs

__all__ = ["Repeat", "repeats"]

SEAM = 3
"""Frames that must repeat, at least: fewer may be equal by chance."""


class Repeat(NamedTuple):
    """Frames that can be left out without loss."""

    fault: Literal["frozen", "padding", "looped"]
    begin: int
    end: int
    """The frame after the last copy."""
    text: str


def repeats(data: NDArray[np.float32], usable: NDArray[np.bool_], limit: int) -> Iterator[Repeat]:
    """Runs of equal frames of at least `limit`, and what repeats the clip from its beginning, which comes last.

    In a clip of less than twice the limit, half of its frames are enough.

    Args:
        data: (M, T, V, C), anything finite where a person is not there.
        usable: (M, T), who is there.
    """
    T = data.shape[1]
    data = np.where(usable[..., None, None], data, 0)
    equal = np.asarray((data[:, 1:] == data[:, :-1]).all((0, 2, 3)) & (usable[:, 1:] == usable[:, :-1]).all(0))
    equal &= np.asarray(usable.any(0))[1:]
    at_least = min(T, limit if 2 * limit <= T else max(SEAM, (T + 1) // 2))
    for begin, last in runs(equal):
        length = last - begin + 1
        if length < at_least:
            continue
        if length == T:
            yield Repeat("frozen", begin + 1, T, f"all {T} frames are equal")
        elif begin == 0:
            yield Repeat("padding", 0, last, f"the first {length} frames are equal")
        elif last == T - 1:
            yield Repeat("padding", begin + 1, T, f"the last {length} frames are equal")
        else:
            yield Repeat("frozen", begin + 1, last + 1, f"{length} frames are equal")
    if not usable.shape[0] or not usable[:, 0].any():
        return
    for period in (np.flatnonzero((data[:, SEAM:] == data[:, :1]).all((0, 2, 3))) + SEAM).tolist():
        # Who stands still equals the first frame without having begun again.
        moves = not equal[:period].all()
        if moves and T - period >= min(limit, period) and np.array_equal(data[:, period:], data[:, :-period]):
            copies = T - period
            yield Repeat("looped", period, T, f"the last {copies} frames repeat the clip from its beginning")
            return
