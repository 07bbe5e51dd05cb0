"""Nested lists of JSON as arrays, and arrays as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["kind_of", "nested_array", "nine_digits"]


def nested_array(value: Any, shape: Sequence[int | None], what: str) -> NDArray[np.float64]:
    """A nested list of numbers of a given shape; None is any length. NaN and infinity are let through.

    Raises:
        ValueError: it is something else; the message begins with `what` and has the place.
    """
    _check(value, shape, what)
    lengths = [len(value)] + [length or 0 for length in shape[1:]]
    try:
        return np.array(value, np.float64).reshape(lengths)
    except (TypeError, OverflowError):
        raise ValueError(f"{what} must be numbers that a float can hold") from None


def nine_digits(data: NDArray[np.float32]) -> str:
    """JSON of an array; nine digits give back the same float32 (IEEE 754)."""
    pattern = "%.9g"
    for length in reversed(data.shape):
        pattern = "[" + ",".join([pattern] * length) + "]"
    return pattern % tuple(data.ravel().tolist())


def _check(value: Any, shape: Sequence[int | None], what: str) -> None:
    if not shape:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{what} must be a number, got {kind_of(value)}")
        return
    if not isinstance(value, list) or (shape[0] is not None and len(value) != shape[0]):
        wanted = "a list" if shape[0] is None else f"a list of {shape[0]}"
        raise ValueError(f"{what} must be {wanted}, got {kind_of(value)}")
    for at, item in enumerate(value):
        if not shape[1:] and type(item) is float:
            continue
        _check(item, shape[1:], f"{what}[{at}]")


def kind_of(value: Any) -> str:
    """What a value of JSON is, in a few words."""
    if value is None:
        return "nothing"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
