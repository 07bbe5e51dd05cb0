"""MediaPipe's 33 pose landmarks in JSON or CSV, one file a clip.

MediaPipe has no file format. Two are read, which are what people write of its results:

* JSON: a list of frames, or an object with it under `frames`. A frame is null or empty (nobody), or an object like
  MediaPipe's result with `pose_world_landmarks` (metres; also `poseWorldLandmarks`, `worldLandmarks`) or else
  `pose_landmarks` (image; also `poseLandmarks`, `landmarks`): a pose or a list of poses, a pose being 33 landmarks or
  `{"landmark": [33 landmarks]}`, a landmark `{"x": ..., "y": ..., "z": ...}` or `[x, y, z]`; what else it has, such as
  visibility, is not kept.
* CSV with a line of names: `x0`, `y0`, `z0` to `x32`, `y32`, `z32`, or 1 to 33, and perhaps `frame` (an integer) and
  `person`; other columns are not kept. A row is a frame, or a person in a frame; a row whose coordinates are all empty
  or NaN is nobody.

A clip takes world landmarks if it has any. Coordinates stay what they are: MediaPipe's y points down. Several people
are followed by nearest distance in the image; `person`, a number a pose, says who is who instead. Files lie in a
folder, or in folders called after the classes.

Source: MediaPipe's PoseLandmarkerResult.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import FILE, Notes, is_beside, read_beside
from asma.data.formats._file_a_clip import FoundSource
from asma.data.formats._files import json_of, left_out, looking, new_folder, stem_of_clip, text_of, write_text
from asma.data.formats._folders import Found, clip_files, with_labels
from asma.data.formats._numbers import kind_of, nested_array
from asma.data.formats._people import Pose, clip_of_poses, people_in
from asma.data.formats._tracks import need_layout, padded
from asma.data.source import Clip, Header, LeftOut

__all__ = ["MediapipeSource", "open_source", "recognise", "write"]

FORMAT = "mediapipe"
SUFFIXES = (".json", ".csv")
JOINTS = 33
WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks")
IMAGE = ("pose_landmarks", "poseLandmarks", "landmarks")
HEAD = 1 << 16
"""Bytes at the beginning of a file in which one of the keys must be for it to be recognised."""
LONGEST_GAP = 100_000
"""Frames that may be missing in a CSV; more of them are not one video."""


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "MediaPipe landmarks, 120 clips"; None if it is not. Never raises, whatever the path is."""
    files = _files(path)
    if not files:
        return None
    with open(files[0][0], "rb") as file:
        head = file.read(HEAD)
    if files[0][0].suffix.lower() == ".csv":
        names = head.partition(b"\n")[0].decode("utf-8-sig").lower()
        known = all(name in names for name in ("x1", "y1", "z1", "x32", "y32", "z32"))
    else:
        known = any(f'"{key}"'.encode() in head for key in (*WORLD, *IMAGE)) and b'"people"' not in head
    return f"MediaPipe landmarks, {len(files):,} clips" if known else None


