"""Packages that only some commands need, and the progress bar that one of them draws."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any


class MissingExtraError(ImportError):
    """A package of an extra is not installed."""


def extra(module: str, group: str = "train") -> Any:
    """Import a module of an extra, `train`, `data` or `export`.

    Raises:
        MissingExtraError: it is not installed; the message says what to run.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(
            f"{package} is needed here and is not installed ({error}): pip install 'asma-kernels[{group}]'"
        ) from None


class Progress:
    """A bar on a terminal, with the time left; nothing elsewhere.

    >>> list(Progress(range(3), "counting"))
    [0, 1, 2]
    """

    def __init__(self, steps: Iterable[int], title: str, wanted: bool = True) -> None:
        self._steps = steps
        self._bar = None
        if wanted and sys.stderr.isatty():
            # A range that begins late is the rest of a work, of which so much is done.
            rest = {"initial": steps.start, "total": steps.stop} if isinstance(steps, range) and steps.step == 1 else {}
            self._bar = extra("tqdm").tqdm(steps, desc=title, **rest)

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps if self._bar is None else self._bar)

    def show(self, **values: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix(values)
