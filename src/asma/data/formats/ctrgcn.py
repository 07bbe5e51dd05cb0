"""The .npz of CTR-GCN, which MAMP, InfoGCN, HD-GCN, MacDiff and others take too.

`x_train` and `x_test` are (N, T, 150) floats, T usually 300, 150 = 2 persons x 25 joints x 3; `y_train` and `y_test`
are one-hot, (N, classes). Either side may be empty or absent. Zero frames at the end are padding, zeros of one person
elsewhere say that the person is not there. The file knows no names: clips are called `train_0`, `test_0` and so on, as
CTR-GCN's feeder calls them.

Members that are stored as `np.savez` stores them are mapped inside the archive, whatever their size, and every part is
read by itself. `np.savez_compressed` is one part a side, unpacked from its beginning to its end with one block of clips
in memory, because a deflated stream cannot be entered in the middle; nothing is unpacked to the disk.

Sources: CTR-GCN's data/ntu/seq_transformation.py and feeders/feeder_ntu.py, MAMP's data/pku_v1/pku_gendata.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import Beside, Notes, beside_file, read_beside
from asma.data.formats._files import looking, new_files
from asma.data.formats._names import class_names
from asma.data.formats._npy import StoredArray, array_in_archive, members_of, write_npy_header
from asma.data.formats._sides import side_of_clip, sides_of
from asma.data.formats._tracks import clip_of, need_joints, need_label, padded
from asma.data.source import Clip, Header, LeftOut

__all__ = ["CtrgcnSource", "open_source", "recognise", "write"]

FORMAT = "ctrgcn"
SIDES = ("train", "test")
PERSONS, JOINTS, CHANNELS, FRAMES = 2, 25, 3, 300
WIDTH = PERSONS * JOINTS * CHANNELS
PART = 256
"""Clips of a part: 46 MB of (300, 150) float32."""
BLOCK = 64
"""Clips in memory while a compressed array is unpacked."""
MOST_CLASSES = 10_000


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "CTR-GCN .npz, 3,000 clips"; None if it is not. Never raises, whatever the path is."""
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return None
    sides = _sides(path)
    return f"CTR-GCN .npz, {sum(side.clips.shape[0] for side in sides):,} clips" if sides else None


