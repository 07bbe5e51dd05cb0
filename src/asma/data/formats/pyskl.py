"""The annotation pickles of pyskl and mmaction2, 3D (25 joints) and 2D (COCO's 17, OpenPose's 18).

A file is `{"split": {name: [identifiers]}, "annotations": [annotation]}`, or, as older ones are, the list alone. An
annotation is a dict of `frame_dir` (its identifier), `total_frames`, `label`, `keypoint` (M, T, V, C) and, in 2D,
`keypoint_score` (M, T, V), which becomes the third channel; float16 becomes float32, other keys (`img_shape`, ...) are
not kept. A person whose coordinates are all 0 in a frame is not there. The pickle is read without its code and without
its arrays, see `_unpickle`; every part reads the arrays of its own clips.

Kinetics-400's form, with `frame_inds` or arrays in other files, is left out, clip by clip.

Source: pyskl's tools/data/README.md and tools/data/ntu_preproc.py.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import Beside, Notes, beside_file, channels_of, read_beside
from asma.data.formats._files import looking, new_files
from asma.data.formats._names import class_names, told_by_name
from asma.data.formats._pickled_array import Data, PickledArray
from asma.data.formats._tracks import clip_of, padded
from asma.data.formats._unpickle import mapped, unpickle
from asma.data.source import UNKNOWN, Clip, Header, LeftOut
from asma_kernels.skeleton import Skeleton

__all__ = ["PysklSource", "open_source", "recognise", "write"]

FORMAT = "pyskl"
SUFFIXES = (".pkl", ".pickle")
LAYOUTS = {(25, 3): "ntu25", (17, 2): "coco17", (18, 2): "openpose18", (25, 2): "openpose25", (21, 3): "hand21"}
"""By joints and coordinates, where the field has one use of them. pyskl's own edges of ntu25 are "ntu25-pyskl"."""
PART = 512
"""Clips of a part: about 30 MB of NTU RGB+D."""
HEAD = 1 << 16
"""Bytes at the beginning of a file in which one of its keys must be for it to be recognised."""
KEYS = (b"annotations", b"frame_dir", b"split")
SIZES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"), (1, "bytes"))


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "pyskl pickle of 1.1 GB"; None if it is not. Never raises, whatever the path is.

    Clips are not counted: that would be reading the whole pickle.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(HEAD)
        size = os.fstat(file.fileno()).st_size
    if head[:1] not in (b"\x80", b"(", b"]", b"}") or not any(key in head for key in KEYS):
        return None
    unit, name = next(pair for pair in SIZES if size >= pair[0])
    return f"pyskl pickle of {size / unit:.4g} {name}"


def open_source(
    path: str | os.PathLike[str], *, layout: str | Skeleton | None = None, classes: Sequence[str] | None = None
) -> PysklSource:
    """A pickle of annotations; its index is read now.

    Args:
        layout: of the V joints; by default what asma.json says, or ntu25, coco17, openpose18, openpose25 or hand21 by
            the numbers of joints and coordinates.
        classes: names of the classes; by default what asma.json says, or NTU RGB+D's or PKU-MMD's by their number.

    Raises:
        ValueError: it is no such pickle, is damaged, or asks for code, which the message names; no annotation can be
            read, or they have V joints of an unknown layout.
        OSError: it cannot be read.
    """
    file = Path(path)
    beside = read_beside(file)
    with mapped(file) as data:
        value = unpickle(data, file.name)
    entries, splits = _entries(file.name, value)
    shapes = Counter(
        (entry.keypoint.shape[2:], entry.score is not None) for entry in entries if isinstance(entry, _Entry)
    )
    if not shapes:
        found = f"the first: {entries[0].reason}" if entries and isinstance(entries[0], LeftOut) else "there is none"
        raise ValueError(f"{file.name}: must hold annotations that can be read, {found}")
    (joints, coordinates), _ = shapes.most_common(1)[0][0]
    skeleton = beside.layout(file.name, layout, joints, LAYOUTS.get((joints, coordinates)))
    read = [entry for entry in entries if isinstance(entry, _Entry)]
    header = Header(
        title=f"{file.stem} (pyskl)",
        skeleton=skeleton,
        channels="xys" if coordinates == 2 else channels_of(skeleton),
        classes=class_names((entry.label for entry in read), (entry.name for entry in read[:1])),
        usual_split=_usual_split(list(splits)),
    )
    return PysklSource(file, beside.header(header, classes), entries, beside)


