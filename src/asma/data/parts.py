"""The parts of a source, read by as many processes as there are cores, in the order of the source."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

from asma.data.source import Clip, LeftOut, Source

__all__ = ["read_parts", "usable_cores"]

ALONE = 1.0
"""Seconds that this process reads before it starts others: about what starting them takes."""
AHEAD = 2
"""Parts of each process that may wait to be taken."""

Items = list[Clip | LeftOut]

_source: Source
"""Of a reading process."""


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_parts(source: Source, first: int = 0, jobs: int = 0) -> Iterator[Items]:
    """The clips of each part from part `first` on. A part that cannot be read is one LeftOut.

    The processes are forked by a server that has imported what they need and nothing else: a fork of this process
    would inherit the locks of its threads (PyTorch has some), and a new interpreter for each would import PyTorch
    each time. A process ends with the one that started it, however that ends.

    Args:
        source: can be pickled.
        first: parts before it are not read.
        jobs: processes; 0 for one a core, 1 for none but this one.

    Raises:
        OSError: a reading process was killed.
    """
    jobs = jobs or usable_cores()
    begun, number, count = time.monotonic(), first, len(source.parts)
    while number < count and (jobs == 1 or time.monotonic() - begun < ALONE):
        yield _read(source, source.parts[number])
        number += 1
    if number < count:
        yield from _read_by_others(source, number, min(jobs, count - number))


def _read(source: Source, part: str) -> Items:
    try:
        return list(source.read(part))
    except (ValueError, OSError) as error:
        return [LeftOut(part, " ".join(str(error).split()))]
    except MemoryError:
        return [LeftOut(part, "a part must fit into memory")]


def _read_by_others(source: Source, first: int, jobs: int) -> Iterator[Items]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(jobs, context, _begin, (source,))
    waiting: deque[Future[Items]] = deque()
    try:
        for part in source.parts[first:]:
            waiting.append(pool.submit(_read_here, part))
            if len(waiting) > AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise OSError(
            "a reading process was killed, by the system if memory ran out: run the same command with fewer jobs"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(source: Source) -> None:
    global _source
    _source = source
    # An interruption is the other process's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _read_here(part: str) -> Items:
    return _read(_source, part)
