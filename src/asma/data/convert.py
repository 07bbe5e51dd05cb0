"""Any format to any other: what `asma data convert` does.

A store is made in a folder beside it, OUT.partial, shard by shard. Each shard is on the disk before the next begins
and knows how many parts of the source it and those before it hold, so whatever ends a conversion, the same one goes on
after the last shard. Only a whole store gets its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asma import __version__
from asma.data.bodies import NO_BODY, STEPS, step_of
from asma.data.formats.registry import Write
from asma.data.parts import read_parts
from asma.data.source import Clip, LeftOut, Source
from asma.data.store import Store, open_store
from asma.data.store_format import LEFT_OUT_FILE, STORE_FILE, Contents, Dtype, contents_of_json
from asma.data.store_writer import (
    ShardBuffer,
    check_new_store,
    put_in_place,
    write_left_out,
    write_shard,
    write_store_file,
)
from asma.extras import Progress
from asma.files import write_text

__all__ = ["NothingLeftError", "Report", "convert_to_file", "convert_to_store", "fingerprint"]

VERSION = 1
"""Of what a conversion does to the clips: shards of another are not gone on from."""
PLAN_FILE, LOCK_FILE, STORE_FOLDER = "plan.json", "lock", "store"
KINDS = 20
"""Reasons that are counted apart, the most frequent ones."""


class NothingLeftError(ValueError):
    """A source has no clip, or none that keeps the rules."""


@dataclass
class Report:
    """What became of a source."""

    path: Path
    clips: int = 0
    frames: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    """How often each of `asma.data.bodies.STEPS` was taken."""
    left_out: int = 0
    """Clips, files and what else was not read; of the steps, the clips without a body."""
    reasons: Counter[str] = field(default_factory=Counter)
    """What was left out by kinds of reasons, numbers and names taken out of them."""
    first: str = ""
    """The first reason as it is."""
    there_already: bool = False

    def take(self, item: Clip | LeftOut) -> None:
        """Count a clip, or what was left out."""
        if isinstance(item, Clip):
            self.clips += 1
            self.frames += item.frames
            return
        step = step_of(item)
        if step:
            self.steps[step] += 1
        if step in ("", NO_BODY):
            self.left_out += 1
            self.first = self.first or f"{item.source}: {item.reason}"
            self.reasons[re.sub(r"'[^']*'|-?\d+(?:[.,]\d+)*", "…", item.reason)[:120]] += 1

    def as_dict(self) -> dict[str, Any]:
        """Counts for store.json."""
        counts = {"clips": self.clips, "frames": self.frames, "left_out": self.left_out, "first": self.first}
        return counts | {"steps": dict(self.steps), "reasons": dict(self.reasons.most_common(KINDS))}

    @classmethod
    def of_dict(cls, path: Path, counts: Mapping[str, Any]) -> Report:
        """The counts that `as_dict` gave.

        Raises:
            ValueError: they are none.
        """
        try:
            clips, frames, left_out = (int(counts[name]) for name in ("clips", "frames", "left_out"))
            steps, reasons = (
                Counter({str(what): int(count) for what, count in counts[name].items()})
                for name in ("steps", "reasons")
            )
            return cls(path, clips, frames, steps, left_out, reasons, str(counts["first"]))
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"convert: {str(path)!r}: the counts in {STORE_FILE} were changed") from None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.clips:,} clips, {self.frames:,} frames"]
        if self.steps:
            lines.append("cleaned up, bodies or clips with such frames:")
            lines += [f"{self.steps[step]:10,}  {step}" for step in STEPS if self.steps[step]]
        if self.left_out:
            lines.append(f"left out: {self.left_out:,}, first {self.first}")
            lines += [f"{count:10,}  {reason}" for reason, count in self.reasons.most_common()]
        return "\n".join(lines)


def fingerprint(path: Path, source: Source, out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a conversion depends on: only one with the same goes on in a folder.

    Of the files below a folder, or of a file and those beside it whose names begin alike (train_data.npy and
    train_label.pkl), names, sizes and times of change count, not what is in them.

    Args:
        path: of the source.
        source: it, opened.
        out: what is made; it and what is beside it are not looked at, if they are in the source's folder.
        settings: all options that change the clips, as plain values.
    """
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    else:
        start = re.split(r"[._]", path.name)[0] or path.name
        files = [file for file in path.parent.iterdir() if file.name.startswith(start) and file.is_file()]
    digest = hashlib.sha256()
    mine = tuple(f"{os.path.abspath(out)}{end}" for end in (os.sep, ".partial"))
    for file in sorted(files):
        if not os.path.abspath(file).startswith(mine):
            found = file.stat() if file.exists() else file.lstat()  # a link to nothing
            digest.update(f"{os.path.relpath(file, path.parent)!r} {found.st_size} {found.st_mtime_ns}\n".encode())
    parts = hashlib.sha256("\n".join(source.parts).encode("utf-8", "backslashreplace")).hexdigest()
    return {
        "source": os.path.abspath(path),
        "format": source.format,
        "files": digest.hexdigest(),
        "parts": parts,
        "asma": __version__,
        "converter": VERSION,
        **json.loads(json.dumps(dict(settings))),
    }


