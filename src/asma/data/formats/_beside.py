"""asma.json, the file beside the data of another format that tells what the format has no place for.

In a folder it is `asma.json`; beside a file `walk.pkl` it is `walk.asma.json`, or else the folder's `asma.json`. Every
key may be absent: `name` (title), `layout` (a built-in one) or `joints`, `edges`, `centre`, `flip` and `parents` as in
the clip format, `channels`, `classes`, `split`, and `clips`, an object of the clips whose name, label (number or name
of a class), subject, view or splits the format does not tell, by their names in the format.

Our writers put there what would be lost, and nothing that the format tells by itself; users write by hand what the
format leaves open, such as the edges between the markers of C3D.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asma.data.formats._files import dump_json, json_of
from asma.data.header_json import header_to_json, skeleton_of_json
from asma.data.source import UNKNOWN, Clip, Header, LeftOut
from asma_kernels.skeleton import Skeleton

__all__ = ["FILE", "Beside", "Notes", "beside_file", "channels_of", "is_beside", "read_beside", "skeleton_named"]

FILE = "asma.json"
LARGEST = 1024
"""Joints of a skeleton that a file may ask for; whole bodies with hands and faces have fewer than 200."""
IMAGE_LAYOUTS = ("coco17", "openpose18", "openpose25")
"""Layouts of estimators that see the image only: two coordinates and a score."""
CLIP_FIELDS = ("name", "label", "subject", "view", "splits")


@dataclass(frozen=True)
class Beside:
    """What asma.json tells; None and empty where it tells nothing or is absent."""

    title: str | None = None
    skeleton: Skeleton | None = None
    channels: str | None = None
    classes: tuple[str, ...] | None = None
    usual_split: str | None = None
    clips: dict[str, dict[str, Any]] = field(default_factory=dict)

    def header(self, told: Header, classes: Sequence[str] | None = None) -> Header:
        """The header that the format tells, with what stands here in its place; the skeleton is settled already.

        Args:
            classes: what an option says, in the place of both.
        """
        return Header(
            title=told.title if self.title is None else self.title,
            skeleton=told.skeleton,
            channels=told.channels if self.channels is None else self.channels,
            classes=tuple(classes) if classes is not None else told.classes if self.classes is None else self.classes,
            usual_split=told.usual_split if self.usual_split is None else self.usual_split,
        )

    def layout(self, where: str, option: str | Skeleton | None, joints: int, usual: str | None) -> Skeleton:
        """The skeleton of `joints` joints that an option names, or that stands here, or the usual one.

        Raises:
            ValueError: nothing says it, or it has another number of joints.
        """
        found = option if option is not None else self.skeleton if self.skeleton is not None else usual
        if found is None:
            raise ValueError(
                f"{where}: {joints} joints can be of several layouts, name one: in asma.json beside it, or by "
                "--layout of asma data convert"
            )
        skeleton = skeleton_named(where, found)
        if skeleton.num_joints != joints:
            raise ValueError(f"{where}: layout {skeleton.name!r} has {skeleton.num_joints} joints, got {joints}")
        return skeleton

    def settled(self, clips: Iterable[Clip | LeftOut], header: Header) -> Iterator[Clip | LeftOut]:
        """The clips that the format tells, each with what stands here of it; those of no class are left out."""
        for clip in clips:
            if isinstance(clip, Clip):
                clip = replace(clip, **self.clips.get(clip.name, {}))
                if not UNKNOWN <= clip.label < len(header.classes):
                    rule = f"label must be in [0, {len(header.classes)}), one of the classes"
                    yield LeftOut(clip.source, f"{rule}, got {clip.label}")
                    continue
            yield clip


def beside_file(file: Path) -> Path:
    """Where our writers put what belongs beside a file."""
    return file.with_suffix("." + FILE)


def is_beside(file: Path) -> bool:
    """Whether a file is not data but what stands beside it."""
    return file.name == FILE or file.name.endswith("." + FILE)


def read_beside(path: Path) -> Beside:
    """What stands beside a file, or in a folder.

    Raises:
        ValueError: asma.json is not JSON or breaks its rules; the message names it and the key.
    """
    own = [path / FILE] if path.is_dir() else [beside_file(path), path.with_name(FILE)]
    found = next((file for file in own if file.is_file()), None)
    if found is None:
        return Beside()
    name = found.name
    told = json_of(found, name)
    if not isinstance(told, dict):
        raise ValueError(f"{name}: must hold a JSON object, got {type(told).__name__}")
    classes = told.get("classes")
    if classes is not None:
        if not isinstance(classes, list) or not all(isinstance(text, str) for text in classes):
            raise ValueError(f"{name}: classes must be a list of strings")
        classes = tuple(classes)
    for key, kind in (("name", str), ("split", str), ("channels", str), ("clips", dict)):
        if not isinstance(told.get(key), kind | None):
            raise ValueError(f"{name}: {key} must be {kind.__name__}, got {type(told[key]).__name__}")
    if told.get("channels") not in (None, "xyz", "xys"):
        raise ValueError(f"{name}: channels must be xyz or xys, got {told['channels'][:40]!r}")
    clips = {clip: _clip_fields(name, clip, here, classes) for clip, here in told.get("clips", {}).items()}
    names = [here.get("name", clip) for clip, here in clips.items()]
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: clips must have different names, got one twice")
    return Beside(told.get("name"), _skeleton(name, told), told.get("channels"), classes, told.get("split"), clips)


def skeleton_named(where: str, layout: str | Skeleton) -> Skeleton:
    """A layout that an option names, or the skeleton that it is.

    Raises:
        ValueError: no built-in layout has the name.
    """
    if isinstance(layout, Skeleton):
        return layout
    if layout not in Skeleton.layouts():
        raise ValueError(f"{where}: layout must be one of {', '.join(Skeleton.layouts())}, got {str(layout)[:40]!r}")
    return Skeleton.builtin(layout)


def channels_of(skeleton: Skeleton) -> str:
    """What the last axis of this skeleton's data is, where nothing says it."""
    return "xys" if skeleton.name in IMAGE_LAYOUTS else "xyz"


