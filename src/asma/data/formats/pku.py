"""PKU-MMD I and II as their owners give them: text files of long videos, and label files that say what is where.

A folder holds somewhere below it (two levels at most) a folder of skeleton files, whose name has "skel" in it, and a
folder of label files, whose name has "label" in it, with files of the same names: `0002-L.txt` in part I,
`A01N01-L.txt` in part II (N is the subject, L, M and R are cameras 1, 2 and 3). A row of a skeleton file is a frame of
150 numbers, 2 persons x 25 joints x (x, y, z), zeros for who is not there. A row of a label file is
`class,start,end,confidence`, classes from 1 to 51. Each row is a clip, `0002-L_000` and so on; a video that one row
covers from its first frame to its last is a clip of the video's own name. `cross-subject.txt`, `cross-view.txt` (part
II: `cross_subject_v2.txt`, ...) beside or one level below give the splits xsub_train, xsub_val, xview_train, xview_val;
a video on neither list is in no split.

Converters disagree on three points, so their sets do not have the same frames:

* Which frames `start` and `end` mean. MAMP and MacDiff take rows[start:end], from 0 and without `end`; AimCLR (and with
  it CMD, HiCLR and PSTL) rows[start - 1:end], from 1 and with `end`; others rows[start:end + 1]. We take MAMP's: it
  agrees with the owners' evaluate.py, which counts end - start frames. The other two are an option away.
* Persons. AimCLR puts the person who moves more first, MAMP leaves both where they are. We leave them.
* Length. AimCLR cuts 300 frames from the middle, MAMP the first 300. We keep all.

Where an interval goes beyond the last row, all of them silently take the rows there are; we do so too and say it.

Sources: the owners' README and github.com/ECHO960/PKU-MMD, MAMP's data/pku_v1/pku_gendata.py, AimCLR's
tools/pku_part1_skeleton.py.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import FILE, Beside, Notes, read_beside
from asma.data.formats._files import (
    clip_of_stem,
    files_in,
    folders_in,
    looking,
    new_folder,
    place,
    stem_of_clip,
    text_of,
    write_text,
)
from asma.data.formats._names import PKU_CLASSES, told_by_name
from asma.data.formats._tracks import clip_of, need_joints, need_label, padded
from asma.data.source import Clip, Header, LeftOut

__all__ = ["PkuSource", "open_source", "recognise", "write"]

FORMAT = "pku"
PERSONS, JOINTS, CHANNELS = 2, 25, 3
WIDTH = PERSONS * JOINTS * CHANNELS
Interval = Literal["start:end", "start-1:end", "start:end+1"]
INTERVALS: dict[str, tuple[int, int]] = {"start:end": (0, 0), "start-1:end": (-1, 0), "start:end+1": (0, 1)}
SPLIT_FILE = re.compile(r"cross[-_](subject|view)(_v\d)?\.txt")
SPLIT_NAMES = {"subject": "xsub", "view": "xview"}
SIDES = {"train": "Training videos", "val": "Validataion videos"}
"""Side -> its heading, spelled as in the owners' files."""
TITLES = ((re.compile(r"A\d\dN\d\d-[LMR]"), "PKU-MMD II"), (re.compile(r"\d{4}-[LMR]"), "PKU-MMD I"))


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "PKU-MMD text, 1,074 videos"; None if it is not. Never raises, whatever the path is."""
    skeletons, _ = _folders(path)
    return f"PKU-MMD text, {len(skeletons):,} videos"


def open_source(path: str | os.PathLike[str], *, interval: Interval = "start:end") -> PkuSource:
    """A folder of PKU-MMD.

    Args:
        interval: which rows of a video are the clip of a label row.

    Raises:
        ValueError: no such folder, or a split file is damaged.
        OSError: it cannot be read.
    """
    if interval not in INTERVALS:
        raise ValueError(f"{FORMAT}: interval must be one of {', '.join(INTERVALS)}, got {interval!r}")
    base = Path(path)
    skeletons, labels = _folders(base)
    beside, splits = read_beside(base), _splits(base)
    pair = next((name for name in SPLIT_NAMES.values() if any(f"{name}_train" in on for on in splits.values())), "")
    header = Header(
        title=next((title for pattern, title in TITLES if any(map(pattern.fullmatch, skeletons))), "PKU-MMD text"),
        skeleton=beside.layout(FORMAT, None, JOINTS, "ntu25"),
        channels="xyz",
        classes=PKU_CLASSES,
        usual_split=f"{pair}_train/{pair}_val" if pair else "",
    )
    return PkuSource(base, skeletons, labels, beside.header(header), splits, beside, INTERVALS[interval])


class PkuSource:
    """See `open_source`."""

    format = FORMAT

    def __init__(
        self, base: Path, skeletons: dict[str, Path], labels: dict[str, Path], header: Header,
        splits: dict[str, tuple[str, ...]], beside: Beside, moved: tuple[int, int],
    ) -> None:  # fmt: skip
        self.header = header
        self.parts: Sequence[str] = sorted(skeletons | labels)
        self._base, self._skeletons, self._labels = base, skeletons, labels
        self._splits, self._beside, self._moved = splits, beside, moved

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`; a part is a video."""
        return self._beside.settled(self._clips(part), self.header)

    def _clips(self, video: str) -> Iterator[Clip | LeftOut]:
        files = [files.get(video) for files in (self._skeletons, self._labels)]
        skeleton_file, label_file = files
        if skeleton_file is None or label_file is None:
            has, lacks = ("label", "skeleton") if skeleton_file is None else ("skeleton", "label")
            yield LeftOut(video, f"a {has} file must have a {lacks} file of the same name, there is none")
            return
        label_name = place(label_file, self._base)
        intervals = list(_intervals(text_of(label_file, label_name), label_name, self._moved))
        rows_name = place(skeleton_file, self._base)
        rows, damaged = _rows(text_of(skeleton_file, rows_name))
        for interval in intervals:
            if isinstance(interval, LeftOut):
                yield interval
                continue
            at, label, begin, end = interval
            source = f"{label_name}: line {at + 1}"
            whole = len(intervals) == 1 and (begin, end) == (0, len(rows))
            name = clip_of_stem(video) + ("" if whole else f"_{at:03}")
            if not 0 <= begin < min(end, len(rows)):
                yield LeftOut(source, f"frames must begin in [0, {len(rows)}) and end later, got {begin} to {end}")
                continue
            if bad := [row for row in damaged if begin <= row < end]:
                yield LeftOut(f"{rows_name}: line {bad[0] + 1}", f"{damaged[bad[0]]}, in clip {name!r}")
                continue
            told = told_by_name(name)
            yield clip_of(
                rows[begin:end].reshape(-1, PERSONS, JOINTS, CHANNELS), name=name, label=label,
                subject=told.subject, view=told.view, splits=self._splits.get(video, ()), source=source,
            )  # fmt: skip
            if end > len(rows):
                yield LeftOut(
                    source, f"frames must end at most at {len(rows)}, got {end}; the clip has those there are"
                )


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of `skeleton`, `label`, asma.json, and cross-subject.txt or cross-view.txt for the splits they tell.

    Every clip is a video of its own name with one label row `class,0,T,2`. Numbers have nine digits, which give back
    the same float32. What the format has no place for (names of classes, other splits, subjects and views that the
    names do not tell) is written into asma.json.

    Raises:
        ValueError: the skeleton does not have 25 joints of xyz, two clips have one name, or a clip has more than 2
            persons, no label, or a person with all coordinates 0 in a frame; nothing is written then.
        OSError: the path exists already, or cannot be written.
    """
    need_joints(FORMAT, header, JOINTS)
    notes = Notes(FORMAT, header)
    lists: dict[str, dict[str, list[str]]] = {}
    row = " ".join(["%.9g"] * WIDTH)
    with new_folder(FORMAT, Path(path)) as folder:
        for name in ("skeleton", "label"):
            (folder / name).mkdir()
        for clip in clips:
            need_label(FORMAT, clip)
            # Lists of videos have commas and blanks between them.
            video = stem_of_clip(FORMAT, clip.name).replace(",", "%2C").replace(" ", "%20")
            rows = padded(FORMAT, clip, header, PERSONS).reshape(clip.frames, WIDTH)
            told_splits = _told_splits(clip)
            for split in told_splits:
                benchmark, side = split.split("_")
                lists.setdefault(benchmark, {side: [] for side in SIDES})[side].append(video)
            told = told_by_name(clip.name)
            notes.add(clip, key=clip.name, label=clip.label, subject=told.subject, view=told.view, splits=told_splits)
            write_text(
                folder / "skeleton" / f"{video}.txt", "".join(row % tuple(frame) + "\n" for frame in rows.tolist())
            )
            write_text(folder / "label" / f"{video}.txt", f"{clip.label + 1},0,{clip.frames},2\n")
        for kind, benchmark in SPLIT_NAMES.items():
            if benchmark in lists:
                text = "".join(f"{SIDES[side]}: \n{', '.join(on)}\n" for side, on in lists[benchmark].items())
                write_text(folder / f"cross-{kind}.txt", text)
        write_text(folder / FILE, notes.text())


def _told_splits(clip: Clip) -> list[str]:
    """Those of the clip's splits that a list of videos can tell: one side of a benchmark, not both."""
    found = []
    for benchmark in SPLIT_NAMES.values():
        on = [split for split in (f"{benchmark}_{side}" for side in SIDES) if split in clip.splits]
        found += on if len(on) == 1 else []
    return found


