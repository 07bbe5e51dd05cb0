"""The .skeleton files of NTU RGB+D and NTU RGB+D 120, SsssCcccPpppRrrrAaaa.skeleton: one clip each.

Setup, camera, performer, replication and action: the camera is the view, the performer the subject, the action less 1
the label. The text is parsed in C++ (asma._host), and csrc/host/ntu_skeleton.h says what it holds; which of its bodies
are persons is decided in `asma.data.bodies`.

Source: Matlab/read_skeleton_file.m of https://github.com/shahroudy/NTURGB-D.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma.data.bodies import CleanUp, clean_up
from asma.data.formats._beside import FILE, Beside, Notes, read_beside
from asma.data.formats._files import looking, new_folder, write_text
from asma.data.formats._ntu_sets import CLASSES, Name, known_bad, parse_name, splits_of
from asma.data.formats._tracks import checked_clip, need_joints
from asma.data.source import Clip, Header, LeftOut, Track
from asma_kernels._library import built_with

__all__ = ["CLASSES", "NtuSource", "known_bad", "open_source", "recognise", "write"]

FORMAT = "ntu"
SUFFIX = ".skeleton"
JOINTS = 25
MOST_PERSONS = 64
"""Bodies that a frame may hold; a sensor finds six."""
PART = 64
"""Files of a part: about 15 MB of text."""
LEVELS = 4
"""How deep below a folder files are looked for."""
OWN_SETUP = 900
"""From here on setups are of clips whose names are not NTU's, and no such name is in the lists of bad clips."""

JOINT = "%.9g %.9g %.9g 0 0 0 0 0 0 0 0 0\n"  # nine digits tell any two float32 numbers apart
BODY = "%d 0 0 0 0 0 0 0 0 0\n25\n" + JOINT * JOINTS


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "56,880 NTU .skeleton files"; None if there are none. Never raises, whatever the path is."""
    count = sum(parse_name(Path(file).stem) is not None for file in _files(path))
    return f"{count:,} NTU .skeleton file{'s' * (count > 1)}" if count else None


def open_source(
    path: str | os.PathLike[str],
    *,
    clean: CleanUp | None = None,
    bad: bool = False,
    threads: int = 1,
    classes: Sequence[str] | None = None,
) -> NtuSource:
    """A folder of .skeleton files and the folders below it, four levels deep, or one file.

    Args:
        clean: how bodies become persons; by default all steps, but none where an asma.json lies in the folder, as
            `write` leaves it.
        bad: whether clips are read whose names are known to be bad.
        threads: how many files are parsed at a time.
        classes: names of the classes; by default what asma.json says, or NTU's 60, or 120 if there is an action above.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: there is no NTU file, or asma.json is damaged.
        OSError: a folder cannot be read.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"{FORMAT}: the folder must exist, {str(folder)!r} is none")
    files = _files(folder, _refuse)
    names = [name for file in files if (name := parse_name(Path(file).stem))]
    if not names:
        raise ValueError(f"{FORMAT}: {str(folder)!r} must hold SsssCcccPpppRrrrAaaa{SUFFIX} files, got none")
    base = folder if folder.is_dir() else folder.parent
    beside = read_beside(base)
    larger = max(name.action for name in names) > 60
    told = Header(
        title="NTU RGB+D 120" if larger else "NTU RGB+D",
        skeleton=beside.layout(folder.name, None, JOINTS, "ntu25"),
        channels="xyz",
        classes=CLASSES if larger else CLASSES[:60],
        usual_split="xsub_train/xsub_test",
    )
    if clean is None:
        clean = CleanUp.off() if (base / FILE).is_file() else CleanUp()
    return NtuSource(base, files, beside.header(told, classes), beside, clean, bad, threads)


class NtuSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(
        self,
        folder: Path,
        files: Sequence[str],
        header: Header,
        beside: Beside,
        clean: CleanUp,
        bad: bool,
        threads: int,
    ) -> None:
        self.header = header
        self._folder, self._beside = folder, beside
        self._clean, self._bad, self._threads = clean, bad, threads
        seen: dict[str, str] = {}
        for file in files:
            seen.setdefault(Path(file).stem, file)
        self._first = seen
        blocks = [files[begin : begin + PART] for begin in range(0, len(files), PART)]
        self._blocks = {_part_name(block): block for block in blocks}

    @property
    def parts(self) -> Sequence[str]:
        """Blocks of files in the order of their paths."""
        return tuple(self._blocks)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`."""
        return self._beside.settled(self._clips(self._blocks[part]), self.header)

    def _clips(self, block: Sequence[str]) -> Iterator[Clip | LeftOut]:
        names = {file: self._name(file) for file in block}
        paths = [os.fsencode(self._folder / file) for file, name in names.items() if isinstance(name, Name)]
        contents = iter(_host().read_ntu_skeletons(paths, self._threads))
        for file, name in names.items():
            content = next(contents) if isinstance(name, Name) else name
            if isinstance(name, Name) and not isinstance(content, str):
                yield from self._clip(file, name, *content)
            else:
                yield LeftOut(file, content)

    def _name(self, file: str) -> Name | str:
        """The numbers of its name, or why it is not to be read."""
        stem = Path(file).stem
        name = parse_name(stem)
        if name is None:
            return f"its name must be SsssCcccPpppRrrrAaaa{SUFFIX}"
        if self._first[stem] != file:
            return f"clips must have different names, {self._first[stem]} has the same"
        if not self._bad and known_bad(stem):
            return "it is known to be bad: NTU's authors list it as a missing or incomplete skeleton"
        return name

    def _clip(
        self,
        file: str,
        name: Name,
        frames: int,
        frame: NDArray[np.int32],
        body: NDArray[np.uint64],
        xyz: NDArray[np.float32],
    ) -> Iterator[Clip | LeftOut]:
        if not frames:
            yield LeftOut(file, "a clip must have at least one frame, got none")
            return
        tracks, twice = _tracks(frame, body, xyz)
        if twice:
            yield LeftOut(file, f"a body must be once in a frame, got {twice} again: the first of each is taken")
        clip = Clip(
            str(name), frames, tracks, label=name.action - 1, subject=name.performer, view=name.camera,
            splits=splits_of(name, len(self.header.classes)), source=file,
        )  # fmt: skip
        cleaned = clean_up(clip, self._clean)
        yield from cleaned.left_out
        if cleaned.clip is not None:
            yield cleaned.clip


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of .skeleton files, and an asma.json for what they have no place for.

    A clip whose name is NTU's keeps it, any other gets one of a setup from 900 on. Coordinates read back equal; what is
    not known of a recording (orientations, tracking states, where a joint is in the images) is 0, and the id of a body
    is its person's number and one.

    Raises:
        ValueError: the skeleton does not have 25 joints of xyz, or a clip has more than 64 persons or a million frames;
            nothing is written then.
        OSError: the path exists already, or cannot be written.
    """
    need_joints(FORMAT, header, JOINTS)
    notes, used = Notes(FORMAT, header), set[str]()
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            clip = checked_clip(FORMAT, clip, header)
            name = _name_for(clip, used)
            used.add(str(name))
            (folder / f"{name}{SUFFIX}").write_text(_text_of(clip), encoding="ascii")
            notes.add(
                clip, key=str(name), label=name.action - 1, subject=name.performer, view=name.camera,
                splits=splits_of(name, len(header.classes)),
            )  # fmt: skip
        if not used:
            raise ValueError(f"{FORMAT}: there must be a clip to write, got none")
        write_text(folder / FILE, notes.text())


def _files(path: Path, onerror: Callable[[OSError], None] | None = None) -> list[str]:
    """Paths of .skeleton files below a folder, by name; links to folders are not followed, they could go in circles."""
    if path.is_file():
        return [path.name] if path.suffix == SUFFIX else []
    found = []
    for folder, below, names in os.walk(path, onerror=onerror):
        inside = Path(folder).relative_to(path)
        deep = len(inside.parts) >= LEVELS
        below[:] = sorted(name for name in below if not name.startswith(".") and not deep)
        found += [(inside / name).as_posix() for name in sorted(names) if name.endswith(SUFFIX) and name[0] != "."]
    return found


def _refuse(error: OSError) -> None:
    raise error


def _part_name(block: Sequence[str]) -> str:
    return block[0] if len(block) == 1 else f"{block[0]} to {block[-1]}, {len(block)} files"


def _host() -> Any:
    try:
        from asma import _host as host
    except ImportError as error:
        why = built_with().get("host_left_out") or str(error)
        raise OSError(f"{FORMAT}: the parser asma._host is not there ({why}): build asma-kernels again") from None
    return host


def _tracks(
    frame: NDArray[np.int32], body: NDArray[np.uint64], xyz: NDArray[np.float32]
) -> tuple[tuple[Track, ...], int]:
    """The bodies of a file as tracks, and how often one is in a frame a second time.

    Persons are numbered as they appear, but for ids from 1 to 64: those `write` gave, a sensor's are far above.
    """
    ids, places = np.unique(body, return_index=True)
    own = bool(ids.size) and ids[0] >= 1 and ids[-1] <= MOST_PERSONS
    tracks, twice = [], 0
    for number, one in enumerate(ids[np.argsort(places)].tolist()):
        chosen = np.flatnonzero(body == one)
        frames = frame[chosen]
        first = np.diff(frames, prepend=-1) > 0
        twice += int((~first).sum())
        frames, chosen = frames[first], chosen[first]
        edges = [0, *(np.flatnonzero(np.diff(frames) > 1) + 1).tolist(), len(frames)]
        for begin, end in zip(edges, edges[1:], strict=False):
            tracks.append(Track(one - 1 if own else number, int(frames[begin]), xyz[chosen[begin:end]]))
    return tuple(tracks), twice


def _name_for(clip: Clip, used: set[str]) -> Name:
    """The clip's own name where it is NTU's, else an unused one with its numbers, 000 where it has none."""
    own = parse_name(clip.name)
    if own is not None and str(own) not in used:
        return own
    camera, performer, action = (
        number if 0 <= number <= 999 else 0 for number in (clip.view, clip.subject, clip.label + 1)
    )
    for setup in range(OWN_SETUP, 1000):
        for replication in range(1, 1000):
            name = Name(setup, camera, performer, replication, action)
            if str(name) not in used:
                return name
    raise ValueError(f"{FORMAT}: clip {clip.name!r}: the format has no name left for its view, subject and label")


def _text_of(clip: Clip) -> str:
    persons = max((track.person for track in clip.tracks), default=0) + 1
    if persons > MOST_PERSONS or clip.frames > 1_000_000:
        limits = f"{MOST_PERSONS} persons and 1,000,000 frames"
        raise ValueError(f"{FORMAT}: clip {clip.name!r}: the format holds {limits}, got {persons} and {clip.frames}")
    bodies: list[list[str]] = [[] for _ in range(clip.frames)]
    for track in sorted(clip.tracks, key=lambda track: track.person):
        for place, joints in enumerate(np.asarray(track.data, np.float32).reshape(len(track.data), -1).tolist()):
            bodies[track.start + place].append(BODY % (track.person + 1, *joints))
    return f"{clip.frames}\n" + "".join(f"{len(here)}\n{''.join(here)}" for here in bodies)