def convert_to_store(
    source: Source, out: Path, plan: Mapping[str, Any], dtype: Dtype = "float32", jobs: int = 0, overwrite: bool = False
) -> Report:
    """Write a store of all clips, or go on where the same conversion was stopped.

    Args:
        source: where the clips come from.
        out: the store's folder.
        plan: the `fingerprint`, with the dtype in it.
        dtype: of the frames, "float32" or "float16".
        jobs: processes that read; 0 for one a core.
        overwrite: replace the store at `out`.

    Raises:
        FileExistsError: something else is at `out`, or beside it the beginning of another conversion.
        NothingLeftError: everything was left out.
        ValueError: a rule of `StoreWriter`.
        OSError: the disk is full; what is finished stays for the next attempt.
    """
    mark = hashlib.sha256(json.dumps(dict(plan), sort_keys=True).encode()).hexdigest()
    if not overwrite and (done := _made_by(out, mark)) is not None:
        if not _difference(_plan_of(_partial(out)), plan):
            shutil.rmtree(_partial(out), ignore_errors=True)
        return done
    check_new_store("convert", out, source.header, dtype, overwrite)
    try:
        with _own_folder(out, plan) as folder:
            if not (folder / STORE_FILE).is_file():
                _write_shards(source, folder, out, dtype, jobs, {**plan, "plan": mark})
            report = Report.of_dict(out, contents_of_json("convert", folder / STORE_FILE).provenance["counts"])
            put_in_place(folder, out, overwrite)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            f"{_partial(out)}: {error.strerror or error}: the same command goes on where this one stopped"
        ) from None
    return report


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _made_by(out: Path, mark: str) -> Report | None:
    """The report of a store that the same conversion made, None if there is none."""
    if not (out / STORE_FILE).is_file():
        return None
    provenance = open_store(out).provenance
    if provenance.get("plan") != mark:
        return None
    return replace(Report.of_dict(out, provenance["counts"]), there_already=True)


