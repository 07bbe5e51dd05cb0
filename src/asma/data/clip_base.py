"""What every set of clips can do, wherever its frames lie: split, subset, and give frames at any times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asma.data.source import UNKNOWN
from asma_kernels.skeleton import Skeleton

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Clips"]

SPLIT_FIELDS = ("subject", "view", "label")
RESAMPLE_CHUNK = 64
"""Clips that are worked on at a time: what the processor's cache holds."""


class Clips(ABC):
    """N clips of one skeleton, each of its own length and with its own persons.

    `ClipSet` holds one person a clip in memory, `Store` any number of them in files.

    Attributes:
        label, subject, view: (N) int64; -1 where unknown.
        name: (N) strings.
        lengths: (N) int64, the number of frames of each clip, at least 1.
        classes: names of the classes.
        skeleton: of the V joints.
        title: what tables and reports call the set.
        usual_split: the split that the set's owners use, in words or as `split` takes it.
        split_names: of the splits that the set's files bring along.
        channels: the last axis: "xyz", or "xys" for two coordinates and the estimator's score.
    """

    classes: tuple[str, ...]
    skeleton: Skeleton
    title: str
    usual_split: str
    if TYPE_CHECKING:  # fields in one subclass, properties in the other

        @property
        def label(self) -> NDArray[np.int64]: ...
        @property
        def subject(self) -> NDArray[np.int64]: ...
        @property
        def view(self) -> NDArray[np.int64]: ...
        @property
        def name(self) -> NDArray[np.str_]: ...
        @property
        def lengths(self) -> NDArray[np.int64]: ...
        @property
        def split_names(self) -> tuple[str, ...]: ...
        @property
        def channels(self) -> str: ...

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of clips."""

    @abstractmethod
    def members(self, split: str) -> NDArray[np.bool_]:
        """(N) bool, the clips of one of `split_names`."""

    @abstractmethod
    def gather(
        self, index: NDArray[np.int64], times: NDArray[np.int64], persons: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Frames of clips at given times.

        Args:
            index: (B) int64 in [0, N).
            times: (B, T) int64, frames of each clip; outside of it nobody is there.
            persons: M, the first persons of each clip.

        Returns:
            (B, M, T, V, C) float32 with zeros where a person is absent, and (B, M, T) bool: who is there.
        """

    @abstractmethod
    def checksum(self) -> int:
        """A number that changes with the clips, their order and their frames."""

    @abstractmethod
    def _take(self, index: NDArray[np.int64]) -> Self: ...

    def subset(self, index: ArrayLike) -> Self:
        """The clips of `index`, in its order, as a set of its own; a `ClipSet` copies their frames, a `Store` does not.

        Args:
            index: integers in [0, N), which may repeat, or N booleans.

        Raises:
            ValueError: another type, an integer out of range, or no clip at all.
        """
        where = f"{type(self).__name__}.subset"
        found = self._clip_index(where, index)
        if not found.size:
            raise ValueError(f"{where}: there must be at least one clip, got none")
        return self._take(found)

    def split(self, protocol: str) -> tuple[Self, Self]:
        """Training and test clips by a protocol "field-train-test", or by two splits of the set's own, "train/test".

        The field is subject or view. A side is "odd", "even", digits ("12" is 1 and 2), numbers with commas between
        them ("10,12"), or, for the test side, "rest". Clips that neither side names, and those whose field is unknown,
        are left out. UTD-MHAD's protocol is "subject-odd-even", NW-UCLA's "view-12-3". A set that brings splits along
        takes two of `split_names`, as "xsub_train/xsub_val".

        Raises:
            ValueError: the protocol cannot be read, both sides name a number or a clip, or a side has no clip.
        """
        where = f"{type(self).__name__}.split: {protocol!r}"
        if "/" in str(protocol):
            return self._own_split(str(protocol), where)
        fields = {"subject": self.subject, "view": self.view}
        field, train, test = protocol_sides(protocol, fields, where)
        return self._two_sides(train, test, field, where)

    def split_by(self, field: str, train_values: Iterable[int]) -> tuple[Self, Self]:
        """Training clips, those whose `field` is one of `train_values`, and test clips, all others.

        Args:
            field: subject, view or label.
            train_values: integers.

        Raises:
            ValueError: another field, values that are no integers, or a side has no clip.
        """
        where = f"{type(self).__name__}.split_by"
        if field not in SPLIT_FIELDS:
            raise ValueError(f"{where}: field must be one of {', '.join(SPLIT_FIELDS)}, got {field!r}")
        wanted = np.array(list(train_values))
        if wanted.size and wanted.dtype.kind not in "iu":
            raise ValueError(f"{where}: train_values must be integers, got {wanted.tolist()}")
        train = np.isin(getattr(self, field), wanted)
        return self._two_sides(train, ~train, field, where)

    def resample(self, frames: int, persons: int = 1, index: ArrayLike | None = None) -> NDArray[np.float32]:
        """Clips at a fixed number of frames by linear interpolation in time.

        The first and the last frame of a clip stay what they are, and a clip of T frames is returned unchanged for
        `frames` = T; `frames` = 1 gives the first frame. Between a frame that a person is in and one that they are not
        in, the nearer frame decides; an absent person is all zeros. Deterministic, clip by clip: what else is in the
        set or in `index` makes no difference.

        Args:
            frames: T.
            persons: M, the first persons of each clip; others are left out.
            index: the clips as `subset` takes them, or all.

        Returns:
            (N, C, T, V, M) float32, contiguous.

        Raises:
            ValueError: frames or persons is not a positive integer, or index names what is no clip.
        """
        where = f"{type(self).__name__}.resample"
        for name, value in (("frames", frames), ("persons", persons)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{where}: {name} must be a positive integer, got {value!r}")
        chosen = np.arange(len(self)) if index is None else self._clip_index(where, index)
        channels, joints = len(self.channels), self.skeleton.num_joints
        out = np.empty((len(chosen), channels, int(frames), joints, int(persons)), np.float32)
        # In integers, so that a position that is a frame is exactly that frame; in chunks, to bound the temporaries.
        steps = max(int(frames) - 1, 1)
        for begin in range(0, len(chosen), RESAMPLE_CHUNK):
            part = chosen[begin : begin + RESAMPLE_CHUNK]
            last = (self.lengths[part] - 1)[:, None]
            whole, rest = np.divmod(np.arange(int(frames)) * last, steps)
            share = (rest / steps).astype(np.float32)
            between = self._between(part, whole, np.minimum(whole + 1, last), share, int(persons))
            out[begin : begin + RESAMPLE_CHUNK] = between.transpose(0, 4, 2, 3, 1)
        return out

    def _between(
        self,
        index: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        share: NDArray[np.float32],
        persons: int,
    ) -> NDArray[np.float32]:
        """(B, M, T, V, C): the frame `low` and, by its share, the frame `high`, (B, T) each."""
        frames, present = self.gather(index, np.concatenate([low, high], axis=1), persons)
        before, after = np.split(frames, 2, axis=2)
        here, there = np.split(present, 2, axis=2)
        shares = share[:, None, :, None, None]
        alone = (here != there)[..., None, None]
        nearer = np.where(shares <= 0.5, before, after) if alone.any() else before
        # In place: fresh memory of this size costs more than the arithmetic.
        after -= before
        after *= shares
        after += before
        return after if nearer is before else np.where(alone, nearer, after)

    def padded(self, index: NDArray[np.int64], persons: int) -> NDArray[np.float32]:
        """Whole clips, zeros after their ends: (B, M, T, V, C) float32, T the longest of them."""
        times = np.arange(int(self.lengths[index].max(initial=1)))
        return self.gather(index, np.broadcast_to(times, (len(index), len(times))), persons)[0]

    def _own_split(self, protocol: str, where: str) -> tuple[Self, Self]:
        names = protocol.split("/")
        if len(names) != 2 or not set(names) <= set(self.split_names):
            there = ", ".join(self.split_names) or "none"
            raise ValueError(f"{where} must be two splits of the set with / between them, its splits are {there}")
        train, test = map(self.members, names)
        both = np.flatnonzero(train & test)
        if len(both):
            raise ValueError(f"{where} must not have a clip on both sides, got {str(self.name[both[0]])!r}")
        return self._two_sides(train, test, "", where)

    def _clip_index(self, where: str, index: Any) -> NDArray[np.int64]:
        found = np.atleast_1d(np.asarray(index))
        if found.dtype == bool and found.shape == (len(self),):
            found = np.flatnonzero(found)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise ValueError(
                f"{where}: clips must be given as integers or {len(self)} booleans, got {found.dtype} {found.shape}"
            )
        wrong = found[(found < 0) | (found >= len(self))]
        if wrong.size:
            raise ValueError(f"{where}: a clip must be in [0, {len(self)}), got {wrong[0]}")
        return found.astype(np.int64)

    def _two_sides(
        self, train: NDArray[np.bool_], test: NDArray[np.bool_], field: str, where: str
    ) -> tuple[Self, Self]:
        for side, clips in (("training", train), ("test", test)):
            if not clips.any():
                values = ", ".join(map(str, np.unique(getattr(self, field)).tolist()[:20])) if field else ""
                there = f", {field} here is {values}" if field else ""
                raise ValueError(f"{where}: the {side} side must have a clip{there}")
        return self._take(np.flatnonzero(train)), self._take(np.flatnonzero(test))


def protocol_sides(
    protocol: str, fields: Mapping[str, NDArray[np.int64]], where: str
) -> tuple[str, NDArray[np.bool_], NDArray[np.bool_]]:
    """The field of a protocol "field-train-test" as `Clips.split` takes it, and its training and test clips, (N) bool.

    Raises:
        ValueError: the protocol cannot be read, or both sides name a number; the message begins with `where`.
    """
    field, *sides = str(protocol).split("-")
    if field not in fields or len(sides) != 2:
        names = " or ".join(fields)
        raise ValueError(f"{where} must be field-train-test with field {names}, as 'subject-odd-even'")
    values = fields[field]
    known = values != UNKNOWN
    train = known & _side(values, sides[0], where)
    test = known & (~train if sides[1] == "rest" else _side(values, sides[1], where))
    if (train & test).any():
        raise ValueError(f"{where} must not have a {field} on both sides, got {values[train & test][0]}")
    return field, train, test


def _side(values: NDArray[np.int64], text: str, where: str) -> NDArray[np.bool_]:
    """(N) bool, the clips that one side of a protocol names."""
    if text in ("odd", "even"):
        return values % 2 == (text == "odd")
    numbers = text.split(",") if "," in text else list(text)
    if not numbers or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{where} must name a side by odd, even or numbers, got {text!r}")
    return np.isin(values, [int(number) for number in numbers])
