"""NW-UCLA as CTR-GCN and its successors share it: a folder of JSON files, one a clip.

A file is an object of `file_name`, `skeletons` (T, 20, 3) and `label`, which counts from 1 to 10 and is not the number
after the `a` of the name. A name as `a01_s01_e00_v01` tells subject and view. The split of the field is by view: 1 and
2 train, 3 test. Coordinates are metres as the Kinect gives them; CTR-GCN centres and resizes them while training.

Source: CTR-GCN's feeders/feeder_ucla.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from asma.data.formats._beside import FILE, Notes, is_beside, read_beside
from asma.data.formats._file_a_clip import FileSource
from asma.data.formats._files import (
    clip_of_stem,
    dump_json,
    files_in,
    json_of,
    left_out,
    looking,
    new_folder,
    stem_of_clip,
    write_text,
)  # fmt: skip
from asma.data.formats._names import UCLA_CLASSES, told_by_name
from asma.data.formats._numbers import nested_array, nine_digits
from asma.data.formats._tracks import clip_of, need_label, need_layout, one_person
from asma.data.source import Clip, Header, LeftOut

__all__ = ["UclaSource", "open_source", "recognise", "write"]

FORMAT = "ucla"
JOINTS, CHANNELS = 20, 3
HEAD = 4096
"""Bytes at the beginning of a file in which its key must be for it to be recognised."""


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "NW-UCLA JSON, 1,484 clips"; None if it is not. Never raises, whatever the path is."""
    files = _files(path)
    if not files:
        return None
    with open(files[0], "rb") as file:
        head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    return f"NW-UCLA JSON, {len(files):,} clips" if head[:1] == b"{" and b'"skeletons"' in head else None


def open_source(path: str | os.PathLike[str]) -> UclaSource:
    """A folder of NW-UCLA's JSON files.

    Raises:
        ValueError: it has no JSON file.
        OSError: it cannot be read.
    """
    base = Path(path)
    files = _files(base)
    if not files:
        raise ValueError(f"{base.name}: must be a folder with JSON files, got none")
    beside = read_beside(base)
    header = Header("NW-UCLA", beside.layout(FORMAT, None, JOINTS, "ucla20"), "xyz", UCLA_CLASSES, "view-12-3")
    return UclaSource(base, [file.name for file in files], beside.header(header), beside)


class UclaSource(FileSource):
    """See `open_source`."""

    format = FORMAT

    def _clip(self, path: Path) -> Clip | LeftOut:
        name = clip_of_stem(path.stem)
        try:
            found = json_of(path, path.name)
            if not isinstance(found, dict):
                raise ValueError(f"must hold a JSON object, got {type(found).__name__}")
            label = found.get("label")
            if isinstance(label, bool) or not isinstance(label, int) or label < 1:
                raise ValueError("label must be an integer from 1")
            data = nested_array(found.get("skeletons"), (None, JOINTS, CHANNELS), "skeletons")
        except (ValueError, OSError) as error:
            return left_out(path.name, error)
        told = told_by_name(name)
        return clip_of(
            data[:, None], name=name, label=label - 1, subject=told.subject, view=told.view, source=path.name
        )


def write(clips: Iterable[Clip], header: Header, path: str | os.PathLike[str]) -> None:
    """A new folder of JSON files named after the clips, and asma.json.

    Numbers have nine digits, which give back the same float32. What the format has no place for (names of classes,
    splits, subjects and views that the names do not tell) is written into asma.json.

    Raises:
        ValueError: the skeleton is not NW-UCLA's 20 joints of xyz, two clips have one name, or a clip has no label or
            not one person who is there in every frame; nothing is written then.
        OSError: the path exists already, or cannot be written.
    """
    need_layout(FORMAT, header, "xyz", "ucla20")
    notes = Notes(FORMAT, header)
    with new_folder(FORMAT, Path(path)) as folder:
        for clip in clips:
            need_label(FORMAT, clip)
            data = one_person(FORMAT, clip, header)
            told = told_by_name(clip.name)
            notes.add(clip, key=clip.name, label=clip.label, subject=told.subject, view=told.view)
            head = dump_json({"file_name": clip.name, "label": clip.label + 1})[:-2]
            text = f'{head},"skeletons":{nine_digits(data)}}}\n'
            write_text(folder / f"{stem_of_clip(FORMAT, clip.name)}.json", text)
        write_text(folder / FILE, notes.text())


def _files(path: Path) -> list[Path]:
    return [file for file in files_in(path, ".json") if not is_beside(file)] if path.is_dir() else []
