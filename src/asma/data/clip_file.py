"""The npz and json files of a `ClipSet`."""

from __future__ import annotations

import json
import os
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from asma.data._clip_checks import checked_fields
from asma.data.clips import ClipSet
from asma.data.header_json import header_to_json, need_keys, read_json, skeleton_of_json
from asma.data.source import Header
from asma.files import sync

__all__ = ["load_clips", "save_clips"]

KEYS = ("data", "offsets", "label", "subject", "name")
OPTIONAL_KEYS = ("view", "splits")
BOMB, BOMB_RATIO = 1 << 30, 100
"""An entry larger than this, packed tighter than this, is no set of clips: coordinates do not pack so well."""


def load_clips(path: str | os.PathLike[str]) -> ClipSet:
    """A clip set from an .npz file and the .json of the same name beside it.

    The npz holds `data` (F, V, 3), `offsets` (N + 1), `label` (N), `subject` (N), `name` (N) and perhaps `view` (N).
    The json holds `name` (of the set), `classes`, `joints` (their names), `edges` and `centre`, perhaps `split` (the
    usual one), `layout`, `flip` and `parents`. Splits that the set brings along are `splits` (S, N) bool in the npz and
    their S names, `splits`, in the json. Other entries are ignored, and pickled objects are refused. Without `flip`,
    joints whose names differ by "left" and "right" are each other's mirror images. A skeleton that is one of
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
    header = read_json("load_clips", npz_path.with_suffix(".json"))
    arrays = _read_npz(npz_path)
    try:
        skeleton = skeleton_of_json("load_clips", header)
        arrays.setdefault("view", np.zeros(np.shape(arrays["label"]), np.int64))
        arrays["splits"] = _named_splits(header.get("splits", []), arrays.get("splits", np.zeros((0, 0), bool)))
        fields = checked_fields("load_clips", {**arrays, "classes": header["classes"]}, skeleton)
    except ValueError as error:
        raise ValueError(f"{error}; file {str(npz_path)!r}") from None
    return ClipSet(**fields, skeleton=skeleton, title=str(header["name"]), usual_split=str(header.get("split", "")))


def _read_npz(path: Path) -> dict[str, Any]:
    """The arrays of a clip set; whatever a damaged archive makes zipfile and NumPy raise becomes one sentence."""
    damaged = (ValueError, OSError, EOFError, MemoryError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip archive")
        with np.load(path, allow_pickle=False) as archive:
            for entry in archive.zip.infolist():
                if entry.file_size > max(BOMB, BOMB_RATIO * entry.compress_size):
                    raise ValueError(f"{entry.filename} unpacks from {entry.compress_size} to {entry.file_size} bytes")
            arrays = {key: archive[key] for key in (*KEYS, *OPTIONAL_KEYS) if key in archive.files}
    except damaged as error:
        raise ValueError(f"load_clips: {str(path)!r} must be an .npz without pickled objects, but {error}") from None
    need_keys("load_clips", path, KEYS, arrays)
    return arrays


def _named_splits(names: Any, members: Any) -> dict[str, Any]:
    if not isinstance(names, list) or not isinstance(members, np.ndarray) or len(names) != len(members):
        raise ValueError("load_clips: splits must be one name in the json for each row of splits in the npz")
    return dict(zip(names, members, strict=True))


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
    arrays = {key: getattr(clips, key) for key in (*KEYS, "view")}
    header = header_to_json(Header(clips.title, clips.skeleton, clips.channels, clips.classes, clips.usual_split))
    if clips.splits:
        arrays["splits"] = np.stack(list(clips.splits.values()))
        header["splits"] = list(clips.splits)
    suffix = f".{uuid.uuid4().hex}.tmp"
    json_path = npz_path.with_suffix(".json")
    npz_part, json_part = (file.with_name(file.name + suffix) for file in (npz_path, json_path))
    try:
        with open(npz_part, "xb") as file:
            np.savez(file, **arrays)
        json_part.write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(npz_part)
        sync(json_part)
        os.replace(npz_part, npz_path)
        os.replace(json_part, json_path)
    finally:
        npz_part.unlink(missing_ok=True)
        json_part.unlink(missing_ok=True)
    sync(npz_path.parent)
