"""UTD-MHAD's skeletons: a folder of MATLAB files, one a clip.

`a1_s1_t1_skeleton.mat` holds `d_skel` (20, 3, T), metres as the Kinect gives them; the name tells class (1 to 27),
subject (1 to 8) and trial. The split of the field is by subject: odd train, even test.

Files are read by scipy, after a look at what they say of themselves; files of MATLAB 7.3, which are HDF5, are left out.

Source: the data set's Sample_Code.m.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import FILE, Beside, Notes, read_beside
from asma.data.formats._files import files_in, looking, new_folder, write_text
from asma.data.formats._names import UTD_CLASSES, told_by_name
from asma.data.formats._tracks import clip_of, padded
from asma.data.source import Clip, Header, LeftOut
from asma.extras import extra

__all__ = ["UtdSource", "open_source", "recognise", "write"]

FORMAT = "utd"
JOINTS, CHANNELS = 20, 3
SUFFIX = "_skeleton.mat"
NAME = re.compile(r"a(\d{1,2})_s(\d{1,2})_t(\d{1,2})", re.ASCII)
LARGEST = 1 << 26
"""Bytes of a file, unpacked; the set's are below 100 kB."""
COMPRESSED = 15
"""miCOMPRESSED, the type of a packed element."""


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "UTD-MHAD .mat, 861 clips"; None if it is not. Never raises, whatever the path is."""
    count = len(_files(path))
    return f"UTD-MHAD .mat, {count:,} clips" if count else None


def open_source(path: str | os.PathLike[str]) -> UtdSource:
    """A folder of UTD-MHAD's skeletons.

    Raises:
        ValueError: it has no file of such a name.
        OSError: it cannot be read.
        asma.extras.MissingExtraError: scipy is not installed.
    """
    extra("scipy.io", "data")
    base = Path(path)
    files = _files(base)
    if not files:
        raise ValueError(f"{base.name}: must be a folder with files as a1_s1_t1{SUFFIX}, got none")
    beside = read_beside(base)
    header = Header("UTD-MHAD", beside.layout(FORMAT, None, JOINTS, "utd20"), "xyz", UTD_CLASSES, "subject-odd-even")
    return UtdSource(base, [file.name for file in files], beside.header(header), beside)


class UtdSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(self, base: Path, names: Sequence[str], header: Header, beside: Beside) -> None:
        self.header = header
        self.parts = names
        self._base, self._beside = base, beside

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`; a part is a file, and a damaged one is left out."""
        return self._beside.settled([_clip(self._base / part)], self.header)


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of .mat files named after the clips, `d_skel` (20, 3, T) float64, and asma.json.

    The coordinates are exact. What the format has no place for (names of classes, splits, other subjects than the names
    tell, views) is written into asma.json.

    Raises:
        ValueError: the skeleton is not UTD-MHAD's 20 joints of xyz, a clip's name is not as a1_s1_t1 with the number of
            its class, two clips have one name, or a clip has not one person who is there in every frame; nothing is
            written then.
        OSError: the path exists already, or cannot be written.
        asma.extras.MissingExtraError: scipy is not installed.
    """
    savemat = extra("scipy.io", "data").savemat
    if header.skeleton.name != "utd20" or header.channels != "xyz":
        found = f"{header.skeleton.name!r} of {header.channels}"
        raise ValueError(f"{FORMAT}: the format holds the layout 'utd20' of xyz, got {found}")
    notes = Notes(FORMAT, header)
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            match = NAME.fullmatch(clip.name)
            if match is None or int(match[1]) != clip.label + 1:
                rule = f"a name must be as a{clip.label + 1}_s1_t1, class, subject and trial"
                raise ValueError(f"{FORMAT}: clip {clip.name!r}: {rule}")
            data = padded(FORMAT, clip, header, persons=1)[:, 0]
            if not data.any((1, 2)).all():
                raise ValueError(f"{FORMAT}: clip {clip.name!r}: somebody must be there in every frame")
            notes.add(clip, key=clip.name, label=clip.label, subject=told_by_name(clip.name).subject)
            savemat(folder / f"{clip.name}{SUFFIX}", {"d_skel": data.transpose(1, 2, 0).astype(np.float64)})
        write_text(folder / FILE, notes.text())


def _files(path: Path) -> list[Path]:
    return [file for file in files_in(path, SUFFIX) if NAME.fullmatch(_stem(file))] if path.is_dir() else []


def _stem(file: Path) -> str:
    return file.name[: -len(SUFFIX)]


def _clip(file: Path) -> Clip | LeftOut:
    told = told_by_name(_stem(file))
    try:
        data = _matrix(file)
    except (ValueError, OSError) as error:
        return LeftOut(file.name, str(error))
    return clip_of(
        data.transpose(2, 0, 1)[:, None], name=_stem(file), label=told.action - 1, subject=told.subject,
        source=file.name,
    )  # fmt: skip


def _matrix(file: Path) -> NDArray[Any]:
    """(20, 3, T)."""
    scipy_io = extra("scipy.io", "data")
    if file.stat().st_size > LARGEST:
        raise ValueError(f"a file must have at most {LARGEST} bytes, got {file.stat().st_size}")
    raw = file.read_bytes()
    _check_size(raw)
    try:
        # Before anything is allocated: what the file says that it holds.
        found = [(shape, kind) for name, shape, kind in scipy_io.whosmat(io.BytesIO(raw)) if name == "d_skel"]
        if len(found) != 1 or found[0][0][:2] != (JOINTS, CHANNELS) or found[0][1] not in ("double", "single"):
            raise ValueError(f"it must hold d_skel ({JOINTS}, {CHANNELS}, T) of double, got {found or 'none'}")
        shape = found[0][0]
        if len(shape) > 3 or math.prod(shape) * 4 > LARGEST:
            raise ValueError(f"a file of at most {LARGEST} bytes cannot hold d_skel of shape {shape}")
        data = scipy_io.loadmat(io.BytesIO(raw), variable_names=["d_skel"])["d_skel"]
    except Exception as error:  # whatever scipy makes of a damaged file
        raise ValueError(f"must be a .mat file of MATLAB 5 to 7.2, but {(str(error) or repr(error))[:200]}") from None
    if data.shape != shape or data.dtype.kind != "f":
        raise ValueError(f"d_skel must be of real numbers and shape {shape}, got {data.dtype} {data.shape}")
    # MATLAB drops the last axis if it has one entry.
    return np.asarray(data).reshape(JOINTS, CHANNELS, -1)


def _check_size(raw: bytes) -> None:
    """Refuse what would be larger than `LARGEST` unpacked (MAT-File Format, "Compressed data")."""
    order, at, left = "><"[raw[126:128] == b"IM"], 128, LARGEST
    while at + 8 <= len(raw):
        kind, size = struct.unpack_from(f"{order}II", raw, at)
        at += 8 + size
        if kind != COMPRESSED:
            continue
        unpacker = zlib.decompressobj()
        try:
            left -= len(unpacker.decompress(raw[at - size : at], left + 1))
        except zlib.error as error:
            raise ValueError(f"must be a .mat file of MATLAB 5 to 7.2, but {error}") from None
        if left < 0:
            raise ValueError(f"a file must have at most {LARGEST} bytes when it is unpacked, got more")
