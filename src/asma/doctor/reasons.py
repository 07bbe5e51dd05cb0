"""Which fault it is that a reader left something out for: `LeftOut` has its reason in words."""

from __future__ import annotations

import re

__all__ = ["fault_of"]

# In this order: steps of `asma.data.bodies` and choices of readers, then rules that were broken.
SAID = (
    ("left-out", r"^(frames with NaN|joined bodies|short bodies|wide bodies|further bodies|empty frames): "),
    ("left-out", r"known to be bad|: the first of each is taken$"),
    ("missing-file", r"no such file|not a file|is not there|there is none$"),
    ("non-finite", r"must be finite|must fit float32|\bnan\b"),
    ("no-body", r"^no body: |without a body|got zeros only$"),
    ("label-range", r"^(a )?(label|class) must be "),
    ("duplicate-name", r"^clips must have different names"),
)


def fault_of(reason: str) -> str:
    """The fault's name; whatever is not recognised could not be read.

    >>> fault_of("label must be in [0, 60), one of the classes, got 60")
    'label-range'
    >>> fault_of("line 7: the number of bodies must be in [0, 64], got -3")
    'unreadable'
    """
    return next((name for name, words in SAID if re.search(words, reason, re.IGNORECASE)), "unreadable")