def open_source(path: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> CtrgcnSource:
    """An .npz as CTR-GCN has it.

    Args:
        classes: names of the classes; by default what asma.json says, or NTU RGB+D's or PKU-MMD's by their number.

    Raises:
        ValueError: it is no such .npz, a member asks for objects or for more than the file has, the sides disagree.
        OSError: it cannot be read.
    """
    file = Path(path)
    sides = _sides(file)
    if not sides:
        raise ValueError(f"{file.name}: must hold x_train and y_train, or x_test and y_test")
    beside = read_beside(file)
    skeleton = beside.layout(file.name, None, JOINTS, "ntu25")
    header = Header(
        title=f"{file.stem} (CTR-GCN .npz)",
        skeleton=skeleton,
        channels="xyz",
        classes=class_names([side.classes.shape[1] - 1 for side in sides]),
        usual_split="/".join(SIDES) if len(sides) == 2 else "",
    )
    return CtrgcnSource(beside.header(header, classes), sides, beside)


@dataclass(frozen=True)
class Side:
    """x and y of one side, as they lie in the archive."""

    name: str
    clips: StoredArray
    classes: StoredArray

    @property
    def whole(self) -> bool:
        """Whether it can only be read from its beginning to its end."""
        return self.clips.compressed or self.classes.compressed


class CtrgcnSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(self, header: Header, sides: Sequence[Side], beside: Beside) -> None:
        self.header = header
        self._beside = beside
        self._splits = dict(zip(SIDES, sides_of(header) or SIDES, strict=True))
        self._ranges: dict[str, tuple[Side, int, int]] = {}
        for side in sides:
            count = side.clips.shape[0]
            size = max(count, 1) if side.whole else PART
            for begin in range(0, count, size):
                end = min(begin + size, count)
                self._ranges[f"{side.clips.place}[{begin}:{end}]"] = side, begin, end

    @property
    def parts(self) -> Sequence[str]:
        """Ranges of clips; whole sides where they are compressed."""
        return tuple(self._ranges)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`."""
        return self._beside.settled(self._clips(*self._ranges[part]), self.header)

    def _clips(self, side: Side, begin: int, end: int) -> Iterator[Clip | LeftOut]:
        for index, row, classes in zip(
            range(begin, end), _rows(side.clips, begin, end), _rows(side.classes, begin, end), strict=True
        ):
            source = f"{side.clips.place}[{index}]"
            ones = np.flatnonzero(classes)
            if len(ones) != 1:
                yield LeftOut(source, f"y_{side.name} must be one-hot, got {len(ones)} classes that are not 0")
                continue
            yield clip_of(
                row.reshape(-1, PERSONS, JOINTS, CHANNELS), trim=True, name=f"{side.name}_{index}",
                label=int(ones[0]), splits=(self._splits[side.name],), source=source,
            )  # fmt: skip


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new .npz of x_train, y_train, x_test and y_test, (N, 300, 150) float32, and an .asma.json beside it.

    The sides of `header.usual_split`, where that is of the form TRAIN/TEST, are train and test; otherwise all clips are
    train and test is empty. The coordinates are exact. What the format has no place for (names, subjects, views, other
    splits, names of classes) is written into the .asma.json.

    Raises:
        ValueError: the path does not end in .npz, the skeleton does not have 25 joints of xyz, or a clip has more than
            300 frames or 2 persons, no label, nobody in its last frame, a person with all coordinates 0, or is on no
            side of the split or on both; nothing is written then.
        OSError: a path exists already, or cannot be written.
    """
    target, sides = Path(path), sides_of(header)
    if target.suffix != ".npz":
        raise ValueError(f"{FORMAT}: a file must end in .npz, got {target.name!r}")
    need_joints(FORMAT, header, JOINTS)
    notes = Notes(FORMAT, header)
    labels: tuple[list[int], list[int]] = ([], [])
    with new_files(FORMAT, target, beside_file(target)) as (file, beside), ExitStack() as stack:
        # The archive wants one member after the other, the clips come as they come.
        spools = [stack.enter_context(tempfile.TemporaryFile(dir=target.parent)) for _ in SIDES]
        for clip in clips:
            side = side_of_clip(FORMAT, clip, sides)
            spools[side].write(_rows_of(clip, header).tobytes())
            notes.add(
                clip, key=f"{SIDES[side]}_{len(labels[side])}", label=clip.label, splits=((sides or SIDES)[side],)
            )
            labels[side].append(clip.label)
        if not any(labels):
            raise ValueError(f"{FORMAT}: there must be a clip to write, got none")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, spool, of_side in zip(SIDES, spools, labels, strict=True):
                with archive.open(f"x_{name}.npy", "w", force_zip64=True) as member:
                    write_npy_header(member, np.float32, (len(of_side), FRAMES, WIDTH))
                    spool.seek(0)
                    shutil.copyfileobj(spool, member, 1 << 20)
                with archive.open(f"y_{name}.npy", "w", force_zip64=True) as member:
                    write_npy_header(member, np.float64, (len(of_side), len(header.classes)))
                    for label in of_side:
                        member.write((np.arange(len(header.classes)) == label).astype(np.float64).tobytes())
        beside.write(notes.text().encode())


def _rows_of(clip: Clip, header: Header) -> NDArray[np.float32]:
    """(300, 150)."""
    need_label(FORMAT, clip)
    if clip.frames > FRAMES:
        raise ValueError(f"{FORMAT}: clip {clip.name!r}: the format holds {FRAMES} frames, got {clip.frames}")
    rows = np.zeros((FRAMES, WIDTH), np.float32)
    rows[: clip.frames] = padded(FORMAT, clip, header, PERSONS, tail=False).reshape(-1, WIDTH)
    return rows


def _sides(file: Path) -> list[Side]:
    """The sides that the archive has, with matching x and y."""
    members, sides = members_of(file), []
    for name in SIDES:
        x, y = f"x_{name}.npy", f"y_{name}.npy"
        if x not in members:
            continue
        clips = array_in_archive(file, x, f"{file.name}/{x}", (None, None, WIDTH), "f")
        classes = array_in_archive(file, y, f"{file.name}/{y}", (clips.shape[0], None), "fiu")
        if classes.shape[1] > MOST_CLASSES:
            raise ValueError(f"{classes.place}: must have at most {MOST_CLASSES} classes, got {classes.shape[1]}")
        sides.append(Side(name, clips, classes))
    return sides


def _rows(array: StoredArray, begin: int, end: int) -> Iterable[NDArray[Any]]:
    """Rows one by one; [begin, end) is the whole of a compressed array."""
    if array.compressed:
        return (row for block in array.blocks(BLOCK) for row in block)
    return array.mapped()[begin:end]
