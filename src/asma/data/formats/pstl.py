"""Arrays and labels as ST-GCN's converters write them and PSTL, AimCLR, HiCLR, 2s-AGCN and others take them.

A folder holds for each side of a split, usually train and val, `SIDE_position.npy` or `SIDE_data.npy` (or 2s-AGCN's
`SIDE_data_joint.npy`), (N, 3, T, V, M) floats with M = 2, and `SIDE_label.pkl`, a pickle of (names, labels), or
`SIDE_label.npy`, (N) or (N, 1) integers. Frames after the end of a clip are zeros, as is a person who is not there.

The arrays are mapped, not read. Sides become splits: `train` and `val`, or `xsub_train` and `xsub_val` if the folder is
called xsub, xview, xset, cs or cv; clips of a side called `all` are in no split. `position` files (AimCLR's: centred,
turned and resized to 50 frames) go before `data` files where a folder has both; name one file to read it alone.

Sources: ST-GCN's tools/ntu_gendata.py, AimCLR's tools/ntu_gendata.py and feeder/preprocess_ntu.py, PSTL's dataset.py.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from asma.data.formats._beside import FILE, Beside, Notes, channels_of, read_beside
from asma.data.formats._files import files_in, looking, new_folder, write_text
from asma.data.formats._names import class_names, told_by_name
from asma.data.formats._npy import StoredArray, array_in_file, write_npy_header
from asma.data.formats._pickled_array import Data, PickledArray
from asma.data.formats._sides import side_of_clip, sides_of
from asma.data.formats._tracks import clip_of, need_label, padded
from asma.data.formats._unpickle import mapped, unpickle
from asma.data.source import Clip, Header, LeftOut
from asma_kernels.skeleton import Skeleton

__all__ = ["PstlSource", "open_source", "recognise", "write"]

FORMAT = "pstl"
KINDS = ("_position.npy", "_data.npy", "_data_joint.npy")
BENCHMARKS = {"xsub": "xsub_", "xview": "xview_", "xset": "xset_", "xsetup": "xset_", "cs": "xsub_", "cv": "xview_"}
LAYOUTS = {25: "ntu25", 18: "openpose18", 17: "coco17"}
"""By the number of joints, where the field has one use of it."""
SUFFIX = ".skeleton"
"""Of the names in label files, which are those of NTU RGB+D's files."""
UNSPLIT = "all"
FRAMES, PERSONS = 300, 2
PART = 256
"""Clips of a part: 46 MB of (3, 300, 25, 2) float32."""


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "PSTL arrays, 3,000 clips in train_position.npy and val_position.npy"; None if it is not.

    Never raises, whatever the path is.
    """
    files = _files(path)
    if not files or not all(_label_file(file) for file in files):
        return None
    count = sum(_array(file).shape[0] for file in files)
    return f"PSTL arrays, {count:,} clips in {' and '.join(file.name for file in files)}"


def open_source(
    path: str | os.PathLike[str], *, layout: str | Skeleton | None = None, classes: Sequence[str] | None = None
) -> PstlSource:
    """The arrays of a folder, or one of them.

    Args:
        layout: of the V joints; by default what asma.json says, or ntu25, openpose18 or coco17 by their number.
        classes: names of the classes; by default what asma.json says, or NTU RGB+D's or PKU-MMD's by their number.

    Raises:
        ValueError: no such arrays, an array or its labels are damaged or disagree, or V joints of an unknown layout.
        OSError: a file cannot be read.
    """
    base = Path(path)
    files = _files(base)
    if not files:
        kinds = ", ".join(f"*{kind}" for kind in KINDS)
        raise ValueError(f"{base.name}: must be a folder with {kinds} files, or one of them")
    beside = read_beside(files[0].parent)
    sides = [_side(file) for file in files]
    joints = sides[0].array.shape[3]
    for side in sides:
        if side.array.shape[3] != joints:
            raise ValueError(f"{side.array.place}: must have the {joints} joints of {sides[0].array.place}, it has not")
    skeleton = beside.layout(files[0].name, layout, joints, LAYOUTS.get(joints))
    some = [name for side in sides for name in side.names[:1]]
    splits = [side.split for side in sides if side.split]
    header = Header(
        title=f"{base.name} (PSTL arrays)",
        skeleton=skeleton,
        channels=channels_of(skeleton),
        classes=class_names((label for side in sides for label in side.labels), some),
        usual_split="/".join(splits) if len(splits) == 2 else "",
    )
    return PstlSource(beside.header(header, classes), sides, beside)


@dataclass(frozen=True)
class Side:
    """One array and its labels; `names` are those of the clips, made up where the labels have none."""

    split: str
    array: StoredArray
    names: list[str]
    labels: list[int]


class PstlSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(self, header: Header, sides: Sequence[Side], beside: Beside) -> None:
        self.header = header
        self._beside = beside
        self._ranges = {
            f"{side.array.place}[{begin}:{min(begin + PART, len(side.labels))}]": (side, begin)
            for side in sides
            for begin in range(0, len(side.labels), PART)
        }
        counts = Counter(name for side in sides for name in side.names)
        self._twice = {name for name, count in counts.items() if count > 1}

    @property
    def parts(self) -> Sequence[str]:
        """Ranges of clips."""
        return tuple(self._ranges)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`."""
        side, begin = self._ranges[part]
        return self._beside.settled(self._clips(side, begin), self.header)

    def _clips(self, side: Side, begin: int) -> Iterator[Clip | LeftOut]:
        array = side.array.mapped()
        for index in range(begin, min(begin + PART, len(side.labels))):
            name, source = side.names[index], f"{side.array.place}[{index}]"
            if name in self._twice:
                yield LeftOut(source, f"clips must have different names, got {name[:80]!r} twice")
                continue
            told = told_by_name(name)
            yield clip_of(
                array[index].transpose(1, 3, 2, 0), trim=True, name=name, label=side.labels[index],
                subject=told.subject, view=told.view, splits=(side.split,) if side.split else (), source=source,
            )  # fmt: skip


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of `TRAIN_data.npy` and `TEST_data.npy`, (N, 3, 300, V, 2) float32, their labels, and asma.json.

    TRAIN and TEST are the sides of `header.usual_split` where that is of the form TRAIN/TEST; otherwise all clips are
    in `all_data.npy`. The coordinates are exact. What the format has no place for (layout, classes, splits that are
    not its sides, subjects and views that the names do not tell) is written into asma.json.

    Raises:
        ValueError: a clip has more than 300 frames or 2 persons, no label, nobody in its last frame, a person with all
            coordinates 0, or is on no side of the split or on both; nothing is written then.
        OSError: the path exists already, or cannot be written.
    """
    target, sides = Path(path), sides_of(header) or (UNSPLIT,)
    notes = Notes(FORMAT, header)
    with new_folder(FORMAT, target) as folder:
        with ExitStack() as files:
            arrays: dict[str, _Array] = {}
            for clip in clips:
                side = sides[side_of_clip(FORMAT, clip, sides if len(sides) > 1 else ())]
                if side not in arrays:
                    arrays[side] = _Array(files.enter_context(open(folder / f"{side}_data.npy", "xb")), header)
                arrays[side].add(clip, header)
                key, split = clip.name.removesuffix(SUFFIX), _split_name(target, side)
                told = told_by_name(key)
                notes.add(
                    clip, key=key, label=clip.label, subject=told.subject, view=told.view,
                    splits=(split,) if split else (),
                )  # fmt: skip
            if not arrays:
                raise ValueError(f"{FORMAT}: there must be a clip to write, got none")
            for array in arrays.values():
                array.finish(header)
        for side, array in arrays.items():
            (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((array.names, array.labels), protocol=2))
        write_text(folder / FILE, notes.text())


class _Array:
    """The array of one side, as it grows on the disk."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.names: list[str] = []
        self.labels: list[int] = []
        self._file = file
        self.finish(header)

    def add(self, clip: Clip, header: Header) -> None:
        need_label(FORMAT, clip)
        if clip.frames > FRAMES:
            raise ValueError(f"{FORMAT}: clip {clip.name!r}: the format holds {FRAMES} frames, got {clip.frames}")
        data = padded(FORMAT, clip, header, PERSONS, tail=False)
        block = np.zeros((len(header.channels), FRAMES, header.skeleton.num_joints, PERSONS), np.float32)
        block[:, : clip.frames] = data.transpose(3, 0, 2, 1)
        self._file.write(block.tobytes())
        self.names.append(clip.name)
        self.labels.append(clip.label)

    def finish(self, header: Header) -> None:
        shape = (len(self.names), len(header.channels), FRAMES, header.skeleton.num_joints, PERSONS)
        self._file.seek(0)
        write_npy_header(self._file, np.float32, shape)