@dataclass(frozen=True)
class _Entry:
    """An annotation without its arrays."""

    name: str
    frames: int
    label: int
    splits: tuple[str, ...]
    keypoint: PickledArray
    score: PickledArray | None
    source: str


class PysklSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(self, file: Path, header: Header, entries: Sequence[_Entry | LeftOut], beside: Beside) -> None:
        self.header = header
        self._file, self._entries, self._beside = file, entries, beside
        counts = Counter(entry.name for entry in entries if isinstance(entry, _Entry))
        self._twice = {name for name, count in counts.items() if count > 1}
        self._ranges = {
            f"annotations[{begin}:{min(begin + PART, len(entries))}]": begin for begin in range(0, len(entries), PART)
        }

    @property
    def parts(self) -> Sequence[str]:
        """Ranges of annotations."""
        return tuple(self._ranges)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`."""
        return self._beside.settled(self._clips(self._ranges[part]), self.header)

    def _clips(self, begin: int) -> Iterator[Clip | LeftOut]:
        with mapped(self._file) as data:
            for entry in self._entries[begin : begin + PART]:
                yield entry if isinstance(entry, LeftOut) else self._clip(entry, data)

    def _clip(self, entry: _Entry, data: Data) -> Clip | LeftOut:
        if entry.name in self._twice:
            return LeftOut(entry.source, f"clips must have different names, got {entry.name[:80]!r} twice")
        try:
            keypoint = entry.keypoint.read(data)
            if entry.score is not None and keypoint.shape[3] == 2:
                keypoint = np.concatenate([keypoint, entry.score.read(data)[..., None]], axis=3)
        except ValueError as error:
            return LeftOut(entry.source, str(error))
        wanted = (self.header.skeleton.num_joints, len(self.header.channels))
        if keypoint.shape[2:] != wanted:
            return LeftOut(entry.source, f"keypoint must have {wanted} joints and channels, got {keypoint.shape[2:]}")
        told = told_by_name(entry.name)
        return clip_of(
            keypoint.transpose(1, 0, 2, 3), name=entry.name, label=entry.label, subject=told.subject, view=told.view,
            splits=entry.splits, source=entry.source,
        )  # fmt: skip


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new pickle of annotations and splits, and an .asma.json beside it.

    Keypoints are float32 and exact, (M, T, V, 3), in 2D (M, T, V, 2) with their scores; a clip without a body has one
    person of zeros. There is no `img_shape` in 2D, because clips do not know it: pyskl then takes 1080 x 1920 in some
    steps and needs it in others. The file loads under NumPy 1 and 2. What the format has no place for (layout, names of
    classes, subjects and views that the names do not tell) is written into the .asma.json.

    Raises:
        ValueError: the path does not end in .pkl, two clips have one name, or a person has all coordinates 0 in a
            frame; nothing is written then.
        OSError: a path exists already, or cannot be written.
    """
    target = Path(path)
    if target.suffix != ".pkl":
        raise ValueError(f"{FORMAT}: a file must end in .pkl, got {target.name!r}")
    notes = Notes(FORMAT, header)
    splits: dict[str, list[str]] = {}
    with new_files(FORMAT, target, beside_file(target)) as (file, beside):
        # One annotation after the other: the whole set need not be in memory.
        file.write(b"\x80\x03}" + _plain("annotations") + b"]")
        for clip in clips:
            data = padded(FORMAT, clip, header).transpose(1, 0, 2, 3)
            told = told_by_name(clip.name)
            notes.add(clip, key=clip.name, label=clip.label, subject=told.subject, view=told.view, splits=clip.splits)
            for split in clip.splits:
                splits.setdefault(split, []).append(clip.name)
            plain = {"frame_dir": clip.name, "total_frames": clip.frames}
            plain |= {"label": clip.label} if clip.label >= 0 else {}
            arrays = {"keypoint": data}
            if header.channels == "xys":
                arrays = {"keypoint": data[..., :2], "keypoint_score": data[..., 2]}
            file.write(_plain(plain) + b"(")
            for key, array in arrays.items():
                file.write(_plain(key) + _array(array))
            file.write(b"ua")
        file.write(b"s" + _plain("split") + _plain(splits) + b"s.")
        beside.write(notes.text().encode())


def _plain(value: Any) -> bytes:
    """The opcodes that push a value onto the stack of whoever loads the file; they use no memo of earlier ones."""
    return pickle.dumps(value, protocol=3)[2:-1]


def _array(array: NDArray[np.float32]) -> bytes:
    """The same of an array, by the module names of NumPy 1, which NumPy 2 knows too but not the other way round."""
    code = np.ascontiguousarray(array, "<f4")
    number_type = b"cnumpy\ndtype\n" + _plain(("f4", False, True)) + b"R"
    number_type += _plain((3, "<", None, None, None, -1, -1, 0)) + b"b"
    shell = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _plain((0,)) + _plain(b"b") + b"tR"
    return shell + b"(" + _plain(1) + _plain(code.shape) + number_type + _plain(False) + _plain(code.tobytes()) + b"tb"


def _entries(name: str, value: Any) -> tuple[list[_Entry | LeftOut], dict[str, list[str]]]:
    """The index of a file: what can be read of each annotation, and the splits."""
    listed, splits = value, {}
    if isinstance(value, dict):
        listed, splits = value.get("annotations"), value.get("split", {})
    if not isinstance(listed, list | tuple):
        raise ValueError(f"{name}: must be a list of annotations or a dict with one, got {_kind(listed)}")
    if not isinstance(splits, dict):
        raise ValueError(f"{name}: split must be a dict of lists of names, got {_kind(splits)}")
    of_clip: dict[str, list[str]] = {}
    for split, clips in splits.items():
        if not isinstance(split, str) or not isinstance(clips, list | tuple):
            raise ValueError(f"{name}: split must be a dict of lists of names, got {_kind(clips)}")
        for clip in clips:
            if not isinstance(clip, str):
                raise ValueError(f"{name}: split {split[:40]!r} must be a list of names, got {_kind(clip)}")
            of_clip.setdefault(clip, []).append(split)
    return [_entry(f"{name}: annotation {at}", found, of_clip) for at, found in enumerate(listed)], splits


def _entry(source: str, found: Any, splits: dict[str, list[str]]) -> _Entry | LeftOut:
    if not isinstance(found, dict):
        return LeftOut(source, f"an annotation must be a dict, got {_kind(found)}")
    name, keypoint, score = (found.get(key) for key in ("frame_dir", "keypoint", "keypoint_score"))
    if not isinstance(name, str):
        return LeftOut(source, f"frame_dir must be the clip's name, got {_kind(name)}")
    source = f"{source} ({name[:80]!r})"
    if "frame_inds" in found or "raw_file" in found:
        return LeftOut(source, "keypoint must be (M, T, V, C), got the packed form of Kinetics-400")
    if not isinstance(keypoint, PickledArray) or len(keypoint.shape) != 4 or not _is_number(keypoint):
        return LeftOut(source, f"keypoint must be an array (M, T, V, C) of numbers, got {_kind(keypoint)}")
    if score is not None and not (
        isinstance(score, PickledArray) and score.shape == keypoint.shape[:3] and _is_number(score)
    ):
        return LeftOut(source, f"keypoint_score must be an array of shape {keypoint.shape[:3]}, got {_kind(score)}")
    if keypoint.shape[3] == 2 and score is None:
        return LeftOut(source, "keypoint_score must be there where keypoint has two coordinates, it is not")
    frames, label = found.get("total_frames", keypoint.shape[1]), found.get("label", UNKNOWN)
    if frames != keypoint.shape[1]:
        shown = frames if isinstance(frames, int) else _kind(frames)
        return LeftOut(source, f"total_frames must be the {keypoint.shape[1]} frames of keypoint, got {shown}")
    if isinstance(label, bool) or not isinstance(label, int):
        return LeftOut(source, f"label must be an integer, got {_kind(label)}")
    return _Entry(name, frames, label, tuple(dict.fromkeys(splits.get(name, ()))), keypoint, score, source)


def _is_number(array: PickledArray) -> bool:
    return array.dtype is not None and array.dtype.kind in "fiu"


def _kind(value: Any) -> str:
    """What a value is, in a few words; its contents may be a bomb."""
    if isinstance(value, PickledArray):
        return f"an array {value.shape} of {value.dtype}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _usual_split(splits: Sequence[str]) -> str:
    """The first pair of a training split and its other side, as xsub_train/xsub_val."""
    for train in (split for split in splits if "train" in split):
        for other in ("val", "test"):
            if (test := train.replace("train", other)) in splits:
                return f"{train}/{test}"
    return ""
