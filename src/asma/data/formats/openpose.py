"""OpenPose's JSON, one file a frame: `NAME_000000000000_keypoints.json` with `people[].pose_keypoints_2d`.

A clip is all files of a folder that begin with one NAME; clips are folders of a folder, or of folders called after the
classes. The keypoints are BODY_25 (75 numbers: x, y, score a joint), COCO's 18 (54), or 17 as other estimators write
them in this form (51). A joint that was not found is three zeros, and stays so. People have no order between frames:
they are followed by nearest distance, or by `person_id` where OpenPose's own tracking wrote it. Numbers missing between
the files are frames without a body.

Source: OpenPose's doc/02_output.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asma.data.formats._beside import FILE, Beside, Notes, read_beside
from asma.data.formats._files import (
    clip_of_stem,
    files_in,
    folders_in,
    json_of,
    left_out,
    looking,
    new_folder,
    place,
    stem_of_clip,
    write_text,
)  # fmt: skip
from asma.data.formats._folders import Found, with_labels
from asma.data.formats._numbers import nested_array, nine_digits
from asma.data.formats._people import Pose, clip_of_poses, people_in
from asma.data.formats._tracks import need_layout, padded
from asma.data.source import Clip, Header, LeftOut
from asma_kernels.skeleton import Skeleton

__all__ = ["OpenposeSource", "open_source", "recognise", "write"]

FORMAT = "openpose"
LAYOUTS = {75: "openpose25", 54: "openpose18", 51: "coco17"}
FRAME = re.compile(r"(.*?)_?(\d{1,15})_keypoints\.json", re.ASCII)
LOOKED_AT = 500
"""Frames that are looked at to find a person and thereby the layout."""
LONGEST_GAP = 100_000
"""Frames that may be missing in a clip; more of them are not one video."""
KEY = "pose_keypoints_2d"


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "OpenPose JSON, 120 clips"; None if it is not. Never raises, whatever the path is."""
    clips = _clips(path)
    return f"OpenPose JSON, {len(clips):,} clips" if clips else None