def _files(path: Path) -> list[Path]:
    """The arrays to read: the file itself, or those of a folder that are of its first kind."""
    if path.is_file():
        return [path] if path.name.endswith(KINDS) else []
    listed = files_in(path, *KINDS) if path.is_dir() else []
    for kind in KINDS:
        if found := [file for file in listed if file.name.endswith(kind)]:
            # The training side comes first; names of splits with "train" in them sort before the others'.
            return sorted(found, key=lambda file: ("train" not in file.name, file.name))
    return []


def _side_name(file: Path) -> str:
    return next(file.name.removesuffix(kind) for kind in KINDS if file.name.endswith(kind))


def _split_name(folder: Path, side: str) -> str:
    return "" if side == UNSPLIT else BENCHMARKS.get(folder.name.lower(), "") + side


def _label_file(file: Path) -> Path | None:
    both = (file.with_name(_side_name(file) + suffix) for suffix in ("_label.pkl", "_label.npy"))
    return next((label for label in both if label.is_file()), None)


def _array(file: Path) -> StoredArray:
    array = array_in_file(file, file.name, (None, 3, None, None, None), "f")
    if array.shape[4] not in (1, PERSONS):
        raise ValueError(f"{file.name}: the last axis must be {PERSONS} persons, got shape {array.shape}")
    return array


