"""BVH motion capture files: a tree of joints with offsets, and per frame their angles, turned into joint positions.

A folder of files, or of folders called after the classes; all files must have the same joints in the same tree, while
the lengths of bones may differ. End sites are joints too, called after their parent with `_end`. Units are the file's
(often centimetres), y is usually up. Position channels stand in the place of the joint's offset, as MotionBuilder
writes and Blender and bvhio read them (three.js adds them to it; most files have an offset of 0 there, so that it is
the same); rotations are applied in the order of the channels, in degrees.

The reader is our own: of the packages for it, bvhio makes an object of every joint in every frame and pins its maths
library to one version, bvhTools and bvhsdk bring a game engine or matplotlib and look for words anywhere in a line, bvh
and bvhtoolbox have had no release since 2020, and none names the place of a fault.

Source: M. Meredith and S. Maddock, Motion Capture File Formats Explained, University of Sheffield, 2001.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asma.data.formats._beside import LARGEST, read_beside
from asma.data.formats._file_a_clip import FoundSource
from asma.data.formats._files import left_out, looking, place, text_of
from asma.data.formats._folders import Found, clip_files, with_labels
from asma.data.formats._tracks import clip_of
from asma.data.header_json import skeleton_of_json
from asma.data.source import Clip, Header, LeftOut
from asma_kernels.skeleton import Skeleton

__all__ = ["BvhSource", "open_source", "recognise"]

FORMAT = "bvh"
CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")
BLOCK = 4096
MOST_PLACES = 1 << 26
"""Joints in all frames; an hour and a half of 100 joints at 120 frames a second."""


@looking
def recognise(path: Path) -> str | None:
    """What is here, as "BVH, 20 clips"; None if it is not. Never raises, whatever the path is."""
    files = clip_files(path, ".bvh")
    if not files:
        return None
    with open(files[0][0], "rb") as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").split()
    return f"BVH, {len(files):,} clips" if head[:1] == [b"HIERARCHY"] else None


def open_source(path: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> BvhSource:
    """A file, a folder of files, or a folder of classes; the joints are those of the first file that can be read.

    Args:
        classes: names of the classes; by default what asma.json says, or the names of the folders that clips are in.

    Raises:
        ValueError: there is no such file, or none that can be read, or asma.json is damaged.
        OSError: it cannot be read.
    """
    base = Path(path)
    found = clip_files(base, ".bvh")
    if not found:
        raise ValueError(f"{base.name}: must be a .bvh file, or have such files, got none")
    beside = read_beside(base)
    listed, names = with_labels(found, beside)
    skeleton = _first_skeleton(listed, base)
    return BvhSource(base, listed, beside.header(Header(base.name, skeleton, "xyz", names), classes), beside)


class BvhSource(FoundSource):
    """See `open_source`."""

    format = FORMAT

    def _clip(self, source: str, found: Found) -> Clip | LeftOut:
        try:
            motion = _read(found.path, source)
        except (ValueError, OSError) as error:
            return left_out(source, error)
        if _skeleton(motion) != self.header.skeleton:
            return LeftOut(source, f"the joints must be those of {self.parts[0]}, in the same tree, they are not")
        data = _positions(motion)
        present = np.ones((len(data), 1), np.bool_)
        return clip_of(data[:, None], present=present, name=found.name, label=found.label, source=source)


@dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: tuple[int, ...] = ()


@dataclass
class _Motion:
    """A file: joints, parents first, and (T, all channels)."""

    joints: list[_Joint] = field(default_factory=list)
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


def _first_skeleton(found: Sequence[Found], base: Path) -> Skeleton:
    first = None
    for clip in found:
        try:
            return _skeleton(_read(clip.path, place(clip.path, base)))
        except (ValueError, OSError) as error:
            first = first or error
    raise ValueError(f"{base.name}: must have a .bvh file that can be read, but {first}")


def _skeleton(motion: _Motion) -> Skeleton:
    names: list[str] = []
    for joint in motion.joints:
        name, count = joint.name, 1
        while name in names:
            count += 1
            name = f"{joint.name}_{count}"
        names.append(name)
    edges = [(at, joint.parent) for at, joint in enumerate(motion.joints) if at]
    return skeleton_of_json(FORMAT, {"joints": names, "edges": edges, "centre": 0})


def _positions(motion: _Motion) -> NDArray[np.float32]:
    """Forward kinematics: (T, V, 3); in blocks of frames, because the turns take far more memory."""
    blocks = [_positions_of(motion, motion.values[at : at + BLOCK]) for at in range(0, len(motion.values), BLOCK)]
    return np.concatenate(blocks)


def _positions_of(motion: _Motion, values: NDArray[np.float64]) -> NDArray[np.float32]:
    frames = len(values)
    places = np.zeros((frames, len(motion.joints), 3))
    turns = np.zeros((frames, len(motion.joints), 3, 3))
    first = 0
    with np.errstate(invalid="ignore", over="ignore"):
        for at, joint in enumerate(motion.joints):
            shift = np.tile(joint.offset, (frames, 1))
            turn = np.tile(np.eye(3), (frames, 1, 1))
            for channel, value in zip(joint.channels, values.T[first:], strict=False):
                if channel < 3:
                    shift[:, channel] = value
                else:
                    turn = turn @ _turn_about(channel - 3, np.radians(value))
            first += len(joint.channels)
            if at == 0:
                places[:, 0], turns[:, 0] = shift, turn
            else:
                above = turns[:, joint.parent]
                places[:, at] = places[:, joint.parent] + (above @ shift[..., None])[..., 0]
                turns[:, at] = above @ turn
        return places.astype(np.float32)


def _turn_about(axis: int, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 3, 3), right-handed."""
    turn = np.zeros((len(angle), 3, 3))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    turn[:, axis, axis] = 1
    turn[:, one, one] = turn[:, two, two] = np.cos(angle)
    turn[:, two, one] = np.sin(angle)
    turn[:, one, two] = -turn[:, two, one]
    return turn


