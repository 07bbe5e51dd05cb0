"""Which clips are on which side of which split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.clip_base import protocol_sides
from ..data.source import Header

__all__ = ["Pair", "pairs_of"]

By = Literal["subject", "view", "setup", ""]

TRAINING = ("train", "training")
TEST = ("test", "val", "valid", "validation", "eval")


@dataclass(frozen=True)
class Pair:
    """Training and test clips that belong together."""

    title: str
    train: NDArray[np.bool_]
    """(N)."""
    test: NDArray[np.bool_]
    """(N)."""
    by: By = ""
    """What must not be on both sides; setups of NTU 120 are not known of a clip."""
    names: tuple[str, str] | None = None
    """Of the source's own splits that it is made of, training and test."""


def pairs_of(
    header: Header, splits: Sequence[tuple[str, ...]], subject: ArrayLike, view: ArrayLike, protocol: str = ""
) -> list[Pair]:
    """The splits of N clips: the protocol or the header's usual split, and names that differ by train and test only.

    Raises:
        ValueError: `protocol` cannot be read, or the clips have no split of its names.
    """
    members: dict[str, list[int]] = {}
    for clip, names in enumerate(splits):
        for name in names:
            members.setdefault(name, []).append(clip)
    found: dict[str, Pair] = {}
    for name in members:
        other = _counterpart(name, members)
        if other:
            found[f"{name}/{other}"] = _named(name, other, members, len(splits))
    for wanted, asked in ((protocol, True), (header.usual_split, False)):
        one, slash, other = wanted.partition("/")
        if slash and (one in members or other in members):
            found.setdefault(wanted, _named(one, other, members, len(splits)))
        elif slash and asked:
            raise ValueError(f"doctor: protocol {wanted!r} must be two splits of {', '.join(members) or 'none'}")
        elif not slash and wanted:
            # The usual split may be in words, which nobody can check; what the user asks for must be a protocol.
            fields = {"subject": np.array(subject, np.int64), "view": np.array(view, np.int64)}
            try:
                field, train, test = protocol_sides(wanted, fields, f"doctor: protocol {wanted!r}")
            except ValueError:
                if asked:
                    raise
                continue
            found[wanted] = Pair(wanted, train, test, "subject" if field == "subject" else "view")
    return list(found.values())


def _named(one: str, other: str, members: dict[str, list[int]], count: int) -> Pair:
    sides = np.zeros((2, count), np.bool_)
    for side, name in zip(sides, (one, other), strict=True):
        side[members.get(name, [])] = True
    words = re.split(r"[^a-z]+", one.lower())
    by: By = ""
    if {"xsub", "csub", "subject", "subjects", "sub", "cs"} & set(words):
        by = "subject"
    elif {"xview", "cview", "view", "views", "cv"} & set(words):
        by = "view"
    elif {"xset", "cset", "setup", "setups"} & set(words):
        by = "setup"
    return Pair(f"{one}/{other}", sides[0], sides[1], by, (one, other))


def _counterpart(name: str, members: dict[str, list[int]]) -> str:
    """The test split of a training split: xsub_val of xsub_train."""
    for train in TRAINING:
        for test in TEST:
            other = re.sub(rf"(?<![a-z]){train}(?![a-z])", test, name, flags=re.IGNORECASE)
            if other != name and other in members:
                return other
    return ""