def _side(file: Path) -> Side:
    array = _array(file)
    side, labels_at = _side_name(file), _label_file(file)
    if labels_at is None:
        raise ValueError(f"{file.name}: its labels must be beside it, there is no {side}_label.pkl or .npy")
    names, labels = _labels(labels_at, side)
    if not len(names) == len(labels) == array.shape[0]:
        raise ValueError(
            f"{labels_at.name}: must have a name and a label for each of {array.shape[0]} clips in {file.name}, got"
            f" {len(names)} and {len(labels)}"
        )
    return Side(_split_name(file.parent, side), array, names, labels)


def _labels(file: Path, side: str) -> tuple[list[str], list[int]]:
    """Names and labels of a label file."""
    if file.suffix == ".npy":
        array = array_in_file(file, file.name, None, "iu")
        if array.shape[1:] not in ((), (1,)):
            raise ValueError(f"{file.name}: must be an array of shape (any) or (any, 1), got {array.shape}")
        labels = array.mapped().reshape(-1).tolist()
        return _numbered(side, len(labels)), labels
    with mapped(file) as data:
        value = _listed(unpickle(data, file.name), data)
        parts = [_listed(part, data) if isinstance(part, PickledArray) else part for part in value[:2]]
    if len(value) == 2 and all(isinstance(part, list | tuple) for part in parts):
        names = [_name(file, index, name) for index, name in enumerate(parts[0])]
        return names, [_label(file, index, label) for index, label in enumerate(parts[1])]
    return _numbered(side, len(value)), [_label(file, index, label) for index, label in enumerate(value)]


def _listed(value: Any, data: Data) -> Any:
    """Arrays as lists; what is nothing of the kind is a list of itself, so that the error is about it."""
    if isinstance(value, PickledArray):
        return value.read(data).reshape(-1).tolist()
    return value if isinstance(value, list | tuple) else [value]


def _numbered(side: str, count: int) -> list[str]:
    return [f"{side}_{index}" for index in range(count)]


def _name(file: Path, index: int, name: Any) -> str:
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str):
        raise ValueError(f"{file.name}: entry {index}: a name must be a string, got {type(name).__name__}")
    return name.removesuffix(SUFFIX)


def _label(file: Path, index: int, label: Any) -> int:
    # Labels of some converters are floats: 12.0.
    if isinstance(label, bool) or not isinstance(label, int | float) or not float(label).is_integer():
        found = str(label) if isinstance(label, float) else type(label).__name__
        raise ValueError(f"{file.name}: entry {index}: a label must be an integer, got {found}")
    return int(label)