def open_source(path: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> OpenposeSource:
    """A folder of frames, of clips, or of classes.

    Args:
        classes: names of the classes; by default what asma.json says, or the names of the folders that clips are in.

    Raises:
        ValueError: there is no such file, or asma.json is damaged.
        OSError: it cannot be read.
    """
    base = Path(path)
    found = _clips(base)
    if not found:
        raise ValueError(f"{base.name}: must have files NAME_000000000000_keypoints.json, or folders of them, got none")
    beside = read_beside(base)
    listed, names = with_labels([(folder, name, kind) for folder, _, name, kind in found], beside)
    prefixes = [prefix for _, prefix, _, _ in found]
    layout = beside.skeleton or Skeleton.builtin(LAYOUTS[_numbers(found)])
    header = Header(base.name, layout, "xys", names)
    return OpenposeSource(base, list(zip(listed, prefixes, strict=True)), beside.header(header, classes), beside)


class OpenposeSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(self, base: Path, clips: Sequence[tuple[Found, str]], header: Header, beside: Beside) -> None:
        self.header = header
        self._base, self._beside = base, beside
        self._found = {clip.name: (clip, prefix) for clip, prefix in clips}
        self._listed: tuple[Path | None, dict[str, dict[int, Path]]] = None, {}
        self.parts: Sequence[str] = tuple(self._found)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`; a part is a clip, and is left out if one of its frames is damaged."""
        return self._beside.settled([self._clip(*self._found[part])], self.header)

    def _clip(self, found: Found, prefix: str) -> Clip | LeftOut:
        source = place(found.path, self._base) if found.path != self._base else found.name
        files = self._frames_of(found.path)[prefix]
        first, last = min(files), max(files)
        if last - first + 1 > len(files) + LONGEST_GAP:
            return LeftOut(source, f"frames must be numbered one after the other, got {first} to {last} and gaps")
        frames: list[list[Pose]] = [[] for _ in range(first, last + 1)]
        for number, file in files.items():
            name = place(file, self._base)
            try:
                frames[number - first] = _poses(file, name, self.header.skeleton.num_joints)
            except (ValueError, OSError) as error:
                return left_out(name, error)
        return clip_of_poses(frames, name=found.name, label=found.label, source=source)

    def _frames_of(self, folder: Path) -> dict[str, dict[int, Path]]:
        """The frames of each prefix; kept for the next clip, because a folder may have thousands."""
        if self._listed[0] != folder:
            found: dict[str, dict[int, Path]] = {}
            for match, file in _frames(folder):
                found.setdefault(match[1], {})[int(match[2])] = file
            self._listed = folder, found
        return self._listed[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_listed": (None, {})}


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder with a folder of frames for each clip, and asma.json.

    `person_id` says who is who. Numbers have nine digits, which give back the same float32. What the format has no
    place for (labels, subjects, views, splits) is written into asma.json.

    Raises:
        ValueError: the skeleton is not openpose25, openpose18 or coco17 of xys, two clips have one name, or a clip has
            a person with all numbers 0 in a frame, or persons who are not numbered from 0 without a gap; nothing is
            written then.
        OSError: the path exists already, or cannot be written.
    """
    need_layout(FORMAT, header, "xys", *LAYOUTS.values())
    notes = Notes(FORMAT, header)
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            data = padded(FORMAT, clip, header)
            there = people_in(FORMAT, clip, data)
            stem = stem_of_clip(FORMAT, clip.name)
            notes.add(clip, key=clip.name)
            (folder / stem).mkdir()
            for at, frame in enumerate(data):
                people = ",".join(
                    f'{{"person_id":[{person}],"{KEY}":{nine_digits(frame[person].reshape(-1))}}}'
                    for person in np.flatnonzero(there[at])
                )
                text = f'{{"version":1.3,"people":[{people}]}}\n'
                write_text(folder / stem / f"{stem}_{at:012}_keypoints.json", text)
        write_text(folder / FILE, notes.text())


def _frames(folder: Path) -> Iterator[tuple[re.Match[str], Path]]:
    for file in files_in(folder, "_keypoints.json"):
        if match := FRAME.fullmatch(file.name):
            yield match, file


def _clips(base: Path) -> list[tuple[Path, str, str, str]]:
    """Folder, prefix of the files, name and class of each clip: of the first level that has any."""
    if not base.is_dir():
        return []
    if own := _clips_in(base, base.name):
        return [(base, prefix, prefix_name, "") for prefix, prefix_name in own]
    folders = folders_in(base)
    found = [(folder, *clip, "") for folder in folders for clip in _named(folder, "")]
    return found or [
        (folder, *clip, parent.name)
        for parent in folders
        for folder in folders_in(parent)
        for clip in _named(folder, f"{parent.name}/")
    ]


def _clips_in(folder: Path, name: str) -> list[tuple[str, str]]:
    """Prefix of the files, and name, of each clip whose frames are in a folder."""
    return [(prefix, clip_of_stem(prefix or name)) for prefix in sorted({match[1] for match, _ in _frames(folder)})]


def _named(folder: Path, above: str) -> list[tuple[str, str]]:
    """The same, called after the folder if there is one."""
    own, inside = clip_of_stem(folder.name), _clips_in(folder, folder.name)
    return [(prefix, above + (own if len(inside) == 1 else f"{own}/{name}")) for prefix, name in inside]


def _numbers(found: Sequence[tuple[Path, str, str, str]]) -> int:
    """How many numbers the first person has; BODY_25's 75 if nobody is near the beginning."""
    left = LOOKED_AT
    for folder, prefix, _, _ in found:
        for file in (file for match, file in _frames(folder) if match[1] == prefix):
            left -= 1
            if left < 0:
                return 75
            try:
                for person in _people(file, file.name):
                    if isinstance(numbers := person.get(KEY), list) and len(numbers) in LAYOUTS:
                        return len(numbers)
            except (ValueError, OSError):
                continue
    return 75


def _people(file: Path, name: str) -> list[dict[str, Any]]:
    found = json_of(file, name)
    people = found.get("people") if isinstance(found, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise ValueError(f"{name}: must be an object with a list of people")
    return people


def _poses(file: Path, name: str, joints: int) -> list[Pose]:
    poses = []
    for at, person in enumerate(_people(file, name)):
        if person.get(KEY) == []:  # OpenPose without its body network
            continue
        numbers = nested_array(person.get(KEY), (3 * joints,), f"{name}: people[{at}].{KEY}").reshape(joints, 3)
        told = person.get("person_id")
        own = told[0] if isinstance(told, list) and len(told) == 1 and type(told[0]) is int and told[0] >= 0 else None
        poses.append(Pose(numbers, numbers[:, :2] * (numbers[:, 2:] > 0), own))
    return poses
