"""Batches on the device, without the host waiting for it: from a set that lies there as a whole, or read ahead."""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from asma.data.order import Order
from asma.data.samplers import Sample

__all__ = ["Feed", "Rows", "free_bytes"]

SHARE = 0.5
"""Of the free memory, at most, that a set may take: the rest is the model's."""
AHEAD = 4
"""Batches that wait for the device."""
CHUNK = 256


class Rows(Protocol):
    """Clips that are made when they are asked for, as `asma.prepare.Prepared`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, T, V, M)."""
        ...

    @property
    def drawn(self) -> bool:
        """Whether a sample makes a difference."""
        ...

    def rows(self, index: NDArray[np.int64], sample: Sample | None = None) -> torch.Tensor:
        """Clips of `index` (B), drawn by a sample: (B, C, T, V, M) float32 on the CPU."""
        ...


class Given:
    """A tensor (N, C, T, V, M) on the CPU as `Rows`."""

    def __init__(self, clips: torch.Tensor) -> None:
        self.clips = clips

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.clips.shape)

    drawn = False

    def rows(self, index: NDArray[np.int64], sample: Sample | None = None) -> torch.Tensor:
        return self.clips[torch.from_numpy(index)]


class Fetched(NamedTuple):
    """A batch that is ready, which clips it is of, and the state of the order after it."""

    clips: torch.Tensor
    which: torch.Tensor
    state: dict[str, Any]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; on the CPU, what the system can give without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Feed:
    """Batches of clips on a device.

    A set that fits into half of the device's free memory is put there once, and a batch is one gather of the device.
    Any other, and one whose clips are drawn anew in every epoch, is read ahead: a thread makes the next batches, in
    pinned memory for a GPU, whose copy runs beside the computation on a stream of its own. Both give the same batches,
    bit for bit.

    Args:
        clips: (N, C, T, V, M) float32 on the CPU, or what makes clips when they are asked for.
        order: which clips come when; it is moved to the device if the set is there.
        device: where batches go.
        resident: whether the set is put on the device; None to look at the free memory.

    Raises:
        ValueError: clips that are drawn in every epoch are to be resident.

    Attributes:
        resident: the set on the device, None if it is read ahead.
        placement: what was decided and by which numbers, in words.
        index: (batch) int64, the clips of the last batch.
        waited: seconds that the caller of `next` has waited for it, in all.

    >>> from asma.data.order import Batches
    >>> cpu = torch.device("cpu")
    >>> feed = Feed(torch.arange(4.0).reshape(4, 1, 1, 1, 1), Batches(4, 2, 0, cpu), cpu)
    >>> feed.next().shape, feed.placement[:20]
    (torch.Size([2, 1, 1, 1, 1]), 'clips: 16 B on cpu, ')
    """

    def __init__(
        self, clips: torch.Tensor | Rows, order: Order, device: torch.device, resident: bool | None = None
    ) -> None:
        self.source: Rows = Given(clips) if isinstance(clips, torch.Tensor) else clips
        self.order, self.device = order, device
        wanted, free = 4 * int(np.prod(self.source.shape, dtype=object)), free_bytes(device)
        there = isinstance(clips, torch.Tensor) and clips.device == device
        drawn = self.source.drawn
        if resident and drawn:
            raise ValueError("Feed: resident must be off where clips are drawn anew in every epoch, got on")
        if resident is None:
            resident = not drawn and (there or wanted <= SHARE * free)
        self.resident: torch.Tensor | None = None
        if resident:
            self.resident = clips.to(device) if isinstance(clips, torch.Tensor) else self._whole()
            self.placement = f"clips: {_size(wanted)} on {device}, where {_size(free)} were free"
        else:
            why = "drawn anew in every epoch" if drawn else f"{_size(free)} are free on {device}"
            self.placement = f"clips: {_size(wanted)}, {why}: batches are made ahead of their use"
        order.to(device if resident else torch.device("cpu"))
        self.index = torch.empty(0, dtype=torch.int64)
        self.waited = 0.0
        self._state = order.state()
        self._reader: _Reader | None = None

    def __len__(self) -> int:
        """N, the number of clips."""
        return self.source.shape[0]

    def next(self) -> torch.Tensor:
        """(batch, C, T, V, M) on the device; the caller's own.

        Raises:
            ValueError, OSError: a batch that was read ahead cannot be made.
        """
        begun = time.perf_counter()
        clips = self._next()
        self.waited += time.perf_counter() - begun
        return clips

    def _next(self) -> torch.Tensor:
        if self.resident is not None:
            self.index = self.order.next()
            return self.resident.index_select(0, self.index)
        if self._reader is None:
            gpu = self.device.type == "cuda"
            self._reader = _GpuReader(self.source, self.order, self.device) if gpu else _Reader(self.source, self.order)
            # A feed that is forgotten takes its thread along.
            self._end = weakref.finalize(self, self._reader.close)
        fetched = self._reader.next()
        self._state, self.index = fetched.state, fetched.which
        return fetched.clips

    def _whole(self) -> torch.Tensor:
        whole = torch.empty(self.source.shape, device=self.device)
        for begin in range(0, len(self), CHUNK):
            index = np.arange(begin, min(begin + CHUNK, len(self)))
            whole[begin : begin + CHUNK] = self.source.rows(index).to(self.device)
        return whole

    def parts(self) -> Iterator[torch.Tensor]:
        """All clips in their order on the device, in parts of nearly one size."""
        count = -(-len(self) // CHUNK)
        if self.resident is not None:
            yield from self.resident.tensor_split(count)
        else:
            for index in np.array_split(np.arange(len(self)), count):
                yield self.source.rows(index).to(self.device)

    def sample(self, most: int) -> torch.Tensor:
        """All clips if they are on the device, otherwise at most so many that lie evenly among them."""
        if self.resident is not None:
            return self.resident
        index = np.arange(most) * len(self) // most if most < len(self) else np.arange(len(self))
        return self.source.rows(index).to(self.device)

    def checksum(self) -> int:
        """CRC-32 of all clips as they lie in memory; reads all of them."""
        found = 0
        for begin in range(0, len(self), CHUNK):
            index = np.arange(begin, min(begin + CHUNK, len(self)))
            rows = self.source.rows(index) if self.resident is None else self.resident[begin : begin + CHUNK]
            found = zlib.crc32(rows.contiguous().cpu().numpy().data, found)
        return found

    def state(self) -> dict[str, Any]:
        """Of the order, as of the last batch that was given out, however far the reading is ahead."""
        return self.order.state() if self.resident is not None else self._state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.close()
        self.order.load_state(state)
        self._state = state

    def close(self) -> None:
        """Stop reading ahead."""
        if self._reader is not None:
            self._end()
            self._reader = None


class _Reader:
    """A thread that makes batches ahead of their use."""

    def __init__(self, source: Rows, order: Order) -> None:
        self.source, self.order = source, order
        self.ready: queue.Queue[Fetched | BaseException] = queue.Queue(AHEAD)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, name="asma.data.feed", daemon=True)
        self.thread.start()

    def next(self) -> Fetched:
        found = self.ready.get()
        if isinstance(found, BaseException):
            self.ready.put(found)  # for whoever asks again
            raise found
        return found

    def _make(self, index: torch.Tensor) -> torch.Tensor:
        return self.source.rows(index.numpy(), self.order.sample)

    def _read(self) -> None:
        try:
            while not self.stopped.is_set():
                index = self.order.next()
                self._put(Fetched(self._make(index), index, self.order.state()))
        except BaseException as error:
            self._put(error)

    def _put(self, found: Fetched | BaseException) -> None:
        while not self.stopped.is_set():
            try:
                return self.ready.put(found, timeout=0.1)
            except queue.Full:
                continue

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()


class _GpuReader(_Reader):
    """The same, with one batch more on its way to a GPU."""

    def __init__(self, source: Rows, order: Order, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        super().__init__(source, order)
        self.staged = self._copy()

    def next(self) -> Fetched:
        fetched, current = self.staged, torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        # Its memory must not be given to another tensor while the computation still reads it.
        fetched.clips.record_stream(current)
        self.staged = self._copy()
        return fetched

    def _make(self, index: torch.Tensor) -> torch.Tensor:
        return super()._make(index).pin_memory()

    def _copy(self) -> Fetched:
        fetched = super().next()
        with torch.cuda.stream(self.stream):
            return fetched._replace(clips=fetched.clips.to(self.device, non_blocking=True))


def _size(count: int) -> str:
    """Bytes in words.

    >>> _size(1_536_000_000)
    '1.5 GB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"
