"""The store at a million clips, against an npz of the same, and at NTU RGB+D's sizes.

It needs 6 GB of scratch, which it takes back, and about five minutes. Every figure is of a process of its own; "cold"
is after the system was asked to forget the files (posix_fadvise), which it does for what is on the disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asma.data import Clip, ClipSet, Header, StoreWriter, Track, load_clips, open_store, save_clips, verify_store
from asma.data.pipelines import PIPELINES
from asma_kernels import Skeleton

from . import machine

NTU = Skeleton.builtin("ntu25")
HEADER = Header("made", NTU, "xyz", tuple(f"class {number}" for number in range(60)), "subject-odd-even")
SEED = 0
SHORT, LONG = 4, 12
"""Frames of a clip of the large set."""
ROOM = 6000
"""Bytes of scratch for a clip: the store, the npz and what is written beside it."""
NTU_CLIPS = 4000
WARM, COLD, USED = 5, 3, 3
"""How often each figure is taken."""


def lengths_of(clips: int, low: int, high: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(low, high + 1, clips)


def many(clips: int, low: int, high: int, second: float) -> Iterator[Clip]:
    """Clips of `low` to `high` frames; a share `second` of them have two persons."""
    rng = np.random.default_rng(SEED)
    pool = rng.normal(size=(high + 4096, 25, 3)).astype(np.float32)
    for number, length in enumerate(lengths_of(clips, low, high).tolist()):
        begin = number * 7 % 4096
        tracks = [Track(0, 0, pool[begin : begin + length])]
        if number * 0.618034 % 1 < second:
            tracks.append(Track(1, 0, pool[begin // 2 : begin // 2 + length]))
        yield Clip(f"S{number:07d}", length, tuple(tracks), number % 60, number % 40, number % 3, source="bench")


def files_of(path: Path) -> list[Path]:
    """Of a store, or of an npz and its json."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path, path.with_suffix(".json")]


def write_store(path: Path, clips: Iterator[Clip]) -> None:
    with StoreWriter(path, HEADER) as writer:
        for clip in clips:
            assert writer.add(clip) is None