def open_source(path: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> MediapipeSource:
    """A file, a folder of files, or a folder of classes.

    Args:
        classes: names of the classes; by default what asma.json says, or the names of the folders that clips are in.

    Raises:
        ValueError: there is no such file, or asma.json is damaged.
        OSError: it cannot be read.
    """
    base = Path(path)
    found = _files(base)
    if not found:
        raise ValueError(f"{base.name}: must be a .json or .csv file, or have such files, got none")
    beside = read_beside(base)
    listed, names = with_labels(found, beside)
    header = Header(base.name, beside.layout(FORMAT, None, JOINTS, "mediapipe33"), "xyz", names)
    return MediapipeSource(base, listed, beside.header(header, classes), beside)


class MediapipeSource(FoundSource):
    """See `open_source`."""

    format = FORMAT

    def _clip(self, source: str, found: Found) -> Clip | LeftOut:
        read = _frames_of_csv if found.path.suffix.lower() == ".csv" else _frames_of_json
        try:
            frames = read(found.path, source)
        except (ValueError, OSError) as error:
            return left_out(source, error)
        return clip_of_poses(frames, name=found.name, label=found.label, source=source)


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder with a JSON file for each clip, and asma.json.

    Frames are objects of `pose_world_landmarks` and `person`. Numbers have nine digits, which give back the same
    float32. What the format has no place for (labels, subjects, views, splits) is written into asma.json.

    Raises:
        ValueError: the skeleton is not mediapipe33 of xyz, two clips have one name, or a clip has a person with all
            coordinates 0 in a frame, or persons who are not numbered from 0 without a gap; nothing is written then.
        OSError: the path exists already, or cannot be written.
    """
    need_layout(FORMAT, header, "xyz", "mediapipe33")
    notes = Notes(FORMAT, header)
    pose = "[" + ",".join(['{"x":%.9g,"y":%.9g,"z":%.9g}'] * JOINTS) + "]"
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            data = padded(FORMAT, clip, header)
            there = people_in(FORMAT, clip, data)
            notes.add(clip, key=clip.name)
            lines = []
            for frame, present in zip(data, there, strict=True):
                people = np.flatnonzero(present).tolist()
                poses = ",".join(pose % tuple(frame[person].ravel().tolist()) for person in people)
                lines.append(f'{{"{WORLD[0]}":[{poses}],"person":{people}}}')
            text = '{"frames":[\n' + ",\n".join(lines) + "\n]}\n"
            write_text(folder / f"{stem_of_clip(FORMAT, clip.name)}.json", text)
        write_text(folder / FILE, notes.text())


def _files(base: Path) -> list[tuple[Path, str, str]]:
    return [found for found in clip_files(base, *SUFFIXES) if not is_beside(found[0])]


def _frames_of_json(file: Path, name: str) -> list[list[Pose]]:
    found = json_of(file, name)
    frames = found.get("frames") if isinstance(found, dict) else found
    if not isinstance(frames, list):
        raise ValueError(f"{name}: must be a list of frames, or an object with one, got {kind_of(found)}")
    for at, frame in enumerate(frames):
        if frame and not (isinstance(frame, dict) and any(key in frame for key in (*WORLD, *IMAGE))):
            raise ValueError(
                f"{name}: frame {at}: must be an object with {WORLD[0]} or {IMAGE[0]}, got {kind_of(frame)}"
            )
    world = any(frame and _of(frame, WORLD) for frame in frames)
    poses = []
    for at, frame in enumerate(frames):
        place_ = f"{name}: frame {at}"
        data = _poses(_of(frame or {}, WORLD if world else IMAGE), place_)
        # World landmarks are of each body alone: where people are is in the image.
        where = _poses(_of(frame or {}, IMAGE), place_) if world else data
        told = (frame or {}).get("person")
        if told is not None and not (
            isinstance(told, list) and len(told) == len(data) and all(type(who) is int for who in told)
        ):
            raise ValueError(f"{place_}: person must be a list of {len(data)} integers, got {kind_of(told)}")
        if len(where) != len(data):
            where = data
        who = told or [None] * len(data)
        poses.append([Pose(*pose) for pose in zip(data, where, who, strict=True)])
    return poses


def _of(frame: dict[str, Any], keys: Sequence[str]) -> Any:
    """What stands under the first of the keys that is there."""
    return next((frame[key] for key in keys if frame.get(key)), None)


def _poses(value: Any, name: str) -> list[NDArray[np.float64]]:
    """(33, 3) of each pose of a frame."""
    if not value:
        return []
    if isinstance(value, dict) or (isinstance(value, list) and _is_landmark(value[0])):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"{name}: must be a pose or a list of poses, got {kind_of(value)}")
    poses = []
    for at, pose in enumerate(value):
        landmarks = pose.get("landmark") if isinstance(pose, dict) else pose
        if isinstance(landmarks, list):
            landmarks = [[mark.get(axis) for axis in "xyz"] if isinstance(mark, dict) else mark for mark in landmarks]
            landmarks = [mark[:3] if isinstance(mark, list) else mark for mark in landmarks]
        poses.append(nested_array(landmarks, (JOINTS, 3), f"{name}: pose {at}"))
    return poses


def _is_landmark(value: Any) -> bool:
    """Whether this is one of the 33 of a pose, not a pose of a list of poses."""
    if isinstance(value, dict):
        return "landmark" not in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def _frames_of_csv(file: Path, name: str) -> list[list[Pose]]:
    try:
        rows = list(csv.reader(text_of(file, name).splitlines(), strict=True))
    except csv.Error as error:
        raise ValueError(f"{name}: must be CSV, but {error}") from None
    names = [column.strip().lower() for column in rows[0]] if rows else []
    first = 0 if "x0" in names else 1
    wanted = [f"{axis}{joint}" for joint in range(first, first + JOINTS) for axis in "xyz"]
    missing = [column for column in wanted if column not in names]
    if missing:
        raise ValueError(f"{name}: line 1: must have columns {wanted[0]} to {wanted[-1]}, there is no {missing[0]}")
    columns = [names.index(column) for column in wanted]
    frames: dict[int, list[Pose]] = {}
    for at, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(names):
            raise ValueError(f"{name}: line {at}: must have {len(names)} fields, got {len(row)}")
        numbers = [_number(row[column], f"{name}: line {at}: column {names[column]}") for column in columns]
        data = np.array(numbers).reshape(JOINTS, 3)
        frame, person = (_integer(row, names, column, f"{name}: line {at}") for column in ("frame", "person"))
        poses = frames.setdefault(len(frames) if frame is None else frame, [])
        if not np.isnan(data).all():
            poses.append(Pose(data, data, person))
    if not frames:
        return []
    begin, end = min(frames), max(frames) + 1
    if end - begin > len(frames) + LONGEST_GAP:
        raise ValueError(f"{name}: frames must be numbered one after the other, got {begin} to {end - 1} and gaps")
    return [frames.get(frame, []) for frame in range(begin, end)]


def _number(text: str, name: str) -> float:
    try:
        return float(text) if text.strip() else float("nan")
    except ValueError:
        raise ValueError(f"{name}: must be a number, got {text[:40]!r}") from None


def _integer(row: Sequence[str], names: Sequence[str], column: str, name: str) -> int | None:
    if column not in names:
        return None
    text = row[names.index(column)].strip()
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{name}: column {column} must be an integer from 0, got {text[:40]!r}")
    return int(text)
