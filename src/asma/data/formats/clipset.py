"""Our own npz and json of one person a clip (`asma.data.load_clips`) as a source and as what is written."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asma.data.clip_file import load_clips, save_clips
from asma.data.clips import ClipSet
from asma.data.source import Clip, Header, Track

__all__ = ["ClipSetSource", "clip_set_of", "open_source", "recognise", "write"]

FORMAT = "clipset"
ENTRIES = {"data.npy", "offsets.npy", "label.npy"}


def recognise(path: str | os.PathLike[str]) -> str | None:
    """What is here, as "clip set of 12.7 MB"; None if it is not."""
    file = Path(path)
    try:
        if file.suffix != ".npz" or not file.is_file() or not file.with_suffix(".json").is_file():
            return None
        with zipfile.ZipFile(file) as archive:
            there = set(archive.namelist()) >= ENTRIES
        return f"clip set of {file.stat().st_size / 1e6:,.1f} MB" if there else None
    except zipfile.BadZipFile:
        return "damaged clip set"
    except (OSError, ValueError):
        return None


def open_source(path: str | os.PathLike[str]) -> ClipSetSource:
    """A clip set, all of it in memory.

    Raises:
        FileNotFoundError, ValueError: as `load_clips`.
    """
    return ClipSetSource(Path(path))


class ClipSetSource:
    """See `open_source`. Another process reads the file anew."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        self._path, self._clips = path, load_clips(path)
        clips = self._clips
        self.header = Header(clips.title, clips.skeleton, "xyz", clips.classes, clips.usual_split)
        self.parts = (path.name,)

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipSetSource, (self._path,)

    def read(self, part: str) -> Iterator[Clip]:
        """See `asma.data.source.Source.read`."""
        clips = self._clips
        for i in range(len(clips)):
            yield Clip(
                name=str(clips.name[i]),
                frames=int(clips.lengths[i]),
                tracks=(Track(0, 0, clips.clip(i)),),
                label=int(clips.label[i]),
                subject=int(clips.subject[i]),
                view=int(clips.view[i]),
                splits=tuple(name for name, members in clips.splits.items() if members[i]),
                source=f"{part}: clip {i}",
            )


def clip_set_of(clips: Iterable[Clip], header: Header) -> ClipSet:
    """Clips of at most one person as a clip set; frames without that person become zeros.

    Raises:
        ValueError: there is no clip, the channels are not xyz, a clip has a second person or no label; the message
            names the clip.
    """
    if header.channels != "xyz":
        raise ValueError(f"{FORMAT}: channels must be xyz, got {header.channels}: take a store")
    found = list(clips)
    data = []
    for clip in found:
        frames = np.zeros((clip.frames, header.skeleton.num_joints, 3), np.float32)
        for person, start, joints in clip.tracks:
            if person:
                raise ValueError(
                    f"{FORMAT}: a clip must have at most one person, {clip.name!r} has a second one: take a store"
                )
            frames[start : start + len(joints)] = joints
        data.append(frames)
    if not found:
        raise ValueError(f"{FORMAT}: there must be at least one clip, got none")
    names = dict.fromkeys(name for clip in found for name in clip.splits)
    return ClipSet(
        data=np.concatenate(data),
        offsets=np.append(0, np.cumsum([clip.frames for clip in found])),
        label=np.array([clip.label for clip in found]),
        subject=np.array([clip.subject for clip in found]),
        view=np.array([clip.view for clip in found]),
        name=np.array([clip.name for clip in found]),
        classes=header.classes,
        skeleton=header.skeleton,
        title=header.title,
        usual_split=header.usual_split,
        splits={name: np.array([name in clip.splits for clip in found]) for name in names},
    )


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new npz and the json beside it. What the format has no place for: where each clip was read from.

    Raises:
        FileExistsError: one of the two is there already.
        ValueError, FileNotFoundError: as `clip_set_of` and `save_clips`.
    """
    for file in (Path(path), Path(path).with_suffix(".json")):
        if os.path.lexists(file):
            raise FileExistsError(f"{file} is there already: take another name")
    save_clips(path, clip_set_of(clips, header))