def write_npz(path: Path, clips: int, low: int, high: int) -> None:
    """The same clips of one person, as one file."""
    lengths = lengths_of(clips, low, high)
    data = np.empty((int(lengths.sum()), 25, 3), np.float32)
    end = 0
    for clip in many(clips, low, high, 0):
        data[end : end + clip.frames] = clip.tracks[0].data
        end += clip.frames
    numbers = np.arange(clips)
    names = np.array([f"S{number:07d}" for number in range(clips)])
    offsets = np.append(0, np.cumsum(lengths))
    save_clips(
        path, ClipSet(data, offsets, numbers % 60, numbers % 40, numbers % 3, names, HEADER.classes, NTU, "made")
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seconds_of(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def opened(path: Path) -> dict[str, Any]:
    """Open, and take one clip: in this process, once."""
    before = resident_bytes()
    begun = time.perf_counter()
    clips: Any = open_store(path) if path.is_dir() else load_clips(path)
    opening = time.perf_counter()
    clips.clip(len(clips) // 2 + 1)
    return {"open": opening - begun, "first clip": time.perf_counter() - opening, "memory": resident_bytes() - before}


def used(path: Path) -> dict[str, Any]:
    """Random clips and batches, and all labels, of a set that is open and has been used: medians."""
    clips: Any = open_store(path) if path.is_dir() else load_clips(path)
    rng = np.random.default_rng(1)
    labels = seconds_of(lambda: clips.label)
    numbers = rng.integers(0, len(clips), 2000).tolist()
    batches = [rng.integers(0, len(clips), 64) for _ in range(60)]
    for batch in batches[:20]:
        clips.resample(64, 2, batch)
    one = [seconds_of(lambda number=number: clips.clip(number)) for number in numbers]  # type: ignore[misc]
    resampled = [seconds_of(lambda batch=batch: clips.resample(64, 2, batch)) for batch in batches]  # type: ignore[misc]
    return {
        "all labels": labels,
        "a random clip": statistics.median(one),
        "batch of 64 resampled": statistics.median(resampled),
    }


def prepared(path: Path) -> dict[str, Any]:
    """Pipelines over a store: clips a second."""
    store = open_store(path)
    found = {}
    for name, pipeline in PIPELINES.items():
        pipeline(store, 64, 2, np.arange(200))
        found[name] = len(store) / seconds_of(lambda pipeline=pipeline: pipeline(store, 64, 2))  # type: ignore[misc]
    found["resample"] = len(store) / seconds_of(lambda: store.resample(64, 2))
    return found


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {"opened": opened, "used": used, "prepared": prepared}


def in_a_process(task: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.data_store", task, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def medians(task: str, path: Path, runs: int, cold: bool = False) -> dict[str, Any]:
    found = []
    for _ in range(runs):
        if cold:
            machine.forget(files_of(path))
        found.append(in_a_process(task, path))
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def measure(clips: int, scratch: Path) -> dict[str, Any]:
    """All figures; seconds, bytes and clips a second. What is written is deleted in the end."""
    machine.need_room(scratch, clips * ROOM)
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=scratch) as folder:
        return timings(clips, Path(folder))


def timings(clips: int, folder: Path) -> dict[str, Any]:
    store, npz, ntu = folder / "store", folder / "set.npz", folder / "ntu"
    rows: dict[str, Any] = {"clips": clips, "numpy": np.__version__, "busy_before": machine.busy()}
    rows["write store"] = seconds_of(lambda: write_store(store, many(clips, SHORT, LONG, 0)))
    rows["write npz"] = seconds_of(lambda: write_npz(npz, clips, SHORT, LONG))
    check(store, npz)
    sizes = sum(file.stat().st_size for file in files_of(store))
    rows["bytes"] = {"store": sizes, "npz": npz.stat().st_size}
    rows["shards"] = len(open_store(store).shards)
    for name, path in (("store", store), ("npz", npz)):
        rows[name] = {
            "warm": medians("opened", path, WARM),
            "cold": medians("opened", path, COLD, cold=True),
            "used": medians("used", path, 1 if name == "npz" else USED),
        }
    rows["verify"] = sizes / seconds_of(lambda: verify_store(store))
    write_store(ntu, many(NTU_CLIPS, 50, 120, 0.25))
    rows["ntu"] = {"clips": NTU_CLIPS} | medians("used", ntu, USED) | {"pipelines": in_a_process("prepared", ntu)}
    return rows


def check(store: Path, npz: Path) -> None:
    """The gate: nothing is timed unless both hold the same clips."""
    one, other = open_store(store), load_clips(npz)
    index = np.random.default_rng(2).integers(0, len(one), 500)
    if len(one) != len(other) or not np.array_equal(one.resample(20, index=index), other.resample(20, index=index)):
        raise SystemExit("bench.data: the store and the npz must hold the same clips, and do not")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"


def markdown(rows: dict[str, Any]) -> str:
    store, npz = rows["store"], rows["npz"]
    lines = [
        "## The store",
        "",
        f"{rows['clips']:,} clips of {SHORT} to {LONG} frames of 25 joints, {rows['bytes']['store'] / 1e9:.2f} GB in "
        f"{rows['shards']} shards; the npz has the same clips, which a gate looked at before. {machine.busy_said(rows)}"
        f"NumPy {rows['numpy']}, one thread, medians.",
        "",
        "| | store | npz |",
        "|---|---|---|",
    ]
    for temper in ("warm", "cold"):
        lines.append(
            f"| open, {temper} | {milliseconds(store[temper]['open'])} | {milliseconds(npz[temper]['open'])} |"
        )
        first = [milliseconds(each[temper]["first clip"]) for each in (store, npz)]
        lines.append(f"| then the first clip, {temper} | {first[0]} | {first[1]} |")
    memory = [f"{each['warm']['memory'] / 1e6:,.0f} MB" for each in (store, npz)]
    lines.append(f"| memory after that | {memory[0]} | {memory[1]} |")
    for key in ("all labels", "a random clip", "batch of 64 resampled"):
        lines.append(f"| {key} | {milliseconds(store['used'][key])} | {milliseconds(npz['used'][key])} |")
    lines.append(f"| write | {milliseconds(rows['write store'])} | {milliseconds(rows['write npz'])} |")
    lines += ["", f"`verify_store`: {rows['verify'] / 1e6:,.0f} MB/s of everything it checks.", ""]
    ntu = rows["ntu"]
    lines.append(
        f"A store of {ntu['clips']:,} clips of 50 to 120 frames, a quarter with two persons: a random clip "
        f"{milliseconds(ntu['a random clip'])}, a batch of 64 resampled to 64 frames and two persons "
        f"{milliseconds(ntu['batch of 64 resampled'])}. All of them at 64 frames and two persons, clips a second: "
        + ", ".join(f"{name} {rate:,.0f}" for name, rate in ntu["pipelines"].items())
        + "."
    )
    return "\n".join(lines)


def main() -> None:
    """A task of `in_a_process`."""
    task, path = sys.argv[1:]
    print(json.dumps(TASKS[task](Path(path))))


if __name__ == "__main__":
    main()
