"""Files from strangers as text or JSON, and our own files whole or not at all."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from asma.data.source import LeftOut
from asma.files import sync

__all__ = [
    "clip_of_stem", "dump_json", "files_in", "folders_in", "json_of", "left_out", "looking", "need_file", "new_files",
    "new_folder", "place", "stem_of_clip", "text_of", "write_text",
]  # fmt: skip

LONGEST_TEXT = 1 << 30
"""Bytes; what a file of text becomes in memory is several times that."""
SYNCED_AT_ONCE = 32
LONGEST_NAME = 200
"""Bytes of a clip's name in a file's name; file systems take 255, and suffixes are to come."""
KEPT_IN_NAMES = " !#$&'()+,;=@[]^{}~"
"""Characters of a clip's name that stay what they are in a file's name; others become %XX."""


def looking(look: Callable[[Path], str | None]) -> Callable[[str | os.PathLike[str]], str | None]:
    """Make a format's `recognise` of a function that may stumble over strange files."""

    @functools.wraps(look)
    def recognise(path: str | os.PathLike[str]) -> str | None:
        try:
            return look(Path(path))
        except Exception:  # a file that makes a library stumble is not of this format
            return None

    return recognise


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Regular files (links to them too) of a folder by name, without hidden ones; nothing below it is looked at."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return [folder / name for name in names if name.lower().endswith(suffixes or "")]


def folders_in(folder: Path) -> list[Path]:
    """Folders (links to them too) of a folder by name, without hidden ones.

    Whoever searches goes down a fixed number of levels, so that a link to a folder above ends.
    """
    return sorted(
        folder / entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )


def need_file(path: Path) -> None:
    """Refuse folders, and pipes and devices, which would be waited for.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is not a regular file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path.name}: the file must exist, {str(path)!r} does not")
    if not path.is_file():
        raise ValueError(f"{path.name}: must be a file, got something else")


def place(path: Path, base: Path) -> str:
    """How messages call a file: its path below the source, or its name."""
    return path.relative_to(base).as_posix() if path != base and path.is_relative_to(base) else path.name


def left_out(source: str, error: Exception) -> LeftOut:
    """A file that could not be read; what the message says of the place goes to the place."""
    text = str(error).removeprefix(f"{source}: ")
    if match := re.fullmatch(r"((?:line|frame|byte) \d+): (.*)", text, re.DOTALL):
        return LeftOut(f"{source}: {match[1]}", match[2])
    return LeftOut(source, text)


def text_of(path: Path, name: str) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: it is in UTF-16 or UTF-32, or not text, or too long to be read as a whole.
        OSError: it cannot be read.
    """
    if (size := path.stat().st_size) > LONGEST_TEXT:
        raise ValueError(f"{name}: a file of text must have at most {LONGEST_TEXT} bytes, got {size}")
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{name}: text must be in UTF-8, got UTF-16 or UTF-32")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: text must be in UTF-8, got byte {data[error.start]:#04x} at {error.start}") from None
    if "\0" in text:
        raise ValueError(f"{name}: text must be in UTF-8, got a zero byte at character {text.index(chr(0))}")
    return text


def json_of(path: Path, name: str) -> Any:
    """What a JSON file holds; numbers too large for a float come as infinity.

    Raises:
        ValueError: it is not JSON; the message has the line.
        OSError: it cannot be read.
    """
    try:
        return json.loads(text_of(path, name))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: line {error.lineno}: must be JSON, {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"{name}: must be JSON of a reasonable depth, got brackets too deep to read") from None
    except ValueError as error:  # an integer of thousands of digits; what text_of says already names the file
        raise (error if str(error).startswith(name) else ValueError(f"{name}: must be JSON, {error}")) from None


def stem_of_clip(where: str, name: str) -> str:
    """A clip's name as the stem of a file name: what could leave the folder or trouble a file system becomes %XX.

    Raises:
        ValueError: the name is empty or too long.

    >>> stem_of_clip("write", "kick/../left"), clip_of_stem("kick%2F..%2Fleft")
    ('kick%2F..%2Fleft', 'kick/../left')
    """
    stem = urllib.parse.quote(name, safe=KEPT_IN_NAMES)
    if stem.startswith("."):
        stem = "%2E" + stem[1:]
    if stem == "asma" or stem.endswith(".asma"):  # asma.json is not a clip
        stem = stem[:-1] + "%61"
    if not 0 < len(stem) <= LONGEST_NAME:
        raise ValueError(
            f"{where}: a clip's name must have 1 to {LONGEST_NAME} bytes to be a file's name, got {len(stem)}"
        )
    return stem


def clip_of_stem(stem: str) -> str:
    """The name that `stem_of_clip` was given."""
    return urllib.parse.unquote(stem, errors="replace")


@contextmanager
def new_files(where: str, *paths: Path) -> Iterator[Sequence[BinaryIO]]:
    """Binary files that appear under their names when all are complete, on the disk, and not at all after an error.

    Raises:
        FileExistsError: there is something at one of the paths already.
        FileNotFoundError: a folder does not exist.
    """
    for path in paths:
        _check_new(where, path)
    parts = [_part_of(path) for path in paths]
    done: list[Path] = []
    try:
        with ExitStack() as files:
            opened = [files.enter_context(open(part, "x+b")) for part in parts]
            yield opened
            for file in opened:
                file.flush()
                os.fsync(file.fileno())
        for part, path in zip(parts, paths, strict=True):
            _check_new(where, path)
            os.replace(part, path)
            done.append(path)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@contextmanager
def new_folder(where: str, path: Path) -> Iterator[Path]:
    """A folder that appears under its name when it is complete, on the disk, and not at all after an error.

    Raises:
        FileExistsError: there is something at the path already.
        FileNotFoundError: the folder it is to be in does not exist.
    """
    _check_new(where, path)
    part = _part_of(path)
    part.mkdir()
    try:
        yield part
        # Many at a time, because the disk then writes them together; one by one a thousand small files take long.
        with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
            written = [Path(folder, name) for folder, _, names in os.walk(part) for name in (*names, "")]
            list(pool.map(sync, written))
        _check_new(where, path)
        os.replace(part, path)
    finally:
        if part.exists():
            shutil.rmtree(part)


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8 with \\n at line ends on every system."""
    path.write_bytes(text.encode("utf-8"))


def dump_json(value: Any) -> str:
    """JSON of one line and a newline, in which NaN and infinity cannot be."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name[:LONGEST_NAME]}.{uuid.uuid4().hex}.tmp")


def _check_new(where: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{where}: the folder must exist, {str(path.parent)!r} is none")
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{where}: there must be nothing at {str(path)!r} yet, got a file or folder")
