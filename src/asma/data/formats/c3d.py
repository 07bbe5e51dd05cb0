"""C3D motion capture files: markers in space, read by the package c3d.

A folder of files, or of folders called after the classes. C3D has markers and no bones, and every skeleton here has
edges, so asma.json beside the files must say which markers are joints and how they hang together: `joints`, names of
markers in any order (a subject before a colon may be left out: `LASI` is `Anna:LASI`), and `edges` between them. A
marker that the cameras lost in a frame is three zeros, as data sets write a joint that was not seen; a frame without a
marker is a frame without a body. Units and axes are the file's (often millimetres and z up).

Source: The C3D File Format, c3d.org; the package is py-c3d of the UT Vision, Cognition, and Action Lab.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import FILE, read_beside
from asma.data.formats._file_a_clip import FoundSource
from asma.data.formats._files import left_out, looking
from asma.data.formats._folders import Found, clip_files, with_labels
from asma.data.formats._tracks import clip_of
from asma.data.source import Clip, Header, LeftOut
from asma.extras import extra

__all__ = ["C3dSource", "open_source", "recognise"]

FORMAT = "c3d"
MAGIC = 0x50
"""The second byte of every C3D file."""
BLOCK = 512
SHOWN = 60


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "C3D, 20 clips"; None if it is not. Never raises, whatever the path is."""
    files = clip_files(path, ".c3d")
    if not files:
        return None
    with open(files[0][0], "rb") as file:
        return f"C3D, {len(files):,} clips" if file.read(2)[1:] == bytes([MAGIC]) else None


def open_source(path: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> C3dSource:
    """A file, a folder of files, or a folder of classes.

    Args:
        classes: names of the classes; by default what asma.json says, or the names of the folders that clips are in.

    Raises:
        ValueError: there is no such file, or asma.json is damaged or does not say the joints; the message then lists
            the markers of the first file.
        OSError: it cannot be read.
        asma.extras.MissingExtraError: c3d is not installed.
    """
    extra("c3d", "data")
    base = Path(path)
    found = clip_files(base, ".c3d")
    if not found:
        raise ValueError(f"{base.name}: must be a .c3d file, or have such files, got none")
    beside = read_beside(base)
    listed, names = with_labels(found, beside)
    if beside.skeleton is None:
        markers, _ = _read(listed[0].path)
        shown = ", ".join(markers[:SHOWN]) + (", ..." if len(markers) > SHOWN else "")
        raise ValueError(
            f"{base.name}: C3D has no bones, so {FILE} beside it must have joints and edges;"
            f" the markers of {listed[0].path.name} are {shown or 'none'}"
        )
    return C3dSource(base, listed, beside.header(Header(base.name, beside.skeleton, "xyz", names), classes), beside)


class C3dSource(FoundSource):
    """See `open_source`."""

    format = FORMAT

    def _clip(self, source: str, found: Found) -> Clip | LeftOut:
        try:
            markers, data = _read(found.path)
            columns = [_column(markers, joint) for joint in self.header.skeleton.names]
        except (ValueError, OSError) as error:
            return left_out(source, error)
        return clip_of(data[:, None, columns], name=found.name, label=found.label, source=source)


def _column(markers: Sequence[str], joint: str) -> int:
    if joint in markers:
        return markers.index(joint)
    of_subjects = [at for at, marker in enumerate(markers) if marker.rpartition(":")[2] == joint]
    if len(of_subjects) != 1:
        raise ValueError(f"a joint must be one of the markers, {joint[:40]!r} is {len(of_subjects) or 'none'} of them")
    return of_subjects[0]


def _read(file: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the markers, and (T, markers, 3); a marker that was not seen is zeros."""
    c3d = extra("c3d", "data")
    size = file.stat().st_size
    try:
        with open(file, "rb") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters that are not used here; what is short is counted below
            reader = c3d.Reader(handle)
            markers, frames = int(reader.point_used), int(reader.last_frame) - int(reader.first_frame) + 1
            width = 4 * (4 if reader.point_scale < 0 else 2) * markers
            # Before anything is allocated: what the file says that it holds.
            begin = (reader.header.data_block - 1) * BLOCK
            if not markers > 0 or not frames > 0 or frames * width > size - begin:
                raise ValueError(f"{size} bytes cannot hold {frames} frames of {markers} markers")
            names = [str(name).strip() for name in reader.point_labels][:markers]
            data = np.zeros((frames, markers, 3))
            read = 0
            for _, points, _ in reader.read_frames(copy=False, analog_transform=False):
                seen = points[:, 3] >= 0
                data[read, seen] = points[seen, :3]
                read += 1
            if read < frames:
                raise ValueError(f"it must have {frames} frames, it ends after {read}")
    except Exception as error:  # whatever c3d makes of a damaged file
        raise ValueError(f"must be a C3D file, but {(str(error) or repr(error))[:200]}") from None
    return names + [f"marker_{at}" for at in range(len(names), markers)], data