def _folders(base: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Stem -> file of the one folder of skeletons and the one of labels."""
    below = [folder for child in folders_in(base) for folder in (child, *folders_in(child))]
    found: dict[str, list[list[Path]]] = {"label": [], "skel": []}
    for folder in below:
        words = folder.relative_to(base).as_posix().lower()
        kind = next((kind for kind in found if kind in words), None)
        if kind and (files := files_in(folder, ".txt")):
            found[kind].append(files)
    for kind, sets in found.items():
        if len(sets) != 1:
            places = ", ".join(place(files[0].parent, base) for files in sets) or "none"
            raise ValueError(f"{base.name}: must have one folder of .txt with {kind!r} in its name, got {places}")
    skeletons, labels = ({file.stem: file for file in found[kind][0]} for kind in ("skel", "label"))
    if not skeletons.keys() & labels.keys():
        raise ValueError(f"{base.name}: skeleton and label files must have the same names, no two have")
    return skeletons, labels


def _intervals(text: str, name: str, moved: tuple[int, int]) -> Iterator[tuple[int, int, int, int] | LeftOut]:
    """Row, label, first frame and the frame after the last, of each row that is not empty."""
    for at, line in enumerate(text.splitlines()):
        fields = line.split(",")
        if not line.strip():
            continue
        if len(fields) not in (3, 4) or not all(re.fullmatch(r"\s*\d{1,9}(\.0*)?\s*", field) for field in fields[:3]):
            yield LeftOut(f"{name}: line {at + 1}", f"must be class,start,end,confidence, got {line[:60]!r}")
            continue
        label, start, end = (int(float(field)) for field in fields[:3])
        if label < 1:
            yield LeftOut(f"{name}: line {at + 1}", f"a class must be at least 1, got {label}")
            continue
        yield at, label - 1, start + moved[0], end + moved[1]


def _rows(text: str) -> tuple[NDArray[np.float64], dict[int, str]]:
    """(frames, 150), and what is wrong with those frames that are damaged, which are zeros."""
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
        if rows.shape == (len(lines), WIDTH):
            return rows, {}
    except (ValueError, UserWarning):
        pass
    rows, damaged = np.zeros((len(lines), WIDTH)), {}
    for at, line in enumerate(lines):
        numbers = line.split()
        try:
            if len(numbers) != WIDTH:
                raise ValueError(f"got {len(numbers)}")
            rows[at] = [float(number) for number in numbers]
        except ValueError as error:
            damaged[at] = f"a frame must be {WIDTH} numbers, {str(error)[:60]}"
    return rows, damaged


def _splits(base: Path) -> dict[str, tuple[str, ...]]:
    """Video -> the splits it is in."""
    found: dict[str, list[str]] = {}
    for file in (file for folder in (base, *folders_in(base)) for file in files_in(folder, ".txt")):
        match = SPLIT_FILE.fullmatch(file.name.lower())
        if not match:
            continue
        name, side = place(file, base), ""
        for at, line in enumerate(text_of(file, name).splitlines()):
            heading, colon, rest = line.rpartition(":")
            if colon:
                side = next((side for side in SIDES if heading.strip().lower().startswith(side)), "")
                side = "val" if heading.strip().lower().startswith("test") else side
            videos = [video for video in re.split(r"[,\s]+", rest) if video]
            if (videos or colon) and not side:
                raise ValueError(f"{name}: line {at + 1}: must be under 'Training videos:' or 'Validation videos:'")
            split = f"{SPLIT_NAMES[match[1]]}_{side}"
            for video in videos:
                if any(other != split and other.startswith(SPLIT_NAMES[match[1]]) for other in found.get(video, ())):
                    raise ValueError(f"{name}: line {at + 1}: a video must be on one list, {video[:40]!r} is on both")
                if split not in found.setdefault(video, []):
                    found[video].append(split)
    return {video: tuple(splits) for video, splits in found.items()}
