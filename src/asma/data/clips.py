"""Clips of skeletons: how a set of them lies in memory, in a file, and in the array that models take."""

from __future__ import annotations

import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asma.data._clip_checks import INTEGER_FIELDS, checked_fields
from asma.data._skeleton_json import fields_of, skeleton_of
from asma_kernels.skeleton import Skeleton

__all__ = ["ClipSet", "load_clips", "save_clips"]

SPLIT_FIELDS = ("subject", "view", "label")
NPZ_KEYS = ("data", "offsets", "label", "subject", "name")
JSON_KEYS = ("name", "classes", "joints", "edges", "centre")
RESAMPLE_CHUNK = 512


@dataclass(frozen=True, eq=False)
class ClipSet:
    """N clips of one person each, of different lengths, F frames altogether.

    Coordinates are what the source gives: metres in Kinect's axes (x to the right of a person who faces the camera, y
    up, z away from the camera) for the sets of this project. Everything is checked when a set is made. Arrays that
    already have the type below are not copied.

    Attributes:
        data: (F, V, 3) float32, finite; the frames of clip 0, then those of clip 1 and so on.
        offsets: (N + 1) int64, from 0 to F, strictly increasing; clip i is `data[offsets[i]:offsets[i + 1]]`.
        label: (N) int64 in [0, number of classes).
        subject: (N) int64, who acts.
        view: (N) int64, which camera; zeros where unknown.
        name: (N) strings.
        classes: names of the classes.
        skeleton: of the V joints.
        title: what tables and reports call the set.
        usual_split: the split that the set's owners use, in words or as `split` takes it.

    Raises:
        ValueError: a field has the wrong shape or type or breaks a rule above; the message names the field and, where
            there is one, the clip.

    >>> clips = ClipSet(data=np.zeros((5, 2, 3), np.float32), offsets=[0, 2, 5], label=[0, 1], subject=[1, 2],
    ...                 view=[0, 0], name=["a", "b"], classes=("sit", "stand"),
    ...                 skeleton=Skeleton.from_edges([(0, 1)]), title="two clips")
    >>> len(clips), clips.lengths.tolist(), clips.clip(1).shape, clips.resample(16).shape
    (2, [2, 3], (3, 2, 3), (2, 3, 16, 2, 1))
    """

    data: NDArray[np.float32]
    offsets: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    view: NDArray[np.int64]
    name: NDArray[np.str_]
    classes: tuple[str, ...]
    skeleton: Skeleton
    title: str
    usual_split: str = ""

    def __post_init__(self) -> None:
        fields = {field: getattr(self, field) for field in ("data", "name", "classes", *INTEGER_FIELDS)}
        for field, value in checked_fields("ClipSet", fields, self.skeleton).items():
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        """N, the number of clips."""
        return len(self.label)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N) int64, the number of frames of each clip, at least 1."""
        return np.diff(self.offsets)

    def clip(self, i: int) -> NDArray[np.float32]:
        """The frames of clip i as a view of `data`: (T_i, V, 3) float32.

        Raises:
            ValueError: i is not in [0, N).
        """
        (index,) = self._clip_index("ClipSet.clip", [i])
        return self.data[self.offsets[index] : self.offsets[index + 1]]

    def subset(self, index: ArrayLike) -> ClipSet:
        """The clips of `index`, in its order, as a set of its own; the frames are copied.

        Args:
            index: integers in [0, N), which may repeat, or N booleans.

        Raises:
            ValueError: another type, an integer out of range, or no clip at all.
        """
        return self._take(self._clip_index("ClipSet.subset", index))

    def split(self, protocol: str) -> tuple[ClipSet, ClipSet]:
        """Training and test clips by a protocol "field-train-test", where field is subject or view.

        A side is "odd", "even", digits ("12" is 1 and 2), numbers with commas between them ("10,12"), or, for the test
        side, "rest". Clips that neither side names are left out. UTD-MHAD's protocol is "subject-odd-even", NW-UCLA's
        "view-12-3".

        Raises:
            ValueError: the protocol cannot be read, both sides name a number, or a side has no clip.
        """
        where = f"ClipSet.split: {protocol!r}"
        field, *sides = str(protocol).split("-")
        if field not in ("subject", "view") or len(sides) != 2:
            raise ValueError(f"{where} must be field-train-test with field subject or view, as 'subject-odd-even'")
        values = getattr(self, field)
        train = _side(values, sides[0], where)
        test = ~train if sides[1] == "rest" else _side(values, sides[1], where)
        if (train & test).any():
            raise ValueError(f"{where} must not have a {field} on both sides, got {values[train & test][0]}")
        return self._two_sides(train, test, field, where)

    def split_by(self, field: str, train_values: Iterable[int]) -> tuple[ClipSet, ClipSet]:
        """Training clips, those whose `field` is one of `train_values`, and test clips, all others.

        Args:
            field: subject, view or label.
            train_values: integers.

        Raises:
            ValueError: another field, values that are no integers, or a side has no clip.
        """
        if field not in SPLIT_FIELDS:
            raise ValueError(f"ClipSet.split_by: field must be one of {', '.join(SPLIT_FIELDS)}, got {field!r}")
        wanted = np.array(list(train_values))
        if wanted.size and wanted.dtype.kind not in "iu":
            raise ValueError(f"ClipSet.split_by: train_values must be integers, got {wanted.tolist()}")
        train = np.isin(getattr(self, field), wanted)
        return self._two_sides(train, ~train, field, "ClipSet.split_by")

    def resample(self, frames: int) -> NDArray[np.float32]:
        """All clips at a fixed number of frames by linear interpolation in time.

        The first and the last frame of a clip stay what they are, and a clip of T frames is returned unchanged for
        `frames` = T; `frames` = 1 gives the first frame. Deterministic.

        Returns:
            (N, 3, T, V, 1) float32, contiguous, T = frames.

        Raises:
            ValueError: frames is not a positive integer.
        """
        if isinstance(frames, bool) or not isinstance(frames, int | np.integer) or frames < 1:
            raise ValueError(f"ClipSet.resample: frames must be a positive integer, got {frames!r}")
        out = np.empty((len(self), 3, int(frames), self.skeleton.num_joints, 1), np.float32)
        # In integers, so that a position that is a frame is exactly that frame; in chunks, to bound the temporaries.
        steps = max(int(frames) - 1, 1)
        for begin in range(0, len(self), RESAMPLE_CHUNK):
            first = self.offsets[begin : begin + RESAMPLE_CHUNK + 1]
            last = (np.diff(first) - 1)[:, None]
            whole, part = np.divmod(np.arange(int(frames)) * last, steps)
            low = self.data[first[:-1, None] + whole]
            high = self.data[first[:-1, None] + np.minimum(whole + 1, last)]
            low += (high - low) * (part / steps).astype(np.float32)[..., None, None]
            out[begin : begin + RESAMPLE_CHUNK, ..., 0] = low.transpose(0, 3, 1, 2)
        return out

    def _clip_index(self, where: str, index: ArrayLike) -> NDArray[np.int64]:
        found = np.atleast_1d(np.asarray(index))
        if found.dtype == bool and found.shape == (len(self),):
            found = np.flatnonzero(found)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise ValueError(
                f"{where}: clips must be given as integers or {len(self)} booleans, got {found.dtype} {found.shape}"
            )
        wrong = found[(found < 0) | (found >= len(self))]
        if wrong.size:
            raise ValueError(f"{where}: a clip must be in [0, {len(self)}), got {wrong[0]}")
        return found.astype(np.int64)

    def _take(self, index: NDArray[np.int64]) -> ClipSet:
        lengths = self.lengths[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], lengths)
        return ClipSet(
            data=self.data[rows],
            offsets=offsets,
            label=self.label[index],
            subject=self.subject[index],
            view=self.view[index],
            name=self.name[index],
            classes=self.classes,
            skeleton=self.skeleton,
            title=self.title,
            usual_split=self.usual_split,
        )

    def _two_sides(
        self, train: NDArray[np.bool_], test: NDArray[np.bool_], field: str, where: str
    ) -> tuple[ClipSet, ClipSet]:
        for side, clips in (("training", train), ("test", test)):
            if not clips.any():
                there = ", ".join(map(str, np.unique(getattr(self, field)).tolist()[:20]))
                raise ValueError(f"{where}: the {side} side must have a clip, {field} here is {there}")
        return self._take(np.flatnonzero(train)), self._take(np.flatnonzero(test))


def _side(values: NDArray[np.int64], text: str, where: str) -> NDArray[np.bool_]:
    """(N) bool, the clips that one side of a protocol names."""
    if text in ("odd", "even"):
        return values % 2 == (text == "odd")
    numbers = text.split(",") if "," in text else list(text)
    if not numbers or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{where} must name a side by odd, even or numbers, got {text!r}")
    return np.isin(values, [int(number) for number in numbers])


def load_clips(path: str | os.PathLike[str]) -> ClipSet:
    """A clip set from an .npz file and the .json of the same name beside it.

    The npz holds `data` (F, V, 3), `offsets` (N + 1), `label` (N), `subject` (N), `name` (N) and perhaps `view` (N).
    The json holds `name` (of the set), `classes`, `joints` (their names), `edges` and `centre`, perhaps `split` (the
    usual one), `layout`, `flip` and `parents`. Other entries are ignored, and pickled objects are refused. Without
    `flip`, joints whose names differ by "left" and "right" are each other's mirror images. A skeleton that is one of
    `Skeleton.layouts()` becomes that layout.

    Raises:
        FileNotFoundError: either file is missing.
        ValueError: a file cannot be read, lacks an entry, or breaks a rule of `ClipSet`; the message names the clip.
    """
    npz_path = Path(path)
    if npz_path.suffix != ".npz":
        raise ValueError(f"load_clips: a file must end in .npz, got {str(path)!r}")
    for file in (npz_path, npz_path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(f"load_clips: an .npz needs a .json beside it, {str(file)!r} is not a file")
    header = _read_json(npz_path.with_suffix(".json"))
    arrays = _read_npz(npz_path)
    try:
        skeleton = skeleton_of("load_clips", header)
        arrays.setdefault("view", np.zeros(np.shape(arrays["label"]), np.int64))
        fields = checked_fields("load_clips", {**arrays, "classes": header["classes"]}, skeleton)
    except ValueError as error:
        raise ValueError(f"{error}; file {str(npz_path)!r}") from None
    return ClipSet(**fields, skeleton=skeleton, title=str(header["name"]), usual_split=str(header.get("split", "")))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"load_clips: {str(path)!r} must be JSON, but {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"load_clips: {str(path)!r} must hold a JSON object, got {type(header).__name__}")
    _need_keys(path, JSON_KEYS, header)
    return header


def _read_npz(path: Path) -> dict[str, Any]:
    """The arrays of a clip set; whatever a damaged archive makes zipfile and NumPy raise becomes one sentence."""
    damaged = (ValueError, OSError, EOFError, MemoryError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip archive")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*NPZ_KEYS, "view") if key in archive.files}
    except damaged as error:
        raise ValueError(f"load_clips: {str(path)!r} must be an .npz without pickled objects, but {error}") from None
    _need_keys(path, NPZ_KEYS, arrays)
    return arrays


def _need_keys(path: Path, keys: tuple[str, ...], found: dict[str, Any]) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"load_clips: {str(path)!r} must hold {', '.join(keys)}, it lacks {', '.join(missing)}")


def save_clips(path: str | os.PathLike[str], clips: ClipSet) -> None:
    """Write a clip set as `path` (.npz) and the .json beside it, so that `load_clips` gives an equal one.

    Both files are written under another name first and then moved into place, so a crash leaves no half-written file.

    Raises:
        ValueError: path does not end in .npz.
        FileNotFoundError: the folder does not exist.
    """
    npz_path = Path(path)
    if npz_path.suffix != ".npz":
        raise ValueError(f"save_clips: a file must end in .npz, got {str(path)!r}")
    if not npz_path.parent.is_dir():
        raise FileNotFoundError(f"save_clips: the folder must exist, {str(npz_path.parent)!r} is none")
    header = {
        "name": clips.title,
        "classes": clips.classes,
        **fields_of(clips.skeleton),
        "split": clips.usual_split,
    }
    suffix = f".{uuid.uuid4().hex}.tmp"
    json_path = npz_path.with_suffix(".json")
    npz_part, json_part = (file.with_name(file.name + suffix) for file in (npz_path, json_path))
    try:
        with open(npz_part, "xb") as file:
            np.savez(file, **{key: getattr(clips, key) for key in (*NPZ_KEYS, "view")})
        json_part.write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(npz_part, npz_path)
        os.replace(json_part, json_path)
    finally:
        npz_part.unlink(missing_ok=True)
        json_part.unlink(missing_ok=True)