@contextmanager
def _own_folder(out: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """The folder in which the store is made, for this process alone; gone after success, and after an empty result."""
    partial = _partial(out)
    partial.mkdir(exist_ok=True)
    with open(partial / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system gives it back, however this process ends
        except OSError:
            raise FileExistsError(f"{partial}: another process is at this conversion: let it finish") from None
        if not (partial / PLAN_FILE).is_file():
            write_text(partial / PLAN_FILE, json.dumps(dict(plan), indent=1) + "\n")
        other = _difference(_plan_of(partial), plan)
        if other:
            raise FileExistsError(
                f"{partial} holds the beginning of another conversion, {other}: finish that one, or delete the folder"
            )
        (partial / STORE_FOLDER).mkdir(exist_ok=True)
        try:
            yield partial / STORE_FOLDER
        except NothingLeftError:
            shutil.rmtree(partial)
            raise
        shutil.rmtree(partial)


def _plan_of(partial: Path) -> Any:
    """What the plan says; None if there is none, or none that can be read."""
    try:
        return json.loads((partial / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _difference(found: Any, plan: Mapping[str, Any]) -> str:
    if not isinstance(found, dict):
        return "with an unreadable plan"
    keys = [key for key in dict.fromkeys([*found, *plan]) if found.get(key) != plan.get(key)]
    return f"with another {keys[0]} ({found.get(keys[0])}, not {plan.get(keys[0])})" if keys else ""


def _finished(folder: Path) -> tuple[list[Store], int, Report]:
    """The shards that a stopped conversion left, the parts that are in them, and what was counted."""
    shards: list[Store] = []
    parts, report = 0, Report(folder)
    paths = sorted(folder.glob("shard-*"))
    for path in paths:
        if path.suffix:
            break  # it may be whole, but has not got its name yet
        try:
            shard = open_store(path)
            parts, report = int(shard.provenance["finished_parts"]), Report.of_dict(folder, shard.provenance["counts"])
        except (ValueError, TypeError, KeyError, FileNotFoundError):
            break
        shards.append(shard)
    # Half a shard, or one that a dying disk left: it and what follows is made again.
    for path in paths[len(shards) :]:
        shutil.rmtree(path)
    return shards, parts, report


def _write_shards(
    source: Source, folder: Path, out: Path, dtype: Dtype, jobs: int, provenance: Mapping[str, Any]
) -> None:
    shards, parts, report = _finished(folder)
    entries = [replace(shard.shards[0].entry, folder=shard.path.name) for shard in shards]
    buffer, left_out = ShardBuffer(source.header, dtype), list[LeftOut]()

    def flush() -> None:
        if len(buffer):
            now = {**provenance, "finished_parts": parts, "counts": report.as_dict()}
            entries.append(write_shard(folder, len(entries), buffer, now, left_out))
            left_out.clear()

    for _, items in zip(
        Progress(range(parts, len(source.parts)), out.name), read_parts(source, parts, jobs), strict=True
    ):
        for item in items:
            lost = item if isinstance(item, LeftOut) else buffer.add(item)
            report.take(lost or item)
            if lost is not None:
                left_out.append(lost)
        parts += 1
        if buffer.full:
            flush()
            buffer = ShardBuffer(source.header, dtype)
    flush()
    if not entries:
        raise _nothing(report, out)
    earlier = [line for entry in entries for line in _left_out_of(folder / entry.folder)]
    write_left_out(folder, [*earlier, *left_out])
    provenance = {**provenance, "counts": report.as_dict()}
    write_store_file(folder, Contents(source.header, dtype, provenance, tuple(entries)))


def _nothing(report: Report, out: Path) -> NothingLeftError:
    found = f"{report.left_out} were left out, first {report.first}" if report.left_out else "the source is empty"
    return NothingLeftError(f"convert: {out}: there must be at least one clip, got none: {found}")


def _left_out_of(shard: Path) -> Iterator[LeftOut]:
    path = shard / LEFT_OUT_FILE
    if path.is_file():
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                yield LeftOut(**json.loads(line))


def convert_to_file(source: Source, out: Path, write: Write, jobs: int = 0) -> Report:
    """Write all clips in another format than a store.

    Args:
        source: where the clips come from.
        out: what is written, all or nothing.
        write: the format's function.
        jobs: processes that read; 0 for one a core.

    Raises:
        FileExistsError: something is at `out`.
        NothingLeftError: everything was left out.
        ValueError: a clip cannot be written in this format.
        OSError: the disk is full.
    """
    if os.path.lexists(out):
        raise FileExistsError(f"{out} is there already: take another name")
    report = Report(out)

    def clips() -> Iterator[Clip]:
        for _, items in zip(Progress(range(len(source.parts)), out.name), read_parts(source, 0, jobs), strict=True):
            for item in items:
                report.take(item)
                if isinstance(item, Clip):
                    yield item

    found = clips()
    first = next(found, None)
    if first is None:
        raise _nothing(report, out)

    def all_clips() -> Iterator[Clip]:
        yield first
        yield from found

    try:
        write(all_clips(), source.header, out)
    except OSError as error:
        if type(error) is not OSError:  # one that names its file
            raise
        raise OSError(f"{out}: {error.strerror or error}") from None
    return report
