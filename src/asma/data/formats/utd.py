"""UTD-MHAD's skeletons: a folder of MATLAB files, one a clip.

`a1_s1_t1_skeleton.mat` holds `d_skel` (20, 3, T), metres as the Kinect gives them; the name tells class (1 to 27),
subject (1 to 8) and trial. The split of the field is by subject: odd train, even test.

Files of MATLAB 7.3, which are HDF5, are left out.

Source: the data set's Sample_Code.m.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import FILE, Notes, read_beside
from asma.data.formats._file_a_clip import FileSource
from asma.data.formats._files import files_in, left_out, looking, new_folder, write_text
from asma.data.formats._mat5 import read_matrix, write_matrix
from asma.data.formats._names import UTD_CLASSES, told_by_name
from asma.data.formats._tracks import clip_of, need_layout, one_person
from asma.data.source import Clip, Header, LeftOut

__all__ = ["UtdSource", "open_source", "recognise", "write"]

FORMAT = "utd"
JOINTS, CHANNELS = 20, 3
SUFFIX = "_skeleton.mat"
NAME = re.compile(r"a(\d{1,2})_s(\d{1,2})_t(\d{1,2})", re.ASCII)
KEY = "d_skel"
LARGEST = 1 << 26
"""Bytes of a file; the set's are below 100 kB."""


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
    """
    base = Path(path)
    files = _files(base)
    if not files:
        raise ValueError(f"{base.name}: must be a folder with files as a1_s1_t1{SUFFIX}, got none")
    beside = read_beside(base)
    header = Header("UTD-MHAD", beside.layout(FORMAT, None, JOINTS, "utd20"), "xyz", UTD_CLASSES, "subject-odd-even")
    return UtdSource(base, [file.name for file in files], beside.header(header), beside)


class UtdSource(FileSource):
    """See `open_source`."""

    format = FORMAT

    def _clip(self, path: Path) -> Clip | LeftOut:
        told = told_by_name(_stem(path))
        try:
            data = _matrix(path)
        except (ValueError, OSError) as error:
            return left_out(path.name, error)
        return clip_of(
            data.transpose(2, 0, 1)[:, None], name=_stem(path), label=told.action - 1, subject=told.subject,
            source=path.name,
        )  # fmt: skip


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of .mat files named after the clips, `d_skel` (20, 3, T) float64, and asma.json.

    The coordinates are exact. What the format has no place for (names of classes, splits, other subjects than the names
    tell, views) is written into asma.json.

    Raises:
        ValueError: the skeleton is not UTD-MHAD's 20 joints of xyz, a clip's name is not as a1_s1_t1 with the number of
            its class, two clips have one name, or a clip has not one person who is there in every frame; nothing is
            written then.
        OSError: the path exists already, or cannot be written.
    """
    need_layout(FORMAT, header, "xyz", "utd20")
    notes = Notes(FORMAT, header)
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            match = NAME.fullmatch(clip.name)
            if match is None or int(match[1]) != clip.label + 1:
                rule = f"a name must be as a{clip.label + 1}_s1_t1, class, subject and trial"
                raise ValueError(f"{FORMAT}: clip {clip.name!r}: {rule}")
            data = one_person(FORMAT, clip, header)
            notes.add(clip, key=clip.name, label=clip.label, subject=told_by_name(clip.name).subject)
            matrix = write_matrix(data.transpose(1, 2, 0).astype(np.float64), KEY)
            (folder / f"{clip.name}{SUFFIX}").write_bytes(matrix)
        write_text(folder / FILE, notes.text())


def _files(path: Path) -> list[Path]:
    return [file for file in files_in(path, SUFFIX) if NAME.fullmatch(_stem(file))] if path.is_dir() else []


def _stem(file: Path) -> str:
    return file.name[: -len(SUFFIX)]


def _matrix(file: Path) -> NDArray[np.float64]:
    """(20, 3, T)."""
    if file.stat().st_size > LARGEST:
        raise ValueError(f"a file must have at most {LARGEST} bytes, got {file.stat().st_size}")
    data = read_matrix(file.read_bytes(), KEY)
    if data.shape[:2] != (JOINTS, CHANNELS) or data.ndim > 3:
        raise ValueError(f"{KEY} must be of shape ({JOINTS}, {CHANNELS}, T), got {data.shape}")
    # MATLAB drops the last axis if it has one entry.
    return data.reshape(JOINTS, CHANNELS, -1)