class Notes:
    """What a writer has to put beside its file: header, and of each clip what reading would not give."""

    def __init__(self, where: str, header: Header) -> None:
        self._where, self._header = where, header
        self._clips: dict[str, dict[str, Any]] = {}
        self._names: set[str] = set()
        self._keys: set[str] = set()

    def add(
        self, clip: Clip, *, key: str, label: int = UNKNOWN, subject: int = UNKNOWN, view: int = UNKNOWN,
        splits: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Note a clip, given what the format tells of it and the name `key` that it has there.

        Raises:
            ValueError: another clip has its name.
        """
        if clip.name in self._names or key in self._keys:
            raise ValueError(f"{self._where}: clips must have different names, got {clip.name!r} twice")
        self._names.add(clip.name)
        self._keys.add(key)
        told = {"name": key, "label": label, "subject": subject, "view": view, "splits": sorted(splits)}
        wanted = {key: getattr(clip, key) for key in CLIP_FIELDS} | {"splits": sorted(clip.splits)}
        differing = {key: value for key, value in wanted.items() if value != told[key]}
        if differing:
            self._clips[key] = differing

    def text(self) -> str:
        """What asma.json is to hold."""
        told = header_to_json(self._header)
        return dump_json(told | ({"clips": self._clips} if self._clips else {}))


def _skeleton(name: str, told: dict[str, Any]) -> Skeleton | None:
    if "joints" not in told and "edges" not in told:
        return skeleton_named(name, told["layout"]) if "layout" in told else None
    for key in ("joints", "edges"):
        listed = told.get(key)
        if not isinstance(listed, list) or len(listed) > 4 * LARGEST:
            raise ValueError(f"{name}: joints and edges must both be lists, joints of at most {LARGEST} names")
    if len(told["joints"]) > LARGEST:
        raise ValueError(f"{name}: joints must be at most {LARGEST} names, got {len(told['joints'])}")
    return skeleton_of_json(name, {"centre": 0, **told})


def _clip_fields(name: str, clip: str, here: object, classes: tuple[str, ...] | None) -> dict[str, Any]:
    where = f"{name}: clip {clip[:80]!r}"
    if not isinstance(here, dict) or not here.keys() <= set(CLIP_FIELDS):
        raise ValueError(f"{where}: must be an object of {', '.join(CLIP_FIELDS)}")
    found = dict(here)
    if isinstance(found.get("label"), str):
        if classes is None or found["label"] not in classes:
            raise ValueError(f"{where}: label must be the number or the name of a class, got {found['label'][:40]!r}")
        found["label"] = classes.index(found["label"])
    for key in ("label", "subject", "view"):
        number = found.get(key, 0)
        if isinstance(number, bool) or not isinstance(number, int) or not -1 <= number < 2**31:
            raise ValueError(f"{where}: {key} must be an integer from 0, or -1 where unknown")
    splits = found.get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(text, str) for text in splits):
        raise ValueError(f"{where}: splits must be a list of strings")
    if not isinstance(found.get("name", ""), str):
        raise ValueError(f"{where}: name must be a string")
    return found | ({"splits": tuple(splits)} if "splits" in found else {})
