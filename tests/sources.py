"""Sources of clips in memory, for tests of what takes clips from a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from asma.data import ClipSet, builtin_clips
from asma.data.source import Clip, Header, LeftOut, Source, Track

Entry = Clip | LeftOut | Exception


class Listed:
    """Parts with their entries; an exception is raised where it stands."""

    format = "list"

    def __init__(self, header: Header, parts: dict[str, list[Entry]]) -> None:
        self.header = header
        self.parts: Sequence[str] = list(parts)
        self._entries = parts

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        for entry in self._entries[part]:
            if isinstance(entry, Exception):
                raise entry
            yield entry


def header_of(clips: ClipSet, channels: str = "xyz", usual_split: str = "") -> Header:
    return Header(clips.title, clips.skeleton, channels, clips.classes, usual_split)


def entries_of(clips: ClipSet, splits: Callable[[int], tuple[str, ...]] = lambda subject: ()) -> list[Clip]:
    """The clips of a set; `splits` gives those of a subject."""
    found = []
    for i in range(len(clips)):
        data = np.array(clips.clip(i))
        label, subject, view = (int(values[i]) for values in (clips.label, clips.subject, clips.view))
        name = str(clips.name[i])
        tracks = (Track(0, 0, data),)
        found.append(Clip(name, len(data), tracks, label, subject, view, splits(subject), f"made.npz, clip {i}"))
    return found


def source_of(clips: ClipSet, protocol: str = "", size: int = 256) -> Source:
    """A clip set as a source, in parts of some clips each."""
    entries = entries_of(clips)
    parts: dict[str, list[Entry]] = {}
    for begin in range(0, len(entries), size):
        parts[f"clips {begin}-"] = list(entries[begin : begin + size])
    return Listed(header_of(clips, usual_split=protocol or clips.usual_split), parts)


def small_set(**changes: int) -> ClipSet:
    """3 classes x 4 subjects x 2 repetitions, 24 clips of the built-in set."""
    return builtin_clips(**({"classes": 3, "subjects": 4, "views": 1, "repeats": 2} | changes))


def by_subject(subject: int) -> tuple[str, ...]:
    return ("xsub_train",) if subject % 2 else ("xsub_val",)


def changed(clip: Clip, change: Callable[[np.ndarray], object], **fields: object) -> Clip:
    """A clip whose one track is changed in place, or replaced by what `change` returns."""
    (track,) = clip.tracks
    data = track.data.copy()
    given = change(data)
    data = np.asarray(given, np.float32) if isinstance(given, np.ndarray) else data
    return replace(clip, tracks=(Track(track.person, track.start, data),), frames=len(data), **fields)  # type: ignore[arg-type]


def kept_in(store: list[Clip]) -> Callable[[Iterable[Clip], Header, object], None]:
    """A writer that keeps the clips in a list."""

    def write(clips: Iterable[Clip], header: Header, path: object) -> None:
        store.extend(clips)

    return write