class _Words:
    """The words of a file, one after the other, and the lines they stand on."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._line = 0
        self._left: list[str] = []
        self.name = name

    def peek(self) -> str:
        """The next word, empty at the end of the file."""
        while not self._left and self._line < len(self._lines):
            self._left = self._lines[self._line].split()[::-1]
            self._line += 1
        return self._left[-1] if self._left else ""

    def fault(self, rule: str) -> ValueError:
        found = self.peek()
        return ValueError(
            f"{self.name}: line {self._line}: must be {rule}, got {found[:40]!r}" + " (the end)" * (not found)
        )

    def next_is(self, *words: str) -> bool:
        """Whether these words are next; if the first is they are passed over, and the others must follow."""
        if self.peek().lower() != words[0].lower():
            return False
        for word in words:
            if self.peek().lower() != word.lower():
                raise self.fault(" ".join(words))
            self._left.pop()
        return True

    def must(self, *words: str) -> None:
        if not self.next_is(*words):
            raise self.fault(" ".join(words))

    def word(self, rule: str) -> str:
        if not self.peek():
            raise self.fault(rule)
        return self._left.pop()

    def name_of_joint(self) -> str:
        """The rest of the line up to a brace: there are names with blanks in them."""
        name = [self.word("a joint's name")]
        while self._left and self._left[-1] != "{":
            name.append(self._left.pop())
        return " ".join(name)

    def number(self, rule: str) -> float:
        try:
            value = float(self.peek())
        except ValueError:
            raise self.fault(rule) from None
        self._left.pop()
        return value

    def count(self, rule: str, most: int) -> int:
        word = self.peek()
        if not (word.isascii() and word.isdigit() and len(word) < 16 and int(word) <= most):
            raise self.fault(f"{rule} of at most {most}")
        return int(self._left.pop())

    def rows(self, count: int, width: int) -> NDArray[np.float64]:
        """All that is left, which must be `count` rows of `width` numbers, usually one a line."""
        lines = [" ".join(reversed(self._left)), *self._lines[self._line :]]
        lines = [line for line in lines if line and not line.isspace()]
        if count * width == 0 or not lines:
            raise self.fault(
                f"followed by at least one frame of at least one number, {count} frames of {width} are told"
            )
        try:
            rows = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
            if rows.shape == (count, width):
                return rows
        except ValueError:
            pass
        numbers = []
        while self.peek():
            numbers.append(self.number(f"one of {count} frames of {width} numbers"))
        if len(numbers) != count * width:
            rule = f"{count} frames of {width} numbers"
            raise ValueError(f"{self.name}: line {self._line}: must end after {rule}, got {len(numbers)} numbers")
        return np.array(numbers).reshape(count, width)


def _read(file: Path, name: str) -> _Motion:
    words = _Words(text_of(file, name), name)
    motion = _Motion()
    words.must("HIERARCHY")
    words.must("ROOT")
    open_joints: list[int] = []
    _begin_joint(words, motion, words.name_of_joint(), open_joints)
    while open_joints:
        joint = motion.joints[open_joints[-1]]
        if words.next_is("}"):
            open_joints.pop()
        elif words.next_is("OFFSET"):
            x, y, z = (words.number("three numbers after OFFSET") for _ in range(3))
            joint.offset = (x, y, z)
        elif words.next_is("CHANNELS"):
            joint.channels = tuple(_channel(words) for _ in range(words.count("a number of channels", len(CHANNELS))))
        elif words.next_is("JOINT"):
            _begin_joint(words, motion, words.name_of_joint(), open_joints)
        elif words.next_is("End", "Site"):
            _begin_joint(words, motion, f"{joint.name}_end", open_joints)
        else:
            raise words.fault("OFFSET, CHANNELS, JOINT, End Site or }")
    words.must("MOTION")
    words.must("Frames:")
    frames = words.count("a number of frames", 1 << 40)
    words.must("Frame", "Time:")
    words.number("a number of seconds")
    motion.values = words.rows(frames, sum(len(joint.channels) for joint in motion.joints))
    if frames * len(motion.joints) > MOST_PLACES:
        raise ValueError(
            f"{name}: must have at most {MOST_PLACES} joints in all frames, got {len(motion.joints)} in {frames}"
        )
    return motion


def _begin_joint(words: _Words, motion: _Motion, name: str, open_joints: list[int]) -> None:
    words.must("{")
    if len(motion.joints) >= LARGEST:
        raise words.fault(f"at most {LARGEST} joints")
    open_joints.append(len(motion.joints))
    motion.joints.append(_Joint(name, open_joints[-2] if len(open_joints) > 1 else 0))


def _channel(words: _Words) -> int:
    if (word := words.word("a channel").capitalize()) not in CHANNELS:
        raise words.fault(f"after one of {', '.join(CHANNELS)}, {word[:40]!r} is none and the next")
    return CHANNELS.index(word)
