"""Reading NTU's .skeleton files: text parsed a second, against Python, and how long all of NTU RGB+D would take."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asma import _host
from asma.data import builtin_clips
from asma.data.bodies import CleanUp
from asma.data.formats import ntu

from . import machine
from .ntu_plain import READERS

NTU60_FILES, NTU60_BYTES = 56_880, 13e9
BLOCK = 64
"""Files of a call, as the reader takes them."""
DIFFERENT = 128
"""Clips of the generated text that differ; files beyond repeat them."""
PLAIN_BYTES = 4e6
"""Text that the Python readers are given."""
ROUNDS = 5
TARGETS = {"MB/s": 150, "ratio": 100, "seconds": 120}


def measure(gigabytes: float, scratch: Path) -> dict[str, Any]:
    """Generate text, check the parser on it, and time it; the text is deleted in the end."""
    wanted = int(gigabytes * 1e9)
    machine.need_room(scratch, 2 * wanted)
    folder = Path(tempfile.mkdtemp(prefix="bench-ntu-", dir=scratch))
    try:
        files = generate(folder, wanted)
        check(files[:DIFFERENT:8])
        return timings(folder, files)
    finally:
        shutil.rmtree(folder)


def generate(folder: Path, wanted: int) -> list[Path]:
    """Files of `wanted` bytes together: clips of the built-in set, every fifth with a second person, as a sensor's
    recorder writes them: seven digits, CR LF."""
    clips = builtin_clips(seed=1)
    rng = np.random.default_rng(0)
    texts = []
    for i in rng.permutation(len(clips))[:DIFFERENT].tolist():
        bodies = [clips.clip(i)]
        if len(texts) % 5 == 0:
            bodies.append(clips.clip((i + 1) % len(clips)) + np.float32(1))
        texts.append(text_of(bodies, rng).encode())
    files: list[Path] = []
    written = 0
    while written < wanted:
        number = len(files)
        performer, action = divmod(number, 60)
        setup, performer = divmod(performer, 40)
        files.append(folder / f"S{setup + 100:03}C001P{performer + 1:03}R001A{action + 1:03}.skeleton")
        files[-1].write_bytes(texts[number % DIFFERENT])
        written += len(texts[number % DIFFERENT])
    return files


def text_of(bodies: Sequence[Any], rng: np.random.Generator) -> str:
    """What a file holds in which these bodies (T, 25, 3) are seen."""
    frames = max(map(len, bodies))
    lines = [f"{frames}"]
    for t in range(frames):
        here = [(72057594037931101 + number, body[t]) for number, body in enumerate(bodies) if t < len(body)]
        lines.append(f"{len(here)}")
        for id, joints in here:
            lines += [f"{id} 0 1 1 1 1 0 {rng.normal():.7g} {rng.normal():.7g} 2", "25"]
            hidden = np.concatenate([rng.uniform(100, 1900, (25, 4)), rng.normal(0, 0.5, (25, 4))], 1)
            for numbers in np.concatenate([joints, hidden], 1).tolist():
                lines.append(" ".join(f"{number:.7g}" for number in numbers) + " 2")
    return "\r\n".join(lines) + "\r\n"


def check(files: Sequence[Path]) -> None:
    """The gate: nothing is timed unless the numbers are Python's, bit for bit."""
    for file, result in zip(files, parse(files, 1), strict=True):
        for name, reader in READERS.items():
            if isinstance(result, str) or not np.array_equal(result[3], reader(file)):
                raise SystemExit(f"bench.data: the parser must agree with {name!r} on {file.name}: {result}")


def parse(files: Sequence[Path], threads: int) -> list[Any]:
    return _host.read_ntu_skeletons([os.fsencode(file) for file in files], threads)


def parse_all(files: Sequence[Path], threads: int) -> None:
    """All files, block by block; what they held is forgotten, as a converter forgets it."""
    for begin in range(0, len(files), BLOCK):
        parse(files[begin : begin + BLOCK], threads)


def seconds_of(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The median."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def timings(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in files)
    few = files[: max(1, int(PLAIN_BYTES * len(files) / size))]
    few_size = sum(file.stat().st_size for file in few)
    busy = machine.busy()
    parse_all(files, 2)  # into the page cache
    rows = {
        f"asma._host, {n} thread{'s' * (n > 1)}": size / seconds_of(lambda n=n: parse_all(files, n)) for n in (1, 2)
    }
    for name, reader in READERS.items():
        rows[f"Python, {name}"] = few_size / seconds_of(lambda reader=reader: [reader(file) for file in few])
    source = ntu.open_source(folder, clean=CleanUp())
    parts = source.parts[: max(1, DIFFERENT // BLOCK)]
    whole = seconds_of(lambda: [list(source.read(part)) for part in parts]) / min(len(files), len(parts) * BLOCK)
    machine.forget(files)
    rows["asma._host, 2 threads, from the disk"] = size / seconds_of(lambda: parse_all(files, 2), rounds=1)
    return {
        "files": len(files),
        "bytes": size,
        "busy_before": busy,
        "bytes_per_second": rows,
        "reader_seconds_per_clip": whole,
    }


def markdown(results: dict[str, Any]) -> str:
    rows = results["bytes_per_second"]
    ours = rows["asma._host, 1 thread"]
    lines = [
        "## NTU's .skeleton text",
        "",
        f"{results['files']:,} generated files, {results['bytes'] / 1e9:.2f} GB, {DIFFERENT} different clips; in the "
        f"page cache but for the last row; medians of {ROUNDS}. {machine.busy_said(results)}"
        "A gate ran before: every number is Python's, bit for bit.",
        "",
        "| reader | MB/s | one thread of ours is |",
        "|---|---|---|",
    ]
    for name, speed in rows.items():
        ratio = "" if name.startswith("asma") else f"{ours / speed:.0f}x"
        if name == "Python, every number":
            ratio += _verdict(ours / speed, TARGETS["ratio"], ">=")
        speed_text = f"{speed / 1e6:,.0f}"
        if name == "asma._host, 1 thread":
            speed_text += _verdict(speed / 1e6, TARGETS["MB/s"], ">=")
        lines.append(f"| {name} | {speed_text} | {ratio} |")
    seconds = NTU60_BYTES / rows["asma._host, 2 threads"]
    whole = NTU60_FILES * results["reader_seconds_per_clip"]
    everything = f"All of NTU RGB+D ({NTU60_FILES:,} files, {NTU60_BYTES / 1e9:.0f} GB), extrapolated"
    parsing = f"{seconds:.1f} s of parsing on two threads{_verdict(seconds, TARGETS['seconds'], '<=')}"
    lines += ["", f"{everything}: {parsing}, and {whole:.0f} s on one core for clips whose bodies are cleaned up."]
    return "\n".join(lines)


def _verdict(found: float, target: float, sign: str) -> str:
    met = found >= target if sign == ">=" else found <= target
    return f" ({sign} {target:g}: {'met' if met else 'NOT met'})"
